"""Lambda's limits on concurrency: what a function may have, and what all of them share.

The fleet's concurrency is how many instances may be running at one time, over all nodes: starting ones,
and those that somebody holds a lease on. A function with a reservation has that much for itself and no more:
there are never more instances of it, running or idle. All other functions share the rest, and of none are
there more instances than that. Source: Lambda's documentation of concurrency; `docs/concurrency.md`.

A shard of a large fleet has an equal part of that rest, whatever the other shards use of theirs.
"""

from dataclasses import dataclass, field
from typing import Final

from lambent_proto.shards import ONLY, Shard

CONCURRENCY: Final = 1000
"""Lambda's default for an account."""

STARTS: Final = 1000
"""Instances that a function may start in STARTS_WITHIN_S: Lambda's scaling rate."""

STARTS_WITHIN_S: Final = 10.0


@dataclass(slots=True)
class StartRate:
    """How fast one function may grow: refilled continuously, and no more is saved up than for one period."""

    most: int = STARTS
    left: float = -1.0
    """Below 0 until it is first used: then it is full."""
    at: float = 0.0

    def may_start(self, at: float) -> bool:
        if self.left < 0:
            self.left, self.at = float(self.most), at
        if at > self.at:
            left = self.left + (at - self.at) * self.most / STARTS_WITHIN_S
            self.left = left if left < self.most else float(self.most)
        self.at = at
        return self.left >= 1

    def started(self) -> None:
        """One was, right after `may_start` allowed it."""
        self.left -= 1


@dataclass(slots=True)
class Pool:
    """What functions without a reservation share. Its counts are kept by the books alone."""

    concurrency: int = CONCURRENCY
    """The whole fleet's."""
    shard: Shard = ONLY
    """Whose pool it is."""
    reserved: int = 0
    """By all functions of this shard that reserve some."""
    elsewhere: int = 0
    """By those of the other shards."""
    used: int = 0
    """Running instances of functions without a reservation."""
    refused: bool = False
    """Somebody waits for a part of it: who uses least of it is served first."""
    size: int = field(init=False)
    """How many of those that share it may run at one time. It is read far more often than it changes."""

    def __post_init__(self) -> None:
        self.resize()

    def resize(self) -> None:
        """After a change of the concurrency, or of what is reserved of it."""
        self.size = self.shard.share(max(0, self.concurrency - self.reserved - self.elsewhere))
