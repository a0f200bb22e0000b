"""CPU per call as one SVG file: a dot for the median, a line for the range, on a logarithmic axis."""

from collections.abc import Sequence
from html import escape
from typing import Final

from loadtest.curves import COLOURS, Axis
from loadtest.peers.registry import LAMBENT
from loadtest.peers.results import Row

_NAMES, _WIDTH, _RIGHT, _TOP, _LINE = 310, 430, 70, 44, 24

_STYLE: Final = (
    "text{font:13px system-ui,sans-serif;fill:#1b1f24}.ours{font-weight:600}.grid{stroke:#d0d7de}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.grid{stroke:#30363d}}"
)


def svg(title: str, rows: Sequence[Row]) -> str:
    """One under the other, in this order."""
    axis = Axis([end for row in rows for end in row.range("cpu_us")], logarithmic=True)
    height = _TOP + _LINE * len(rows) + 10
    grid = "".join(
        f"<path class='grid' d='M{_x(axis, tick):.1f} {_TOP - 6}V{height - 6}'/>"
        f"<text x='{_x(axis, tick):.1f}' y='{_TOP - 12}' text-anchor='middle'>{tick:,g}</text>"
        for tick in axis.ticks
    )
    drawn = "".join(_row(row, _TOP + _LINE * number + 12, axis) for number, row in enumerate(rows))
    width = _NAMES + _WIDTH + _RIGHT
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' role='img' "
        f"aria-label='{escape(title, quote=True)}'><style>{_STYLE}</style>"
        f"<text x='0' y='16'>{escape(title)}</text>{grid}{drawn}</svg>\n"
    )


def _x(axis: Axis, value: float) -> float:
    return _NAMES + _WIDTH * axis.share(value)


def _row(row: Row, y: int, axis: Axis) -> str:
    ours = row.peer is LAMBENT
    colour, (low, high), median = COLOURS[1 if ours else 0], row.range("cpu_us"), row.median("cpu_us")
    kind, title = "ours" if ours else "theirs", escape(_named(row))
    return (
        f"<text x='0' y='{y + 5}' class='{kind}'>{title}</text>"
        f"<path stroke='{colour}' stroke-width='3' d='M{_x(axis, low):.1f} {y}H{_x(axis, high):.1f}'/>"
        f"<circle cx='{_x(axis, median):.1f}' cy='{y}' r='5' fill='{colour}'/>"
        f"<text x='{_x(axis, high) + 10:.1f}' y='{y + 5}'>{median:,.0f}</text>"
    )


def _named(row: Row) -> str:
    """With the way of calling, where that is not in the title."""
    kind = "" if row.path.kind == "own" or row.path.kind in row.title else f", {row.path.kind}"
    return row.title.replace("`", "") + kind
