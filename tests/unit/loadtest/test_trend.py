"""Growth is seen, and noise and spikes are not taken for it."""

import random

import pytest

from loadtest.measurements import soak
from loadtest.trend import trend


def test_a_slope_over_the_whole_time() -> None:
    found = trend([(float(at), 10 + 0.5 * at) for at in range(101)])
    assert (found.level, found.growth) == pytest.approx((35.0, 50.0))


def test_spikes_and_noise_are_no_growth() -> None:
    dice = random.Random(1)
    points = [(float(at), 100 + dice.gauss(0, 3) + (900 if at % 50 == 49 else 0)) for at in range(1000)]
    assert not trend(points).grows(0.03, 2.0)


def test_a_little_growth_beneath_noise_is_seen() -> None:
    """Five in a hundred, with noise of three."""
    dice = random.Random(1)
    assert trend([(at / 10, 100 + at / 200 + dice.gauss(0, 3)) for at in range(1000)]).grows(0.03, 2.0)


def test_one_point_has_no_slope() -> None:
    with pytest.raises(ValueError, match="two points"):
        trend([(0.0, 1.0)])


def seen(grow_ms: float) -> dict[str, object]:
    steps = [
        {"second": at, "succeeded": 9, "p50_ms": 1 + grow_ms * at / 600, "p99_ms": 5.0} for at in range(600)
    ]
    told = {"sent": 5400, "failed": 3, "unanswered": 0, "p50_ms": 1.0, "p99_ms": 5.0, "p99.9_ms": 9.0}
    return {**told, "void": False, "errors": {"RESOURCE_EXHAUSTED": 3}, "over_time": steps}


@pytest.mark.parametrize(
    ("leak_mb", "descriptors", "slower_ms", "grown"),
    [
        (0, 0, 0, "Nothing grew"),
        (20, 0, 0, "resident memory of frontend grew"),
        (0, 30, 0, "descriptors of frontend grew"),
        (0, 0, 3, "latency, p50 of calls grew"),
    ],
)
def test_the_verdict_of_a_soak(leak_mb: float, descriptors: float, slower_ms: float, grown: str) -> None:
    """By what grows after the warm-up; that it is higher than at the first moment is none."""
    samples = soak.Samples()
    for at in range(0, 600, 5):
        memory = (50 if at < 60 else 100) + leak_mb * at / 600
        taken = {"resident memory": memory, "descriptors": 40 + descriptors * at / 600, "threads": 3.0}
        samples.add(float(at), {what: {"frontend": value} for what, value in taken.items()})
    found = soak.told(samples, seen(slower_ms), 9.0, 10.0)
    assert found.notes[0].startswith(f"**{grown}.**")
    assert "3 failed or went without an answer (RESOURCE_EXHAUSTED 3);" in found.notes[0]
    assert [it.met for it in found.budgets] == [grown == "Nothing grew", False]
    assert (found.flat["soak_failed"], found.flat["soak_void"]) == (3, 0)
    assert found.flat["soak_grows"] == (grown != "Nothing grew")
    assert [it.name for it in found.plots] == ["memory", "descriptors", "latency"]
