"""Counts of durations that keep a relative precision: HDR histograms, of whole microseconds."""

from collections import Counter
from dataclasses import dataclass, field
from math import ceil
from typing import Final, Self

_BITS: Final = 10
"""A value is kept to so many leading bits: to 0.2 %."""


@dataclass(slots=True)
class Histogram:
    counts: Counter[int] = field(default_factory=Counter)
    """By the lowest value of each bucket."""
    total: int = 0
    most_us: int = 0

    def record(self, us: float, count: int = 1) -> None:
        value = max(0, int(us))
        shift = max(0, value.bit_length() - _BITS)
        self.counts[value >> shift << shift] += count
        self.total += count
        self.most_us = max(self.most_us, value)

    def merge(self, other: Self) -> None:
        self.counts.update(other.counts)
        self.total += other.total
        self.most_us = max(self.most_us, other.most_us)

    def at(self, share: float) -> int:
        """Microseconds that this share of all took at the most, rounded up to its bucket; 0 of nothing."""
        # 99.9 / 100 of a thousand is a little more than 999 in floating point.
        wanted, seen = max(1, ceil(round(share * self.total, 6))), 0
        for lowest in sorted(self.counts):
            seen += self.counts[lowest]
            if seen >= wanted:
                return min(self.most_us, _highest(lowest))
        return 0

    def mean_us(self) -> float:
        return sum(value * count for value, count in self.counts.items()) / self.total if self.total else 0.0

    def corrected(self, interval_us: int) -> "Histogram":
        """With the calls that a caller, who makes one every interval, did not make while it waited for one.

        Each value that is longer stands for those due meanwhile too, which would have waited for the rest.
        """
        found = Histogram()
        for lowest, count in self.counts.items():
            value = (lowest + _highest(lowest)) // 2
            found.record(value, count)
            missed = value - interval_us
            while interval_us > 0 and missed >= interval_us:
                found.record(missed, count)
                missed -= interval_us
        found.most_us = self.most_us
        return found


def _highest(lowest: int) -> int:
    shift = max(0, lowest.bit_length() - _BITS)
    return lowest + (1 << shift) - 1
