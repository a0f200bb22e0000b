"""How often a function may be called, where an operator limits that; on Lambda it is ten times a second for
each unit of its concurrency.

Each function has a bucket. A call takes one out, and is throttled at once if there is none:

    1. `per_concurrency` a second come in for each unit of the function's concurrency, which is its
       reservation, or the concurrency of the fleet if it has none;
    2. each frontend of the fleet has an equal part of that;
    3. they come in continuously, and as many as come in a second can be saved up, but at least one.

A call that is refused takes nothing. One that is accepted takes one whether it has to wait or not.
"""

from dataclasses import dataclass, field

from lambent_frontend.core.line import Line
from lambent_proto import concurrency
from lambent_proto.ids import FunctionName, function_of


@dataclass(slots=True)
class Bucket:
    """What there was in it at a time."""

    level: float
    at: float


@dataclass(slots=True)
class Rates:
    per_concurrency: float
    """Calls a second; 0 for no limit."""
    fleet: int = concurrency.DEFAULT
    """The fleet's concurrency."""
    frontends: int = 1
    """How many share the fleet's calls, this one included."""
    buckets: dict[FunctionName, Bucket] = field(default_factory=dict)
    """Of functions that were called; the others' are full."""

    def take(self, line: Line, at: float) -> str:
        """Counts a call, or says why it is one too many."""
        if not self.per_concurrency:
            return ""
        units = self.fleet if line.limit is None else line.limit
        rate = self.per_concurrency * units / self.frontends
        most = max(rate, 1.0)
        function = function_of(line.version)
        bucket = self.buckets.get(function)
        if bucket is None:
            bucket = self.buckets[function] = Bucket(most, at)
        level = min(most, bucket.level + (at - bucket.at) * rate)
        bucket.level, bucket.at = (level - 1.0 if level >= 1.0 else level), at
        return "" if level >= 1.0 else self._too_many(function, units, rate)

    def forget(self, function: FunctionName) -> None:
        self.buckets.pop(function, None)

    def _too_many(self, function: FunctionName, units: int, rate: float) -> str:
        part = f", of which each of {self.frontends} frontends has its part" if self.frontends > 1 else ""
        return (
            f"function '{function}' is called more than {rate:,.4g} times a second: {self.per_concurrency:g} "
            f"are allowed for each of its concurrency of {units:,}{part}"
        )
