"""Minutes of a trace on a real fleet, and the same minutes in the simulator.

Time is compressed: calls come, run, and instances are kept for so much shorter. The functions sleep as long
as the trace says. What the fleet does of itself is not compressed (a start, the way of a call, the time for
which a frontend keeps a lease), so the simulator is given the same compressed trace and the start times that
were measured: each, in the order of the starts, or their median for all. It is also run over what the
frontend recorded, which leaves out how late the callers were and what the ways cost.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import uvloop

from lambent.simulate.figures import Figures as Simulated
from lambent.simulate.policies import Plan as SimulationPlan
from lambent.simulate.policies import simulate
from lambent.simulate.record import RecordedTrace, read
from lambent.simulate.trace import BrokenTrace, Invocation, Trace, generated
from lambent_proto.ids import MIN_MEMORY_MB
from loadtest import open_loop, sleeper
from loadtest.figures import Budget, Figures, Plot, Table, percentile
from loadtest.fleet import ANY_ISOLATION, Fleet, Off, fleet
from loadtest.measurement import Measurement, Plan
from loadtest.open_loop import Due, Gathered

GENERATED: Final = 100
"""Functions of the trace that is made where none is given."""
FLEET, SIMULATOR = "the fleet", "the simulator"
MAX_WAITING: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    trace: str = ""
    """A folder or a record; empty: one is made."""
    minutes: int = 30
    """Of the trace."""
    factor: float = 10.0
    """By which time is compressed."""
    workers: int = 8
    worker_mb: int = 2048
    keep_alive_s: float = 600.0
    """In the trace's time."""
    seed: int = 42
    sandbox: str = "process"


def run(setup: Setup, plan: Plan) -> Figures:
    """Raises Off if there is no such trace."""
    try:
        trace = read(Path(setup.trace)) if setup.trace else generated(GENERATED, setup.minutes, setup.seed)
    except BrokenTrace as broken:
        raise Off(str(broken)) from broken
    calls = compressed(trace.invocations(setup.seed, setup.minutes), setup.factor)
    memory_mb = {f"f{number}": max(MIN_MEMORY_MB, it.memory_mb) for number, it in enumerate(trace.functions)}
    for it, memory in zip(trace.functions, memory_mb.values(), strict=True):
        it.memory_mb = memory
    plan.say(f"{len(calls):,} calls of {setup.minutes} minutes in {calls[-1].at:.0f} s")
    gathered, recorded = _replayed(calls, memory_mb, setup, plan.scratch / "replay.csv")
    plan.say("simulating")
    slow = slowdowns(gathered, calls)
    return _told(setup, gathered, recorded, _simulated(trace, calls, recorded, setup), slow)


def slowdowns(gathered: Gathered, calls: Sequence[Invocation]) -> list[float]:
    """Of each function the geometric mean, over its calls, of the time to the answer over the time asked for.

    In order. From when a call was due, so that a caller that is late makes it worse.
    """
    ran = {(it.at, f"f{it.function}"): it.duration_s for it in calls}
    by_function: dict[str, list[float]] = {}
    for it in gathered.answers:
        took_s = it.answered_at - it.due.at
        by_function.setdefault(it.due.function, []).append(took_s / ran[it.due.at, it.due.function])
    return sorted(statistics.geometric_mean(it) for it in by_function.values())


def _simulated(
    trace: Trace, calls: list[Invocation], recorded: RecordedTrace, plan: Setup
) -> dict[str, Simulated]:
    """By what people read; first what the fleet made of it."""
    one_time = SimulationPlan(
        plan.workers,
        plan.worker_mb,
        recorded.cold_s or 0.0,
        plan.keep_alive_s / plan.factor,
        0.0,
        plan.seed,
    )
    each = replace(one_time, starts_s=recorded.starts_s)
    return {
        FLEET: recorded.figures(0.0, None),
        SIMULATOR: simulate("fixed", trace, calls, each, _quietly),
        "one start time": simulate("fixed", trace, calls, one_time, _quietly),
        "on the record": simulate("fixed", recorded, recorded.calls, each, _quietly),
    }


def compressed(invocations: Sequence[Invocation], factor: float) -> list[Invocation]:
    return [Invocation(it.at / factor, it.function, it.duration_s / factor) for it in invocations]


