"""What a measurement found: figures, tables, plots, and how they stand to the budgets."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

Flat = dict[str, float | int | str]
"""Figures by name, for `build/bench.json`."""


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def spread(values: Sequence[float], digits: int = 0) -> str:
    """The median, and the range in parentheses."""
    shown = [f"{it:,.{digits}f}" for it in (statistics.median(values), min(values), max(values))]
    return shown[0] if len(values) == 1 else f"{shown[0]} ({shown[1]} to {shown[2]})"


@dataclass(frozen=True, slots=True)
class Table:
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    said: str = ""
    """What it shows."""

    def __post_init__(self) -> None:
        if uneven := [row for row in self.rows if len(row) != len(self.heads)]:
            raise ValueError(f"{uneven[0]} is no row under {self.heads}")


@dataclass(frozen=True, slots=True)
class Plot:
    name: str
    """Of its file, within the measurement's."""
    title: str
    x: str
    y: str
    """What the axes show, with the unit."""
    lines: Mapping[str, Sequence[tuple[float, float]]]
    """Points in the order of x, by the line's name."""
    logarithmic: tuple[bool, bool] = (False, False)
    """The axes x and y."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A promise of the design, and what was measured of it."""

    what: str
    measured: float
    limit: float
    unit: str
    at_most: bool = True
    """Else at least."""

    @property
    def met(self) -> bool:
        return self.measured <= self.limit if self.at_most else self.measured >= self.limit

    def verdict(self) -> str:
        """`met`, or `missed`, and by how much of the budget."""
        word = "met" if self.met else "**missed**"
        if not self.limit:
            return word
        return f"{word} by {abs(self.measured - self.limit) / self.limit:.0%}"


@dataclass(slots=True)
class Figures:
    flat: Flat = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    budgets: list[Budget] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Sentences about this run alone."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, known: Mapping[str, Any]) -> Self:
        """From `as_json`, by way of a file. Raises TypeError or KeyError if it is something else."""
        return cls(
            dict(known["flat"]),
            [Table(**it) for it in known["tables"]],
            [Plot(**it) for it in known["plots"]],
            [Budget(**it) for it in known["budgets"]],
            list(known["notes"]),
        )
