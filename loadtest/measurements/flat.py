"""Whether a call costs the same however large the fleet is, of a frontend's and workers' own code."""

import statistics
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final

from lambent_chassis import logs
from loadtest.bare import Bare, Size
from loadtest.bytecodes import Bytecodes
from loadtest.figures import Budget, Figures, Table
from loadtest.measurement import Measurement, Plan

SIZES: Final = {
    "1 function, 10 idle instances, 1 worker": Size(instances=10, workers=1),
    "1,000 functions deployed": Size(instances=10, workers=1, deployed=999),
    "1,000 functions called in turn, an idle instance of each": Size(instances=1_000, functions=1_000),
    "1,000 idle instances of one function": Size(instances=1_000),
    "10,000 idle instances of one function": Size(instances=10_000),
    "100 workers": Size(instances=1_000, workers=100),
}
_COUNTED: Final = 512
MOST: Final = 1.25
"""Of the largest against the least: with fewer idle instances than calls in flight some have to wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    calls: int = 8_192
    """In each round of each size."""


class _Nothing:
    def of(self, part: str) -> Any:
        return nullcontext()


def run(setup: Setup, plan: Plan) -> Figures:
    logs.configure("warning")
    bare = {name: Bare(size, _Nothing()) for name, size in SIZES.items()}
    spent: dict[str, list[float]] = {name: [] for name in bare}
    for turn in range(plan.repeats + 1):
        plan.say(f"round {turn} of {plan.repeats}" if turn else "until everything is warm")
        for name, it in bare.items():
            began = time.process_time()
            it.calls(setup.calls)
            if turn:
                spent[name].append((time.process_time() - began) / setup.calls * 1e6)
    return _figures(spent, {name: _counted(it) for name, it in bare.items()})


def _counted(bare: Bare) -> dict[str, float]:
    bare.meter = meter = Bytecodes()
    with meter.counting():
        bare.calls(_COUNTED)
    return {part: count / _COUNTED for part, count in meter.of_part.items()}


def _figures(spent: dict[str, list[float]], counts: dict[str, dict[str, float]]) -> Figures:
    found = Figures()
    rows = [
        [
            name,
            f"{counts[name]['frontend']:,.0f}",
            f"{counts[name]['worker']:,.0f}",
            f"{min(them):.1f}",
            f"{statistics.median(them):.1f}",
        ]
        for name, them in spent.items()
    ]
    heads = ("", "frontend, bytecodes", "worker, bytecodes", "both, µs, least", "median")
    found.tables.append(Table(heads, rows, "A warm call of a stream:"))
    totals = [sum(it.values()) for it in counts.values()]
    found.flat["flat_bytecodes_ratio"] = round(max(totals) / min(totals), 3)
    ratio = max(totals) / min(totals)
    what = "a call's bytecodes, the dearest fleet against the cheapest"
    found.budgets.append(Budget(what, ratio, MOST, "times"))
    return found


MEASUREMENT: Final = Measurement(
    name="flat",
    title="A call in a fleet of any size",
    says="""\
The warm path without a network, in one process: stream, driver and core of a frontend, the real frames,
agent and core of each worker; instances are played, and answer at once. 64 calls are in flight. Bytecodes
are those of Lambent's own code, and the same on every machine; the CPU is the process's, of both parts with
the callers that are played.""",
    takes_s=(40, 15),
    run=run,
    full=Setup(),
    quick=Setup(calls=1_024),
)
