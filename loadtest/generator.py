"""`lambent loadtest` against a fleet of a measurement's own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final

from lambent.cli.loadtest_results import VOID
from loadtest import echo
from loadtest.fleet import Fleet, Off

_SIZE: Final = 100


def start(running: Fleet, *options: str, function: str = echo.NAME) -> "subprocess.Popen[str]":
    """With events of 100 bytes; it says its results as JSON."""
    environment = os.environ | {"LAMBENT_ENDPOINT": running.endpoint}
    command = [
        sys.executable,
        "-m",
        "lambent",
        "loadtest",
        function,
        "--http-endpoint",
        running.http,
        "--json",
    ]
    return subprocess.Popen(
        [*command, "--size", str(_SIZE), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def results(
    process: "subprocess.Popen[str]", every_s: float | None = None, look: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Waits for them, and looks so often; docs/loadtest.md has what they are. Raises Off without any."""
    try:
        said, errors = _said(process, every_s, look)
    finally:
        process.kill()  # nothing happens if it has ended
        process.wait()
    if process.returncode not in (0, VOID):
        raise Off(f"the load test ended with exit code {process.returncode}: {errors.strip()[-500:]}")
    found: dict[str, Any] = json.loads(said)
    return found


def _said(
    process: "subprocess.Popen[str]", every_s: float | None, look: Callable[[], None]
) -> tuple[str, str]:
    while True:
        try:
            return process.communicate(timeout=every_s)
        except subprocess.TimeoutExpired:
            look()


def run(running: Fleet, *options: str) -> dict[str, Any]:
    return results(start(running, *options))
