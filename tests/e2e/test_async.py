"""Asynchronous calls while their fleet is hurt: every one that was taken is run, whatever is killed."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from lambent.client import Client
from lambent_proto.errors import LambentError
from tests.e2e.by_hand import running
from tests.e2e.evidence import Evidence, deploy
from tests.e2e.fleet import Fleet
from tests.e2e.load import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

EVENTS = 300
WITHIN_S = 60.0


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with running(tmp_path_factory.mktemp("async"), "--workers", "1", "--worker-memory", "1024") as fleet:
        yield fleet


@pytest.fixture
async def client(fleet: Fleet) -> AsyncIterator[Client]:
    async with Client(fleet.endpoint) as client:
        yield client
        for function in await client.list_functions():
            await client.delete_function(function.name)


class Taking:
    """Callers that begin calls one after the other, and keep what was answered 202."""

    def __init__(self, client: Client, name: str, sleep: float = 0.0) -> None:
        self.taken: dict[str, str] = {}
        """Each call's own name, by its request id."""
        self._client = client
        self._name = name
        self._sleep = sleep
        self._numbers = count()

    def has(self, events: int) -> bool:
        return len(self.taken) >= events

    async def take(self, events: int) -> None:
        async with asyncio.TaskGroup() as callers:
            for _ in range(8):
                callers.create_task(self._call(events))

    async def _call(self, events: int) -> None:
        while len(self.taken) < events:
            call = f"call-{next(self._numbers)}"
            event = {"call": call, "sleep": self._sleep}
            try:
                self.taken[await self._client.async_invocations.begin(self._name, event)] = call
            except LambentError:  # it may have been taken, or not: nothing was promised
                await asyncio.sleep(0.05)


async def left(client: Client, name: str) -> int | None:
    """How many are not over, or None while the frontend is away."""
    try:
        found = await client.async_invocations.ls(name, most=10_000)
    except LambentError:
        return None
    return sum(it.state not in ("succeeded", "failed", "dead", "cancelled") for it in found)


async def until_all_ended(client: Client, name: str) -> Counter[str]:
    async def ended() -> bool:
        return await left(client, name) == 0

    await eventually(ended, "all have ended", WITHIN_S)
    return Counter(it.state for it in await client.async_invocations.ls(name, most=10_000))


async def test_nothing_that_was_taken_is_lost_by_a_kill(
    fleet: Fleet, client: Client, evidence: Evidence, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every part is killed while events come and run; each event is run once at least."""
    await deploy(client, "killed", evidence, concurrency=4)
    taking = Taking(client, "killed", sleep=0.05)
    calling = asyncio.create_task(taking.take(EVENTS))
    for share, part in enumerate(("frontend", "placement", "worker-1"), 1):
        enough = share * EVENTS // 4
        await eventually(partial(taking.has, enough), "events are taken", WITHIN_S)
        fleet.runs_again(part, fleet.kill(part))
    await calling
    fleet.runs_again("frontend", fleet.kill("frontend"))
    states = await until_all_ended(client, "killed")
    runs = Counter(run.call for run in evidence.runs())
    assert set(taking.taken.values()) <= runs.keys()
    assert set(states) == {"succeeded"}
    repeated = sum(runs.values()) - len(runs)
    assert repeated  # what ran as its worker or its frontend was killed
    with capsys.disabled():
        said = f"{len(taking.taken)} taken, {len(runs)} run, {repeated} times one of them once more"
        print(f"\nkilled: frontend, placement, worker, frontend: {said}")  # noqa: T201 - the count is asked for


async def test_a_frontend_that_is_stopped_leaves_the_rest_for_its_next_start(
    fleet: Fleet, client: Client, evidence: Evidence
) -> None:
    """What runs is finished and heard of; what waits is run afterwards."""
    await deploy(client, "stopped", evidence, concurrency=2)
    taking = Taking(client, "stopped", sleep=0.1)
    await taking.take(40)
    fleet.runs_again("frontend", fleet.kill("frontend", signal.SIGTERM))
    assert set(await until_all_ended(client, "stopped")) == {"succeeded"}
    runs = Counter(run.call for run in evidence.runs())
    assert set(runs) == set(taking.taken.values())
    assert set(runs.values()) == {1}


async def test_the_command_line(fleet: Fleet, client: Client, evidence: Evidence, tmp_path: Path) -> None:
    """Begins a call, looks it up, configures, lists what is dead, runs it again, and cancels it."""
    await deploy(client, "by-hand", evidence, handler="app.fails")

    def lambent(*arguments: str, code: int = 0) -> str:
        done = fleet.lambent(*arguments)
        assert done.returncode == code, done.stderr
        return done.stdout.decode().strip()

    def state(request_id: str) -> str:
        return str(json.loads(lambent("async", "get", "by-hand", request_id, "--json"))["state"])

    configured = lambent("async", "config", "set", "by-hand", "--retries", "0", "--json")
    assert json.loads(configured)[0]["settings"]["retries"] == 0
    request_id = lambent("invoke", "by-hand", "--async", "-d", "{}")
    await eventually(lambda: state(request_id) == "dead", "it is given up")
    assert json.loads(lambent("async", "queue", "--json"))["by_state"]["dead"] >= 1
    assert "in use" in lambent("async", "queue")
    assert "not today" in lambent("async", "get", "by-hand", request_id)
    assert request_id in lambent("async", "ls", "by-hand", "--state", "dead")
    lambent("async", "config", "set", "by-hand", "--retries", "7", "--delay", "300")
    lambent("async", "redrive", "by-hand", "--all")
    await eventually(lambda: state(request_id) == "retrying", "it has failed anew")
    assert "cancelled" in lambent("async", "cancel", "by-hand", request_id)
    lambent("async", "cancel", "by-hand", "00000000-0000-4000-a000-000000000000", code=3)
    assert "7" in lambent("async", "config", "ls", "by-hand")
    lambent("async", "config", "delete", "by-hand")
    assert json.loads(lambent("async", "config", "ls", "by-hand", "--json")) == []
    lambent("invoke", "by-hand", "--async", "--tail", code=2)
    for given, shown in (
        ("https://letters.example.com/dead", "https://letters.example.com/dead"),
        ("none", ""),
    ):
        lambent("function", "update", "by-hand", "--dead-letter", given)
        assert json.loads(lambent("function", "get", "by-hand", "--json"))["dead_letter"] == shown
    lambent("function", "update", "by-hand", "--dead-letter", "nowhere", code=3)
