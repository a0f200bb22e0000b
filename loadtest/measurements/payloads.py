"""How what a call costs grows with its event and its answer, up to Lambda's 6 MB."""

import statistics
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from loadtest import echo
from loadtest.figures import Figures, Plot, Table
from loadtest.fleet import ANY_ISOLATION, fleet
from loadtest.measurement import Measurement, Plan
from loadtest.warm import Callers, Measured, Path, callers

KINDS: Final = ("stream", "unary", "http")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    sizes: tuple[int, ...] = (100, 1_000, 10_000, 100_000, 1_000_000, 6_000_000)
    """Bytes of an event, and of its answer."""
    calls: int = 300
    """In a round, of small ones."""
    megabytes: int = 60
    """In a round, of large ones; but at least five calls."""
    workers: int = 1


def run(setup: Setup, plan: Plan) -> Figures:
    seen = {
        Path(kind, 1, max(5, min(setup.calls, setup.megabytes * 1_000_000 // size)), size=size): Measured()
        for size in setup.sizes
        for kind in KINDS
    }
    with fleet("--workers", str(setup.workers), *ANY_ISOLATION) as running, ExitStack() as stack:
        echo.deploy(running.endpoint, 1)
        calling: dict[Path, Callers] = {}
        for path in seen:
            calling[path] = stack.enter_context(callers(running, echo.NAME, path))
            calling[path].call(2)
        for number in range(plan.repeats):
            plan.say(f"round {number + 1} of {plan.repeats}")
            for path, measured in seen.items():
                calling[path].round(measured)
    return _told(seen)


def _told(seen: dict[Path, Measured]) -> Figures:
    found, rows = Figures(), []
    p50s: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    spent: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for path, measured in seen.items():
        p50 = statistics.median(it.p50_ms for it in measured.rounds)
        p99 = statistics.median(it.p99_ms for it in measured.rounds)
        us = statistics.median(measured.total_us())
        p50s[path.kind].append((path.size, p50))
        spent[path.kind].append((path.size, us))
        found.flat[f"{path.kind}_{path.size}_bytes_p50_ms"] = round(p50, 2)
        found.flat[f"{path.kind}_{path.size}_bytes_cpu_us"] = round(us)
        rate = 2 * path.size / p50 / 1000
        rows.append([f"{path.size:,}", path.kind, f"{p50:,.2f}", f"{p99:,.2f}", f"{us:,.0f}", f"{rate:,.1f}"])
    found.tables.append(Table(("bytes", "", "p50 ms", "p99 ms", "CPU µs a call", "MB/s both ways"), rows))
    found.plots = [
        Plot("p50", "Latency against size", "bytes of event and answer", "p50, ms", p50s, (True, True)),
        Plot("cpu", "CPU against size", "bytes of event and answer", "µs a call", spent, (True, True)),
    ]
    return found


MEASUREMENT: Final = Measurement(
    name="payloads",
    title="Payloads",
    says="""\
An echo in Python, which parses and writes JSON of that size, one call in flight on one instance. What is
above a small call's cost is copying, and the function's own JSON.""",
    takes_s=(90, 30),
    run=run,
    full=Setup(),
    quick=Setup(calls=50, megabytes=12),
)
