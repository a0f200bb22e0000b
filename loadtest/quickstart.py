"""How long the README's quickstart takes, with nothing kept of earlier installations: from a fresh clone to
the first answered call. `python -m loadtest.quickstart` prints what the README says of it.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from lambent_chassis.clock import monotonic_s
from loadtest import machine

ROOT: Final = Path(__file__).resolve().parent.parent


def main() -> None:
    before, took = machine.load(), dict[str, float]()
    with tempfile.TemporaryDirectory() as folder:
        home, clone = Path(folder) / "home", Path(folder) / "lambent"
        home.mkdir()
        environment = {
            "HOME": str(home),
            "PATH": f"{clone / '.venv' / 'bin'}:{os.environ['PATH']}",
            "PIP_NO_CACHE_DIR": "1",
            **{name: value for name, value in os.environ.items() if name.startswith("PIP_INDEX")},
        }

        def do(step: str, command: str, *more: str, cwd: Path = clone) -> None:
            began = monotonic_s()
            _run([*command.split(), *more], cwd, environment)
            took[step] = monotonic_s() - began

        do("git clone, of a local repository", "git clone --quiet", str(ROOT), str(clone), cwd=home)
        do("make setup", "make setup")
        began = monotonic_s()
        with up(clone, environment) as endpoint:
            took["lambent up"] = monotonic_s() - began
            environment["LAMBENT_ENDPOINT"] = endpoint
            do("lambent deploy", "lambent deploy examples/echo --name echo --handler echo.handler")
            do("lambent invoke", "lambent invoke echo -d", '{"hello": "world"}')
    for step, seconds in took.items():
        click.echo(f"{seconds:7.1f} s  {step}")
    facts = machine.facts()
    click.echo(
        f"{sum(took.values()):7.1f} s  in all, on {facts['cores']} cores of {facts['cpu']}, Python "
        f"{facts['python']}; load average {before} before, {machine.load()} after"
    )


def _run(command: list[str], cwd: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


@contextmanager
def up(clone: Path, environment: dict[str, str]) -> Iterator[str]:
    """`lambent up` of the clone at free ports, with whatever isolation there is; gives the endpoint."""
    options = ["--grpc-port", "0", "--http-port", "0", "--require-isolation", "none", "--json-ready"]
    process = subprocess.Popen(
        ["lambent", "up", *options], cwd=clone, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["endpoint"]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


if __name__ == "__main__":
    main()
