"""How many calls a second a fleet holds, and what a call costs at half of that."""

import statistics
from dataclasses import dataclass
from typing import Any, Final

from loadtest import echo, generator
from loadtest.figures import Figures, Plot, Table, spread
from loadtest.fleet import ANY_ISOLATION, Fleet, fleet
from loadtest.measurement import Measurement, Plan
from loadtest.warm import PARTS, since

VIAS: Final = ("stream", "unary", "http")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    seconds: float = 5.0
    """At each rate."""
    first: float = 500.0
    """The rate that is tried first, calls a second."""
    p99_ms: float = 100.0
    """A rate holds whose p99 is not above it."""
    late_ms: float = 10.0
    """Sent so much after it was due, a call was late; with more than 1 % of them a rate does not hold."""
    instances: int = 16
    workers: int = 2


@dataclass(slots=True)
class Half:
    """Rounds at half the knee."""

    p50_ms: list[float]
    p99_ms: list[float]
    cpu_us: list[dict[str, float]]
    """A call, by part."""


def run(setup: Setup, plan: Plan) -> Figures:
    found = Figures()
    curves: dict[str, list[dict[str, Any]]] = {}
    halves: dict[str, Half] = {}
    with fleet("--workers", str(setup.workers), *ANY_ISOLATION) as running:
        echo.deploy(running.endpoint, setup.instances)
        for via in VIAS:
            plan.say(f"the knee of {via}")
            curves[via] = search(running, via, setup)
            knee = knee_of(curves[via])
            if not knee:
                found.notes.append(f"{via}: no rate held.")
                continue
            found.flat[f"{via}_knee_per_s"] = round(knee)
            plan.say(f"half of the knee of {via}, {knee / 2:,.0f} calls a second")
            rounds = [_half(running, via, knee / 2, setup) for _ in range(plan.repeats)]
            halves[via] = Half(*map(list, zip(*rounds, strict=True)))
    _told(found, curves, halves)
    return found


def search(running: Fleet, via: str, setup: Setup) -> list[dict[str, Any]]:
    """All rates that were tried."""
    searching = ("--find-knee", "--knee-p99", f"{setup.p99_ms:g}", "--rate", f"{setup.first:g}")
    rates: list[dict[str, Any]] = generator.run(running, "--via", via, *searching, *_long(setup))["rates"]
    return sorted(rates, key=lambda it: float(it["offered"]))


def knee_of(rates: list[dict[str, Any]]) -> float:
    """The highest that held; 0 if none did."""
    return max((float(it["offered"]) for it in rates if it["held"]), default=0.0)


def _long(setup: Setup) -> tuple[str, ...]:
    return "--duration", f"{setup.seconds:g}", "--warm-up", "1", "--late", f"{setup.late_ms:g}"


def _half(running: Fleet, via: str, rate: float, setup: Setup) -> tuple[float, float, dict[str, float]]:
    before = running.cpu_s()
    seen = generator.run(running, "--via", via, "--rate", f"{rate:g}", "--even-if-void", *_long(setup))
    spent = since(before, running.cpu_s())
    calls = sum(step["offered"] for step in seen["over_time"])
    return seen["p50_ms"], seen["p99_ms"], {part: cpu_s / calls * 1e6 for part, cpu_s in spent.items()}


def _told(found: Figures, curves: dict[str, list[dict[str, Any]]], halves: dict[str, Half]) -> None:
    rows = []
    for via, half in halves.items():
        knee = knee_of(curves[via])
        broke = next((it for it in curves[via] if it["offered"] > knee), None)
        generators = bool(broke and broke["void"])
        total = [sum(by.values()) for by in half.cpu_us]
        found.flat |= {
            f"{via}_half_knee_p50_ms": round(statistics.median(half.p50_ms), 2),
            f"{via}_half_knee_p99_ms": round(statistics.median(half.p99_ms), 2),
            f"{via}_half_knee_cpu_us": round(statistics.median(total), 1),
        }
        rows.append(
            [
                via,
                f"**{knee:,.0f}**" + (", the generator's" if generators else ""),
                spread(half.p50_ms, 2),
                spread(half.p99_ms, 2),
                spread(total),
                *(f"{statistics.median(by[part] for by in half.cpu_us):,.0f}" for part in PARTS),
            ]
        )
    heads = ("", "knee, calls a second", "p50 ms", "p99 ms", "CPU µs a call", *PARTS)
    found.tables.append(Table(heads, rows, "The knee; and at half of it, latency from when a call was due:"))
    found.plots = [
        Plot(
            "p99",
            "Latency against offered load",
            "calls a second offered",
            "p99, ms",
            {via: [(it["offered"], it["p99_ms"]) for it in rates] for via, rates in curves.items()},
            (True, True),
        ),
        Plot(
            "throughput",
            "Throughput against offered load",
            "calls a second offered",
            "calls a second succeeded",
            {via: [(it["offered"], it["succeeded"]) for it in rates] for via, rates in curves.items()},
        ),
    ]


MEASUREMENT: Final = Measurement(
    name="knee",
    title="Throughput",
    says="""\
`lambent loadtest --find-knee` raises the rate of an open loop until 1 % of the calls fail or their p99 is
above `p99_ms` ([how](loadtest.md)). The generator is one process on the same cores, so the fleet has what
it leaves; where it was late itself, the knee is the generator's.""",
    takes_s=(270, 90),
    run=run,
    full=Setup(),
    quick=Setup(seconds=2.0, p99_ms=500.0, late_ms=200.0),
)
