"""What each technique gains: the same measured with it switched off, one at a time."""

import asyncio
import os
import statistics
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path as Folder
from typing import Final

from loadtest import echo
from loadtest.figures import Figures, Table, percentile
from loadtest.fleet import ANY_ISOLATION, Fleet, fleet
from loadtest.measurement import Measurement, Plan
from loadtest.measurements import sandboxes
from loadtest.warm import Callers, Measured, Path, callers


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    scale: float = 1.0
    """Of the number of calls in a round."""
    starts: int = 30
    """Of each kind of start."""
    workers: int = 2


@dataclass(frozen=True, slots=True)
class Technique:
    """One of a call, that a setting of the parts switches off."""

    name: str
    path: Path
    off: Mapping[str, str]
    """The settings without it; none: another path is what is without it."""
    without: Path | None = None
    """The path there, if it is another one."""
    on: Mapping[str, str] = field(default_factory=dict)
    """The settings with it, where they are not the defaults."""


TECHNIQUES: Final = (
    Technique(
        "many invocations a message: InvokeStream, not unary calls",
        Path("stream", 64, 10_000),
        {},
        without=Path("unary", 64, 2_000),
    ),
    Technique(
        "the own gRPC server, unary, not grpcio's",
        Path("unary", 64, 2_000),
        {"grpc_server": "grpcio"},
        on={"grpc_server": "own"},
    ),
)

STARTS: Final = (
    ("parked sandboxes, not zygotes alone", "Python", sandboxes.PARKED, sandboxes.ZYGOTE),
    ("zygotes, not a new interpreter", "Python", sandboxes.ZYGOTE, sandboxes.EXEC),
    ("SnapStart, boto3's client, not zygotes", "boto3 client", sandboxes.SNAPSTART, sandboxes.ZYGOTE),
    ("parked Node.js, not a new process", "Node.js", sandboxes.PARKED, sandboxes.EXEC),
)
"""Techniques of a start: the function, and the variants with and without."""


def run(setup: Setup, plan: Plan) -> Figures:
    found = Figures()
    rows = []
    for number, it in enumerate(TECHNIQUES):
        plan.say(f"{number + 1} of {len(TECHNIQUES)}: {it.name}")
        on, off = _turns(it, setup, plan)
        rows.append(_row(it, on, off))
        for key, seen in (("on", on), ("off", off)):
            found.flat[f"technique_{number + 1}_{key}_cpu_us"] = round(statistics.median(seen.total_us()), 1)
    heads = ("technique of a call", "", "with", "without", "CPU of it", "p50 ms with", "without")
    found.tables.append(Table(heads, rows, "µs of CPU a call, in turns:"))
    plan.say("starts")
    found.tables.append(_starts(asyncio.run(_started(setup)), found))
    return found


def _turns(it: Technique, setup: Setup, plan: Plan) -> tuple[Measured, Measured]:
    options = ("--workers", str(setup.workers), *ANY_ISOLATION)
    with ExitStack() as stack:
        with_it = stack.enter_context(fleet(*options, settings=it.on))
        without = stack.enter_context(fleet(*options, settings=it.off)) if it.off else with_it
        for running in {with_it.pid: with_it, without.pid: without}.values():
            echo.deploy(running.endpoint, 16)
        sides = (
            (_ready(stack, with_it, it.path, setup), Measured()),
            (_ready(stack, without, it.without or it.path, setup), Measured()),
        )
        for _ in range(plan.repeats):
            for calling, measured in sides:
                calling.round(measured)
    return sides[0][1], sides[1][1]


def _ready(stack: ExitStack, running: Fleet, path: Path, setup: Setup) -> Callers:
    path = Path(path.kind, path.in_flight, max(20, int(path.calls * setup.scale)))
    calling = stack.enter_context(callers(running, echo.NAME, path))
    calling.call(max(1, path.calls // 4))
    return calling


def _row(it: Technique, on: Measured, off: Measured) -> list[str]:
    with_us, without_us = (statistics.median(seen.total_us()) for seen in (on, off))
    p50s = (statistics.median(call.p50_ms for call in seen.rounds) for seen in (on, off))
    in_flight = f"{it.path.kind}, {it.path.in_flight} in flight"
    ratio = f"**{with_us / without_us:.2f}**"
    return [it.name, in_flight, f"{with_us:,.0f}", f"{without_us:,.0f}", ratio, *(f"{ms:.2f}" for ms in p50s)]


async def _started(setup: Setup) -> sandboxes.Measured:
    families = [
        (family, tuple({it: None for _, of, *some in STARTS if of == family for it in some}), 1)
        for family in dict.fromkeys(of for _, of, *_ in STARTS)
    ]
    with tempfile.TemporaryDirectory(prefix="lambent-bench-") as folder:
        os.chmod(folder, 0o755)
        return await sandboxes.started(families, setup.starts, Folder(folder))


def _starts(measured: sandboxes.Measured, found: Figures) -> Table:
    rows = []
    for name, family, with_it, without in STARTS:
        times = measured.starts.get(family, {})
        if with_it in times and without in times:
            on, off = (percentile(times[it], 0.5) for it in (with_it, without))
            rows.append([name, f"{on:.1f}", f"{off:.1f}", f"**{on / off:.2f}**"])
    found.notes += [f"Not on this host: {name}: {why}" for name, why in measured.missing.items()]
    return Table(
        ("technique of a start", "with", "without", "of it"), rows, "ms to the first answer, p50, in turns:"
    )


MEASUREMENT: Final = Measurement(
    name="techniques",
    title="Techniques, switched off",
    says="""\
Each technique that a setting or another way in switches off, one at a time, all else being as it is by
default. What has no switch is in [performance](performance.md), as it was measured when it came.""",
    takes_s=(120, 45),
    run=run,
    full=Setup(),
    quick=Setup(scale=0.3, starts=5),
)
