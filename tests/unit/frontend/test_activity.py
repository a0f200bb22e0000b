"""What was called of late, out of what drivers remember."""

import asyncio
import math
from typing import Any

import pytest

from lambent_frontend.activity import LOOKED_AT, counted, merged, recent, told
from lambent_frontend.core.call import Priority
from lambent_frontend.core.commands import Dispatch
from lambent_frontend.driver import Driver, Finished
from lambent_frontend.remembered import Remembered
from lambent_proto.errors import InvalidRequest
from lambent_proto.ids import InstanceId, LeaseNumber, NodeId, RequestId
from lambent_proto.v1.fleet_pb2 import GetActivityRequest
from tests.unit.scripted import FRONTEND, ScriptedDispatcher

NOW = 1000.0


def driver() -> Driver:
    return Driver(max_waiting=10, max_waiting_bytes=10_000, rate_per_concurrency=0, linger_s=0.1)


def ended(
    at: Driver,
    function: str,
    ago_s: float,
    *,
    ms: float = 10.0,
    cold: bool = False,
    outcome: str = "succeeded",
) -> RequestId:
    request = RequestId(f"r-{len(at.finished)}")
    sent = None
    if outcome != "throttled":
        sent = Dispatch(
            NodeId("n@1"), InstanceId("i"), LeaseNumber(1), request, cold, "idle_lease", 0.001, "", 0, 0
        )
    ran_ms = ms - 1 if sent else 0.0
    arrived = NOW - ago_s - (ms / 1000 if sent else 0.0)
    rest = "", sent, ran_ms, "none", Priority.NORMAL, "", None, arrived
    at.finished[request] = Finished(function, outcome, *rest)
    return request


def test_rates_and_shares_are_of_the_window() -> None:
    """What ended before it is not counted; what was throttled never ran."""
    it = driver()
    ended(it, "f", 61)
    ended(it, "f", 30, cold=True)
    ended(it, "f", 20, outcome="function_error")
    ended(it, "f", 10, outcome="throttled")
    ended(it, "g", 5)
    f, g = merged(told(counted([it], NOW, 60)))
    assert (f.function_name, f.calls, f.failed, f.throttled, f.ran, f.cold) == ("f", 3, 1, 1, 2, 1)
    assert f.calls_per_s == pytest.approx(3 / 60)
    assert (g.function_name, g.calls, g.cold) == ("g", 1, 0)


def test_of_very_many_calls_a_shorter_time_is_seen() -> None:
    """The rate is true all the same."""
    it = driver()
    for number in range(LOOKED_AT + 500):
        ended(it, "f", (LOOKED_AT + 500 - number) / 1000)
    (f,) = merged(told(counted([it], NOW, 60)))
    assert f.calls == LOOKED_AT
    assert f.calls_per_s == pytest.approx(1000, rel=0.01)


def test_quantiles_of_several_frontends_together() -> None:
    """Within a twentieth of the exact ones."""
    here, there = driver(), driver()
    for number in range(1, 51):
        ended(here, "f", 1, ms=number)
        ended(there, "f", 1, ms=50 + number)
    both = [*told(counted([here], NOW, 60)), *told(counted([there], NOW, 60))]
    (f,) = merged(both)
    assert math.isclose(f.p50_ms, 50, rel_tol=0.05)
    assert math.isclose(f.p99_ms, 99, rel_tol=0.05)
    assert f.calls == 100


def test_the_last_calls_of_all_shards() -> None:
    """The newest first."""
    one, other = driver(), driver()
    first = ended(one, "f", 3)
    ended(other, "g", 2)
    ended(other, "g", 1)
    assert [round(age) for _, age in recent([one, other], NOW, 3)] == [1, 2, 3]
    assert recent([one, other], NOW, 3)[2][0] == first
    assert len(recent([one, other], NOW, 2)) == 2


async def test_many_who_ask_the_same_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What others are asked for is kept for a moment; another question is another answer."""
    monkeypatch.setattr("lambent_frontend.remembered.LOOK_EVERY_S", math.inf)
    there = driver()
    remembered = Remembered(ScriptedDispatcher(), FRONTEND, drivers=[there])
    first = await remembered.activity(GetActivityRequest())
    assert await remembered.activity(GetActivityRequest()) is first
    assert await remembered.activity(GetActivityRequest(calls=1)) is not first
    at_once = await asyncio.gather(*(remembered.activity(GetActivityRequest(calls=2)) for _ in range(3)))
    assert at_once[0] is at_once[1] is at_once[2]


@pytest.mark.parametrize("asked", [{"window_s": 0.5}, {"window_s": 301}, {"calls": 201}])
async def test_bounds(asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        await Remembered(ScriptedDispatcher(), FRONTEND).activity(GetActivityRequest(**asked))
