"""Two frontends before the same workers: one count, one set of warm instances, a fair share for each."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from lambent.client import Client
from tests.e2e.by_hand import by_hand
from tests.e2e.evidence import Evidence, deploy, most_at_once
from tests.e2e.fleet import Fleet
from tests.e2e.load import calling, eventually, known_to, one_call

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def endpoint(shared: Fleet) -> Iterator[str]:
    """Of a second frontend."""
    with by_hand(shared, "frontend", "second-frontend", grpc_port=0, http_port=0) as part:
        yield part.addresses["grpc"]


@pytest.fixture
async def other(endpoint: str) -> AsyncIterator[Client]:
    async with Client(endpoint) as client:
        yield client


async def test_one_instance_serves_both(client: Client, other: Client, name: str, evidence: Evidence) -> None:
    """Called through both in turns, a function runs in one instance: its lease goes to and fro."""
    await deploy(client, name, evidence, concurrency=1)
    await known_to(other, name)
    starts = []
    for _ in range(10):
        for frontend in (client, other):
            outcome = await one_call(frontend, name)
            assert outcome.answer is not None, outcome.error
            starts.append(outcome.answer.explanation.start)
    assert starts == ["cold"] + 19 * ["warm"]
    assert len(evidence.births()) == 1


async def test_below_the_limit_too(client: Client, other: Client, name: str, evidence: Evidence) -> None:
    """Nor is a second instance started where it would be allowed: the one that idles elsewhere is fetched."""
    await deploy(client, name, evidence, concurrency=10)
    await known_to(other, name)
    for _ in range(10):
        for frontend in (client, other):
            assert (await one_call(frontend, name)).error is None
    assert len(evidence.births()) == 1


async def test_neither_starves(client: Client, other: Client, name: str, evidence: Evidence) -> None:
    """Who comes second to a function whose instances are all taken soon has its share, and keeps it."""
    await deploy(client, name, evidence, concurrency=2)
    await known_to(other, name)
    async with calling(client, name, callers=4, sleep=0.05) as first:
        await first.more(8)
        assert len(evidence.births()) == 2
        before = len(first.outcomes)
        async with calling(other, name, callers=4, sleep=0.05) as second:
            await eventually(lambda: len(first.outcomes) - before + len(second.outcomes) >= 80, "80 calls")
            shares = len(first.outcomes) - before, len(second.outcomes)
    assert first.errors == second.errors == []
    assert min(shares) >= sum(shares) / 4
    longest = max(outcome.end - outcome.begin for outcome in (*first.outcomes, *second.outcomes))
    assert longest < 2.0  # fair turns are eight calls of 0.05 s over two instances: 0.2 s
    assert most_at_once((run.begin, run.end) for run in evidence.runs()) == 2
    assert len(evidence.births()) == 2


async def test_a_burst_elsewhere(client: Client, other: Client, name: str, evidence: Evidence) -> None:
    """One frontend keeps all instances busy; a single call through the other gets its turn."""
    await deploy(client, name, evidence, concurrency=2)
    await known_to(other, name)
    async with calling(client, name, callers=8, sleep=0.1) as load:
        await eventually(lambda: len(load.outcomes) >= 4, "the first frontend holds both")
        single = [await asyncio.wait_for(one_call(other, name), 5) for _ in range(3)]
    assert [outcome.error for outcome in single] == [None] * 3
    assert load.errors == []
