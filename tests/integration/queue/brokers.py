"""Brokers for a test: real ones, each in a process and a folder of its own."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from lambent_chassis.clock import monotonic_s

WITHIN_S = 60.0
DEBIAN = "/usr/lib/rabbitmq/bin/rabbitmq-server"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(command: Sequence[str], port: int, folder: Path, **environment: str) -> Iterator[None]:
    """A server, once something listens on its port."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env=os.environ | environment, cwd=folder, start_new_session=True
        )
    try:
        deadline = monotonic_s() + WITHIN_S
        while not _listens(port):
            assert process.poll() is None, log.read_text()
            assert monotonic_s() < deadline, log.read_text()
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(WITHIN_S)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@contextmanager
def nats(folder: Path) -> Iterator[str]:
    """Its URL."""
    port = free_port()
    with _running(
        ["nats-server", "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(folder)], port, folder
    ):
        yield f"nats://127.0.0.1:{port}"


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    port = free_port()
    with _running(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""], port, folder):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def rabbitmq(folder: Path) -> Iterator[str]:
    """Erlang's nodes need names: this one has the port in its own."""
    port, between = free_port(), free_port()
    settings = {
        "RABBITMQ_NODENAME": f"test{port}@localhost",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(between),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "logs"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "HOME": str(folder),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(free_port()),
    }
    (folder / "plugins").write_text("[].")
    # Debian's own script on the PATH hands root's start over to a user who may not write here.
    script = next(
        (it for it in (DEBIAN, shutil.which("rabbitmq-server")) if it and Path(it).exists()),
        "rabbitmq-server",
    )
    with _running([script], port, folder, **settings):
        yield f"amqp://guest:guest@127.0.0.1:{port}/"
    # Erlang's name server is its own daemon, which nobody else ends.
    subprocess.run(["epmd", "-kill"], env=os.environ | settings, capture_output=True, check=False)
