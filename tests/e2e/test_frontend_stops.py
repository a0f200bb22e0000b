"""SIGTERM to a frontend: it takes no new call and says so, and what it has taken it finishes."""

import asyncio
import signal
from itertools import count

import pytest

from lambent.client import Client
from lambent_proto.errors import NotReady
from tests.e2e.by_hand import by_hand
from tests.e2e.evidence import Evidence, deploy
from tests.e2e.fleet import Fleet
from tests.e2e.load import Outcome, eventually, known_to, one_call

pytestmark = pytest.mark.e2e


async def test_calls_under_way_are_finished(
    shared: Fleet, client: Client, name: str, evidence: Evidence
) -> None:
    """The one that runs as well as the one that waits for its instance."""
    await deploy(client, name, evidence, concurrency=1)
    with by_hand(shared, "frontend", "stopped-frontend", grpc_port=0, http_port=0) as part:
        async with Client(part.addresses["grpc"]) as its_client:
            calls = [asyncio.create_task(one_call(its_client, name, sleep=0.7)) for _ in range(2)]
            await eventually(lambda: evidence.runs(), "the first one runs")
            part.process.send_signal(signal.SIGTERM)
            outcomes = await asyncio.gather(*calls)
        assert [outcome.error for outcome in outcomes] == [None, None]
        assert await asyncio.to_thread(part.process.wait, 20) == 0


async def test_whoever_is_told_that_it_never_ran_may_believe_it(
    shared: Fleet, client: Client, name: str, evidence: Evidence
) -> None:
    """Calls that come at the moment of its end are answered or not taken, and the error says which."""
    await deploy(client, name, evidence)
    outcomes: list[Outcome] = []
    numbers = count()
    with by_hand(shared, "frontend", "stopped-frontend", grpc_port=0, http_port=0) as part:
        async with Client(part.addresses["grpc"]) as its_client:
            await known_to(its_client, name)

            async def call_until_refused() -> None:
                answered = True
                while answered:
                    outcome = await one_call(its_client, name, str(next(numbers)), 0.002)
                    outcomes.append(outcome)
                    answered = outcome.error is None

            callers = [asyncio.create_task(call_until_refused()) for _ in range(24)]
            await eventually(lambda: len(outcomes) >= 500, "calls go on")
            part.process.send_signal(signal.SIGTERM)
            await asyncio.gather(*callers)
    refused = {outcome.call: type(outcome.error) for outcome in outcomes if outcome.error is not None}
    assert set(refused.values()) == {NotReady}
    ran = {run.call for run in evidence.runs()}
    assert ran == {outcome.call for outcome in outcomes} - refused.keys()
