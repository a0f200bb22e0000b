"""Which of the records that wait make the next batch: the first ones, up to a number and a size."""

from collections.abc import Iterable
from dataclasses import dataclass

from lambent_frontend.triggers.core.messages import MAX_BATCH_BYTES, Record


@dataclass(frozen=True, slots=True)
class Limits:
    records: int
    """BatchSize."""
    window_s: float
    """MaximumBatchingWindowInSeconds: how long the first record of a batch waits for others."""


@dataclass(frozen=True, slots=True)
class Taken:
    records: tuple[Record, ...]
    full: bool
    """No more would fit in."""


def take(waiting: Iterable[Record], limits: Limits) -> Taken:
    """One at least, however large it is."""
    taken: list[Record] = []
    size = 0
    for record in waiting:
        if taken and (len(taken) == limits.records or size + record.size > MAX_BATCH_BYTES):
            return Taken(tuple(taken), True)
        taken.append(record)
        size += record.size
    return Taken(tuple(taken), len(taken) >= limits.records or size >= MAX_BATCH_BYTES)
