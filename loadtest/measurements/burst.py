"""Many calls at once of a function that has no instance, until all are answered.

Each call sleeps, so that while the others start an instance is busy, and then takes a second
one. Says when the first, half and all were answered, and draws the instances over time.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import uvloop

from lambent.client import Client
from lambent_chassis.clock import monotonic_s
from lambent_proto.ids import MIN_MEMORY_MB
from loadtest import open_loop, sleeper
from loadtest.figures import Figures, Plot, Table
from loadtest.fleet import ANY_ISOLATION, Fleet, Off, by_part, fleet
from loadtest.measurement import Measurement, Plan
from loadtest.open_loop import Due, Gathered

NAME: Final = "burst"
WITHIN_S: Final = 120.0
"""How long a call may wait for its instance."""
LOOK_EVERY_S: Final = 0.1
STEPS: Final = 200
"""Of the plot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    calls: int = 1000
    seconds: float = 1.0
    """How long each sleeps."""
    workers: int = 8
    sandbox: str = "process"


@dataclass(slots=True)
class Watched:
    """How many instances placement has granted, and when it said so, in seconds from the beginning."""

    at: list[float] = field(default_factory=list)
    granted: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Burst:
    up: list[float]
    """When each instance had started, as its first call saw it."""
    began: list[float]
    """When each call began to run; all of these in seconds from the beginning, and in order."""
    answered: list[float]
    failures: list[str]
    watched: Watched

    def milestones(self) -> dict[str, dict[str, float]]:
        """When the first, half and all of each were there, in seconds."""
        return {
            "instances up": _first_half_all(self.up),
            "calls begun": _first_half_all(self.began),
            "calls answered": _first_half_all(self.answered),
        }


def run(setup: Setup, plan: Plan) -> Figures:
    plan.say(f"{setup.calls:,} calls")
    burst, cpu_s = _run(setup)
    return _told(burst, by_part(cpu_s), setup)


def _run(plan: Setup) -> tuple[Burst, dict[str, float]]:
    """And the CPU in seconds that each part of the fleet took meanwhile. Raises Off if none is answered."""
    memory_mb = math.ceil(plan.calls / plan.workers) * MIN_MEMORY_MB
    options = ["--workers", str(plan.workers), "--worker-memory", str(memory_mb), "--sandbox", plan.sandbox]
    options += ["--concurrency", str(max(plan.calls, plan.workers)), "--max-waiting", str(plan.calls)]
    with fleet(*options, *ANY_ISOLATION) as running:
        gathered, watched, cpu_s = uvloop.run(_calls(running, plan))
    if not gathered.answers:
        raise Off(f"no call was answered; the first one: {gathered.failures[0]}")
    return burst_of(gathered, watched), cpu_s


async def _calls(running: Fleet, plan: Setup) -> tuple[Gathered, Watched, dict[str, float]]:
    await sleeper.deploy(running.endpoint, {NAME: MIN_MEMORY_MB})
    await sleeper.prime(running, plan.workers)
    due = [Due(0.0, NAME, sleeper.event(plan.seconds))] * plan.calls
    before, watched = running.cpu_s(), Watched()
    watching = asyncio.create_task(_watch(running.endpoint, watched))
    gathered = await open_loop.make(running.endpoint, due, plan.seconds + WITHIN_S)
    watching.cancel()
    after = running.cpu_s()
    return gathered, watched, {name: after[name] - before[name] for name in after}


async def _watch(endpoint: str, watched: Watched) -> None:
    """Until it is cancelled. The nodes' counts are small, whatever the number of instances."""
    async with Client(endpoint) as client:
        began = monotonic_s()
        while True:
            nodes = (await client.nodes()).nodes
            watched.at.append(monotonic_s() - began)
            watched.granted.append(sum(node.instances for node in nodes))
            await asyncio.sleep(LOOK_EVERY_S)


def burst_of(gathered: Gathered, watched: Watched) -> Burst:
    began = [(it.sent_at + it.explanation.waiting_ms / 1000, it.explanation) for it in gathered.answers]
    first: dict[str, float] = {}
    for at, explanation in began:
        first[explanation.instance] = min(at, first.get(explanation.instance, at))
    answered = sorted(it.answered_at for it in gathered.answers)
    in_order = sorted(first.values()), sorted(at for at, _ in began), answered
    return Burst(*in_order, gathered.failures, watched)


def _first_half_all(ordered: Sequence[float]) -> dict[str, float]:
    return {
        "count": len(ordered),
        "first": round(ordered[0], 3),
        "half": round(ordered[(len(ordered) - 1) // 2], 3),
        "all": round(ordered[-1], 3),
    }


def _told(burst: Burst, cpu_s: Mapping[str, float], setup: Setup) -> Figures:
    milestones = burst.milestones()
    rows = [
        [name, f"{it['count']:,}", *(f"{it[key]:.2f}" for key in ("first", "half", "all"))]
        for name, it in milestones.items()
    ]
    answered = milestones["calls answered"]
    found = Figures(
        {
            "burst_calls": setup.calls,
            "burst_failures": len(burst.failures),
            **{f"burst_{key}_s": answered[key] for key in ("first", "half", "all")},
        },
        [Table(("", "count", "first, s", "half", "all"), rows)],
        plots=_plots(over_time(burst)),
    )
    spent = ", ".join(f"{name} {it:.1f}" for name, it in cpu_s.items())
    found.notes.append(f"{len(burst.failures)} calls failed. Seconds of CPU: {spent}.")
    return found


def _plots(drawn: Mapping[str, Sequence[float]]) -> list[Plot]:
    lines = {
        name: [(at, drawn[key][number]) for number, at in enumerate(drawn["at_s"])]
        for key, name in (
            ("instances_up", "instances up"),
            ("instances_starting", "instances starting"),
            ("calls_begun", "calls begun"),
            ("calls_answered", "calls answered"),
        )
    }
    return [Plot("over-time", "A burst, over time", "seconds", "how many", lines)]


def over_time(burst: Burst) -> dict[str, list[float]]:
    """How many there are at the end of each step, up to the last answer."""
    whole_s = burst.answered[-1]
    ends = [whole_s * number / STEPS for number in range(1, STEPS)] + [whole_s]  # not rounded to before it
    granted = [_last(burst.watched, at) for at in ends]
    up = [_until(burst.up, at) for at in ends]
    return {
        "at_s": [round(at, 3) for at in ends],
        "instances_up": up,
        "instances_starting": [max(0.0, of - there) for of, there in zip(granted, up, strict=True)],
        "calls_answered": [_until(burst.answered, at) for at in ends],
        "calls_begun": [_until(burst.began, at) for at in ends],
    }


def _until(ordered: Sequence[float], at: float) -> float:
    return float(sum(it <= at for it in ordered))


def _last(watched: Watched, at: float) -> float:
    seen = [granted for when, granted in zip(watched.at, watched.granted, strict=True) if when <= at]
    return float(seen[-1]) if seen else 0.0


MEASUREMENT: Final = Measurement(
    name="burst",
    title="A burst",
    says="""\
So many calls at once of a function that has no instance, each of them a sleep, on workers with memory for
an instance for each. An instance that is up takes one call after the other, so not all that were granted
are needed.""",
    takes_s=(60, 30),
    run=run,
    full=Setup(),
    quick=Setup(calls=60, workers=2, seconds=0.5),
)
