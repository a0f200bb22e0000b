"""The fleet's concurrency: what functions reserve of it, what they share, and that it changes under load."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lambent.client import Client
from lambent_proto.errors import InvalidRequest, Throttled
from tests.e2e.by_hand import running
from tests.e2e.evidence import Evidence, deploy, most_at_once
from tests.e2e.fleet import Fleet
from tests.e2e.load import Outcome, eventually, one_call

pytestmark = pytest.mark.e2e

SLEEP_S = 0.1


@pytest.fixture(scope="module")
def small_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with running(tmp_path_factory.mktemp("concurrency"), "--concurrency", "6") as fleet:
        yield fleet


@pytest.fixture
async def small(small_fleet: Fleet) -> AsyncIterator[Client]:
    """A client of a fleet in which six instances may run."""
    async with Client(small_fleet.endpoint) as client:
        await client.set_concurrency(6)
        yield client
        for function in await client.list_functions():
            await client.delete_function(function.name)


async def calls(client: Client, name: str, count: int) -> list[Outcome]:
    return await asyncio.gather(*(one_call(client, name, f"{name}.{n}", SLEEP_S) for n in range(count)))


async def test_all_functions_together_stay_within_it(small: Client, tmp_path: Path) -> None:
    """One has 2 of the 6 for itself; two share 4 and both get on, and no call is lost."""
    own, b, c = (Evidence(tmp_path / name) for name in ("own", "b", "c"))
    await deploy(small, "own", own, concurrency=2)
    await deploy(small, "b", b)
    await deploy(small, "c", c)
    outcomes = await asyncio.gather(calls(small, "own", 12), calls(small, "b", 24), calls(small, "c", 24))
    assert [outcome.error for some in outcomes for outcome in some if outcome.error] == []
    shared = [(run.begin, run.end) for evidence in (b, c) for run in evidence.runs()]
    assert most_at_once(shared) == 4
    assert most_at_once((run.begin, run.end) for run in own.runs()) == 2
    first_of_c, last_of_b = min(run.begin for run in c.runs()), max(run.begin for run in b.runs())
    assert first_of_c < last_of_b, "c did not wait until b had no more calls"


async def test_it_changes_under_load(small: Client, name: str, evidence: Evidence) -> None:
    """A lower one: what runs finishes, then no more than that run; nothing is restarted, no call fails."""
    await deploy(small, name, evidence)
    calling = asyncio.create_task(calls(small, name, 60))
    await eventually(lambda: len(evidence.runs()) >= 12, "12 calls have begun")
    changed = await small.set_concurrency(3)
    assert changed.unreserved == 3
    outcomes = await calling
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    runs = sorted(evidence.runs(), key=lambda run: run.begin)
    assert most_at_once((run.begin, run.end) for run in runs) == 6
    assert most_at_once((run.begin, run.end) for run in runs[-20:]) == 3


async def test_a_throttled_call_says_why_as_lambda_does(small: Client, name: str, evidence: Evidence) -> None:
    """By Lambda's name of the reason, one call at a time and in a stream alike."""
    await deploy(small, name, evidence, concurrency=0)
    reason = "ReservedFunctionConcurrentInvocationLimitExceeded"
    with pytest.raises(Throttled) as single:
        await small.invoke(name)
    assert single.value.throttle_reason == reason
    async with small.stream() as stream:
        with pytest.raises(Throttled) as streamed:
            await stream.invoke(name)
    assert streamed.value.throttle_reason == reason


async def test_a_reservation_leaves_a_part_to_the_others(
    small: Client, name: str, evidence: Evidence
) -> None:
    """One that takes everything is refused, says how much there is, and changes nothing."""
    with pytest.raises(InvalidRequest, match="reserve 5 at most"):
        await deploy(small, name, evidence, concurrency=6)
    assert await small.list_functions() == []
    await deploy(small, name, evidence, concurrency=5)
    with pytest.raises(InvalidRequest, match="functions reserve 5"):
        await small.set_concurrency(5)
    assert (await small.concurrency()).concurrency == 6
