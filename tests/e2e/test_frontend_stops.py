"""SIGTERM to a frontend: it takes no new call, and what it has taken it finishes."""

import asyncio
import signal

import pytest

from lambent.client import Client
from tests.e2e.by_hand import by_hand
from tests.e2e.evidence import Evidence, deploy
from tests.e2e.fleet import Fleet
from tests.e2e.load import eventually, one_call

pytestmark = pytest.mark.e2e


async def test_calls_under_way_are_finished(
    shared: Fleet, client: Client, name: str, evidence: Evidence
) -> None:
    """The one that runs as well as the one that waits for its instance."""
    await deploy(client, name, evidence, concurrency=1)
    with by_hand(shared, "frontend", "stopped-frontend", grpc_port=0) as part:
        async with Client(part.addresses["grpc"]) as its_client:
            calls = [asyncio.create_task(one_call(its_client, name, sleep=0.7)) for _ in range(2)]
            await eventually(lambda: evidence.runs(), "the first one runs")
            part.process.send_signal(signal.SIGTERM)
            outcomes = await asyncio.gather(*calls)
        assert [outcome.error for outcome in outcomes] == [None, None]
        assert await asyncio.to_thread(part.process.wait, 20) == 0
