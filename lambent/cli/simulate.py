"""`lambent simulate`: policies side by side over a trace of invocations."""

import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from lambent.cli.options import json_option

if TYPE_CHECKING:
    from lambent.simulate.figures import Figures

DEFAULT_COLD_S: Final = 0.25


@click.command()
@click.option(
    "--trace",
    "path",
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help="A frontend's record of calls, or a folder of them; or a folder with invocations.csv, durations.csv "
    "and memory.csv. Without it one of their shape is made.",
)
@click.option("--nodes", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--node-memory", type=click.IntRange(min=128), default=2048, show_default=True, metavar="MB")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="NAME",
    help="fixed, lru, greedy-dual, histogram, random or least-loaded; all by default.",
)
@click.option(
    "--keep-alive", type=float, default=3600.0, show_default=True, metavar="S", help="Of all but lru."
)
@click.option(
    "--cold",
    type=float,
    metavar="MS",
    help="What a cold start takes; by default 250, or of a record the median of what they took.",
)
@click.option("--minutes", type=click.IntRange(min=1), help="Of the trace; all by default.")
@click.option(
    "--warm-up",
    type=float,
    metavar="MIN",
    help="Not counted; by default 60, or a third of a trace that is shorter than three hours.",
)
@click.option(
    "--functions", type=click.IntRange(min=1), default=100, show_default=True, help="Of a made trace."
)
@click.option("--seed", type=int, default=42, show_default=True)
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a page with plots."
)
@json_option
def simulate(
    path: Path | None,
    nodes: int,
    node_memory: int,
    policies: tuple[str, ...],
    keep_alive: float,
    cold: float | None,
    minutes: int | None,
    warm_up: float | None,
    functions: int,
    seed: int,
    html: Path | None,
    as_json: bool,
) -> None:
    """Say what policies would make of a trace of invocations.

    All but `random` and `least-loaded` run the very scheduler and dispatcher that run in production, in
    virtual time. The same seed gives the same run.
    """
    from lambent.cli.output import print_json
    from lambent.simulate.over_time import step_s
    from lambent.simulate.page import page
    from lambent.simulate.policies import POLICIES, Plan
    from lambent.simulate.policies import simulate as run
    from lambent.simulate.record import RecordedTrace, read
    from lambent.simulate.trace import BrokenTrace, generated

    for policy in policies:
        if policy not in POLICIES:
            raise click.BadParameter(f"{policy!r} is none of {', '.join(POLICIES)}", param_hint="--policy")
    try:
        trace = read(path) if path else generated(functions, minutes or 180, seed)
    except BrokenTrace as broken:
        raise click.BadParameter(str(broken), param_hint="--trace") from broken
    invocations = trace.invocations(seed, minutes)
    length = minutes or trace.minutes
    warm_up = min(60.0, length / 3) if warm_up is None else warm_up
    if warm_up >= length:
        raise click.BadParameter("nothing is left of the trace to be counted", param_hint="--warm-up")
    recorded = trace if isinstance(trace, RecordedTrace) else None
    cold_s = cold / 1000 if cold is not None else (recorded and recorded.cold_s) or DEFAULT_COLD_S
    plan = Plan(nodes, node_memory, cold_s, keep_alive, warm_up * 60, seed, step_s(length))
    figures = [recorded.figures(plan.warm_up_s, minutes)] if recorded and recorded.seen else []
    for policy in policies or tuple(POLICIES):
        with _progress(len(invocations), policy) as bar:
            figures.append(run(policy, trace, invocations, plan, partial(_advance, bar)))
    if html is not None:
        what = path.name if path else f"{functions} made functions"
        html.write_text(page(f"{what}, {nodes} nodes of {node_memory} MB", figures))
    if as_json:
        print_json([{key: it for key, it in asdict(one).items() if key != "over_time"} for one in figures])
        return
    _show(figures)


def _show(figures: "list[Figures]") -> None:
    from lambent.cli.output import print_table

    columns = (
        "policy",
        "calls",
        "warm %",
        "always cold % of functions",
        "idle GB·h",
        "starts",
        "throttled",
        "wait p50 ms",
        "wait p99 ms",
        "decisions/s",
    )
    rows = [
        (
            it.policy,
            f"{it.calls:,}",
            f"{it.warm_percent:.3f}",
            f"{it.always_cold_percent:.1f}",
            "" if it.idle_gb_h is None else f"{it.idle_gb_h:.1f}",
            "" if it.starts is None else f"{it.starts:,}",
            it.throttled,
            f"{it.wait_p50_ms:.0f}",
            f"{it.wait_p99_ms:.0f}",
            f"{it.decisions_per_s:,.0f}" if it.decisions else "",
        )
        for it in figures
    ]
    print_table(columns, rows, "")


def _progress(length: int, policy: str) -> Any:
    return click.progressbar(
        length=length, label=f"{policy:<13}", file=sys.stderr, hidden=not sys.stderr.isatty()
    )


def _advance(bar: Any, done: int) -> None:
    bar.update(done - bar.pos)
