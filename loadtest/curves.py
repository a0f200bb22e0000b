"""A plot of curves as one SVG file, light and dark, with nothing from elsewhere."""

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from loadtest.figures import Plot

COLOURS: Final = ("#3a7ca5", "#d1495b", "#6a994e", "#8d6cab", "#e09f3e", "#5c677d", "#2a9d8f", "#bc6c25")
"""One a curve, told apart in light and dark; a ninth curve has the first one's again."""

_LEFT, _TOP, _WIDTH, _HEIGHT, _BELOW = 70, 34, 560, 260, 44
_KEY: Final = 18

_STYLE: Final = (
    "text{font:13px system-ui,sans-serif;fill:#1b1f24}.grid{stroke:#d0d7de}path.curve{fill:none;"
    "stroke-width:2}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.grid{stroke:#30363d}}"
)


class Axis:
    """Where values lie between its ends, which are the ticks beyond them."""

    def __init__(self, values: Sequence[float], logarithmic: bool) -> None:
        """Of a logarithmic one values that are not above zero are left out."""
        self.logarithmic = logarithmic
        known = [it for it in values if it > 0] if logarithmic else list(values)
        self.ticks = (_powers if logarithmic else _even)(known or [1.0])

    def share(self, value: float) -> float:
        low, high = self._place(self.ticks[0]), self._place(self.ticks[-1])
        return min(1.0, max(0.0, (self._place(value) - low) / (high - low)))

    def _place(self, value: float) -> float:
        return math.log10(max(value, self.ticks[0] / 10)) if self.logarithmic else value


def _powers(values: Sequence[float]) -> list[float]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return [10.0**power for power in range(low, max(high, low + 1) + 1)]


def _even(values: Sequence[float]) -> list[float]:
    """From zero on, five or so, each a round number."""
    most = max(*values, 0.0) or 1.0
    rough = most / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(it * power for it in (1, 2, 2.5, 5, 10) if it * power >= rough * (1 - 1e-9))
    return [step * number for number in range(math.ceil(most / step - 1e-9) + 1)]


def svg(plot: Plot) -> str:
    points = [point for line in plot.lines.values() for point in line]
    x = Axis([it for it, _ in points], plot.logarithmic[0])
    y = Axis([it for _, it in points], plot.logarithmic[1])
    height = _TOP + _HEIGHT + _BELOW + _KEY * len(plot.lines)
    drawn = "".join(
        _curve(number, name, line, x, y) for number, (name, line) in enumerate(plot.lines.items())
    )
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_LEFT + _WIDTH + 30} {height}' role='img' "
        f"aria-label='{escape(plot.title, quote=True)}'><style>{_STYLE}</style>"
        f"<text x='{_LEFT}' y='16'>{escape(plot.title)}: {escape(plot.y)}</text>"
        f"{_grid(x, y, plot.x)}{drawn}</svg>\n"
    )


def _grid(x: Axis, y: Axis, what: str) -> str:
    bottom = _TOP + _HEIGHT
    across = [
        f"<path class='grid' d='M{_LEFT} {at:.1f}h{_WIDTH}'/>"
        f"<text x='{_LEFT - 6}' y='{at + 4:.1f}' text-anchor='end'>{tick:,g}</text>"
        for tick in y.ticks
        for at in [bottom - _HEIGHT * y.share(tick)]
    ]
    up = [
        f"<path class='grid' d='M{at:.1f} {_TOP}v{_HEIGHT}'/>"
        f"<text x='{at:.1f}' y='{bottom + 16}' text-anchor='middle'>{tick:,g}</text>"
        for tick in x.ticks
        for at in [_LEFT + _WIDTH * x.share(tick)]
    ]
    named = f"<text x='{_LEFT + _WIDTH / 2}' y='{bottom + 34}' text-anchor='middle'>{escape(what)}</text>"
    return "".join((*across, *up, named))


def _curve(number: int, name: str, line: Sequence[tuple[float, float]], x: Axis, y: Axis) -> str:
    colour, bottom = COLOURS[number % len(COLOURS)], _TOP + _HEIGHT
    places = [
        (_LEFT + _WIDTH * x.share(at), bottom - _HEIGHT * y.share(value))
        for at, value in line
        if (at > 0 or not x.logarithmic) and (value > 0 or not y.logarithmic)
    ]
    path = "L".join(f"{left:.1f} {top:.1f}" for left, top in places)
    dots = "".join(f"<circle cx='{left:.1f}' cy='{top:.1f}' r='3' fill='{colour}'/>" for left, top in places)
    below = bottom + _BELOW + _KEY * number
    return (
        (f"<path class='curve' stroke='{colour}' d='M{path}'/>" if places else "")
        + (dots if len(places) <= 30 else "")
        + f"<rect x='{_LEFT}' y='{below}' width='12' height='12' fill='{colour}'/>"
        f"<text x='{_LEFT + 18}' y='{below + 11}'>{escape(name)}</text>"
    )
