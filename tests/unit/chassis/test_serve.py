"""A part as a process: how it says that it serves, and how it ends. Real processes, real signals."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent, indent

import pytest

PROGRAM = """
import asyncio, os, sys
from lambent_chassis.serve import serve
from lambent_chassis.settings import Settings

async def fail():
    raise ValueError("planted")

async def run(started):
{body}

sys.exit(serve("worker", Settings(name="w1", etcd=["a:1"]), run))
"""

Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a part with the given body of `run`; whatever still runs at the end is killed."""
    processes = []

    def starting(body: str) -> "subprocess.Popen[str]":
        program = PROGRAM.format(body=indent(dedent(body), "    "))
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process

    yield starting
    for process in processes:
        process.kill()
        process.communicate()


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


SERVING = """
started(data="127.0.0.1:7001")
try:
    await asyncio.Event().wait()
finally:
    print("cleaned up")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_cleanly(start: Start, number: signal.Signals) -> None:
    """It says when it serves and where; after a signal it cleans up and ends with 0."""
    process = start(SERVING)
    assert first_line(process) == "lambent worker w1 ready data=127.0.0.1:7001\n"
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "cleaned up\n")


@pytest.mark.parametrize("abstract", [False, True], ids=["a path", "an abstract name"])
def test_systemd_is_told_when_it_serves(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, abstract: bool
) -> None:
    """A unit of `Type=notify` counts as started from then on."""
    address = f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + address if abstract else address)
        systemd.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{address}" if abstract else address)
        process = start(SERVING)
        assert systemd.recv(100) == b"READY=1"
        process.terminate()
        assert process.wait(timeout=20) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(start: Start, number: signal.Signals) -> None:
    """Whoever does not want to wait until a part has stopped cleanly, as with Ctrl-C twice, need not."""
    process = start(
        """
        started()
        try:
            await asyncio.Event().wait()
        finally:
            print("stopping", flush=True)
            await asyncio.Event().wait()
        """
    )
    first_line(process)
    process.send_signal(signal.SIGTERM)
    assert first_line(process) == "stopping\n"
    process.send_signal(number)
    assert process.wait(timeout=20) == 128 + number


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("await fail()", id="the part itself"),
        pytest.param("asyncio.create_task(fail()); await asyncio.Event().wait()", id="a task nobody awaits"),
        pytest.param(
            "asyncio.get_running_loop().call_soon(int, 'x'); await asyncio.Event().wait()", id="a callback"
        ),
        pytest.param("started()\nawait fail()", id="after it was ready"),
        pytest.param(
            "try:\n    os.kill(os.getpid(), 15); await asyncio.Event().wait()\nfinally:\n    await fail()",
            id="while it stops",
        ),
    ],
)
def test_a_failure_ends_it(start: Start, body: str) -> None:
    """Whatever fails is logged and ends the process with exit code 1."""
    process = start(body)
    _, errors = process.communicate(timeout=20)
    events = [json.loads(line) for line in errors.splitlines()]
    failed = [event for event in events if event["event"] == "part_failed"]
    assert process.returncode == 1
    assert [event["exception"][0]["exc_type"] for event in failed] == ["ValueError"]


@pytest.mark.parametrize("wrapped", ["{}", "ExceptionGroup('', [ExceptionGroup('', [{}])])"])
def test_a_setting_that_cannot_be_used_is_the_caller_s(start: Start, wrapped: str) -> None:
    """It is for who called `serve` to say, wherever in the part it is found."""
    bad = wrapped.format("BadSettings('fleet_ca: no')")
    process = start(f"from lambent_chassis.settings import BadSettings\nraise {bad}")
    _, errors = process.communicate(timeout=20)
    assert errors.splitlines()[-1].endswith("BadSettings: fleet_ca: no")
    assert "part_failed" not in errors


def test_a_connection_s_trouble_does_not(start: Start) -> None:
    """An OSError in a callback is of one connection, and is only logged."""
    process = start(
        """
        asyncio.get_running_loop().call_soon(os.close, 999_999)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        started()
        await asyncio.Event().wait()
        """
    )
    first_line(process)
    process.terminate()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "connection_trouble" in errors


def test_an_end_by_itself_is_a_failure(start: Start) -> None:
    """A part serves until it is told to stop."""
    process = start("started()")
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "without having been told to" in errors


PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())])
time.sleep(600)
"""

CHILD = """
import os, sys, time
from lambent_chassis.serve import die_with
die_with(int(sys.argv[1]))
print(os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_dies_with_its_parent() -> None:
    """After kill -9 of the parent the child is gone: its end of the pipe closes."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert int(parent.stdout.readline()) > 0
    parent.kill()
    assert (
        parent.stdout.read() == b""
    )  # not before both are gone; pytest's timeout is shorter than they sleep
    parent.wait()
    parent.stdout.close()


def test_does_not_start_without_its_parent() -> None:
    """A parent that ended before the kernel was told is noticed too."""
    done = subprocess.run([sys.executable, "-c", CHILD, "1"], capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
