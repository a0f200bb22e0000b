"""What a sandbox costs: from the wish for an instance to its first answer, shut in or not.

Variants take turns in one run, so that what else the machine does meets all of them: compare the ratios.
"""

import asyncio
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine
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
from loadtest.figures import percentile
from loadtest.hall import Hall, hall, zipped
from loadtest.protections import costs

BUILD: Final = Path(__file__).resolve().parent.parent / "build"

PYTHON: Final = f"python3.{sys.version_info.minor}"
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

Figures = dict[str, float | int | str]

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


async def measure(count: int, seconds: float) -> Measured:
    """`count` starts of each variant; then as many as there can be for `seconds`."""
    logs.configure("error")  # each instance would have a line of its own
    measured = Measured()
    runtimes = await asyncio.to_thread(discover, BUILD / "runtimes")
    with tempfile.TemporaryDirectory(prefix="lambent-bench-") as folder:
        os.chmod(folder, 0o755)
        async with AsyncExitStack() as stack:
            halls: dict[str, Hall] = {}
            for number, variant in enumerate(VARIANTS):
                entering = hall(f"v{number}", variant.sandbox, Path(folder), runtimes, variant.parked)
                try:
                    halls[variant.name] = await stack.enter_async_context(entering)
                except (CannotStart, OSError) as why:
                    measured.missing[variant.name] = str(why)
            for family, variants, share in FAMILIES:
                some = {name: it for name, it in halls.items() if name in variants}
                try:
                    starts = await _starts(some, family, max(5, count // share))
                except LookupError as why:
                    measured.missing[family] = str(why)
                else:
                    measured.starts[family] = starts
            if PARKED in halls:
                measured.sandboxes_per_s = await _sandbox_rate(halls[PARKED], seconds)
                measured.instances_per_s = await _instance_rate(halls[PARKED], seconds)
    if os.geteuid() == 0:
        measured.protections_us = await asyncio.to_thread(costs, count)
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


def figures_of(measured: Measured) -> Figures:
    """For build/bench.json."""
    p50s = {family: _p50s(times) for family, times in measured.starts.items()}
    python = p50s["Python"]
    bare = python[BARE]
    figures: Figures = {
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


def report(measured: Measured) -> None:
    click.echo("\nFrom the wish for an instance to the first answer, ms")
    for family, times in measured.starts.items():
        bare = percentile(times[BARE], 0.5)
        click.echo(f"{family:<28}{'p50':>8}{'p95':>8}{'min':>8}{'of bare':>9}{'n':>6}")
        for name, values in times.items():
            p50, p95 = percentile(values, 0.5), percentile(values, 0.95)
            click.echo(
                f"  {name:<26}{p50:>8.1f}{p95:>8.1f}{min(values):>8.1f}{p50 / bare:>9.2f}{len(values):>6}"
            )
    for name, why in measured.missing.items():
        click.echo(f"  {name}: not on this host: {why}")
    click.echo(
        f"{measured.sandboxes_per_s:.0f} sandboxes made and destroyed a second, {AT_ONCE} at a time; "
        f"{measured.instances_per_s:.0f} instances a second, each with its first answer."
    )
    if measured.protections_us:
        click.echo("\nWhat each protection takes by itself, us")
    for name, us in measured.protections_us.items():
        click.echo(f"  {name:<42}{us:>8.0f}")


@click.command()
@click.option("--starts", type=click.IntRange(min=1), default=60, show_default=True)
@click.option("--seconds", type=float, default=5.0, show_default=True)
def main(starts: int, seconds: float) -> None:
    """Measures sandboxes alone, without a fleet."""
    report(asyncio.run(measure(starts, seconds)))


if __name__ == "__main__":
    main()
