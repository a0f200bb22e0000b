"""`make bench`: measures what Lambent promises, one thing after the other, each in a process of its own.

Results go to build/bench/NAME.json, and all figures, flat, to build/bench.json. With `--page` they are
published: into docs/benchmarks/, of which docs/benchmarks.md and its plots are made. What is finished is
kept, whatever becomes of the rest.
"""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click

from lambent_chassis.clock import monotonic_s
from loadtest import page
from loadtest.figures import Flat
from loadtest.measurement import BUILD, ROOT, BadOption, Measurement, Plan, Result, command, read
from loadtest.measurements import ALL, by_name

INTERRUPTED: Final = 130
STDERR: Final = 2
SLOWER: Final = 6
"""One that takes so many times as long as it should is ended: the machine is too busy, or it hangs."""
END_WITHIN_S: Final = 40.0
"""To stop its fleet after Ctrl-C."""


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--list", "listing", is_flag=True, help="Say what can be measured, and with which options.")
@click.option("--quick", is_flag=True, help="Small and one round each: whether it works, not how fast it is.")
@click.option("--repeats", type=click.IntRange(min=1), help="Rounds; by default 5, with --quick 1.")
@click.option("--set", "given", multiple=True, metavar="KEY=VALUE", help="An option of the one NAME.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option("--page", "publish", is_flag=True, help="Renew docs/benchmarks.md and its plots.")
@click.option("--strict", is_flag=True, help="Exit code 1 also where a budget is missed.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=BUILD, help="Folder.")
def main(
    names: tuple[str, ...],
    listing: bool,
    quick: bool,
    repeats: int | None,
    given: tuple[str, ...],
    as_json: bool,
    publish: bool,
    strict: bool,
    out: Path,
) -> None:
    """Measure what is named, or all but what takes an hour; exit code 1 if one of them failed."""
    if listing:
        _list()
        return
    chosen = _chosen(names)
    options = _options(chosen, given, quick)
    plan = Plan(repeats or (1 if quick else 5), quick, out.absolute() / "bench")
    failed = _run_all(chosen, plan, options, out.absolute(), publish)
    found = {it.name: result for it in chosen if it.name not in failed if (result := _result(plan, it.name))}
    if as_json:
        click.echo(json.dumps({name: it.figures.flat for name, it in found.items()}, indent=1))
    else:
        for it in found.values():
            click.echo(page.as_text(it, by_name(it.name)))
    for name, why in failed.items():
        click.echo(f"{name} failed: {why}", err=True)
    missed = strict and not all(budget.met for it in found.values() for budget in it.figures.budgets)
    sys.exit(INTERRUPTED if INTERRUPTED in failed.values() else bool(failed or missed))


def _list() -> None:
    for it in ALL:
        full_s, quick_s = it.takes_s
        alone = ", by name alone" if it.by_name_alone else ""
        click.echo(f"{it.name:<14}{it.title}; {_span(full_s)}, with --quick {_span(quick_s)}{alone}")
        for key, value in dataclasses.asdict(it.full).items():
            click.echo(f"{'':<16}--set {key}={_shown(value)}")


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _chosen(names: Sequence[str]) -> list[Measurement[Any]]:
    if not names:
        return [it for it in ALL if not it.by_name_alone]
    try:
        return [by_name(name) for name in names]
    except LookupError as unknown:
        raise click.BadParameter(str(unknown), param_hint="NAME") from None


def _options(chosen: Sequence[Measurement[Any]], given: Sequence[str], quick: bool) -> dict[str, str]:
    if given and len(chosen) != 1:
        raise click.UsageError("--set is for one NAME.")
    options = dict(it.partition("=")[::2] for it in given)
    try:
        for it in chosen:
            it.setup(quick, options)
    except BadOption as bad:
        raise click.BadParameter(str(bad), param_hint="--set") from None
    return options


def _run_all(
    chosen: Sequence[Measurement[Any]], plan: Plan, options: dict[str, str], out: Path, publish: bool
) -> dict[str, str | int]:
    """Which have failed, and why."""
    failed: dict[str, str | int] = {}
    for number, it in enumerate(chosen):
        left_s = sum(_takes_s(further, plan) for further in chosen[number:])
        click.echo(f"{number + 1} of {len(chosen)}: {it.title}; {_span(left_s)} left", err=True)
        why = _run(it, plan, options)
        if why:
            failed[it.name] = why
            if why == INTERRUPTED:
                break
            click.echo(f"  failed: {why}", err=True)
            continue
        (out / "bench.json").write_text(json.dumps(flat(plan.scratch), indent=1) + "\n")
        if publish:
            _published(plan.scratch / f"{it.name}.json")
    return failed


def _run(it: Measurement[Any], plan: Plan, options: dict[str, str]) -> str | int:
    """Why it failed: in words, or as INTERRUPTED; empty if it did not."""
    began, most_s = monotonic_s(), SLOWER * max(it.takes_s) + 60
    # In a session of its own it has no Ctrl-C but ours, and that once: a second one would disturb its end.
    # What it says is progress, and goes to standard error.
    asked = command(it.name, plan, options, plan.scratch)
    child = subprocess.Popen(asked, cwd=ROOT, stdout=STDERR, start_new_session=True)
    try:
        code = child.wait(None if options else most_s)  # with other options nobody knows how long it takes
    except KeyboardInterrupt:
        _ended(child)
        return INTERRUPTED
    except subprocess.TimeoutExpired:
        _ended(child)
        return f"it was not done after {_span(most_s)}"
    if code:
        return f"exit code {code} after {_span(monotonic_s() - began)}; why is above"
    return ""


def _ended(child: "subprocess.Popen[bytes]") -> None:
    with suppress(subprocess.TimeoutExpired):
        child.send_signal(signal.SIGINT)
        child.wait(END_WITHIN_S)
    child.kill()
    child.wait()


def _takes_s(it: Measurement[Any], plan: Plan) -> float:
    """As long as it took the last time, if that was the same."""
    known = _result(plan, it.name)
    same = known is not None and (known.quick, known.repeats) == (plan.quick, plan.repeats)
    return known.seconds if known and same else it.takes_s[plan.quick]


def _result(plan: Plan, name: str) -> Result | None:
    try:
        return read(plan.scratch / f"{name}.json")
    except (OSError, ValueError, KeyError, TypeError):
        return None


def flat(folder: Path) -> Flat:
    """All figures that have been measured; those of one name are of one measurement."""
    found: Flat = {}
    for it in ALL:
        with suppress(OSError, ValueError, KeyError, TypeError):
            result = read(folder / f"{it.name}.json")
            found |= result.machine | result.figures.flat
            found.setdefault("load_before", result.load_before)
            found |= {"load_after": result.load_after, "repeats": result.repeats}
    return found


def _published(path: Path) -> None:
    page.RESULTS.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, page.RESULTS / path.name)
    page.write()


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


if __name__ == "__main__":
    main()
