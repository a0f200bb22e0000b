"""Never more instances than the limit; who finds none waits; who finds the line full is told so.

What ran where and when is taken from what the instances wrote down themselves.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise

import grpc
import grpc.aio
import pytest

from lambent.client import Client
from lambent_proto.errors import Throttled
from tests.e2e.by_hand import running
from tests.e2e.evidence import Evidence, deploy, most_at_once
from tests.e2e.fleet import Fleet
from tests.e2e.load import Outcome, eventually, one_call, refusal

pytestmark = pytest.mark.e2e

LIMIT = 4
MAX_WAITING = 12
SLEEP_S = 0.2

IDLE_S = 0.15
"""An instance that ended one call has the next one by then, while calls wait. A hand-over was measured at 1
to 3 ms; the rest is for two cores that others use as well."""


@pytest.fixture(scope="module")
def short_lines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with running(tmp_path_factory.mktemp("limit"), "--max-waiting", str(MAX_WAITING)) as fleet:
        yield fleet


@pytest.fixture
async def short(short_lines: Fleet) -> AsyncIterator[Client]:
    """A client of a fleet in which few calls may wait."""
    async with Client(short_lines.endpoint) as client:
        yield client


async def test_no_more_instances_than_the_limit(client: Client, name: str, evidence: Evidence) -> None:
    """16 callers with two calls each, 4 instances: no fifth one ever exists, and every call is answered."""
    await deploy(client, name, evidence, concurrency=LIMIT)
    most_listed = 0

    async def look() -> None:
        nonlocal most_listed
        while True:
            most_listed = max(most_listed, len(await client.instances(name)))
            await asyncio.sleep(0.02)

    async def two_calls(caller: int) -> list[Outcome]:
        return [await one_call(client, name, f"{caller}.{number}", SLEEP_S) for number in range(2)]

    looking = asyncio.create_task(look())
    outcomes = [outcome for two in await asyncio.gather(*map(two_calls, range(16))) for outcome in two]
    looking.cancel()
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    runs = evidence.runs()
    assert sorted(run.call for run in runs) == sorted(outcome.call for outcome in outcomes)
    assert most_at_once((run.begin, run.end) for run in runs) == LIMIT
    assert len(evidence.births()) == LIMIT  # none was replaced, so no more than these ever existed
    assert most_listed == LIMIT
    for instance in evidence.births():
        assert most_at_once((r.begin, r.end) for r in runs if r.instance == instance.instance) == 1


async def test_none_idles_beside_a_waiting_call(client: Client, name: str, evidence: Evidence) -> None:
    """Once all instances are there, each has its next call at once for as long as calls wait."""
    await deploy(client, name, evidence, concurrency=LIMIT)
    await asyncio.gather(*(one_call(client, name, "first", SLEEP_S) for _ in range(LIMIT)))
    births = evidence.births()
    assert len(births) == LIMIT
    outcomes = await asyncio.gather(*(one_call(client, name, f"{n}", SLEEP_S) for n in range(16)))
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    runs = [run for run in evidence.runs() if run.call != "first"]
    last_began = max(run.begin for run in runs)  # until then somebody waited
    for birth in births:
        mine = [run for run in runs if run.instance == birth.instance]
        assert max(after.begin - before.end for before, after in pairwise(mine)) < IDLE_S
        assert last_began - mine[-1].end < IDLE_S


async def test_a_full_line(short: Client, name: str, evidence: Evidence) -> None:
    """4 run, 12 wait, the others are told RESOURCE_EXHAUSTED with the reason; who was taken in is served."""
    await deploy(short, name, evidence, concurrency=LIMIT)
    long = [asyncio.create_task(one_call(short, name, f"long {n}", 2.0)) for n in range(LIMIT)]
    await eventually(lambda: len(evidence.runs()) == LIMIT, "all instances run")
    waiting = await fill_the_line(short, name)

    async def placement_has_said_why() -> bool:
        error = (await one_call(short, name, "surplus")).error
        return isinstance(error, Throttled) and f"its limit of {LIMIT}" in error.message

    await eventually(placement_has_said_why, "the frontend knows what placement lacks")
    surplus = await asyncio.gather(*(one_call(short, name, "surplus") for _ in range(8)))
    for outcome in surplus:
        error = outcome.error
        assert isinstance(error, Throttled)
        assert f"the line of function '{name}' is full: {MAX_WAITING} calls wait" in error.message
        assert f"its limit of {LIMIT}" in error.message
    assert await refusal(short, name) is grpc.StatusCode.RESOURCE_EXHAUSTED
    taken_in = await asyncio.gather(*long, *waiting)
    assert [outcome.error for outcome in taken_in if outcome.error] == []
    assert {run.call for run in evidence.runs()} == {outcome.call for outcome in taken_in}


async def test_who_goes_away_leaves_the_line(short: Client, name: str, evidence: Evidence) -> None:
    """Their places are free for others, and their calls never run."""
    await deploy(short, name, evidence, concurrency=1)
    long = asyncio.create_task(one_call(short, name, "long", 2.0))
    await eventually(evidence.runs, "the long call runs")
    for task in await fill_the_line(short, name):
        task.cancel()

    async def stay() -> bool:
        return (await one_call(short, name, "stayed")).error is None

    await eventually(stay, "there is room again, as soon as the frontend has heard of it")
    assert (await long).error is None
    assert {run.call for run in evidence.runs()} == {"long", "stayed"}


async def fill_the_line(client: Client, name: str) -> list[asyncio.Task[Outcome]]:
    """As many calls as may wait, and one more that has been throttled already."""
    tasks = {asyncio.create_task(one_call(client, name, f"waits {n}")) for n in range(MAX_WAITING + 1)}
    done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert [type(task.result().error) for task in done] == [Throttled]
    return list(waiting)


async def test_switched_off(client: Client, name: str, evidence: Evidence) -> None:
    """A concurrency of 0 throttles every call and starts nothing."""
    await deploy(client, name, evidence, concurrency=0)
    with pytest.raises(Throttled, match="switched off: its concurrency is 0"):
        await client.invoke(name)
    assert evidence.births() == []
