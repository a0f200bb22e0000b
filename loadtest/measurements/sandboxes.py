"""What a sandbox costs: from the wish for an instance to its first answer, shut in or not.

Variants take turns in one run, so that what else the machine does meets all of them: compare the ratios.
"""

import asyncio
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from lambent_chassis import logs
from lambent_chassis.clock import monotonic_s
from lambent_proto.definition import Definition
from lambent_proto.ids import InstanceId
from lambent_worker.runtimes.registry import discover
from lambent_worker.sandbox.api import CannotStart, SandboxSpec
from loadtest.figures import Budget, Figures, Flat, Table, percentile
from loadtest.hall import PYTHON, Hall, hall, zipped
from loadtest.measurement import BUILD, Measurement, Plan
from loadtest.protections import costs

BARE: Final = "no sandbox, executed"
ZYGOTE: Final = "namespaces, zygote"
PARKED: Final = "namespaces, parked"
EXEC: Final = "namespaces, executed"
SNAPSTART: Final = "namespaces, SnapStart"

FAMILIES: Final = (
    ("Python", (BARE, EXEC, ZYGOTE, PARKED, "bwrap", "landlock", "gvisor"), 1),
    ("Node.js", (BARE, EXEC, PARKED), 3),
    ("Java", (BARE, EXEC, PARKED), 6),
    *((family, (BARE, ZYGOTE, SNAPSTART), 6) for family in ("boto3 client", "numpy")),
)
"""Function, variants, and the share of all starts that it gets."""

REFILL_S: Final = 0.08
"""Between two starts, for what waits to be prepared again."""
AT_ONCE: Final = 8

Files = dict[str, str | bytes]

MEMORY_MB: Final = {"Node.js": 128}
"""A process is parked for one size of a language alone: this one, or else 512."""

HANDLER: Final = "def handler(event, context):\n    return event\n"
HEAVY: Final = {
    "boto3 client": ("boto3", "import boto3\nclient = boto3.client('s3', 'us-east-1')\n" + HANDLER),
    "numpy": ("numpy", "import numpy\n" + HANDLER),
}
"""Functions with imports that take long: what is installed for them, and app.py."""


def function_of(family: str) -> tuple[str, str, Files]:
    """Runtime, handler and files of a function that gives its event back.

    Raises LookupError, with the reason, where it cannot be had here.
    """
    match family:
        case "Python":
            return PYTHON, "app.handler", {"app.py": HANDLER}
        case "Node.js":
            return "nodejs", "index.handler", {"index.js": "exports.handler = async (event) => event\n"}
        case "Java":
            return (
                "java",
                "Echo::handle",
                _compiled("Echo", "public Object handle(Object event) { return event; }"),
            )
        case _:
            what, app = HEAVY[family]
            return PYTHON, "app.handler", {"app.py": app, **_installed(what)}


def _compiled(name: str, method: str) -> Files:
    folder = BUILD / "bench-java"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.java").write_text(f"public class {name} {{ {method} }}\n")
    done = _tried("javac", "-d", str(folder), str(folder / f"{name}.java"))
    if done:
        raise LookupError(done)
    return {f"{name}.class": (folder / f"{name}.class").read_bytes()}


