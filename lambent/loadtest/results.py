"""What a load test came to, and what is to be said of it."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from lambent.loadtest.histogram import Histogram

LATE_SHARE: Final = 0.01
"""More late sends than this, and the generator was measured and not the fleet."""

LOST_SHARE: Final = 0.01
"""More failures than this, and a rate does not hold; --fail-if is then so if it says nothing of errors."""

BUSY_SHARE: Final = 0.9
"""A closed loop whose generator was busy for more was as fast as its generator: from here on nine answers
at a time are being read or wait for it (the mean of an M/M/1 queue)."""

STEP_S: Final = 1.0

PERCENTILES: Final = (0.5, 0.9, 0.99, 0.999)


@dataclass(slots=True)
class Step:
    """One second of it, the warm-up included."""

    offered: int = 0
    """Calls that were due."""
    answered: int = 0
    failed: int = 0
    cold: int = 0
    latency: Histogram = field(default_factory=Histogram)
    """Of the calls that were answered in it."""
    leased: int | None = None
    """Instances at its end, of the functions that are called; None where nobody could be asked."""
    other: int | None = None

    def merge(self, also: Self) -> None:
        self.offered += also.offered
        self.answered += also.answered
        self.failed += also.failed
        self.cold += also.cold
        self.latency.merge(also.latency)
        if also.leased is not None:
            self.leased, self.other = also.leased, also.other


@dataclass(slots=True)
class Results:
    warm_up_s: float
    late_s: float
    """A call that was sent so much after it was due was late."""
    due: float = math.inf
    """How many calls are to be made after the warm-up, or a little more; infinite of a closed loop."""
    latency: Histogram = field(default_factory=Histogram)
    """Of calls that succeeded, from when they were due; in a closed loop, from when they were sent."""
    from_send: Histogram = field(default_factory=Histogram)
    cold: Histogram = field(default_factory=Histogram)
    warm: Histogram = field(default_factory=Histogram)
    lateness: Histogram = field(default_factory=Histogram)
    errors: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    late: int = 0
    steps: list[Step] = field(default_factory=list)
    seconds: float = 0.0
    """That were counted."""
    finished: int = 0
    """Calls that succeeded in them, whenever they were due."""
    draining: bool = False
    """No more calls are made."""
    cpu_s: float = 0.0
    """Of the generator, warm-up included."""
    wall_s: float = 0.0
    busy_share: float = 0.0
    """Of the time in which calls were made: when the generator ran or waited for a CPU; the busiest one's."""
    interrupted: bool = False
    stopped: bool = False
    """Before its end, since it was void."""

    def was_sent(self, due: float, sent_at: float) -> None:
        self.step(due).offered += 1
        if due < self.warm_up_s:
            return
        self.sent += 1
        self.lateness.record((sent_at - due) * 1e6)
        self.late += sent_at - due > self.late_s

    def was_answered(self, due: float, sent_at: float, at: float, start: str, error: str) -> None:
        """`start` is of the call's explanation; `error` is its code, empty of a call that succeeded."""
        step, took_us = self.step(at), (at - due) * 1e6
        if error:
            step.failed += 1
        else:
            step.answered += 1
            step.cold += start == "cold"
            step.latency.record(took_us)
            self.finished += at >= self.warm_up_s and not self.draining
        if due < self.warm_up_s:
            return
        if error:
            self.errors[error] += 1
            return
        self.latency.record(took_us)
        self.from_send.record((at - sent_at) * 1e6)
        (self.cold if start == "cold" else self.warm).record(took_us)

    def end(self, at: float) -> None:
        """What is answered from here on has a latency, and counts for no rate."""
        self.seconds, self.draining = max(0.0, at - self.warm_up_s), True

    def step(self, at: float) -> Step:
        number = int(at / STEP_S)
        while len(self.steps) <= number:
            self.steps.append(Step())
        return self.steps[number]

    @property
    def void(self) -> bool:
        closed = math.isinf(self.due)
        return self.late > LATE_SHARE * self.sent or (closed and self.busy_share > BUSY_SHARE)

    def surely_void(self, late: int) -> bool:
        """Whether it will be void with so many late calls, even if no other one is late."""
        return late > LATE_SHARE * self.due

    def merge(self, other: Self) -> None:
        """Takes in what another generator of the same run has counted at the same time."""
        for mine, its in (
            (self.latency, other.latency),
            (self.from_send, other.from_send),
            (self.cold, other.cold),
            (self.warm, other.warm),
            (self.lateness, other.lateness),
        ):
            mine.merge(its)
        self.errors.update(other.errors)
        self.sent += other.sent
        self.late += other.late
        self.finished += other.finished
        self.cpu_s += other.cpu_s
        for number, step in enumerate(other.steps):
            self.step(number * STEP_S).merge(step)
        self.seconds = max(self.seconds, other.seconds)
        self.wall_s = max(self.wall_s, other.wall_s)
        self.busy_share = max(self.busy_share, other.busy_share)
        self.interrupted |= other.interrupted
        self.draining = True

    def holds(self, p99_ms: float) -> bool:
        """Whether what was offered was served: not void, at most 1 % failed or left over, p99 not above."""
        lost = self.sent - self.latency.total
        slow = self.latency.at(0.99) / 1000 > p99_ms
        return self.sent > 0 and not self.void and lost <= LOST_SHARE * self.sent and not slow

    def figures(self) -> dict[str, float | int]:
        """What the JSON, the CSV and thresholds name."""
        ended = self.latency.total + sum(self.errors.values())
        named = {f"p{100 * share:g}_ms": self.latency.at(share) / 1000 for share in PERCENTILES}
        return {
            "sent": self.sent,
            "succeeded": self.latency.total,
            "failed": sum(self.errors.values()),
            "unanswered": self.sent - ended,
            "errors_percent": _percent(self.sent - self.latency.total, self.sent),
            "cold_percent": _percent(self.cold.total, self.latency.total),
            "offered_per_s": self.sent / self.seconds if self.seconds else 0.0,
            "succeeded_per_s": self.finished / self.seconds if self.seconds else 0.0,
            "mean_ms": self.latency.mean_us() / 1000,
            **named,
            "max_ms": self.latency.most_us / 1000,
            "cold_p50_ms": self.cold.at(0.5) / 1000,
            "cold_p99_ms": self.cold.at(0.99) / 1000,
            "warm_p50_ms": self.warm.at(0.5) / 1000,
            "warm_p99_ms": self.warm.at(0.99) / 1000,
            "late": self.late,
            "late_percent": _percent(self.late, self.sent),
            "late_p99_ms": self.lateness.at(0.99) / 1000,
            "generator_cpu_percent": _percent(self.cpu_s, self.wall_s),
            "generator_busy_percent": 100 * self.busy_share,
            "seconds": self.seconds,
        }


