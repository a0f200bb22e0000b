"""Plots over time as SVG, with nothing from elsewhere. Their colours are the page's: it needs `STYLE`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --bar: #3a7ca5; --pale: #a9c6da; --text: #1b1f24; --back: #fff;
  --line: #d0d7de; }
@media (prefers-color-scheme: dark) {
  :root { --bar: #7fb8da; --pale: #35556b; --text: #e6edf3; --back: #0d1117; --line: #30363d; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); margin: 2rem auto;
  max-width: 60rem; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { padding: .3rem .8rem; border-bottom: 1px solid var(--line);
  text-align: right; } td:first-child, th:first-child { text-align: left; }
svg text { fill: currentColor; font: 13px system-ui, sans-serif; } svg rect, .bar { fill: var(--bar); }
.pale { fill: var(--pale); } .axis { stroke: var(--line); }
.mark { stroke: currentColor; stroke-dasharray: 3 3; }
.side { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: .5rem 1rem; }
figure { margin: 0; } figcaption b { font-weight: 600; }
.key { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 .8em; }
"""

_BAR: Final = 26
_NAME, _LONGEST = 130, 520

_LEFT, _TOP, _WIDTH, _HEIGHT, _BELOW = 44, 6, 300, 130, 20

_ROUND: Final[tuple[float, ...]] = (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9, 10)

LAYERS: Final = ("bar", "pale")
"""The classes of what is stacked, from the bottom up."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot of several that share their axes. What is stacked has a value a step, from the bottom up."""

    name: str
    stacked: Sequence[Sequence[float]]
    step_s: float
    from_s: float = 0.0
    """Before it nothing sets the scale, and what is too high is cut off."""

    def heights(self) -> list[float]:
        """Of the whole stack, at each step."""
        length = max((len(layer) for layer in self.stacked), default=0)
        return [sum(layer[n] for layer in self.stacked if n < len(layer)) for n in range(length)]

    @property
    def counted(self) -> list[float]:
        return self.heights()[math.ceil(self.from_s / self.step_s) :]


def side_by_side(panels: Sequence[Panel], names: Sequence[str] = ()) -> str:
    """All to one scale; `names` are those of the layers."""
    top = round_up(max((value for panel in panels for value in panel.counted), default=0.0))
    end_s = max((len(panel.heights()) * panel.step_s for panel in panels), default=0.0)
    keys = "".join(
        f"<span class=key style='background:var(--{layer})'></span>{escape(name)}"
        for layer, name in zip(LAYERS, names, strict=False)
    )
    drawn = "".join(_figure(panel, top, end_s) for panel in panels)
    return (f"<p>{keys}</p>" if keys else "") + f"<div class=side>{drawn}</div>"


def _said(value: float) -> str:
    """Three digits, and of what is larger all that are before the point."""
    return f"{value:,.3g}" if value < 999.5 else f"{value:,.0f}"


def bars(values: Sequence[tuple[str, float]]) -> str:
    """One for each, to one scale."""
    most = max((value for _, value in values), default=0.0) or 1.0
    bars = "".join(
        f"<text x=0 y={_BAR * n + 17}>{escape(name)}</text>"
        f"<rect x={_NAME} y={_BAR * n + 4} width={max(1.0, _LONGEST * value / most):.1f} height={_BAR - 8} />"
        f"<text x={_NAME + max(1.0, _LONGEST * value / most) + 6:.1f} y={_BAR * n + 17}>{_said(value)}</text>"
        for n, (name, value) in enumerate(values)
    )
    height = _BAR * len(values)
    return f"<svg viewBox='0 0 {_NAME + _LONGEST + 90} {height}' width=100% role=img>{bars}</svg>"


def round_up(value: float) -> float:
    """To one digit that is not zero, or 1.5 times a power of ten; what is nothing becomes 1."""
    if value <= 0:
        return 1.0
    power = math.pow(10, math.floor(math.log10(value)))
    return next(step * power for step in _ROUND if step * power >= value * (1 - 1e-9))


def _figure(panel: Panel, top: float, end_s: float) -> str:
    counted = panel.counted
    peak, mean = max(counted, default=0.0), sum(counted) / len(counted) if counted else 0.0
    said = f"mean {_short(mean)}, peak {_short(peak)}"
    marked = _LEFT + _WIDTH * panel.from_s / end_s if end_s else _LEFT
    mark = f"<path class=mark d='M{marked:.1f} {_TOP}V{_TOP + _HEIGHT}' />" if panel.from_s else ""
    return (
        f"<figure><figcaption><b>{escape(panel.name)}</b> {said}</figcaption>"
        f"<svg viewBox='0 0 {_LEFT + _WIDTH + 16} {_TOP + _HEIGHT + _BELOW}' width=100% role=img "
        f"aria-label='{escape(panel.name, quote=True)}: {said}'>"
        f"{_areas(panel, top, end_s)}{_axes(top, end_s)}{mark}</svg></figure>"
    )


def _areas(panel: Panel, top: float, end_s: float) -> str:
    """The highest stack first, so that each lower one lies over it."""
    drawn = []
    for number in range(len(panel.stacked), 0, -1):
        heights = Panel(panel.name, panel.stacked[:number], panel.step_s).heights()
        drawn.append(f"<path class={LAYERS[number - 1]} d='{_steps(heights, panel.step_s, top, end_s)}' />")
    return "".join(drawn)


def _steps(heights: Sequence[float], step_s: float, top: float, end_s: float) -> str:
    if not heights:
        return ""
    path = [f"M{_LEFT} {_TOP + _HEIGHT}"]
    for number, value in enumerate(heights, 1):
        y = _TOP + _HEIGHT * (1 - min(value, top) / top)
        path.append(f"V{y:.1f}H{_LEFT + _WIDTH * number * step_s / end_s:.1f}")
    return "".join(path) + f"V{_TOP + _HEIGHT}Z"


def _axes(top: float, end_s: float) -> str:
    bottom = _TOP + _HEIGHT
    lines = f"<path class=axis d='M{_LEFT} {_TOP}H{_LEFT + _WIDTH}M{_LEFT} {bottom}H{_LEFT + _WIDTH}' />"
    return (
        f"{lines}<text x={_LEFT - 6} y={_TOP + 10} text-anchor=end>{top:,g}</text>"
        f"<text x={_LEFT - 6} y={bottom} text-anchor=end>0</text>"
        f"<text x={_LEFT} y={bottom + 16}>0</text>"
        f"<text x={_LEFT + _WIDTH} y={bottom + 16} text-anchor=end>{span(end_s)}</text>"
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def span(seconds: float) -> str:
    """In the unit that people would say it in."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 3 * 3600 else f"{seconds / 3600:.1f} h"
