"""Fleets, clients and functions. What does not harm a fleet shares one; at its end nothing may be left."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lambent.client import Client
from tests.brokers import aws
from tests.e2e.by_hand import running
from tests.e2e.evidence import Evidence
from tests.e2e.fleet import GRPC_SERVER_IS, Fleet


@pytest.fixture(scope="package", autouse=True)
def grpc_server() -> Iterator[None]:
    """Also of fleets that a test starts by a command of its own, and of what benches start."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in GRPC_SERVER_IS.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def echo() -> Path:
    """The smallest function, as the repository ships it."""
    return Path(__file__).resolve().parents[2] / "examples" / "echo"


@pytest.fixture(scope="session")
def sqs_port() -> int:
    """Where the shared fleet looks for queues. What listens there is started by whoever needs it."""
    return aws.free_port()


@pytest.fixture(scope="session")
def kafka_port() -> int:
    """Where the shared fleet looks for a Kafka, by the name `bus`."""
    return aws.free_port()


@pytest.fixture(scope="session")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the shared fleet knows as `inbox`."""
    return tmp_path_factory.mktemp("inbox")


@pytest.fixture(scope="session")
def shared(
    sqs_port: int, kafka_port: int, inbox: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """Two workers; for tests that leave all of its processes as they are."""
    with pytest.MonkeyPatch.context() as patch:
        sources = f"sqs=http://127.0.0.1:{sqs_port},bus=kafka://127.0.0.1:{kafka_port},inbox=file://{inbox}"
        for name, value in {"LAMBENT_SOURCES": sources, **aws.CREDENTIALS}.items():
            patch.setenv(name, value)
        with running(tmp_path_factory.mktemp("shared")) as fleet:
            patch.undo()
            yield fleet


@pytest.fixture
async def client(shared: Fleet) -> AsyncIterator[Client]:
    """Of the shared fleet, in which after each test nothing is deployed."""
    async with Client(shared.endpoint) as client:
        yield client
        for function in await client.list_functions():
            await client.delete_function(function.name)


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    return Evidence(tmp_path / "evidence")


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A function's name that is this test's own."""
    return re.sub(r"[^a-zA-Z0-9-_]", "-", request.node.name.removeprefix("test_"))[:64]
