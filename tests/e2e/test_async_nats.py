"""Asynchronous calls kept by NATS: nothing that was taken is lost by a kill of it, nor with a frontend."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from lambent.client import Client
from lambent_proto.errors import LambentError
from tests.brokers import processes
from tests.brokers.aws import free_port
from tests.e2e.by_hand import by_hand, running
from tests.e2e.evidence import Evidence, deploy
from tests.e2e.fleet import Fleet
from tests.e2e.load import eventually, known_to
from tests.e2e.test_async import WITHIN_S, Taking, until_all_ended

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

EVENTS = 200


class Server:
    """A nats-server that is killed and started again, with one folder and one port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._runs = ExitStack()

    def start(self) -> str:
        return self._runs.enter_context(processes.nats(self._folder, self._port))

    def kill(self) -> None:
        self._runs.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("nats"))
    yield server
    server.kill()


@pytest.fixture(scope="module")
def fleet(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    options = "--workers", "1", "--worker-memory", "1024", "--nats", server.start()
    with running(tmp_path_factory.mktemp("async-nats"), *options) as fleet:
        yield fleet


@pytest.fixture
async def client(fleet: Fleet) -> AsyncIterator[Client]:
    async with Client(fleet.endpoint) as client:
        yield client
        for function in await client.list_functions():
            await client.delete_function(function.name)


async def test_nothing_that_was_taken_is_lost_by_a_kill(
    fleet: Fleet, client: Client, server: Server, evidence: Evidence
) -> None:
    """Of NATS and of the frontend; a synchronous call needs neither NATS nor its return."""
    await deploy(client, "killed", evidence, concurrency=4)
    taking = Taking(client, "killed", sleep=0.02)
    calling = asyncio.create_task(taking.take(EVENTS))
    await eventually(partial(taking.has, EVENTS // 3), "events are taken", WITHIN_S)
    server.kill()
    with pytest.raises(LambentError, match="NATS does not answer"):
        await client.async_invocations.begin("killed", {"call": "refused", "sleep": 0})
    await client.invoke("killed", {"call": "synchronous", "sleep": 0})
    server.start()
    await eventually(partial(taking.has, 2 * EVENTS // 3), "events are taken again", WITHIN_S)
    fleet.runs_again("frontend", fleet.kill("frontend"))
    await calling
    assert set(await until_all_ended(client, "killed")) == {"succeeded"}
    runs = Counter(run.call for run in evidence.runs())
    assert {*taking.taken.values(), "synchronous"} <= runs.keys()


async def test_another_frontend_goes_on_with_what_a_lost_one_had(
    fleet: Fleet, client: Client, evidence: Evidence
) -> None:
    """It is killed, and never comes back; before that the other one knows its calls, cancels and has keys."""
    await deploy(client, "moved", evidence, concurrency=1)
    with by_hand(fleet, "frontend", "lost-frontend", grpc_port=0, http_port=0) as part:
        async with Client(part.addresses["grpc"]) as other:
            await known_to(other, "moved")
            taking = Taking(other, "moved", sleep=0.2)
            await taking.take(40)
            cancelled = list(taking.taken)[-1]
            assert (await client.async_invocations.get("moved", cancelled)).state == "queued"
            assert (await client.async_invocations.cancel("moved", cancelled)).state == "cancelled"
            event = {"call": "once", "sleep": 0}
            first = await other.async_invocations.begin("moved", event, idempotency_key="k")
            assert await client.async_invocations.begin("moved", event, idempotency_key="k") == first
        part.kill()
        states = await until_all_ended(client, "moved")
    assert states["cancelled"] == 1
    assert states["succeeded"] >= 40
    runs = Counter(run.call for run in evidence.runs())
    assert {*taking.taken.values()} - {taking.taken[cancelled]} | {"once"} <= runs.keys()
    assert taking.taken[cancelled] not in runs
