"""Secrets are marked wherever they are given; no mark is in a log, a command line or a core file then."""

import asyncio
import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from lambent.client import Client
from lambent_chassis.clock import monotonic_s
from tests.e2e.by_hand import running
from tests.e2e.fleet import WITHIN_S, Fleet

pytestmark = pytest.mark.e2e

MARK: Final = "mark0f"
"""What all secrets here begin with."""

SOURCES: Final = ",".join(
    [
        f"jobs=redis://:{MARK}redis@127.0.0.1:9",
        f"mq=amqp://user:{MARK}amqp@127.0.0.1:9/",
        f"bus=kafkas://user:{MARK}kafka@127.0.0.1:9/",
        f"js=nats://user:{MARK}nats@127.0.0.1:9",
    ]
)
READ: Final = ("redis:jobs/stream", "rabbitmq:mq/queue", "kafka:bus/topic", "nats:js/stream")
TELL: Final = 3
"""Of these the log says at once that they cannot be reached; the last one is tried in silence."""

SOURCE: Final = """
import os, resource

def handler(event, context):
    if event.get("abort"):
        os.abort()
    return {"token": os.environ["TOKEN"], "core": resource.getrlimit(resource.RLIMIT_CORE)}
"""


@contextmanager
def core_files_wanted() -> Iterator[None]:
    """As on a machine where somebody has set the limit for whoever starts the fleet."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


@pytest.fixture(scope="module", params=["process", "namespaces"])
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    if request.param == "namespaces" and os.geteuid():
        pytest.skip("only root has namespaces wherever these tests run")
    folder = tmp_path_factory.mktemp(request.param)
    options = "--auth", "--seal-environment", "--workers", "1", "--sandbox", request.param
    with pytest.MonkeyPatch.context() as patch, core_files_wanted():
        patch.chdir(folder)
        patch.setenv("LAMBENT_SOURCES", SOURCES)
        patch.setenv("LAMBENT_ETCD_PASSWORD", f"{MARK}etcd")
        patch.setenv("LAMBENT_LOG_LEVEL", "debug")
        with running(folder, *options) as fleet:
            patch.undo()
            yield fleet


@pytest.fixture(scope="module")
def token(fleet: Fleet) -> str:
    return (fleet.data / "operator-key").read_text().strip()


@pytest.fixture(scope="module")
def function(fleet: Fleet, token: str) -> str:
    """One with a secret, called with another one; and triggers whose sources cannot be reached."""
    (folder := fleet.data.parent / "code").mkdir()
    (folder / "app.py").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAMBENT_KEY", token)
        patch.setenv("TOKEN", f"{MARK}variable")
        for command in (
            ("deploy", str(folder), "--name", "f", "--handler", "app.handler", "--env", "TOKEN"),
            *(("trigger", "create", "f", source) for source in READ),
        ):
            done = fleet.lambent(*command)
            assert done.returncode == 0, done.stderr
    answer = asyncio.run(called(fleet, token, {"event": f"{MARK}event"}))
    assert answer == {"token": f"{MARK}variable", "core": [1, 1]}
    return "f"


async def called(fleet: Fleet, token: str, event: object) -> object:
    async with Client(fleet.endpoint, access_key=token) as client:
        return (await client.invoke("f", event)).json()


def logged(fleet: Fleet) -> str:
    """What all parts have said; waits until it is said of so many sources that they cannot be reached."""
    deadline = monotonic_s() + WITHIN_S
    while True:
        text = "".join(path.read_text() for path in (fleet.data / "logs").iterdir()) + fleet.said()
        if len(set(re.findall(r'"trigger": "([^"]*)".*trigger_source_failed', text))) >= TELL:
            return text
        assert monotonic_s() < deadline, text[-2000:]


def secrets_in(text: str, token: str) -> list[str]:
    """Lines with one."""
    secret = token.partition(".")[2]
    return [line for line in text.splitlines() if MARK in line or secret in line]


def test_no_log_has_a_secret(fleet: Fleet, token: str, function: str) -> None:
    """Each of the sources was tried, and the log has said that it cannot be reached."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAMBENT_KEY", token)
        text = logged(fleet)
        listed = fleet.lambent("trigger", "ls", "--json").stdout.decode()
    assert len(json.loads(listed)) == len(READ)
    assert secrets_in(text + listed, token) == []


def test_no_command_line_has_a_secret(fleet: Fleet, token: str, function: str) -> None:
    """The instance's and its sandbox's processes included; anybody on a machine may read them."""
    commands = [Path(f"/proc/{it.pid}/cmdline").read_bytes() for it in fleet.everyone()]
    assert len(commands) > 5
    assert secrets_in("\n".join(it.decode(errors="replace") for it in commands), token) == []


def test_a_part_that_does_not_start_shows_no_secret(tmp_path: Path) -> None:
    """For a bad setting beside them, and for servers that are not there."""
    config = tmp_path / "frontend.toml"
    told = {
        "etcd": ["127.0.0.1:9"],
        "etcd_user": "u",
        "etcd_password": f"{MARK}etcd",
        "nats": ["nats://127.0.0.1:9"],
        "nats_user": "u",
        "nats_password": f"{MARK}nats",
        "sources": SOURCES.split(","),
        "data": str(tmp_path),
        "packages": f"s3://user:{MARK}s3@bucket/x",
        "log_level": "debug",
    }
    for more in ({}, {"grpc_port": -1, "sources": [f"jobs=http://user:{MARK}http@h:1"]}):
        config.write_text("".join(f"{key} = {json.dumps(it)}\n" for key, it in (told | more).items()))
        command = [sys.executable, "-m", "lambent", "frontend", "--config", str(config)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr
            said = process.stderr.readline()  # etcd is waited for as long as it takes
            process.kill()
            said += process.stderr.read()
        assert said
        assert MARK not in said


def test_a_crash_leaves_no_memory_on_the_disk(fleet: Fleet, token: str, function: str) -> None:
    """Of an instance, nor of any part; of what else was started where they were there is a core file."""
    folder = fleet.data.parent
    control = "import os, resource as r; r.setrlimit(r.RLIMIT_CORE, (r.RLIM_INFINITY,) * 2); os.abort()"
    (elsewhere := folder / "control").mkdir()
    subprocess.run([sys.executable, "-c", control], cwd=elsewhere, check=False, stderr=subprocess.DEVNULL)
    if not list(elsewhere.iterdir()):
        pytest.skip("this machine writes no core files into the working directory")
    asyncio.run(aborted(fleet, token))
    for part in ("frontend", "placement", "worker-1"):
        fleet.runs_again(part, fleet.kill(part, signal.SIGSEGV))
    assert [it for it in folder.rglob("core*") if it.is_file() and elsewhere not in it.parents] == []
    marked = [
        path
        for path in folder.rglob("*")
        if path.is_file() and f"{MARK}variable".encode() in path.read_bytes()
    ]
    assert marked == []


async def aborted(fleet: Fleet, token: str) -> None:
    async with Client(fleet.endpoint, access_key=token) as client:
        answer = await client.invoke("f", {"abort": True})
        assert answer.function_error
