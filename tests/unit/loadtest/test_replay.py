"""What a replay makes of a trace and of what it has seen."""

import pytest

from lambent.simulate.trace import Invocation
from loadtest.measurements.replay import compressed, relative


def test_all_of_a_trace_is_compressed() -> None:
    """When calls come, and how long they run."""
    calls = [Invocation(10.0, 0, 2.0), Invocation(60.0, 1, 0.5)]
    assert compressed(calls, 10) == [Invocation(1.0, 0, 0.2), Invocation(6.0, 1, 0.05)]


@pytest.mark.parametrize(
    ("simulated", "seen", "off"), [(9, 10, -0.1), (12, 10, 0.2), (0, 0, 0.0), (1, 0, 1.0)]
)
def test_how_far_the_simulator_is_off(simulated: float, seen: float, off: float) -> None:
    assert relative(simulated, seen) == pytest.approx(off)
