"""Every part of a fleet is restarted in turn, under load, and no call fails."""

import asyncio
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from lambent.client import Client
from tests.e2e.by_hand import by_hand, running
from tests.e2e.evidence import Evidence, deploy
from tests.e2e.fleet import Fleet
from tests.e2e.load import Callers, eventually, known_to
from tests.integration.etcd.cluster import free_ports

pytestmark = pytest.mark.e2e

WORKERS: Final = ("worker-1", "worker-2")
PLACEMENTS: Final = ("placement-1", "placement-2")

LONG_S: Final = 1.0
"""A call that takes so long is in flight on a worker when it is told to stop."""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Whose `up` starts what ends again, as an operator's init system would."""
    with running(tmp_path, "--placements", "2", "--workers", "2") as fleet:
        yield fleet


async def busy(client: Client, name: str, node: str) -> bool:
    """Whether a function's instance is in use there."""
    return any(it.node == node and it.state == "leased" for it in await client.instances(name))


@pytest.mark.timeout(180)
async def test_no_call_fails(fleet: Fleet, name: str, tmp_path: Path) -> None:
    """Short ones, and long ones that are in flight on each worker when it is told to stop."""
    short, long = Evidence(tmp_path / "short"), Evidence(tmp_path / "long")
    (port,) = free_ports(1)
    with by_hand(fleet, "frontend", "second-frontend", grpc_port=port, http_port=0) as second:
        async with Client(fleet.endpoint) as one, Client(second.addresses["grpc"]) as other:
            await deploy(one, name, short)
            await deploy(one, f"{name}-long", long)
            await known_to(other, f"{name}-long")
            callers = Callers([one, other], WORKERS)
            async with (
                callers.calling(name, callers=4, sleep=0.02),
                callers.calling(f"{name}-long", callers=6, sleep=LONG_S),
            ):
                for worker in WORKERS:
                    await callers.whole()
                    await eventually(partial(busy, one, f"{name}-long", worker), f"{worker} has a call")
                    await restart(fleet, worker)
                for placement in PLACEMENTS:
                    await callers.whole()
                    await restart(fleet, placement)
                await callers.whole()
                await restart(fleet, "frontend")
                await callers.whole()
                await asyncio.to_thread(second.stop)
                await asyncio.to_thread(second.start)
                await callers.whole()
    assert callers.load.errors == []
    calls = [run.call for evidence in (short, long) for run in evidence.runs()]
    assert sorted(calls) == sorted(outcome.call for outcome in callers.load.outcomes), "each ran once"


async def restart(fleet: Fleet, part: str) -> None:
    stopped = fleet.kill(part, signal.SIGTERM)
    await asyncio.to_thread(fleet.runs_again, part, stopped)
    assert "exit code 0" in fleet.said()
