"""A shadow over whole traces: what it counts beside the live policy, and beside what would have been true.

The network takes no time there and every start the same, so with the live policy for its own it is exact.
"""

import pytest

from lambent.simulate.figures import Counted
from lambent.simulate.live import Live
from lambent.simulate.trace import generated
from lambent_placement.core import invariants
from lambent_placement.core.scheduler import Scheduler
from lambent_placement.core.shadow import Shadow, shadow_epoch
from lambent_placement.core.tally import Tally
from lambent_proto.ids import Epoch

Policy = tuple[str, float]


def figures(tally: Tally) -> tuple[object, ...]:
    return tally.starts, tally.warm, tally.waits, tally.evictions


def over_a_trace(seed: int, live: Policy, other: Policy | None, nodes: int) -> tuple[Tally, Tally]:
    """What a shadow of `other` counts beside a `live` policy, over a made trace; None: nothing is beside."""
    trace = generated(functions=25, minutes=60, seed=seed)
    shadow = None
    if other is not None:
        shadow = Shadow(Scheduler(shadow_epoch(Epoch(1)), keep=other[0], keep_alive_s=other[1]))
    counted = Counted(0.0, len(trace.functions))
    run = Live(trace, counted, nodes, 1024, 0.25, live[1], live[0], shadow=shadow, quiet_s=1.0)
    run.run(trace.invocations(seed), lambda _: None)
    if shadow is None:
        starts = Tally()
        starts.starts["all"] = counted.starts
        return starts, starts
    invariants.check(shadow.scheduler.books)
    return shadow.live, shadow.own


@pytest.mark.parametrize("nodes", [1, 3], ids=["memory is short", "memory enough"])
@pytest.mark.parametrize("policy", [("fixed", 300.0), ("greedy-dual", 3600.0), ("histogram", 300.0)])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_with_the_live_policy_for_its_own_it_counts_the_same(seed: int, policy: Policy, nodes: int) -> None:
    """The check that the model is right: every count, and the memory that idles."""
    live, own = over_a_trace(seed, policy, policy, nodes)
    assert live.starts.total() > 20
    assert figures(own) == figures(live)
    assert own.idle_mb_s == pytest.approx(live.idle_mb_s, rel=0.01)


@pytest.mark.parametrize("nodes", [1, 3], ids=["memory is short", "memory enough"])
@pytest.mark.parametrize("other", [("fixed", 20.0), ("histogram", 3600.0)])
def test_what_it_tells_of_another_policy_is_so(other: Policy, nodes: int) -> None:
    """It counts what that one does where it is the live one: within 2 % of the starts."""
    live, own = over_a_trace(1, ("fixed", 3600.0), other, nodes)
    truth, _ = over_a_trace(1, other, None, nodes)
    assert live.starts.total() != truth.starts.total()
    assert own.starts.total() == pytest.approx(truth.starts.total(), rel=0.02)


def test_kept_for_a_shorter_time_more_is_started() -> None:
    live, own = over_a_trace(1, ("fixed", 3600.0), ("fixed", 20.0), 3)
    assert own.starts.total() > 2 * live.starts.total()
    assert own.warm.total() < live.warm.total()
    assert own.evictions["keep_alive"] > live.evictions["keep_alive"]
    assert own.idle_mb_s < live.idle_mb_s / 2