def _replayed(
    calls: list[Invocation], memory_mb: dict[str, int], plan: Setup, record: Path
) -> tuple[Gathered, RecordedTrace]:
    """Raises Off if a call fails: the two would not be the same then."""
    record.unlink(missing_ok=True)
    options = [
        "--workers",
        str(plan.workers),
        "--worker-memory",
        str(plan.worker_mb),
        "--sandbox",
        plan.sandbox,
    ]
    options += ["--keep-alive", f"{plan.keep_alive_s / plan.factor:g}", "--max-waiting", str(MAX_WAITING)]
    with fleet(*options, "--record", str(record), *ANY_ISOLATION) as running:
        gathered = uvloop.run(_make(running, calls, memory_mb, plan.workers))
    if gathered.failures:
        raise Off(f"{len(gathered.failures)} calls failed, the first one: {gathered.failures[0]}")
    record.write_text("".join(it for it in record.open() if f",{sleeper.PRIME}," not in it))
    recorded = read(record)
    assert isinstance(recorded, RecordedTrace), "a frontend wrote it"
    return gathered, recorded


async def _make(running: Fleet, calls: list[Invocation], memory_mb: dict[str, int], workers: int) -> Gathered:
    await sleeper.deploy(running.endpoint, memory_mb)
    await sleeper.prime(running, workers)
    due = [Due(it.at, f"f{it.function}", sleeper.event(it.duration_s)) for it in calls]
    return await open_loop.make(running.endpoint, due)


def _quietly(_: int) -> None:
    pass


def relative(simulated: float, seen: float) -> float:
    """By how much the simulator is off, as a share of what was seen."""
    return (simulated - seen) / seen if seen else float(simulated != seen)


def _told(
    setup: Setup,
    gathered: Gathered,
    recorded: RecordedTrace,
    simulated: dict[str, Simulated],
    slow: Sequence[float],
) -> Figures:
    seen = simulated[FLEET]
    rows = []
    for name, it in simulated.items():
        cold, off = 100 - it.warm_percent, ""
        if it is not seen:
            off = f"{relative(cold, 100 - seen.warm_percent):+.1%}"
        rows.append([name, f"{it.calls:,}", f"{it.cold:,}", f"{it.warm_percent:.3f}", f"{cold:.3f}", off])
    late_ms = percentile(gathered.late_s(), 0.99) * 1000
    starts_ms = [it * 1000 for it in recorded.starts_s]
    found = Figures(
        {
            "replay_calls": seen.calls,
            "replay_warm_percent": round(seen.warm_percent, 3),
            "replay_slowdown_p50": round(percentile(slow, 0.5), 3),
            "replay_slowdown_p99": round(percentile(slow, 0.99), 3),
            "replay_late_p99_ms": round(late_ms, 1),
        },
        [
            Table(("", "calls", "cold", "warm %", "cold %", "cold % off by"), rows),
            Table(
                ("functions", "p10", "p50", "p90", "p99", "most"),
                [[f"{len(slow)}", *(f"{percentile(slow, it):.3f}" for it in (0.1, 0.5, 0.9, 0.99, 1.0))]],
                "Slowdown of a function:",
            ),
        ],
        [_curve(slow)],
    )
    found.notes.append(
        f"{setup.trace or f'A made trace of {GENERATED} functions'}: a cold start took "
        f"{percentile(starts_ms, 0.5):.1f} ms in the median and {max(starts_ms):.0f} at the most; the caller "
        f"was {late_ms:.1f} ms late at p99."
    )
    if setup.trace:
        found.budgets.append(Budget("warm hits", round(seen.warm_percent, 3), 99.9, "%", at_most=False))
    return found


def _curve(slow: Sequence[float]) -> Plot:
    shares = [(it, (number + 1) / len(slow)) for number, it in enumerate(slow)]
    return Plot(
        "slowdown", "Slowdown of functions", "slowdown", "share of functions", {FLEET: shares}, (True, False)
    )


MEASUREMENT: Final = Measurement(
    name="replay",
    title="A trace replayed",
    says="""\
Minutes of a trace on a fleet, so many times as fast: calls come, run (the functions sleep) and idle
instances are kept for so much shorter. Starts, the way of a call and lingering leases are as they are. The
same compressed trace goes through the simulator, with the starts that were measured. A call's *slowdown* is
the time to its answer, from when it was due, over the time that it asked for; a function's is the geometric
mean of its calls'. With `SET=trace=DIR` it is a trace of [that form](simulation.md#policies-over-a-trace),
else one that is made, with more functions that are seldom called.""",
    takes_s=(230, 60),
    run=run,
    full=Setup(),
    quick=Setup(minutes=3, workers=2, worker_mb=8192),
)
