"""What the messages of the queue's stream say: events, callers' keys, pieces, and what is gone."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

import msgpack

from lambent_frontend.queue.core.lanes import Item
from lambent_frontend.queue.core.verdict import Tally
from lambent_frontend.queue.store import Asked, Ending, Event, Key, State
from lambent_proto.ids import FunctionName, RequestId

EVENT, PIECE, KEY, GONE = "event", "piece", "key", "gone"
"""Kinds of messages, the token of a subject after the stream's prefix."""


class Unreadable(Exception):
    """A message that is none of ours, or of another release, or of which a piece is missing."""


class Arrived(NamedTuple):
    """A message of the stream."""

    sequence: int
    kind: str
    rest: str
    """Of its subject: an event's id, or a key's token."""
    body: bytes
    at: float
    """Unix seconds, by the server's clock."""


class Pieces(NamedTuple):
    """Where something is that is too long for its message: at `piece.ID.TOKEN.0` and so on.

    Each writing has a token of its own, so that two never mix, and a message's pieces come before it.
    """

    token: str
    number: int


class Gone(NamedTuple):
    """A message that is in the stream no longer: it, or a later one on its subject, has another version."""

    kind: str
    rest: str
    version: int


@dataclass(slots=True)
class Image:
    """All of an event, as one message has it."""

    id: RequestId
    function: FunctionName
    queue: str
    lane: str | None
    due: float
    size: int
    received: float
    asked: bytes
    number: int = 0
    """That of the message itself, of its first one."""
    state: str = State.QUEUED.value
    attempts: int = 0
    breaks: int = 0
    ending: bytes | None = None
    message: str = ""
    ended: float | None = None
    payload: bytes | Pieces = b""
    answer: bytes | Pieces = b""
    version: int = 0
    """Sequence of the message; not in it."""

    def encode(self) -> bytes:
        return bytes(msgpack.packb([getattr(self, it) for it in FIELDS]))

    @classmethod
    def decode(cls, body: bytes, sequence: int) -> Self:
        """Raises Unreadable. What it has of `asked` and `ending` can be read then, too."""
        values = _unpacked(body, _TYPES)
        image = cls(*values)
        image.version = sequence
        image.number = image.number or sequence
        image.payload, image.answer = _told(image.payload), _told(image.answer)
        try:
            image.event()
        except (TypeError, ValueError) as error:
            raise Unreadable(f"its event cannot be read: {error!r}") from error
        return image

    def event(self) -> Event:
        return Event(
            Item(self.number, self.due, self.size),
            self.id,
            Asked.decode(self.function, self.asked),
            State(self.state),
            Tally(self.received, self.attempts, self.breaks),
            Ending.decode(self.ending) if self.ending else None,
            self.message,
        )


FIELDS: Final = tuple(it for it in Image.__slots__ if it != "version")

_NUMBER, _BYTES, _SOME = (int, float), (bytes, list), type(None)
_TYPES: Final[Sequence[Any]] = (
    *(str, str, str, (str, _SOME), _NUMBER, int, _NUMBER, bytes, int, str, int, int, (bytes, _SOME), str),
    *((*_NUMBER, _SOME), _BYTES, _BYTES),
)


class KeyImage(NamedTuple):
    """A caller's key, and what it stands for."""

    function: str
    key: str
    id: str
    digest: bytes
    until: float
    frontend: str
    """Which one has the call under way, of a synchronous one."""
    answer: bytes | Pieces | None = None
    """In the copy it is whole."""
    came: bool = False
    """Its event was put, and is forgotten by now."""
    version: int = 0
    """As an event's."""

    def encode(self) -> bytes:
        return bytes(msgpack.packb(self[:-1]))

    @classmethod
    def decode(cls, body: bytes, sequence: int) -> "KeyImage":
        """Raises Unreadable."""
        *values, answer, came = _unpacked(body, _KEY_TYPES)
        function, key, event, digest, until, frontend = values
        told = answer if answer is None else _told(answer)
        return cls(function, key, event, digest, until, frontend, told, came, sequence)


_KEY_TYPES: Final[Sequence[Any]] = (str, str, str, bytes, _NUMBER, str, (*_BYTES, _SOME), bool)


def encode_gone(gone: Sequence[Gone]) -> bytes:
    return bytes(msgpack.packb(gone))


def decode_gone(body: bytes) -> Sequence[Gone]:
    """Raises Unreadable."""
    try:
        found = [Gone(*it) for it in msgpack.unpackb(body)]
    except (TypeError, ValueError, msgpack.UnpackException) as error:
        raise Unreadable(repr(error)) from error
    if not all(isinstance(it.rest, str) and isinstance(it.version, int) for it in found):
        raise Unreadable("it is no list of what is gone")
    return found


def token_of(function: FunctionName, key: Key) -> str:
    """Of a key, in its subject."""
    return hashlib.sha256(f"{function}\0{key.text}".encode()).hexdigest()


def _unpacked(body: bytes, types: Sequence[Any]) -> Sequence[Any]:
    try:
        values = msgpack.unpackb(body)
    except (ValueError, msgpack.UnpackException) as error:
        raise Unreadable(f"it is not msgpack: {error!r}") from error
    if not isinstance(values, list) or len(values) != len(types):
        raise Unreadable(f"it has not the {len(types)} fields that this release writes")
    for value, kind in zip(values, types, strict=True):
        if not isinstance(value, kind):
            raise Unreadable(f"a field is of the wrong type, {type(value).__name__}")
    return values


def _told(value: Any) -> Any:
    if isinstance(value, bytes):
        return value
    if len(value) != 2 or not isinstance(value[0], str) or not isinstance(value[1], int):
        raise Unreadable("it does not say where its pieces are")
    return Pieces(*value)
