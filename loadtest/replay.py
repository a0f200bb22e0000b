"""`make bench-replay`: minutes of a trace on a real fleet, and the same minutes in the simulator.

Time is compressed: calls come, run, and instances are kept for so much shorter. The functions sleep as long
as the trace says. What the fleet does of itself is not compressed (a start, the way of a call, the time for
which a frontend keeps a lease), so the simulator is given the same compressed trace and the start times that
were measured: each, in the order of the starts, or their median for all. It is also run over what the
frontend recorded, which leaves out how late the callers were and what the ways cost.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import click
import uvloop

from lambent.cli.options import BACKENDS
from lambent.simulate.figures import Figures
from lambent.simulate.policies import Plan, simulate
from lambent.simulate.record import RecordedTrace, read
from lambent.simulate.trace import BrokenTrace, Invocation, Trace, generated
from lambent_proto.ids import MIN_MEMORY_MB
from loadtest import machine, open_loop, sleeper
from loadtest.figures import percentile
from loadtest.fleet import ANY_ISOLATION, Fleet, Off, fleet
from loadtest.open_loop import Due, Gathered

BUILD: Final = Path(__file__).resolve().parent.parent / "build"
"""Where the figures and the record are written, if nothing else is said."""
GENERATED: Final = 100
"""Functions of the trace that is made where none is given."""
FLEET, SIMULATOR = "the fleet", "the simulator"
MAX_WAITING: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    minutes: int
    """Of the trace."""
    factor: float
    """By which time is compressed."""
    workers: int
    worker_mb: int
    keep_alive_s: float
    """In the trace's time."""
    seed: int
    sandbox: str


@click.command()
@click.option("--trace", "path", type=click.Path(exists=True, path_type=Path), metavar="PATH")
@click.option("--minutes", type=click.IntRange(min=1), default=30, show_default=True)
@click.option("--factor", type=click.FloatRange(min=1), default=10.0, show_default=True)
@click.option("--workers", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--worker-memory", "worker_mb", type=click.IntRange(min=128), default=2048, show_default=True)
@click.option("--keep-alive", "keep_alive_s", type=float, default=600.0, show_default=True)
@click.option("--seed", type=int, default=42, show_default=True)
@click.option("--sandbox", type=click.Choice(BACKENDS), default="process", show_default=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=BUILD, help="Folder.")
def main(path: Path | None, out: Path, **setup: Any) -> None:
    """Replays a trace on a fleet of its own and in the simulator, and compares them."""
    plan = Setup(**setup)
    try:
        trace = read(path) if path else generated(GENERATED, plan.minutes, plan.seed)
        out.mkdir(parents=True, exist_ok=True)
        if not path:
            click.echo("No --trace: one of the shape of the Azure Functions trace is made.")
        _run(trace, path.name if path else f"{GENERATED} made functions", plan, out)
    except BrokenTrace as broken:
        raise click.BadParameter(str(broken), param_hint="--trace") from broken
    except Off as off:
        raise click.ClickException(str(off)) from None


def _run(trace: Trace, what: str, plan: Setup, out: Path) -> None:
    calls = compressed(trace.invocations(plan.seed, plan.minutes), plan.factor)
    memory_mb = {f"f{number}": max(MIN_MEMORY_MB, it.memory_mb) for number, it in enumerate(trace.functions)}
    for it, memory in zip(trace.functions, memory_mb.values(), strict=True):
        it.memory_mb = memory
    click.echo(
        f"{what}: {len(calls):,} calls of {plan.minutes} minutes in {calls[-1].at:.0f} s, "
        f"{plan.workers} workers of {plan.worker_mb} MB; load average {machine.load()}."
    )
    gathered, recorded = _replayed(calls, memory_mb, plan, out / "replay.csv")
    figures = _simulated(trace, calls, recorded, plan)
    _report(gathered, recorded, figures)
    noted = _noted(what, plan, gathered, recorded, figures)
    path = out / "replay.json"
    path.write_text(json.dumps(noted, indent=2) + "\n")
    click.echo(f"\nWritten to {os.path.relpath(path)}; the record is beside it.")


def _simulated(
    trace: Trace, calls: list[Invocation], recorded: RecordedTrace, plan: Setup
) -> dict[str, Figures]:
    """By what people read; first what the fleet made of it."""
    one_time = Plan(
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


def _report(gathered: Gathered, recorded: RecordedTrace, figures: dict[str, Figures]) -> None:
    late_s, starts_s = gathered.late_s(), recorded.starts_s
    click.echo(
        f"A cold start took {percentile(starts_s, 0.5) * 1000:.1f} ms in the median, "
        f"{max(starts_s) * 1000:.0f} at the most; the caller was {percentile(late_s, 0.99) * 1000:.1f} ms "
        f"late at p99. Load average {machine.load()}.\n"
    )
    click.echo(f"{'':<16}{'calls':>9}{'cold':>7}{'cold %':>9}{'off by':>9}{'warm %':>9}{'off by':>9}")
    seen = figures[FLEET]
    for name, it in figures.items():
        cold, warm = 100 - it.warm_percent, it.warm_percent
        off = ["", ""]
        if it is not seen:
            off = [
                f"{relative(cold, 100 - seen.warm_percent):+.1%}",
                f"{relative(warm, seen.warm_percent):+.2%}",
            ]
        click.echo(f"{name:<16}{it.calls:>9,}{it.cold:>7,}{cold:>9.3f}{off[0]:>9}{warm:>9.3f}{off[1]:>9}")


def _noted(
    what: str, plan: Setup, gathered: Gathered, recorded: RecordedTrace, figures: dict[str, Figures]
) -> dict[str, Any]:
    noted: dict[str, Any] = {**machine.facts(), "load_after": machine.load(), "trace": what, **asdict(plan)}
    noted["start_p50_ms"] = round(percentile(recorded.starts_s, 0.5) * 1000, 1)
    noted["start_most_ms"] = round(max(recorded.starts_s) * 1000, 1)
    noted["caller_late_p99_ms"] = round(percentile(gathered.late_s(), 0.99) * 1000, 1)
    for name, it in figures.items():
        noted[name] = {key: value for key, value in asdict(it).items() if key != "over_time"}
    return noted


if __name__ == "__main__":
    main()
