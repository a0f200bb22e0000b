"""What measurements make of what they have seen."""

import statistics

import pytest

from lambent.simulate.trace import Invocation
from lambent_proto.v1.invoke_pb2 import Explanation
from loadtest.fleet import by_part
from loadtest.measurements.cold_rates import Seen
from loadtest.measurements.failover import WITHIN_S, Caller
from loadtest.measurements.knee import knee_of
from loadtest.measurements.replay import slowdowns
from loadtest.open_loop import Answered, Due, Gathered


def test_what_belongs_to_a_part() -> None:
    """The processes of a part are added up, however many there are."""
    spent = {
        "worker-1": 1.0,
        "worker-2": 2.0,
        "placement-1": 3.0,
        "placement": 4.0,
        "frontend": 5.0,
        "etcd": 6.0,
    }
    assert by_part(spent) == {"workers": 3.0, "placement": 7.0, "frontend": 5.0, "etcd": 6.0}


def test_when_a_caller_is_served_again() -> None:
    """By the first answer to a call made after the kill: one that was under way does not count."""
    caller = Caller([(0.0, 0.1), (0.9, 1.2), (1.3, 4.0), (4.1, 4.2)])
    assert caller.back_after(1.0) == pytest.approx(3.0)
    assert caller.back_after(5.0) is None


def test_the_longest_gap_after_a_kill() -> None:
    """From the last answer before it on; what was before is nothing to it."""
    caller = Caller([(0.0, 0.1), (9.0, 9.1), (9.2, 9.9), (10.0, 12.4), (12.5, 12.6)])
    assert caller.longest_gap(10.0) == pytest.approx(2.5)
    assert Caller([(0.0, 0.1)]).longest_gap(1.0) == WITHIN_S


def answered(function: str, due: float, took_s: float, start: str = "warm") -> Answered:
    return Answered(Due(due, function, b""), due, due + took_s, Explanation(start=start))


def test_the_slowdown_of_a_function() -> None:
    """Geometric mean of its calls', from when they were due, in order over the functions."""
    calls = [Invocation(0.0, 0, 1.0), Invocation(1.0, 0, 1.0), Invocation(1.0, 1, 0.1)]
    gathered = Gathered([answered("f0", 0.0, 1.0), answered("f0", 1.0, 4.0), answered("f1", 1.0, 0.1)])
    assert slowdowns(gathered, calls) == pytest.approx([1.0, statistics.geometric_mean([1.0, 4.0])])


def test_cold_starts_alone_count_at_a_rate() -> None:
    seen = Seen(1.0, Gathered([answered("a", 0.0, 0.5, "cold"), answered("b", 1.0, 1.0)]), 1.0)
    assert seen.cold_ms == pytest.approx([500.0])
    assert seen.answered_per_s == pytest.approx(0.5)


def test_the_knee_is_the_highest_rate_that_held() -> None:
    rates = [{"offered": 100, "held": True}, {"offered": 400, "held": False}, {"offered": 200, "held": True}]
    assert knee_of(rates) == 200
    assert knee_of(rates[1:2]) == 0
