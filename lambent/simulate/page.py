"""The figures as one HTML page, policies side by side, light and dark, with nothing from elsewhere."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Final

from lambent.simulate.figures import Figures
from lambent.simulate.over_time import OverTime
from lambent.simulate.plots import STYLE, Panel, bars, side_by_side

COLUMNS: Final[Sequence[tuple[str, Callable[[Figures], float | None]]]] = (
    ("cold calls, %", lambda it: 100 - it.warm_percent),
    ("cold share of a function, mean %", lambda it: it.cold_percent_by_function),
    ("functions that are always cold, %", lambda it: it.always_cold_percent),
    ("idle memory, GB·h", lambda it: it.idle_gb_h),
    ("p99 of waits, ms", lambda it: it.wait_p99_ms),
)


OVER_TIME: Final[Sequence[tuple[str, Sequence[str], Callable[[OverTime], list[list[float]]]]]] = (
    ("cold starts a minute", (), lambda it: [it.cold_a_minute()]),
    ("instances", ("busy", "idle"), lambda it: [it.busy(), it.idle()]),
    ("waiting calls", (), lambda it: [it.waiting()]),
)
"""What it is, the names of what is stacked, and the values of each."""


def page(title: str, figures: Sequence[Figures]) -> str:
    heads = "".join(f"<th>{escape(name)}</th>" for name, _ in COLUMNS)
    rows = "".join(_row(it) for it in figures)
    plots = "".join(f"<h2>{escape(name)}</h2>{bars(_known(figures, of))}" for name, of in COLUMNS)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(title)}</title><style>{STYLE}</style><h1>{escape(title)}</h1>"
        f"<table><tr><th>policy</th>{heads}</tr>{rows}</table>{plots}{_over_time(figures)}</html>\n"
    )


def _over_time(figures: Sequence[Figures]) -> str:
    return "<h2>over time</h2><p>What is left of a dashed line warms up, and is not counted.</p>" + "".join(
        f"<h3>{escape(what)}</h3>{side_by_side(_panels(figures, of), names)}" for what, names, of in OVER_TIME
    )


def _panels(figures: Sequence[Figures], of: Callable[[OverTime], list[list[float]]]) -> list[Panel]:
    return [Panel(it.policy, of(it.over_time), it.over_time.step_s, it.over_time.from_s) for it in figures]


def _row(it: Figures) -> str:
    cells = "".join(f"<td>{_cell(of(it))}</td>" for _, of in COLUMNS)
    return f"<tr><td>{escape(it.policy)}</td>{cells}</tr>"


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:,.3f}"


def _known(figures: Sequence[Figures], of: Callable[[Figures], float | None]) -> list[tuple[str, float]]:
    return [(it.policy, value) for it in figures if (value := of(it)) is not None]
