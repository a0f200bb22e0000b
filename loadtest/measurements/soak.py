"""An hour at 70 % of the knee: memory, descriptors, threads and latency must not grow."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lambent_chassis.clock import monotonic_s
from loadtest import echo, generator
from loadtest.figures import Budget, Figures, Plot, Table
from loadtest.fleet import ANY_ISOLATION, Fleet, Off, by_part, fleet
from loadtest.measurement import Measurement, Plan
from loadtest.measurements import knee
from loadtest.processes import tree
from loadtest.trend import Trend, trend

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
WARM_UP: Final = 0.2
"""This share of the time comes first, and may grow: pools and caches fill."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Watched:
    """A quantity, and when its growth after the warm-up counts."""

    what: str
    unit: str
    share: float
    least: float

    def grows(self, it: Trend) -> bool:
        return it.grows(self.share, self.least)


MEMORY: Final = Watched("resident memory", "MB", 0.03, 2.0)
DESCRIPTORS: Final = Watched("descriptors", "", 0.03, 4.0)
THREADS: Final = Watched("threads", "", 0.03, 2.0)
LATENCY: Final = Watched("latency, p50", "ms", 0.25, 0.5)
OF_PROCESSES: Final = (MEMORY, DESCRIPTORS, THREADS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    minutes: float = 60.0
    share: float = 0.7
    """Of the knee."""
    rate: float = 0.0
    """Calls a second; 0: the share of a knee that is looked for first."""
    p99_ms: float = 100.0
    late_ms: float = 10.0
    """Of the knee, as `lambent loadtest` has them."""
    via: str = "stream"
    instances: int = 16
    workers: int = 2
    every_s: float = 5.0
    """Processes are looked at so often."""


@dataclass(slots=True)
class Samples:
    """Points by quantity and part."""

    seen: dict[str, dict[str, list[Point]]] = field(
        default_factory=lambda: {it.what: {} for it in OF_PROCESSES}
    )

    def add(self, at: float, taken: Mapping[str, Mapping[str, float]]) -> None:
        for what, parts in taken.items():
            for part, value in parts.items():
                self.seen[what].setdefault(part, []).append((at, value))


def run(setup: Setup, plan: Plan) -> Figures:
    with fleet("--workers", str(setup.workers), *ANY_ISOLATION) as running:
        echo.deploy(running.endpoint, setup.instances)
        rate = setup.rate or setup.share * _knee(running, setup, plan)
        plan.say(f"{rate:,.0f} calls a second for {setup.minutes:g} minutes")
        asked = ("--via", setup.via, "--rate", f"{rate:g}", "--duration", f"{setup.minutes * 60:g}")
        samples = Samples()
        began = monotonic_s()

        def look() -> None:
            at = monotonic_s() - began
            if at < setup.minutes * 60:
                running.cpu_s()  # raises Off once a part has ended
                samples.add(at, taken(running))

        look()
        seen = generator.results(generator.start(running, *asked, "--even-if-void"), setup.every_s, look)
    return told(samples, seen, rate, setup.minutes)


def _knee(running: Fleet, setup: Setup, plan: Plan) -> float:
    """Raises Off if no rate held."""
    plan.say("looking for the knee")
    asked = knee.Setup(p99_ms=setup.p99_ms, late_ms=setup.late_ms)
    if not (found := knee.knee_of(knee.search(running, setup.via, asked))):
        raise Off("no rate held, so there is no knee: the machine is too busy, or give a rate")
    return found


def taken(running: Fleet) -> dict[str, dict[str, float]]:
    """Of each quantity the sum over the processes of each part."""
    found: dict[str, dict[str, float]] = {it.what: {} for it in OF_PROCESSES}
    named = {pid: name for name, pid in running.pids.items()}
    for pid in tree(running.pid):
        part = "up" if pid == running.pid else next(iter(by_part({named.get(pid, "instances"): 0.0})))
        for what, value in _of(pid):
            found[what][part] = found[what].get(part, 0.0) + value
    return found


def _of(pid: int) -> Iterator[tuple[str, float]]:
    """Nothing of a process that has ended."""
    folder = Path(f"/proc/{pid}")
    try:
        resident = int((folder / "statm").read_text().split()[1]) * _PAGE / 1e6
        descriptors = len(os.listdir(folder / "fd"))
        threads = len(os.listdir(folder / "task"))
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return
    yield MEMORY.what, resident
    yield DESCRIPTORS.what, descriptors
    yield THREADS.what, threads


def after_warm_up(points: Sequence[Point]) -> list[Point]:
    return [it for it in points if it[0] >= WARM_UP * points[-1][0]]


def told(samples: Samples, seen: Mapping[str, Any], rate: float, minutes: float) -> Figures:
    """What is said of it: the verdict first."""
    found = Figures({"soak_rate_per_s": round(rate), "soak_minutes": minutes})
    rows, growing = [], []
    for watched, part, points in _lines(samples, seen):
        it = trend(after_warm_up(points))
        grows = watched.grows(it)
        if grows:
            growing.append(f"{watched.what} of {part}")
        levels = (points[0][1], it.level, points[-1][1])
        growth, verdict = f"{it.growth:+.2f} {watched.unit}".strip(), "**grows**" if grows else "holds"
        rows.append([watched.what, part, *(f"{value:,.1f}" for value in levels), growth, verdict])
    found.flat["soak_grows"] = len(growing)
    found.budgets.append(Budget("what grows in a soak", len(growing), 0, ""))
    verdict = f"**{', '.join(growing)} grew.**" if growing else "**Nothing grew.**"
    failed = seen["failed"] + seen["unanswered"]
    found.flat |= {"soak_failed": failed, "soak_void": int(seen["void"])}
    found.budgets.append(Budget("calls that fail in a soak", failed, 0, ""))
    kinds = ", ".join(f"{code} {count:,}" for code, count in seen["errors"].items())
    late = "; **void: the generator was late**" if seen["void"] else ""
    latencies = ", ".join(f"{it} {seen[f'{it}_ms']:.2f} ms" for it in ("p50", "p99", "p99.9"))
    found.notes.append(
        f"{verdict} {seen['sent']:,} calls in {minutes:g} minutes, {rate:,.0f} a second; {failed:,} "
        f"failed or went without an answer{f' ({kinds})' if kinds else ''}; {latencies}{late}."
    )
    found.tables.append(Table(("", "of", "first", "median", "last", "growth", ""), rows))
    found.plots = [
        _plot("memory", MEMORY, samples),
        _plot("descriptors", DESCRIPTORS, samples),
        _latency(seen),
    ]
    return found


def _lines(samples: Samples, seen: Mapping[str, Any]) -> Iterator[tuple[Watched, str, list[Point]]]:
    for watched in OF_PROCESSES:
        for part, points in samples.seen[watched.what].items():
            if len(after_warm_up(points)) >= 2:
                yield watched, part, points
    answered = [(float(it["second"]), it["p50_ms"]) for it in seen["over_time"] if it["succeeded"]]
    if len(after_warm_up(answered)) >= 2:
        yield LATENCY, "calls", answered


def _plot(name: str, watched: Watched, samples: Samples) -> Plot:
    lines = {
        part: _some([(at / 60, value) for at, value in it]) for part, it in samples.seen[watched.what].items()
    }
    axis = f"{watched.what}, {watched.unit}".rstrip(", ")
    return Plot(name, f"Soak: {watched.what} by part", "minutes", axis, lines, (False, True))


def _latency(seen: Mapping[str, Any]) -> Plot:
    steps = [it for it in seen["over_time"] if it["succeeded"]]
    lines = {key[:3]: _some([(it["second"] / 60, it[key]) for it in steps]) for key in ("p50_ms", "p99_ms")}
    return Plot("latency", "Soak: latency, second by second", "minutes", "ms", lines, (False, True))


def _some(points: Sequence[Point], most: int = 360) -> list[Point]:
    """The medians of as many pieces, so that the file stays small."""
    size = -(-len(points) // most)
    pieces = [points[at : at + size] for at in range(0, len(points), size or 1)]
    return [
        (round(it[len(it) // 2][0], 2), round(sorted(v for _, v in it)[len(it) // 2], 2)) for it in pieces
    ]


MEASUREMENT: Final = Measurement(
    name="soak",
    title="Soak",
    says="""\
A fleet at a share of its knee for a long time. Each part's processes are added up and looked at every few
seconds. After the first fifth of the time, in which pools and caches fill, the slope of what was seen (the
median of all slopes between two samples) over the rest of the time is its growth. It grows if that is more
than 3 % of its level (latency: 25 %) and more than 2 MB, 4 descriptors, 2 threads or 0.5 ms.""",
    takes_s=(3_720, 120),
    run=run,
    full=Setup(),
    quick=Setup(minutes=1.0, p99_ms=500.0, late_ms=200.0),
    by_name_alone=True,
)
