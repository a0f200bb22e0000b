"""docs/benchmarks.md and its plots, made of the results in docs/benchmarks/.

python -m loadtest.page      # renews them, after a change of what they say
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from loadtest.curves import svg
from loadtest.figures import Budget, Table
from loadtest.measurement import ROOT, Measurement, Result, read
from loadtest.measurements import ALL

DOCS: Final = ROOT / "docs"
RESULTS: Final = DOCS / "benchmarks"

OWN_LOAD: Final = 2.0
"""What a measurement may add to the load average of a machine whose cores it keeps busy."""

INTRO: Final = """\
# Benchmarks

<!-- not run: it takes minutes; tests/e2e/test_benches.py runs small ones -->
```sh
make bench                                          # all of this page but the soak: {minutes} minutes
make bench ONLY='warm cold' QUICK=1                 # some of it, small: whether it works
make bench ONLY=burst SET='calls=200 workers=4'     # with options
.venv/bin/python -m loadtest.bench --list           # what there is, and its options
make soak MINUTES=60                                # an hour at 70 % of the knee
```

`make bench` wrote this page, out of the results in [benchmarks/](benchmarks); `python -m loadtest.page`
writes it anew. Why things cost what they cost, and what was tried, is in [performance](performance.md).

Each measurement has a fleet of its own, made by `lambent up` (etcd, a placement, workers, a frontend) in a
folder that goes away; callers are processes of their own. Figures are medians of their rounds, with the
range in parentheses; what is compared takes turns. **CPU per call** is the user and system time of all
processes under `lambent up`, the instances included and the callers left out, over the calls made
meanwhile, from `/proc`. It is the figure to compare: wall times change with whatever else the machine does,
and the load averages (over 1, 5 and 15 minutes, before and after) say how much that was.
"""


def markdown(results: Sequence[Result]) -> str:
    known = {it.name: it for it in results}
    there = [(it, known[it.name]) for it in ALL if it.name in known]
    minutes = sum(it.takes_s[0] for it in ALL if not it.by_name_alone) / 60
    parts = [INTRO.format(minutes=5 * round(minutes / 5)), _machines(results), _budgets(there)]
    parts += [_section(it, result) for it, result in there]
    if missing := [it.name for it in ALL if it.name not in known]:
        parts.append(f"Not measured: {', '.join(missing)}.\n")
    return "\n".join(part for part in parts if part)


def _machines(results: Sequence[Result]) -> str:
    said = sorted({_machine(it) for it in results})
    return "".join(f"On {it}.\n" for it in said)


def _machine(it: Result) -> str:
    facts = it.machine
    return (
        f"{facts['cores']} cores of {facts['cpu']}, Linux {facts['kernel']}, Python {facts['python']}, "
        f"grpcio {facts['grpcio']}, uvloop {facts['uvloop']}"
    )


def _budgets(there: Sequence[tuple[Measurement[Any], Result]]) -> str:
    rows = [
        (f"[{it.title}](#{_anchor(it.title)})", *budget_row(budget), _doubt(result))
        for it, result in there
        for budget in result.figures.budgets
    ]
    if not rows:
        return ""
    return "## Budgets\n\n" + _table(Table(("measured in", "what", "measured", "budget", "", "but"), rows))


def _doubt(it: Result) -> str:
    """What keeps its figures from being a verdict."""
    load = max(float(said.split()[0]) for said in (it.load_before, it.load_after))
    busy = [f"load average {load:.0f}"] if load > int(it.machine["cores"]) + OWN_LOAD else []
    return ", ".join((["quick"] if it.quick else []) + busy)


def budget_row(it: Budget) -> tuple[str, str, str, str]:
    sign = "≤" if it.at_most else "≥"
    return (
        it.what,
        f"{_short(it.measured)} {it.unit}".strip(),
        f"{sign} {_short(it.limit)} {it.unit}".strip(),
        it.verdict(),
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _anchor(title: str) -> str:
    kept = "".join(it for it in title.lower() if it.isalnum() or it in " -_")
    return kept.replace(" ", "-")


def _section(it: Measurement[Any], result: Result) -> str:
    parts = [f"## {it.title}\n\n{it.says.strip()}\n", f"{_when(result)}\n"]
    tables = result.figures.tables
    parts += [(f"{table.said}\n\n" if table.said else "") + _table(table) for table in tables]
    parts += [f"![{plot.title}](plots/{it.name}-{plot.name}.svg)\n" for plot in result.figures.plots]
    parts += [f"{note}\n" for note in result.figures.notes]
    return "\n".join(parts)


def _when(it: Result) -> str:
    rounds = "one round" if it.repeats == 1 else f"{it.repeats} rounds"
    size = ", **quick: small, to see that it works**" if it.quick else ""
    options = ", ".join(f"{key} {_listed(value)}" for key, value in it.options.items())
    return (
        f"*{it.at} UTC, commit {it.commit}, {rounds}{size}; load average {it.load_before} before, "
        f"{it.load_after} after{'; ' + options if options else ''}.*"
    )


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _table(table: Table) -> str:
    lines = [table.heads, ["---"] * len(table.heads), *table.rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def as_text(result: Result, it: Measurement[Any]) -> str:
    """For a terminal."""
    parts = [f"\n{it.title}\n{_when(result).strip('*')}\n"]
    for table in result.figures.tables:
        rows = [list(table.heads), *(list(row) for row in table.rows)]
        wide = [max(len(row[at]) for row in rows) for at in range(len(table.heads))]
        drawn = ["  ".join(cell.ljust(wide[at]) for at, cell in enumerate(row)).rstrip() for row in rows]
        parts.append("\n".join(([table.said] if table.said else []) + drawn) + "\n")
    parts += [
        f"{it.what}: {measured}, budget {limit}, {verdict}"
        for it, measured, limit, verdict in _judged(result)
    ]
    parts += result.figures.notes
    return "\n".join(parts).replace("**", "")


def _judged(result: Result) -> list[tuple[Budget, str, str, str]]:
    return [(it, *budget_row(it)[1:]) for it in result.figures.budgets]


def published() -> list[Result]:
    """What is in docs/benchmarks/."""
    found = []
    for it in ALL:
        with suppress(FileNotFoundError):
            found.append(read(RESULTS / f"{it.name}.json"))
    return found


def files(results: Sequence[Result]) -> dict[Path, str]:
    """The page and its plots, by where they are."""
    drawn = {
        DOCS / "plots" / f"{it.name}-{plot.name}.svg": svg(plot)
        for it in results
        for plot in it.figures.plots
    }
    return {DOCS / "benchmarks.md": markdown(results), **drawn}


def write() -> None:
    (DOCS / "plots").mkdir(exist_ok=True)
    wanted = files(published())
    for old in (DOCS / "plots").glob("*.svg"):
        if old not in wanted:
            old.unlink()
    for path, text in wanted.items():
        path.write_text(text)


if __name__ == "__main__":
    write()
