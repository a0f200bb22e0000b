"""`make bench-burst`: many calls at once of a function that has no instance, until all are answered.

Each call sleeps for `--seconds`, so that while the others start an instance is busy, and then takes a second
one. Says when the first, half and all were answered, and draws the instances over time.
"""

import asyncio
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import click
import uvloop

from lambent.cli.options import BACKENDS
from lambent.client import Client
from lambent.simulate.plots import STYLE, Panel, side_by_side
from lambent_chassis.clock import monotonic_s
from lambent_proto.ids import MIN_MEMORY_MB
from loadtest import machine, open_loop, sleeper
from loadtest.fleet import ANY_ISOLATION, Fleet, Off, fleet
from loadtest.open_loop import Due, Gathered

BUILD: Final = Path(__file__).resolve().parent.parent / "build"
"""Where the figures and the plot are written, if nothing else is said."""
NAME: Final = "burst"
WITHIN_S: Final = 120.0
"""How long a call may wait for its instance."""
LOOK_EVERY_S: Final = 0.1
STEPS: Final = 200
"""Of the plot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    calls: int
    seconds: float
    """How long each sleeps."""
    workers: int
    sandbox: str


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


@click.command()
@click.option("--calls", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option("--seconds", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Of each call.")
@click.option("--workers", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--sandbox", type=click.Choice(BACKENDS), default="process", show_default=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=BUILD, help="Folder.")
def main(out: Path, **setup: Any) -> None:
    """Calls a function so many times at once, on a fleet of its own, and says how it went."""
    plan = Setup(**setup)
    try:
        out.mkdir(parents=True, exist_ok=True)
        before = machine.load()
        burst, cpu_s = _run(plan)
    except Off as off:
        raise click.ClickException(str(off)) from None
    _report(burst, cpu_s, plan, before)
    _write(burst, cpu_s, plan, before, out)


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


def _report(burst: Burst, cpu_s: dict[str, float], plan: Setup, load_before: str) -> None:
    click.echo(
        f"{plan.calls:,} calls of {plan.seconds:g} s at once, {plan.workers} workers, "
        f"sandbox {plan.sandbox}; load average before {load_before}, after {machine.load()}.\n"
    )
    click.echo(f"{'seconds':<18}{'count':>8}{'first':>8}{'half':>8}{'all':>8}")
    for name, it in burst.milestones().items():
        click.echo(f"{name:<18}{it['count']:>8,}{it['first']:>8.2f}{it['half']:>8.2f}{it['all']:>8.2f}")
    if burst.failures:
        click.echo(f"\n{len(burst.failures)} calls failed, the first one: {burst.failures[0]}", err=True)
    parts = ", ".join(f"{name} {spent:.1f}" for name, spent in _by_part(cpu_s).items())
    click.echo(f"\nSeconds of CPU: {parts}.")


def _by_part(cpu_s: dict[str, float]) -> dict[str, float]:
    parts: dict[str, float] = {}
    for name, spent in cpu_s.items():
        part = "workers" if name.startswith("worker") else name
        parts[part] = round(parts.get(part, 0.0) + spent, 2)
    return parts


def _write(burst: Burst, cpu_s: dict[str, float], plan: Setup, load_before: str, out: Path) -> None:
    noted = {**machine.facts(), "load_before": load_before, "load_after": machine.load(), **asdict(plan)}
    noted |= {
        "failures": len(burst.failures),
        "cpu_s": _by_part(cpu_s),
        "milestones_s": burst.milestones(),
        "over_time": over_time(burst),
    }
    (out / "burst.json").write_text(json.dumps(noted, indent=1) + "\n")
    (out / "burst.html").write_text(_page(burst, plan))
    click.echo(f"Written to {os.path.relpath(out / 'burst.json')}, with a plot to burst.html beside it.")


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


def _page(burst: Burst, plan: Setup) -> str:
    drawn = over_time(burst)
    step_s = burst.answered[-1] / STEPS
    running = [b - a for b, a in zip(drawn["calls_begun"], drawn["calls_answered"], strict=True)]
    instances = Panel("instances", [drawn["instances_up"], drawn["instances_starting"]], step_s)
    calls = Panel("calls", [drawn["calls_answered"], running], step_s)
    title = f"{plan.calls:,} calls at once, {plan.workers} workers, sandbox {plan.sandbox}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{title}</title><style>{STYLE}</style><h1>{title}</h1>"
        f"{side_by_side([instances], ('up', 'starting'))}{side_by_side([calls], ('answered', 'running'))}"
        "</html>\n"
    )


if __name__ == "__main__":
    main()
