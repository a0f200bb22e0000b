"""Schedules, and how far they have come, as etcd has them."""

from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeVar

import msgpack

from lambent_frontend.schedules.schedule import Schedule

Record = TypeVar("Record", Schedule, "Progress")


Replaced = tuple[str, str, str, float]
"""The name of the frontend that has it, its request id, its function as it is invoked, and when it fired."""


class Unreadable(Exception):
    """What is stored is no such record, or one of a release that has others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a schedule has come. Times are Unix times, in seconds."""

    decided_until: float
    """All its times up to this one are dealt with."""
    left_out: str = ""
    """Why nothing was fired for the last of them: `missed` or `overlaps`; empty if something was."""

    due: float = 0.0
    """The last time for which it fired; 0 if it never did. What follows is about that."""
    request_id: str = ""
    function: str = ""
    """As it is invoked, with its qualifier."""
    fired_at: float = 0.0
    frontend: str = ""
    """That has the event in its queue, or was to put it there."""
    queued: bool = True
    running: bool = False
    """The event waits or runs, as far as is known here."""
    outcome: str = ""
    """How it ended."""
    replaced: list[Replaced] = field(default_factory=list)
    """Events that gave way and may not be cancelled yet, the last of each frontend, the oldest first: whoever
    has one cancels it."""

    def encode(self) -> bytes:
        return bytes(msgpack.packb(asdict(self)))

    @classmethod
    def decode(cls, value: bytes) -> "Progress":
        """Fields of a newer release are ignored. Raises Unreadable."""
        return _read(value, cls(decided_until=0.0))


def encode(schedule: Schedule) -> bytes:
    return bytes(msgpack.packb(asdict(schedule)))


def decode(value: bytes) -> Schedule:
    """Fields of a newer release are ignored. Raises Unreadable."""
    return _read(value, Schedule(name="", function="", expression=""))


def _read(value: bytes, like: Record) -> Record:
    """Each field of the kind that `like` has there."""
    try:
        found: dict[str, Any] = msgpack.unpackb(value)
        fields = {name: found[name] for name in like.__dataclass_fields__ if name in found}
        return replace(like, **{name: _as(type(getattr(like, name)), it) for name, it in fields.items()})
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error


def _as(kind: type, value: Any) -> Any:
    if issubclass(kind, StrEnum):
        return kind(value)
    if not isinstance(value, (int, float) if kind is float else kind):
        raise TypeError(f"{value!r:.80} is no {kind.__name__}")
    return value
