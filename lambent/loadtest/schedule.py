"""When the calls of an open loop are due: functions of numbers and of dice that are given."""

import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lambent.simulate.trace import Invocation


@dataclass(frozen=True, slots=True)
class Send:
    at: float
    """Seconds from the beginning."""
    target: int
    """Which of the functions."""


def constant() -> Iterator[float]:
    """Between calls, in units of the mean distance."""
    while True:
        yield 1.0


def poisson(dice: random.Random) -> Iterator[float]:
    """As of callers that know nothing of each other."""
    while True:
        yield dice.expovariate(1.0)


def at_rate(first: float, last: float, seconds: float, gaps: Iterable[float], targets: int) -> Iterator[Send]:
    """From the first rate to the last, calls a second, evenly over the time; the functions take turns."""
    slope, due = (last - first) / seconds, 0.0
    for number, gap in enumerate(gaps):
        due += gap  # calls until then
        under_root = first * first + 2 * slope * due
        if under_root < 0:
            return
        below = first + math.sqrt(under_root)
        if below <= 0:
            return
        at = 2 * due / below
        if at >= seconds:
            return
        yield Send(at, number % targets)


def after(start: float, sends: Iterable[Send]) -> Iterator[Send]:
    return (Send(start + it.at, it.target) for it in sends)


def of_trace(invocations: Sequence[Invocation], speed: float, targets: int) -> Iterator[Send]:
    """The calls of a trace, `speed` times as fast; its functions are shared out among the targets."""
    return (Send(it.at / speed, it.function % targets) for it in invocations)


@dataclass(frozen=True, slots=True)
class Tried:
    """A rate that calls were made at, once."""

    rate: float
    held: bool


def verdicts(tried: Sequence[Tried]) -> dict[float, bool]:
    """Of each rate: whether it held at least as often as not."""
    score: Counter[float] = Counter()
    for it in tried:
        score[it.rate] += 1 if it.held else -1
    return {rate: score[rate] >= 0 for rate in score}


def next_rate(first: float, tried: Sequence[Tried], within: float = 0.1) -> float | None:
    """Which one to try now: twice as much until one does not hold, then halfway in between.

    One try is not believed, as anything may have disturbed it: a rate that did not hold is tried again,
    and so is the knee itself; where the two differ, a third one decides. None once the highest that held
    and the lowest that did not are as close as `within`, a share.
    """
    if not tried:
        return first
    times = Counter(it.rate for it in tried)
    held_times = Counter(it.rate for it in tried if it.held)

    def unsure(rate: float) -> bool:
        """It was tried, and no two tries agree."""
        return max(held_times[rate], times[rate] - held_times[rate]) == 1

    last = tried[-1].rate
    if held_times[last] < times[last] and unsure(last):
        return last
    by_rate = verdicts(tried)
    broke = min((rate for rate, held in by_rate.items() if not held), default=math.inf)
    held = max((rate for rate, held in by_rate.items() if held and rate < broke), default=0.0)
    if broke == math.inf:
        return held * 2
    if broke - held > within * broke and broke > first / 32:
        return (held + broke) / 2
    return held if held and unsure(held) else None
