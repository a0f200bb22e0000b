"""Whether something grows: the slope of what was seen, however it jumps about."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_MOST: Final = 300
"""Points that are compared each with each; of more every second, third and so on."""


@dataclass(frozen=True, slots=True)
class Trend:
    """Of a line of points in the order of their times."""

    level: float
    """The median of what was seen."""
    growth: float
    """By the slope, over the whole time."""

    def grows(self, share: float, least: float) -> bool:
        """By more than this share of its level, and by more than the least that counts."""
        return self.growth > max(share * self.level, least)


def trend(points: Sequence[tuple[float, float]]) -> Trend:
    """The median of all slopes between two points (Theil and Sen): a spike moves it little.

    Raises ValueError of fewer than two points.
    """
    if len(points) < 2:
        raise ValueError("it takes two points to have a slope")
    some = points[:: -(-len(points) // _MOST)]
    slopes = [
        (later - earlier) / (until - since)
        for number, (since, earlier) in enumerate(some)
        for until, later in some[number + 1 :]
    ]
    whole = points[-1][0] - points[0][0]
    return Trend(statistics.median(value for _, value in points), statistics.median(slopes) * whole)
