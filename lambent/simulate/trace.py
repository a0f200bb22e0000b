"""Traces of invocations in the form of the Azure Functions trace of 2019, read, or made with the same shape.

A folder with three files, whose columns docs/simulation.md names: `invocations.csv` counts the invocations of
each function in each minute, `durations.csv` and `memory.csv` have percentiles. Within a minute invocations
come at times drawn evenly; a duration is drawn along the percentiles; memory is the median.
"""

import csv
import math
import random
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PERCENTILES: Final = (0, 1, 25, 50, 75, 99, 100)
LONGEST_S: Final = 900.0
"""Lambda's longest timeout."""
DEFAULT_MB: Final = 128
INVOCATIONS, DURATIONS, MEMORY = "invocations.csv", "durations.csv", "memory.csv"


class BrokenTrace(Exception):
    """The folder holds no trace. The message says what is wrong with which file."""


@dataclass(frozen=True, slots=True)
class Invocation:
    at: float
    """Seconds from the trace's beginning."""
    function: int
    """Its place in the trace's list."""
    duration_s: float


@dataclass(slots=True)
class TracedFunction:
    name: str
    memory_mb: int
    per_minute: list[int]
    durations_ms: tuple[float, ...] = field(default_factory=lambda: (100.0,) * len(PERCENTILES))
    """At PERCENTILES."""


@dataclass(slots=True)
class Trace:
    functions: list[TracedFunction]

    @property
    def minutes(self) -> int:
        return max((len(it.per_minute) for it in self.functions), default=0)

    def invocations(self, seed: int, minutes: int | None = None) -> list[Invocation]:
        """All of the first minutes, in the order of their times; the same ones for the same seed."""
        dice = random.Random(seed)
        found: list[Invocation] = []
        for number, function in enumerate(self.functions):
            for minute, count in enumerate(function.per_minute[:minutes]):
                found += [
                    Invocation(60 * (minute + dice.random()), number, _drawn(function.durations_ms, dice))
                    for _ in range(count)
                ]
        found.sort(key=lambda it: it.at)
        return found


def _drawn(durations_ms: tuple[float, ...], dice: random.Random) -> float:
    percent = dice.uniform(0, 100)
    after = min(bisect_right(PERCENTILES, percent), len(PERCENTILES) - 1)
    low, high = PERCENTILES[after - 1], PERCENTILES[after]
    below, above = durations_ms[after - 1], durations_ms[after]
    ms = below + (above - below) * (percent - low) / (high - low)
    return min(LONGEST_S, max(0.001, ms / 1000))


def read(folder: Path) -> Trace:
    """Raises BrokenTrace."""
    memory: dict[str, int] = {}
    for row in _rows(folder / MEMORY, "HashFunction", "AverageAllocatedMb_pct50"):
        memory[row["HashFunction"]] = max(1, math.ceil(_number(row, "AverageAllocatedMb_pct50", MEMORY)))
    columns = [f"percentile_Average_{percent}" for percent in PERCENTILES]
    durations: dict[str, tuple[float, ...]] = {}
    for row in _rows(folder / DURATIONS, "HashFunction", *columns):
        durations[row["HashFunction"]] = tuple(_number(row, column, DURATIONS) for column in columns)
    functions = []
    for row in _rows(folder / INVOCATIONS, "HashFunction", "Trigger"):
        name = row["HashFunction"]
        counts = [int(_number(row, column, INVOCATIONS)) for column in row if column.isdigit()]
        function = TracedFunction(name, memory.get(name, DEFAULT_MB), counts)
        function.durations_ms = durations.get(name, function.durations_ms)
        functions.append(function)
    if not functions:
        raise BrokenTrace(f"{folder / INVOCATIONS} has no function")
    return Trace(functions)


def _number(row: dict[str, str], column: str, file: str) -> float:
    try:
        return float(row[column])
    except (TypeError, ValueError):
        raise BrokenTrace(
            f"{file}: {row[column]!r} of {row['HashFunction'][:20]!r}, {column}, is no number"
        ) from None


def _rows(path: Path, *needed: str) -> Iterator[dict[str, str]]:
    try:
        with path.open(newline="") as file:
            rows = csv.DictReader(file)
            missing = [column for column in needed if column not in (rows.fieldnames or ())]
            if missing:
                raise BrokenTrace(f"{path} has no column {missing[0]}: is it of the Azure Functions trace?")
            yield from rows
    except OSError as error:
        raise BrokenTrace(f"{path} cannot be read: {error.strerror}") from error


def generated(functions: int, minutes: int, seed: int) -> Trace:
    """Of the shape of the published one: four of five functions are called once a minute or less, most calls
    are those of a few; timers come evenly, others in clumps; half of the functions run below 400 ms."""
    dice = random.Random(seed)
    made = []
    for number in range(functions):
        rate = math.exp(dice.gauss(-2.3, 2.6))  # a minute
        if dice.random() < 0.3:
            every = max(1, round(1 / max(rate, 1 / 120)))
            counts = [int(minute % every == number % every) for minute in range(minutes)]
        else:
            counts = [_poisson(rate * dice.choice((0.3, 1.0, 1.7)), dice) for _ in range(minutes)]
        median_ms = math.exp(dice.gauss(5.8, 1.5))
        spread = (0.2, 0.3, 0.7, 1.0, 1.5, 4.0, 6.0)
        memory_mb = round(math.exp(dice.gauss(4.0, 0.8)))
        durations = tuple(median_ms * factor for factor in spread)
        made.append(TracedFunction(f"function-{number}", max(16, memory_mb), counts, durations))
    return Trace(made)


def _poisson(mean: float, dice: random.Random) -> int:
    if mean > 50:
        return max(0, round(dice.gauss(mean, math.sqrt(mean))))
    left, count = math.exp(-mean), 0
    product = dice.random()
    while product > left:
        product *= dice.random()
        count += 1
    return count