def _percent(part: float, whole: float) -> float:
    return 100 * part / whole if whole else 0.0


@dataclass(frozen=True, slots=True)
class Threshold:
    """What must not be: a figure above or below a value."""

    said: str
    figure: str
    percentile: float | None
    above: bool
    value: float

    def is_crossed(self, results: Results) -> bool:
        if self.percentile is not None:
            found = results.latency.at(self.percentile / 100) / 1000
        else:
            found = float(results.figures()[self.figure])
        return found > self.value if self.above else found < self.value


_THRESHOLD: Final = re.compile(
    r"(p(?P<p>\d{1,2}(?:\.\d+)?)|mean|max|errors|cold|rate)([<>])(\d+(?:\.\d+)?)(\D*)"
)
_MS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0}
_FIGURES: Final = {
    "mean": "mean_ms",
    "max": "max_ms",
    "errors": "errors_percent",
    "cold": "cold_percent",
    "rate": "succeeded_per_s",
}


def threshold(said: str) -> Threshold:
    """Of `p99>50ms`, `errors>1%`, `cold>10%` or `rate<500`. Raises ValueError."""
    found = _THRESHOLD.fullmatch(said.replace(" ", ""))
    if found is None:
        raise ValueError(f"{said!r} is not such as p99>50ms, max>1s, errors>1%, cold>10% or rate<500")
    name, percentile, sign, number, unit = found.groups()
    is_time = percentile is not None or name in ("mean", "max")
    units = _MS if is_time else {"rate": {"": 1.0}}.get(name, {"%": 1.0})
    if unit not in units:
        raise ValueError(f"{said!r}: the unit is one of {', '.join(map(repr, units))}")
    return Threshold(
        said,
        _FIGURES.get(name, name),
        float(percentile) if percentile else None,
        sign == ">",
        float(number) * units[unit],
    )


def with_errors(given: Sequence[Threshold]) -> Sequence[Threshold]:
    """Those and, where none is of errors, that at most 1 % of the calls fail: a latency is one of calls that
    succeeded, and a fleet that fails half of them at once is quick with the rest."""
    if not given or any(it.figure == _FIGURES["errors"] for it in given):
        return given
    return [*given, threshold(f"errors>{100 * LOST_SHARE:g}%")]
