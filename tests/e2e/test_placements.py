"""Several placements: one leads, and when it goes another does, without a call being lost."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest

from lambent.client import Client
from tests.e2e.by_hand import running
from tests.e2e.evidence import Evidence, deploy
from tests.e2e.fleet import Fleet
from tests.e2e.load import calling, eventually, one_call

pytestmark = pytest.mark.e2e


@pytest.fixture
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with running(tmp_path_factory.mktemp("placements"), "--placements", "2", "--workers", "1") as fleet:
        yield fleet


@pytest.fixture
async def client(two: Fleet) -> AsyncIterator[Client]:
    async with Client(two.endpoint) as client:
        yield client


async def leads(fleet: Fleet, client: Client) -> str:
    """The name of the placement that does."""
    address = (await client.nodes()).leader
    names = ("placement-1", "placement-2")
    return next((it for it in names if fleet.part(it)["addresses"]["control"] == address), "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_the_other_one_takes_over(
    two: Fleet, client: Client, name: str, evidence: Evidence, number: signal.Signals
) -> None:
    """Warm calls go on meanwhile, and what needs a start is served by the new leader: a higher epoch."""
    await deploy(client, name, evidence, concurrency=2)
    await deploy(client, "cold", Evidence(evidence.folder.parent / "cold"))
    async with calling(client, name, callers=2, sleep=0.02) as load:
        await load.more(10)
        before = (await client.nodes()).epoch
        leader = await leads(two, client)
        two.process.send_signal(signal.SIGSTOP)  # so that it does not start the lost one again, which may win
        try:
            two.kill(leader, number)
            cold = await one_call(client, "cold")
            await load.more(10)
            await eventually(lambda: _another(two, client, leader), "another placement leads")
        finally:
            two.process.send_signal(signal.SIGCONT)
    assert load.errors == []
    assert (cold.error, cold.answer is not None) == (None, True)
    assert (await client.nodes()).epoch > before


async def test_one_that_hangs_is_followed_by_the_other_one_and_gives_way(
    two: Fleet, client: Client, name: str, evidence: Evidence
) -> None:
    """Stopped it cannot say that it ends. Woken up it learns that it leads no longer, and stands by again."""
    await deploy(client, name, evidence)
    leader = await leads(two, client)
    before = (await client.nodes()).epoch
    stopped = two.kill(leader, signal.SIGSTOP)
    try:
        cold = await one_call(client, name, timeout_s=20)
        await eventually(lambda: _another(two, client, leader), "another placement leads")
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert cold.error is None
    await asyncio.to_thread(two.runs_again, leader, stopped)
    assert (await client.nodes()).epoch > before
    assert await leads(two, client) != leader


async def _another(fleet: Fleet, client: Client, leader: str) -> bool:
    return (await leads(fleet, client)) not in ("", leader)


async def test_the_command_says_who_leads(two: Fleet, client: Client) -> None:
    done = await asyncio.to_thread(two.lambent, "nodes")
    assert f"The placement at {(await client.nodes()).leader} leads, epoch 1." in done.stderr.decode()
