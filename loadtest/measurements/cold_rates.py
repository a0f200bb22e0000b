"""Cold starts at a rate: how long they take while others start."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import uvloop

from lambent.client import Client
from loadtest import echo, open_loop
from loadtest.figures import Figures, Plot, Table, percentile
from loadtest.fleet import ANY_ISOLATION, Fleet, fleet
from loadtest.hall import PYTHON
from loadtest.measurement import Measurement, Plan
from loadtest.open_loop import Due, Gathered

AT_ONCE: Final = 8
WITHIN_S: Final = 20.0
"""A start that takes longer has failed."""
BEHIND: Final = 1.5
"""A rate is kept up with if the answers take at most so much longer than the calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    rates: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
    """Cold starts a second."""
    seconds: float = 5.0
    """At each rate, but at least ten and at most `most` starts."""
    most: int = 500
    workers: int = 2


@dataclass(frozen=True, slots=True)
class Seen:
    rate: float
    gathered: Gathered
    cpu_s: float

    @property
    def cold_ms(self) -> list[float]:
        """From when a call was due to its answer."""
        return [
            (it.answered_at - it.due.at) * 1000
            for it in self.gathered.answers
            if it.explanation.start == "cold"
        ]

    @property
    def answered_per_s(self) -> float:
        """Until the last answer, the first call's time included."""
        return len(self.cold_ms) / max(it.answered_at for it in self.gathered.answers)


def starts(rate: float, setup: Setup) -> int:
    return min(setup.most, max(10, math.ceil(rate * setup.seconds)))


def run(setup: Setup, plan: Plan) -> Figures:
    count = max(starts(rate, setup) for rate in setup.rates)
    # Kept for no time, an instance ends after its one call, and its memory is there for the next.
    options = ["--workers", str(setup.workers), "--keep-alive", "0", "--concurrency", str(2 * count)]
    with fleet(*options, *ANY_ISOLATION, settings={"starts": "100000"}) as running:
        seen = uvloop.run(_calls(running, setup, plan, count))
    return _told(seen)


async def _calls(running: Fleet, setup: Setup, plan: Plan, count: int) -> list[Seen]:
    names = [f"cold{number}" for number in range(count)]
    plan.say(f"deploying {count} functions")
    await _deploy(running.endpoint, names)
    seen = []
    await open_loop.make(running.endpoint, [Due(0.0, names[0], b"{}"), Due(0.5, names[1], b"{}")])
    for rate in setup.rates:
        plan.say(f"{rate:g} a second")
        calls = [Due(number / rate, names[number], b"{}") for number in range(starts(rate, setup))]
        before = sum(running.cpu_s().values())
        gathered = await open_loop.make(running.endpoint, calls, WITHIN_S)
        if gathered.answers:
            seen.append(Seen(rate, gathered, sum(running.cpu_s().values()) - before))
        await _gone(running.endpoint)
    return seen


async def _deploy(endpoint: str, names: Sequence[str]) -> None:
    package, turn = echo.package(), asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> None:
        async with turn:
            await client.create_function(name, package, runtime=PYTHON, handler="echo.handler", memory_mb=128)

    async with Client(endpoint) as client, asyncio.TaskGroup() as tasks:
        for name in names:
            tasks.create_task(one(name))


async def _gone(endpoint: str) -> None:
    """Until no instance is left: the next rate begins cold."""
    async with Client(endpoint) as client, asyncio.timeout(60):
        while (await client.list_instances()).instances:  # noqa: ASYNC110 - of the fleet's
            await asyncio.sleep(0.1)


def _told(seen: Sequence[Seen]) -> Figures:
    found, rows, lines = Figures(), [], []
    for it in seen:
        cold, failed, name = it.cold_ms, len(it.gathered.failures), f"{it.rate:g}"
        if not cold:
            found.notes.append(f"At {name} a second no start was answered.")
            continue
        p50, p99 = percentile(cold, 0.5), percentile(cold, 0.99)
        found.flat |= {f"cold_at_{name}_p50_ms": round(p50, 1), f"cold_at_{name}_p99_ms": round(p99, 1)}
        kept_up = len(cold) / it.answered_per_s <= BEHIND * max(1.0, len(cold) / it.rate)
        said = "" if kept_up and not failed else f"{failed} failed" if failed else "falls behind"
        lines.append((it.rate, p50, p99))
        cpu_ms = it.cpu_s / len(cold) * 1000
        figures = (p50, p99, max(cold), it.answered_per_s, cpu_ms)
        rows.append([name, f"{len(cold)}", *(f"{value:,.1f}" for value in figures), said])
    heads = (
        "starts a second",
        "cold starts",
        "p50 ms",
        "p99 ms",
        "most ms",
        "answered a second",
        "CPU ms each",
        "",
    )
    found.tables.append(Table(heads, rows))
    curves = {"p50": [(rate, p50) for rate, p50, _ in lines], "p99": [(rate, p99) for rate, _, p99 in lines]}
    found.plots.append(
        Plot(
            "latency",
            "Cold starts at a rate",
            "starts a second",
            "ms to the first answer",
            curves,
            (True, True),
        )
    )
    return found


MEASUREMENT: Final = Measurement(
    name="cold-rates",
    title="Cold starts at a rate",
    says="""\
Each call is the first one of a function of its own, made when it is due whatever has become of those before
it; its latency counts from then. An instance ends after its call, which is part of the CPU. Where the
machine cannot start so many, calls wait in line and latency is that of the line.""",
    takes_s=(70, 25),
    run=run,
    full=Setup(),
    quick=Setup(rates=(1.0, 10.0, 100.0), seconds=2.0),
)
