"""The policies that can be compared, by name, and how a trace is run under one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lambent.simulate.baselines import Baseline, Node, by_chance, by_load
from lambent.simulate.figures import Counted, Figures
from lambent.simulate.live import Live
from lambent.simulate.trace import Invocation, Trace

POLICIES: Final = {
    "fixed": "the live scheduler; an instance is kept for --keep-alive seconds, or until memory is needed",
    "lru": "the live scheduler; an instance is kept until its memory is needed",
    "greedy-dual": "as fixed; under pressure what is rare, large and starts fast gives way first",
    "histogram": "as fixed; each function's idle times say how long, and when one is started ahead",
    "random": "any node, whatever is warm there",
    "least-loaded": "the node with fewest calls, whatever is warm there",
}

FOR_EVER: Final = 1e12


@dataclass(frozen=True, slots=True)
class Plan:
    nodes: int
    node_mb: int
    cold_s: float
    keep_alive_s: float
    warm_up_s: float
    """From the beginning, and not counted."""
    seed: int
    step_s: float = 60.0
    """Of what is kept over time."""
    starts_s: tuple[float, ...] = ()
    """Under the live policies, what the first starts take; further ones take `cold_s`."""


def simulate(
    policy: str, trace: Trace, invocations: list[Invocation], plan: Plan, progress: Callable[[int], None]
) -> Figures:
    """Raises KeyError for a policy that nobody knows."""
    counted = Counted(plan.warm_up_s, len(trace.functions), plan.step_s)
    match policy:
        case "fixed" | "lru" | "greedy-dual" | "histogram":
            keep_alive_s = FOR_EVER if policy == "lru" else plan.keep_alive_s
            keep = "fixed" if policy == "lru" else policy
            live = Live(
                trace, counted, plan.nodes, plan.node_mb, plan.cold_s, keep_alive_s, keep, plan.starts_s
            )
            live.run(invocations, progress)
        case "random" | "least-loaded":
            choose = by_chance(plan.seed) if policy == "random" else by_load
            nodes = [Node(plan.node_mb) for _ in range(plan.nodes)]
            Baseline(trace, counted, nodes, plan.cold_s, choose).run(invocations, progress)
        case _:
            raise KeyError(policy)
    return counted.figures(policy)
