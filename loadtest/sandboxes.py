"""What a sandbox costs: from the wish for an instance to its first answer, shut in or not.

Variants take turns in one run, so that what else the machine does meets all of them: compare the ratios.
"""

import asyncio
import os
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click

from lambent_chassis import logs
from lambent_chassis.clock import monotonic_s
from lambent_proto.definition import Definition
from lambent_worker.runtimes.registry import discover
from lambent_worker.sandbox.api import CannotStart
from loadtest.figures import percentile
from loadtest.hall import Hall, hall, zipped

BUILD: Final = Path(__file__).resolve().parent.parent / "build"

PYTHON: Final = f"python3.{sys.version_info.minor}"
BARE: Final = "no sandbox, executed"
ZYGOTE: Final = "namespaces, zygote"
PARKED: Final = "namespaces, parked"
EXEC: Final = "namespaces, executed"

REFILL_S: Final = 0.08
"""Between two starts, for what waits to be prepared again."""
AT_ONCE: Final = 8

Figures = dict[str, float | int | str]

FUNCTIONS: Final = {
    "python": (PYTHON, "app.handler", {"app.py": "def handler(event, context):\n    return event\n"}),
    "nodejs": ("nodejs", "index.handler", {"index.js": "exports.handler = async (event) => event\n"}),
}
"""By family: runtime, handler, files."""


@dataclass(frozen=True, slots=True)
class Variant:
    name: str
    sandbox: str
    parked: int | None = None


VARIANTS: Final = (
    Variant(BARE, "process"),
    Variant(EXEC, "namespaces"),
    Variant(ZYGOTE, "namespaces", parked=0),
    Variant(PARKED, "namespaces", parked=2),
    Variant("bwrap", "bwrap"),
    Variant("landlock", "landlock"),
    Variant("gvisor", "gvisor"),
)


@dataclass
class Measured:
    """Milliseconds, by variant."""

    python: dict[str, list[float]] = field(default_factory=dict)
    nodejs: dict[str, list[float]] = field(default_factory=dict)
    per_s: float = 0.0
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
            measured.python = await _starts(halls, "python", count)
            if "nodejs" in runtimes.by_name:
                node = {name: it for name, it in halls.items() if name in (BARE, EXEC, PARKED)}
                measured.nodejs = await _starts(node, "nodejs", max(5, count // 3))
            if PARKED in halls:
                measured.per_s = await _rate(halls[PARKED], seconds)
    return measured


async def _starts(halls: dict[str, Hall], family: str, count: int) -> dict[str, list[float]]:
    runtime, handler, files = FUNCTIONS[family]
    definitions: dict[str, Definition] = {}
    for name, it in halls.items():
        definitions[name] = await it.deploy(zipped(files), runtime, handler)
        await it.first_answer_ms(definitions[name])  # which unpacks the package
    times: dict[str, list[float]] = {name: [] for name in halls}
    for _ in range(count):
        for name, it in halls.items():
            times[name].append(await it.first_answer_ms(definitions[name]))
            await asyncio.sleep(REFILL_S)
    return times


async def _rate(it: Hall, seconds: float) -> float:
    """Instances a second, from nothing to nothing, some at a time."""
    runtime, handler, files = FUNCTIONS["python"]
    definition = await it.deploy(zipped(files), runtime, handler)
    began = monotonic_s()

    async def one_after_another() -> int:
        made = 0
        while monotonic_s() - began < seconds:
            await it.first_answer_ms(definition)
            made += 1
        return made

    made = sum(await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE))))
    return made / (monotonic_s() - began)


def figures_of(measured: Measured) -> Figures:
    """For build/bench.json."""
    python, node = _p50s(measured.python), _p50s(measured.nodejs)
    bare = python[BARE]
    figures: Figures = {"bare_start_p50_ms": round(bare, 2), "sandboxes_per_s": round(measured.per_s, 1)}
    for key, name in (("exec", EXEC), ("zygote", ZYGOTE), ("parked", PARKED)):
        if name in python:
            figures[f"sandbox_{key}_p50_ms"] = round(python[name], 2)
            figures[f"{key}_vs_exec"] = round(python[name] / bare, 3)
    if PARKED in node:
        figures["nodejs_parked_vs_exec"] = round(node[PARKED] / node[BARE], 3)
    return figures


def _p50s(times: dict[str, list[float]]) -> dict[str, float]:
    return {name: percentile(values, 0.5) for name, values in times.items()}


def report(measured: Measured) -> None:
    click.echo("\nFrom the wish for an instance to the first answer, ms")
    for family, times in (("Python", measured.python), ("Node.js", measured.nodejs)):
        if times:
            bare = percentile(times[BARE], 0.5)
            click.echo(f"{family:<28}{'p50':>8}{'p95':>8}{'min':>8}{'of bare':>9}{'n':>6}")
            for name, values in times.items():
                p50, p95 = percentile(values, 0.5), percentile(values, 0.95)
                click.echo(
                    f"  {name:<26}{p50:>8.1f}{p95:>8.1f}{min(values):>8.1f}{p50 / bare:>9.2f}{len(values):>6}"
                )
    for name, why in measured.missing.items():
        click.echo(f"  {name}: not on this host: {why}")
    click.echo(f"{measured.per_s:.0f} sandboxes a second, each with its first answer, {AT_ONCE} at a time.")


@click.command()
@click.option("--starts", type=click.IntRange(min=1), default=60, show_default=True)
@click.option("--seconds", type=float, default=5.0, show_default=True)
def main(starts: int, seconds: float) -> None:
    """Measures sandboxes alone, without a fleet."""
    report(asyncio.run(measure(starts, seconds)))


if __name__ == "__main__":
    main()
