"""What is said of a burst: from answers and from the nodes' counts to milestones and plots."""

import pytest

from lambent_proto.v1.invoke_pb2 import Explanation
from loadtest.measurements.burst import STEPS, Burst, Watched, burst_of, over_time
from loadtest.open_loop import Answered, Due, Gathered

DUE = Due(0.0, "f", b"{}")


def answered(instance: str, waiting_ms: float, at: float) -> Answered:
    return Answered(DUE, 0.1, at, Explanation(instance=instance, waiting_ms=waiting_ms))


@pytest.fixture
def burst() -> Burst:
    """Three calls on two instances, of which the second one was granted at 0.5 s."""
    answers = [answered("i-1", 900, 2.0), answered("i-1", 1900, 3.0), answered("i-2", 1400, 2.5)]
    return burst_of(Gathered(answers), Watched([0.0, 0.5], [1, 2]))


def test_an_instance_is_up_when_its_first_call_begins(burst: Burst) -> None:
    assert burst.up == pytest.approx([1.0, 1.5])
    assert burst.began == pytest.approx([1.0, 1.5, 2.0])


def test_when_the_first_half_and_all_were_there(burst: Burst) -> None:
    """Half of three are two."""
    assert burst.milestones()["instances up"] == {"count": 2, "first": 1.0, "half": 1.0, "all": 1.5}
    assert burst.milestones()["calls answered"] == {"count": 3, "first": 2.0, "half": 2.5, "all": 3.0}


def test_what_there_was_over_time(burst: Burst) -> None:
    """What was granted and is not up yet starts."""
    drawn = over_time(burst)
    step_s = 3.0 / STEPS
    at = {seconds: round(seconds / step_s) - 1 for seconds in (0.3, 0.75, 1.2, 2.7, 3.0)}
    for seconds, up, starting, done in ((0.3, 0, 1, 0), (0.75, 0, 2, 0), (1.2, 1, 1, 0), (2.7, 2, 0, 2)):
        number = at[seconds]
        seen = (
            drawn["instances_up"][number],
            drawn["instances_starting"][number],
            drawn["calls_answered"][number],
        )
        assert seen == (up, starting, done), seconds
    assert drawn["calls_answered"][at[3.0]] == 3


@pytest.mark.parametrize("last_s", [number / 7 for number in range(1, 60)])
def test_all_are_answered_at_the_end(last_s: float) -> None:
    """However the last answer's time divides into steps."""
    burst = burst_of(Gathered([answered("i-1", 0, last_s)]), Watched([], []))
    assert over_time(burst)["calls_answered"][-1] == 1
