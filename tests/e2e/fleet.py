"""A fleet started with the installed command, for tests to use, to hurt, and to see stopped."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from lambent_chassis.clock import monotonic_s
from loadtest.processes import Seen, still_there, tree

WITHIN_S = 30.0

PLAIN = ("--sandbox", "process", "--require-isolation", "none")
"""Functions of most tests leave evidence in the host's folders, and what is tested needs no sandbox."""


PORTS = ("--grpc-port", "0", "--http-port", "0")
"""Free ones."""


GRPC_SERVER: Final = os.environ.get("GRPC_SERVER", "")
"""Whose HTTP/2 answers gRPC in all fleets of the tests, if it is not the default's: `own` or `grpcio`."""


GRPC_SERVER_IS: Final = {"LAMBENT_GRPC_SERVER": GRPC_SERVER} if GRPC_SERVER else {}
"""What `lambent up` and frontends are told of it; other parts know no such variable."""


def environment() -> dict[str, str]:
    """Of `lambent up`, and of a frontend that is started by hand."""
    return {**os.environ, **GRPC_SERVER_IS}


class Fleet:
    """One `lambent up`. Its pids and addresses are those of now, read from parts.json."""

    def __init__(
        self, process: "subprocess.Popen[str]", data: Path, said: Path, ready: dict[str, Any]
    ) -> None:
        self.process = process
        self.data = data
        self.endpoint: str = ready["endpoint"]
        self.http: str = ready["http"]
        self.etcd: list[str] = ready["etcd"]
        self._said = said

    def part(self, name: str) -> dict[str, Any]:
        facts = json.loads((self.data / "parts.json").read_text())
        return next(part for part in facts["parts"] if part["name"] == name)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Sends the signal and returns the pid that it went to."""
        pid: int = self.part(name)["pid"]
        os.kill(pid, number)
        return pid

    def runs_again(self, name: str, killed: int) -> int:
        """Waits until the part is back under another pid, which it returns."""
        deadline = monotonic_s() + WITHIN_S
        while (pid := self.part(name)["pid"]) in (0, killed):
            assert monotonic_s() < deadline, f"{name} is not back: {self.said()}"
        return int(pid)

    def ended(self, name: str) -> None:
        """Waits until `up` has seen the part end."""
        deadline = monotonic_s() + WITHIN_S
        while self.part(name)["pid"]:
            assert monotonic_s() < deadline, f"{name} has not ended: {self.said()}"

    def everyone(self) -> list[Seen]:
        return list(tree(self.process.pid).values())

    def said(self) -> str:
        """What `up` has said to people."""
        return self._said.read_text()

    def lambent(self, *arguments: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        environment = os.environ | {"LAMBENT_ENDPOINT": self.endpoint}
        return subprocess.run(
            [sys.executable, "-m", "lambent", *arguments],
            capture_output=True,
            input=stdin,
            env=environment,
            timeout=WITHIN_S,
            check=False,
        )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stops it, sees that nothing is left, and returns the exit code."""
        everyone = self.everyone()
        self.process.send_signal(number)
        code = self.process.wait(WITHIN_S)
        assert still_there(everyone) == []
        return code


@contextmanager
def up(data: Path, *options: str) -> Iterator[Fleet]:
    """A fleet on free ports; what is left of it at the end is killed."""
    said = data.parent / f"{data.name}.said"
    command = [
        sys.executable,
        "-m",
        "lambent",
        "up",
        "--data",
        str(data),
        "--grpc-port",
        "0",
        "--http-port",
        "0",
        "--json-ready",
    ]
    with said.open("wb") as errors:
        process = subprocess.Popen(
            [*command, *PLAIN, *options],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment(),
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"it did not start: {said.read_text()}"
        yield Fleet(process, data, said, json.loads(line))
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def gone(processes: list[Seen]) -> None:
    """Waits until all of them have ended."""
    deadline = monotonic_s() + WITHIN_S
    while left := still_there(processes):
        assert monotonic_s() < deadline, f"still there: {left}"
