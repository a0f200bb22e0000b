"""The results as one HTML page, light and dark, with nothing from elsewhere."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from lambent.loadtest.report import COLUMNS, SHARES, latencies, rows
from lambent.loadtest.results import STEP_S, Results, Step
from lambent.simulate.plots import STYLE, Panel, bars, side_by_side


@dataclass(frozen=True, slots=True)
class Rate:
    """One of the rates that were tried on the way to the knee."""

    offered: float
    succeeded: float
    p99_ms: float
    held: bool
    void: bool = False
    """It did not hold because the generator was late."""
    tries: int = 1


def page(title: str, facts: Sequence[str], results: Results, *, closed: bool, rates: Sequence[Rate]) -> str:
    said = "".join(f"<p>{escape(fact)}</p>" for fact in facts)
    table = _table(("latency", *COLUMNS), rows(results, closed=closed))
    errors = [(code, f"{count:,}") for code, count in results.errors.most_common()]
    failed = f"<h2>errors</h2>{_table(('code', 'calls'), errors)}" if errors else ""
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(title)}</title><style>{STYLE}</style><h1>{escape(title)}</h1>{said}{table}{failed}"
        f"{_rates(rates)}{_percentiles(results, closed)}{_over_time(results)}</html>\n"
    )


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    drawn = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return f"<table><tr>{''.join(f'<th>{escape(head)}</th>' for head in heads)}</tr>{drawn}</table>"


def _rates(rates: Sequence[Rate]) -> str:
    if not rates:
        return ""
    ordered = sorted(rates, key=lambda it: it.offered)
    named = [(f"{it.offered:,.0f}/s" + ("" if it.held else ", too much"), it) for it in ordered]
    return (
        "<h2>throughput against offered load, calls a second</h2>"
        + bars([(name, it.succeeded) for name, it in named])
        + "<h2>p99 against offered load, ms</h2>"
        + bars([(name, it.p99_ms) for name, it in named])
    )


def _percentiles(results: Results, closed: bool) -> str:
    drawn = [
        f"<h3>{escape(name)}</h3>" + bars([(f"p{100 * share:g}", it.at(share) / 1000) for share in SHARES])
        for name, it in latencies(results, closed=closed)
        if it.total
    ]
    return "<h2>percentiles of latency, ms</h2>" + "".join(drawn)


def _over_time(results: Results) -> str:
    def panel(name: str, *of: Callable[[Step], float]) -> Panel:
        return Panel(name, [[value(it) for it in results.steps] for value in of], STEP_S, results.warm_up_s)

    offered = panel("offered", lambda it: it.offered)
    answered = panel("succeeded", lambda it: it.answered)
    plots = [
        ("latency, ms", [panel("p50", _ms(0.5)), panel("p99", _ms(0.99))], ()),
        ("calls a second", [offered, answered, panel("failed", lambda it: it.failed)], ()),
        (
            "cold and warm calls a second",
            [panel("calls", lambda it: it.cold, lambda it: it.answered - it.cold)],
            ("cold", "warm"),
        ),
    ]
    if any(it.leased is not None for it in results.steps):
        known = [_known([it.leased for it in results.steps]), _known([it.other for it in results.steps])]
        instances = Panel("instances", known, STEP_S, results.warm_up_s)
        plots.append(("instances", [instances], ("leased", "starting, idle or stopping")))
    return "<h2>over time</h2>" + "".join(
        f"<h3>{escape(what)}</h3>{side_by_side(panels, names)}" for what, panels, names in plots
    )


def _known(counts: Sequence[int | None]) -> list[int]:
    """A second in which nobody was asked has as many as the one before."""
    known: list[int] = []
    for count in counts:
        known.append(count if count is not None else known[-1] if known else 0)
    return known


def _ms(share: float) -> Callable[[Step], float]:
    return lambda it: it.latency.at(share) / 1000
