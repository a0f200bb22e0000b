"""Whose turn it is among calls that wait, which is refused at once, and that no function waits for another's.

The one instance of a function is held by a call until the test opens a gate, so that all others wait by then.
They go over one stream, whose calls a frontend takes in the order in which they were begun.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lambent.client import Client
from lambent.invocation_stream import InvocationStream
from lambent.messages import Invocation, Priority
from lambent_proto.errors import Throttled, UnknownFunction
from tests.e2e.by_hand import by_hand
from tests.e2e.evidence import Evidence, deploy
from tests.e2e.fleet import Fleet
from tests.e2e.load import eventually, known_to

pytestmark = pytest.mark.e2e

SEEN = 32
"""So many calls must have ended beside a line before a frontend says how long it will take."""


class Crowd:
    """Calls of one function of which one instance may exist."""

    def __init__(self, stream: InvocationStream, name: str, evidence: Evidence, gate: Path) -> None:
        self.calls: list[asyncio.Task[Invocation]] = []
        self._stream = stream
        self._name = name
        self._evidence = evidence
        self._gate = gate

    def call(
        self, call: str, priority: Priority = "normal", tenant: str = "", **event: Any
    ) -> asyncio.Task[Invocation]:
        """Begins it, behind all that were begun before."""
        invoking = self._stream.invoke(self._name, {"call": call, **event}, priority=priority, tenant=tenant)
        self.calls.append(asyncio.create_task(invoking))
        return self.calls[-1]

    async def gate_holds(self) -> None:
        """The only instance runs a call that ends when the gate is opened, and not before."""
        self.call("gate", until=str(self._gate))
        await eventually(lambda: "gate" in self.ran(), "the gate holds")

    async def taken_in(self) -> None:
        """The frontend has taken all that were begun: it answers the next one, which goes nowhere."""
        with pytest.raises(UnknownFunction):
            await self._stream.invoke("nowhere")
        assert self.ran()[-1] == "gate"

    async def open_the_gate(self) -> list[str]:
        """All are answered; returns those that ran after the gate, in their order."""
        self._gate.touch()
        await asyncio.gather(*self.calls)
        ran = self.ran()
        return ran[ran.index("gate") + 1 :]

    def ran(self) -> list[str]:
        return [run.call for run in self._evidence.runs()]


@pytest.fixture
async def crowd(client: Client, name: str, evidence: Evidence, tmp_path: Path) -> AsyncIterator[Crowd]:
    await deploy(client, name, evidence, concurrency=1, timeout_s=60.0)
    stream = client.stream()
    yield Crowd(stream, name, evidence, tmp_path / "gate")
    await stream.abort()


async def test_tenants_take_turns(crowd: Crowd) -> None:
    """One that came behind a hundred calls of another one is served second."""
    await crowd.gate_holds()
    for n in range(100):
        crowd.call(f"greedy {n}", tenant="greedy")
    crowd.call("modest", tenant="modest")
    await crowd.taken_in()
    served = await crowd.open_the_gate()
    assert served == ["greedy 0", "modest", *(f"greedy {n}" for n in range(1, 100))]


async def test_a_high_priority_goes_first(crowd: Crowd) -> None:
    """The last to come is served before normal ones, and they before the first, which is a low one."""
    await crowd.gate_holds()
    crowd.call("low", "low")
    for n in range(5):
        crowd.call(f"normal {n}")
    crowd.call("high", "high")
    await crowd.taken_in()
    served = await crowd.open_the_gate()
    assert served == ["high", *(f"normal {n}" for n in range(5)), "low"]


async def test_a_low_priority_has_its_part(crowd: Crowd) -> None:
    """Of a hundred and twenty calls of which ninety are high ones, low ones are not the last thirty."""
    await crowd.gate_holds()
    for n in range(30):
        crowd.call(f"low {n}", "low")
    for n in range(90):
        crowd.call(f"high {n}", "high")
    await crowd.taken_in()
    served = await crowd.open_the_gate()
    assert [call.split()[0] for call in served[:27]] == [*["high"] * 8, "low"] * 3


async def test_a_deadline_that_cannot_be_met(crowd: Crowd, client: Client, name: str) -> None:
    """Behind 400 calls of 50 ms or more there is no hope within 5 s; the call is told so, and never runs.

    It hears it while the gate still holds everything, and by its reason it was not for waiting in vain.
    """
    for n in range(SEEN + 1):
        crowd.call(f"seen {n}", sleep=0.05)
    await crowd.gate_holds()
    for n in range(400):
        crowd.call(f"waits {n}")
    await crowd.taken_in()
    with pytest.raises(Throttled, match=r"its deadline cannot be met: 400 calls .* ahead of it") as refused:
        await client.invoke(name, {"call": "hopeless"}, timeout_s=5.0)
    assert refused.value.throttle_reason == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert "its limit of 1" in refused.value.message
    explained = await client.explain(refused.value.request_id)
    assert (explained.outcome, explained.message) == ("throttled", refused.value.message)
    assert "hopeless" not in await crowd.open_the_gate()


async def test_one_function_s_overload_starves_no_other(
    crowd: Crowd, client: Client, name: str, evidence: Evidence
) -> None:
    """Another one is answered, cold and warm, while the first has 500 calls waiting and serves none."""
    await crowd.gate_holds()
    for n in range(500):
        crowd.call(f"waits {n}")
    await crowd.taken_in()
    other = f"{name[:50]}-other"
    await deploy(client, other, evidence, handler="app.echo")
    answers = [await client.invoke(other, {"n": n}) for n in range(20)]
    assert [answer.json() for answer in answers] == [{"n": n} for n in range(20)]
    assert [answer.explanation.start for answer in answers] == ["cold"] + ["warm"] * 19
    assert crowd.ran() == ["gate"]
    assert len(await crowd.open_the_gate()) == 500


async def test_a_limited_rate(shared: Fleet, client: Client, name: str, evidence: Evidence) -> None:
    """Of eight calls a second a frontend beside another one gives four; what is more it refuses at once."""
    with by_hand(
        shared, "frontend", "limited-frontend", grpc_port=0, http_port=0, rate_per_concurrency=4.0
    ) as part:
        async with Client(part.addresses["grpc"]) as limited, limited.stream() as stream:
            await deploy(client, name, evidence, concurrency=2)
            await known_to(limited, name)
            calls = (stream.invoke(name, {"call": f"{n}"}) for n in range(40))
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, Throttled)]
    assert not any(outcome in refused for outcome in outcomes[:4])
    assert refused, "forty calls are not taken in so slowly that all of them may run"
    assert len(evidence.runs()) == len(outcomes) - len(refused)
    assert {error.throttle_reason for error in refused} == {"ReservedFunctionInvocationRateLimitExceeded"}
    assert "more than 4 times a second" in refused[0].message
    assert "each of 2 frontends" in refused[0].message
