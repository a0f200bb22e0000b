"""What a run was like from step to step: what the plots over time are drawn from."""

from dataclasses import dataclass, field
from typing import Final

MOST_STEPS: Final = 1000
SHORT_MINUTES: Final = 10


def step_s(minutes: float) -> float:
    """A minute, of short traces a second, of long ones as many whole minutes as a plot has room for."""
    if minutes < SHORT_MINUTES:
        return 1.0
    return 60.0 * max(1, -(-minutes // MOST_STEPS))


@dataclass(slots=True)
class OverTime:
    """Each list has a value for each step from the beginning; those in `_s` are integrals over it."""

    step_s: float
    from_s: float
    """Before it the run warms up."""
    cold: list[float] = field(default_factory=list)
    """Calls that came in the step and were cold."""
    waiting_s: list[float] = field(default_factory=list)
    """Seconds that calls waited within the step, all together."""
    busy_s: list[float] = field(default_factory=list)
    """The same of instances that ran a call."""
    idle_s: list[float] = field(default_factory=list)
    """The same of those that were up and ran none."""

    def was_cold(self, at: float) -> None:
        number = int(at / self.step_s)
        _reach(self.cold, number)
        self.cold[number] += 1

    def waited(self, since: float, until: float) -> None:
        self._spread(self.waiting_s, since, until)

    def ran(self, since: float, until: float) -> None:
        self._spread(self.busy_s, since, until)

    def idled(self, since: float, until: float) -> None:
        self._spread(self.idle_s, since, until)

    def cold_a_minute(self) -> list[float]:
        return self._whole(self.cold, self.step_s / 60)

    def waiting(self) -> list[float]:
        """How many calls waited, in the mean of each step; the next two are of instances."""
        return self._whole(self.waiting_s, self.step_s)

    def busy(self) -> list[float]:
        return self._whole(self.busy_s, self.step_s)

    def idle(self) -> list[float]:
        return self._whole(self.idle_s, self.step_s)

    def _whole(self, values: list[float], unit: float) -> list[float]:
        """Up to the end of the run, also if nothing happened there."""
        steps = max(map(len, (self.cold, self.waiting_s, self.busy_s, self.idle_s)))
        return [value / unit for value in values] + [0.0] * (steps - len(values))

    def _spread(self, over: list[float], since: float, until: float) -> None:
        """Adds to each step the part of the span that lies in it."""
        if until <= since:
            return
        step_s = self.step_s
        first, last = int(since / step_s), int(until / step_s)
        _reach(over, last)
        if first == last:
            over[first] += until - since
            return
        over[first] += (first + 1) * step_s - since
        for number in range(first + 1, last):
            over[number] += step_s
        over[last] += until - last * step_s


def _reach(values: list[float], number: int) -> None:
    if number >= len(values):
        values.extend([0.0] * (number + 1 - len(values)))
