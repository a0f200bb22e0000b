"""Shards of a large fleet: each has a leader of its own, and decides alone about its own functions.

Which shard a function belongs to, and what part of a number that all shards share is whose, are a contract
between the parts: all of them have to come to the same answer, in every release.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from lambent_proto import keys
from lambent_proto.ids import FunctionName

MOST_SHARDS: Final = 64
"""Of one fleet. Lambda's default concurrency still leaves each of them something to share."""


@lru_cache(65_536)
def shard_of(function: FunctionName, shards: int) -> int:
    """The number of the shard that a function with all its versions and aliases belongs to.

    The first eight bytes of the SHA-256 of its name, modulo the number of shards.
    """
    name = function.encode("utf-8", "surrogateescape")  # as etcd's keys are read, whatever is in them
    return int.from_bytes(hashlib.sha256(name).digest()[:8]) % shards


@dataclass(frozen=True, slots=True)
class Shard:
    """One of the shards of a fleet. Raises ValueError if the fleet has no such shard."""

    number: int = 0
    """The first is 0."""
    of: int = 1
    """How many the fleet has."""

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.of:
            there = f"0 to {self.of - 1}" if self.of > 1 else "0 alone"
            raise ValueError(f"there is no shard {self.number} in a fleet with {self.of} ({there})")

    def owns(self, function: FunctionName) -> bool:
        return self.of == 1 or shard_of(function, self.of) == self.number

    def share(self, whole: int) -> int:
        """Its equal part of what all shards share, the remainder to the first ones: together the whole."""
        return whole // self.of + (self.number < whole % self.of)


ONLY: Final = Shard()
"""That of a fleet which is not shared out."""


class WrongShards(Exception):
    """A part was told of another number of shards than its fleet has. The message says what to do."""


def too_late(shards: int) -> tuple[str, ...]:
    """Prefixes in etcd: while there is anything, it cannot be settled any more that there are so many.

    A fleet that nobody has shared out may go on as the one shard that it is.
    """
    return keys.UNDER_LEASES if shards > 1 else (keys.OTHER_SHARDS,)


def check(kept: bytes | None, configured: int) -> None:
    """Raises WrongShards unless `configured` is what etcd has; None: it has none, and it is too late."""
    stop = "stop every part, wait for 30 s until their leases have run out"
    if kept is None:
        raise WrongShards(
            f"{keys.SHARDS} in etcd does not say how many shards this fleet has, and parts of it run, so it "
            f"cannot have {configured}: {stop}, and start them with the same `shards`"
        )
    if (number := kept.decode()) != str(configured):
        plural = "" if number == "1" else "s"
        raise WrongShards(
            f"this fleet has {number} shard{plural}, and the setting `shards` of this part is {configured}: "
            f"give it {number} (--shards {number}). To change the fleet's, {stop}, delete the key "
            f"{keys.SHARDS} in etcd, and start them with the same `shards` (docs/shards.md)"
        )
