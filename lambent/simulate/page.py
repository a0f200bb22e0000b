"""The figures as one HTML page: bars side by side, light and dark, with nothing from elsewhere."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Final

from lambent.simulate.figures import Figures

_STYLE: Final = """
:root { color-scheme: light dark; --bar: #3a7ca5; --text: #1b1f24; --back: #fff; --line: #d0d7de; }
@media (prefers-color-scheme: dark) {
  :root { --bar: #7fb8da; --text: #e6edf3; --back: #0d1117; --line: #30363d; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); margin: 2rem auto;
  max-width: 60rem; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { padding: .3rem .8rem; border-bottom: 1px solid var(--line);
  text-align: right; } td:first-child, th:first-child { text-align: left; }
svg text { fill: currentColor; font: 13px system-ui, sans-serif; } svg rect { fill: var(--bar); }
"""
_BAR: Final = 26
_LEFT, _WIDTH = 130, 520

COLUMNS: Final[Sequence[tuple[str, Callable[[Figures], float | None]]]] = (
    ("cold calls, %", lambda it: 100 - it.warm_percent),
    ("cold share of a function, mean %", lambda it: it.cold_percent_by_function),
    ("functions that are always cold, %", lambda it: it.always_cold_percent),
    ("idle memory, GB·h", lambda it: it.idle_gb_h),
    ("p99 of waits, ms", lambda it: it.wait_p99_ms),
)


def page(title: str, figures: Sequence[Figures]) -> str:
    heads = "".join(f"<th>{escape(name)}</th>" for name, _ in COLUMNS)
    rows = "".join(_row(it) for it in figures)
    plots = "".join(f"<h2>{escape(name)}</h2>{_plot(_known(figures, of))}" for name, of in COLUMNS)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style><h1>{escape(title)}</h1>"
        f"<table><tr><th>policy</th>{heads}</tr>{rows}</table>{plots}</html>\n"
    )


def _row(it: Figures) -> str:
    cells = "".join(f"<td>{_cell(of(it))}</td>" for _, of in COLUMNS)
    return f"<tr><td>{escape(it.policy)}</td>{cells}</tr>"


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:,.3f}"


def _known(figures: Sequence[Figures], of: Callable[[Figures], float | None]) -> list[tuple[str, float]]:
    return [(it.policy, value) for it in figures if (value := of(it)) is not None]


def _plot(values: Sequence[tuple[str, float]]) -> str:
    most = max((value for _, value in values), default=0.0) or 1.0
    bars = "".join(
        f"<text x=0 y={_BAR * n + 17}>{escape(name)}</text>"
        f"<rect x={_LEFT} y={_BAR * n + 4} width={max(1.0, _WIDTH * value / most):.1f} height={_BAR - 8} />"
        f"<text x={_LEFT + max(1.0, _WIDTH * value / most) + 6:.1f} y={_BAR * n + 17}>{value:,.3g}</text>"
        for n, (name, value) in enumerate(values)
    )
    height = _BAR * len(values)
    return f"<svg viewBox='0 0 {_LEFT + _WIDTH + 90} {height}' width=100% role=img>{bars}</svg>"
