"""The fleet's concurrency, as kept in etcd: one decimal number."""

from typing import Final

DEFAULT: Final = 1000
"""Until somebody sets another one: Lambda's default for an account."""

LEAST: Final = 1
MOST: Final = 1_000_000
"""More instances than the largest fleet that is tried has."""


def encode(concurrency: int) -> bytes:
    return str(concurrency).encode()


def decode(value: bytes) -> int:
    return int(value)


def least_unreserved(concurrency: int, shards: int = 1) -> int:
    """What reservations must leave to the functions without one: of Lambda's 1,000 its 100.

    One for each shard, or functions of some could not run at all.
    """
    return max(shards, concurrency // 10)
