"""Aliases and provisioned concurrency, as etcd has them. A published version is a `Definition`."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import msgpack

PROVISIONED_MOST: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A name that points to a published version, or to two: Lambda's routing configuration."""

    name: str
    version: str
    """A number, or `$LATEST` where there is no other."""
    weights: dict[str, float] = field(default_factory=dict)
    """At most one other version, and the share of calls that it gets, 0 to 1; the rest goes to `version`."""
    description: str = ""
    revision: str = ""
    """Another one with every change."""

    def encode(self) -> bytes:
        return bytes(msgpack.packb(asdict(self)))

    @classmethod
    def decode(cls, value: bytes) -> "Alias":
        """Fields of a newer release are ignored."""
        fields: dict[str, Any] = msgpack.unpackb(value)
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__ if name in fields})

    def pick(self, chance: float) -> str:
        """The version that one call goes to; `chance` is at least 0 and below 1."""
        for version, share in self.weights.items():
            if chance < share:
                return version
        return self.version


def encode_provisioned(count: int) -> bytes:
    return str(count).encode()


def decode_provisioned(value: bytes) -> int:
    return int(value)


def provisioned_of(wanted: Mapping[str, int], aliases: Mapping[str, Alias]) -> dict[str, int]:
    """How many instances each version is to have ready, by its number.

    `wanted` is what was asked for, by qualifier: a version's number or an alias's name. An alias that points
    to two versions shares its own out by their weights, to the nearest whole number.
    """
    counts: Counter[str] = Counter()
    for qualifier, count in wanted.items():
        alias = aliases.get(qualifier)
        if alias is None:
            counts[qualifier] += count
            continue
        other = {version: math.floor(count * share + 0.5) for version, share in alias.weights.items()}
        counts.update(other)
        counts[alias.version] += count - sum(other.values())
    return {version: count for version, count in counts.items() if count}
