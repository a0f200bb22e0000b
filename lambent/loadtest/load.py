"""What calls a load test makes, as values that can be sent to other processes."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, NamedTuple

from lambent.loadtest.schedule import Send, after, at_rate, constant, poisson


class Part(NamedTuple):
    """One process's share of the calls: each `of`th, from `number` on. Together they make each call once."""

    number: int
    of: int


WHOLE: Final = Part(0, 1)


@dataclass(frozen=True, slots=True)
class AtRate:
    """From the first rate to the last, calls a second, evenly over the time that counts."""

    first: float
    last: float
    warm_up_s: float
    """At the first rate, before that."""
    counted_s: float
    constant: bool
    seed: int

    @property
    def seconds(self) -> float:
        return self.warm_up_s + self.counted_s

    @property
    def due(self) -> float:
        """After the warm-up; of random times three standard deviations more than the mean."""
        mean = (self.first + self.last) / 2 * self.counted_s
        return mean if self.constant else mean + 3 * math.sqrt(mean)

    def sends(self, targets: int) -> Iterator[Send]:
        gaps = constant() if self.constant else poisson(random.Random(self.seed))
        counted = after(self.warm_up_s, at_rate(self.first, self.last, self.counted_s, gaps, targets))
        if not self.warm_up_s:
            return counted
        return chain(at_rate(self.first, self.first, self.warm_up_s, gaps, targets), counted)


@dataclass(frozen=True, slots=True)
class Replayed:
    """Calls of a trace."""

    all: Sequence[Send]
    warm_up_s: float
    seconds: float

    @property
    def due(self) -> float:
        return sum(it.at >= self.warm_up_s for it in self.all)

    def sends(self, targets: int) -> Iterator[Send]:
        return iter(self.all)


@dataclass(frozen=True, slots=True)
class Closed:
    """So many callers, each of which makes its next call when the last one has ended."""

    concurrency: int
    seconds: float
    due: float = math.inf

    def callers(self, part: Part) -> range:
        return range(part.number, self.concurrency, part.of)


Load = AtRate | Replayed | Closed
