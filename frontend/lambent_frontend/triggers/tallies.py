"""Tallies as they are kept in etcd."""

from collections.abc import Iterable
from dataclasses import asdict

import msgpack

from lambent_frontend.triggers.core.messages import Tally


def encoded(tallies: Iterable[Tally]) -> bytes:
    return bytes(msgpack.packb([asdict(it) for it in tallies]))


def decoded(kept: bytes) -> tuple[Tally, ...]:
    """Fields of a newer release are ignored."""
    names = Tally.__dataclass_fields__
    return tuple(Tally(**{name: it[name] for name in names}) for it in msgpack.unpackb(kept))