def _installed(what: str) -> Files:
    folder = BUILD / f"bench-{what}"
    if not folder.is_dir():
        click.echo(f"Installing {what} for its import.", err=True)
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), what)
        if failed := _tried(*pip):
            raise LookupError(failed)
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _tried(*argv: str) -> str:
    """Why it failed; empty if it did not."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{argv[0]}: {error.strerror}"
    return f"{argv[0]} failed: {done.stderr.strip()[-200:]}" if done.returncode else ""


@dataclass(frozen=True, slots=True)
class Variant:
    name: str
    sandbox: str
    parked: int | None = None
    snapstart: bool = False


VARIANTS: Final = (
    Variant(BARE, "process"),
    Variant(EXEC, "namespaces"),
    Variant(ZYGOTE, "namespaces", parked=0),
    Variant(PARKED, "namespaces", parked=2),
    Variant(SNAPSTART, "namespaces", parked=0, snapstart=True),
    Variant("bwrap", "bwrap"),
    Variant("landlock", "landlock"),
    Variant("gvisor", "gvisor"),
)


@dataclass
class Measured:
    """Milliseconds, by variant."""

    starts: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """By function, then by variant."""
    protections_us: dict[str, float] = field(default_factory=dict)
    sandboxes_per_s: float = 0.0
    """Made and destroyed, with nothing in them."""
    instances_per_s: float = 0.0
    """Each with its first answer."""
    missing: dict[str, str] = field(default_factory=dict)
    """Variants that this host does not have, and why."""


Family = tuple[str, Sequence[str], int]


async def measure(count: int, seconds: float) -> Measured:
    """`count` starts of each variant; then as many as there can be for `seconds`."""
    with tempfile.TemporaryDirectory(prefix="lambent-bench-") as folder:
        os.chmod(folder, 0o755)
        measured = await started(FAMILIES, count, Path(folder), seconds)
    if os.geteuid() == 0:
        measured.protections_us = await asyncio.to_thread(costs, count)
    return measured


async def started(families: Sequence[Family], count: int, folder: Path, seconds: float = 0.0) -> Measured:
    """Starts of these; with `seconds` also how many sandboxes and instances a second there can be."""
    logs.configure("error")  # each instance would have a line of its own
    measured = Measured()
    runtimes = await asyncio.to_thread(discover, BUILD / "runtimes")
    wanted = {name for _, variants, _ in families for name in variants}
    async with AsyncExitStack() as stack:
        halls: dict[str, Hall] = {}
        for number, variant in enumerate(it for it in VARIANTS if it.name in wanted):
            entering = hall(f"v{number}", variant.sandbox, folder, runtimes, variant.parked)
            try:
                halls[variant.name] = await stack.enter_async_context(entering)
            except (CannotStart, OSError) as why:
                measured.missing[variant.name] = str(why)
        for family, variants, share in families:
            some = {name: it for name, it in halls.items() if name in variants}
            try:
                measured.starts[family] = await _starts(some, family, max(5, count // share))
            except LookupError as why:
                measured.missing[family] = str(why)
        if PARKED in halls and seconds:
            measured.sandboxes_per_s = await _sandbox_rate(halls[PARKED], seconds)
            measured.instances_per_s = await _instance_rate(halls[PARKED], seconds)
    return measured


async def _starts(halls: dict[str, Hall], family: str, count: int) -> dict[str, list[float]]:
    runtime, handler, files = await asyncio.to_thread(function_of, family)
    package = await asyncio.to_thread(zipped, files)
    definitions: dict[str, Definition] = {}
    for name, it in halls.items():
        definitions[name] = await it.deploy(
            *(package, runtime, handler),
            memory_mb=MEMORY_MB.get(family, 512),
            snapstart=name == SNAPSTART,
        )
        await it.first_answer_ms(definitions[name])  # which unpacks the package
        await it.host.compiler.finished()
    times: dict[str, list[float]] = {name: [] for name in halls}
    for _ in range(count):
        for name, it in halls.items():
            times[name].append(await it.first_answer_ms(definitions[name]))
            await asyncio.sleep(REFILL_S)
    return times


async def _sandbox_rate(it: Hall, seconds: float) -> float:
    """Sandboxes a second, from nothing to nothing, some at a time."""
    runtime, handler, files = function_of("Python")
    definition = await it.deploy(zipped(files), runtime, handler)
    await it.first_answer_ms(definition)
    names = itertools.count()
    with await it.packages.hold(definition.code_sha256) as held:

        async def one() -> None:
            sandbox = await it.backend.create(
                SandboxSpec(
                    instance=InstanceId(f"empty-{next(names)}"),
                    code=held.code,
                    layers=None,
                    memory_mb=definition.memory_mb,
                    tmp_mb=definition.tmp_mb,
                    network=False,
                )
            )
            sandbox.destroy()
            await sandbox.wait()

        return await _rate(one, seconds)


async def _instance_rate(it: Hall, seconds: float) -> float:
    """Instances a second, each with its first answer, from nothing to nothing, some at a time."""
    runtime, handler, files = function_of("Python")
    definition = await it.deploy(zipped(files), runtime, handler)
    return await _rate(lambda: it.first_answer_ms(definition), seconds)


async def _rate(make: Callable[[], Coroutine[Any, Any, object]], seconds: float) -> float:
    began = monotonic_s()

    async def one_after_another() -> int:
        made = 0
        while monotonic_s() - began < seconds:
            await make()
            made += 1
        return made

    made = sum(await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE))))
    return made / (monotonic_s() - began)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    starts: int = 60
    """Of each variant of the trivial function; fewer of those that take longer."""
    seconds: float = 10.0
    """For as many sandboxes, and for as many instances, as there can be."""


def run(setup: Setup, plan: Plan) -> Figures:
    plan.say("variants take turns")
    measured = asyncio.run(measure(setup.starts, setup.seconds))
    flat = _flat(measured)
    tables = [_starts_table(measured)]
    if measured.protections_us:
        rows = [[name, f"{us:,.0f}"] for name, us in measured.protections_us.items()]
        tables.append(
            Table(("protection", "µs"), rows, "What each takes by itself, as the difference to a bare fork:")
        )
    rates = (
        f"**{measured.sandboxes_per_s:.0f} sandboxes a second** are made and destroyed with nothing in them, "
        f"{AT_ONCE} at a time; {measured.instances_per_s:.0f} instances a second, each with its first answer."
    )
    notes = [rates, *(f"Not on this host: {name}: {why}" for name, why in measured.missing.items())]
    return Figures(flat, tables, budgets=_budgets(flat), notes=notes)


def _budgets(flat: Flat) -> list[Budget]:
    promised = (
        ("zygote_vs_exec", "start of a zygote, of the same executed without a sandbox", 0.4, "times", True),
        (
            "parked_vs_exec",
            "start from a parked sandbox, of the same, with its import",
            0.15,
            "times",
            True,
        ),
        ("snapstart_vs_exec", "start with boto3's client from a snapshot, of the same", 0.05, "times", True),
        ("sandboxes_per_s", "sandboxes started and stopped, sustained", 200, "a second", False),
    )
    return [
        Budget(what, float(flat[key]), limit, unit, at_most)
        for key, what, limit, unit, at_most in promised
        if key in flat
    ]


def _flat(measured: Measured) -> Flat:
    p50s = {family: _p50s(times) for family, times in measured.starts.items()}
    python = p50s["Python"]
    bare = python[BARE]
    figures: Flat = {
        "bare_start_p50_ms": round(bare, 2),
        "sandboxes_per_s": round(measured.sandboxes_per_s, 1),
        "instances_per_s": round(measured.instances_per_s, 1),
    }
    for key, name in (("exec", EXEC), ("zygote", ZYGOTE), ("parked", PARKED)):
        if name in python:
            figures[f"sandbox_{key}_p50_ms"] = round(python[name], 2)
            figures[f"{key}_vs_exec"] = round(python[name] / bare, 3)
    for key, family in (("nodejs", "Node.js"), ("java", "Java")):
        if PARKED in (times := p50s.get(family, {})):
            figures[f"{key}_parked_vs_exec"] = round(times[PARKED] / times[BARE], 3)
    for key, family in (("boto3", "boto3 client"), ("numpy", "numpy")):
        if SNAPSTART in (times := p50s.get(family, {})):
            figures[f"snapstart_{key}_vs_exec"] = round(times[SNAPSTART] / times[BARE], 3)
    if "snapstart_boto3_vs_exec" in figures:
        figures["snapstart_vs_exec"] = figures["snapstart_boto3_vs_exec"]
    for name, us in measured.protections_us.items():
        figures[f"protection_us: {name}"] = round(us)
    return figures


def _p50s(times: dict[str, list[float]]) -> dict[str, float]:
    return {name: percentile(values, 0.5) for name, values in times.items()}


def _starts_table(measured: Measured) -> Table:
    rows = []
    for family, times in measured.starts.items():
        bare = percentile(times[BARE], 0.5)
        for name, values in times.items():
            p50, p95 = percentile(values, 0.5), percentile(values, 0.95)
            shown = (f"{it:.1f}" for it in (p50, p95, min(values)))
            rows.append([family, name, *shown, f"**{p50 / bare:.2f}**", f"{len(values)}"])
    return Table(
        ("function", "", "p50", "p95", "least", "of bare", "starts"),
        rows,
        "From the wish for an instance to its first answer, ms:",
    )


MEASUREMENT: Final = Measurement(
    name="sandboxes",
    title="Sandboxes",
    says="""\
Instances without a fleet around them, each ended before the next is wanted; the variants take turns, so
compare ratios. *Zygote*: forked of an interpreter that is up; *parked*: shut in already and waiting for a
function; *SnapStart*: forked of a process that has imported the function's code. What comes first of each
function shuts nothing in.""",
    takes_s=(110, 35),
    run=run,
    full=Setup(),
    quick=Setup(starts=10, seconds=2.0),
)
