"""What JetStream has of the queue, as a file of SQLite's at each frontend: to be asked, and thrown away.

It follows the stream message by message and is the same at all frontends, but that an event is in its lane
here only where this frontend holds the event's queue.
"""

import hashlib
import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import msgpack

from lambent_frontend.queue.sqlite import SqliteStore, bytes_of
from lambent_frontend.queue.store import GIVEN_UP, Key, State
from lambent_proto.ids import FunctionName, RequestId

EVENT, PIECE, KEY = "event", "piece", "key"
"""Kinds of messages, the token of a subject after the stream's prefix."""

FORGET_AT_ONCE: Final = 500

_MORE: Final = """
CREATE TABLE copy (
    id TEXT PRIMARY KEY, number INTEGER NOT NULL, version INTEGER NOT NULL, queue TEXT NOT NULL, lane TEXT
) WITHOUT ROWID;
CREATE INDEX copy_number ON copy (number);
CREATE INDEX copy_queue ON copy (queue, number);
CREATE TABLE key_copy (
    digest TEXT PRIMARY KEY, version INTEGER NOT NULL, image BLOB NOT NULL, until REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX key_copy_until ON key_copy (until);
CREATE TABLE piece (
    id TEXT, what TEXT, place INTEGER, bytes BLOB NOT NULL, version INTEGER NOT NULL,
    PRIMARY KEY (id, what, place)
);
CREATE TABLE gone (subject TEXT PRIMARY KEY, version INTEGER NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
"""
_IMAGE: Final = (
    "SELECT e.id, e.function, c.queue, e.number, c.lane, e.due, e.size, e.state, e.received, e.attempts, "
    "e.breaks, e.asked, e.ending, e.message, e.ended, c.version FROM event e JOIN copy c ON c.id = e.id "
)

Connection = sqlite3.Connection


class Arrived(NamedTuple):
    """A message of the stream."""

    sequence: int
    kind: str
    rest: str
    """Of its subject: an event's or a key's id."""
    body: bytes
    """Empty: it is gone."""


@dataclass(slots=True, kw_only=True)
class Image:
    """All of an event, as one message has it. `payload` and `answer` may be in pieces of their own."""

    id: RequestId
    function: FunctionName
    queue: str
    number: int = 0
    """That of the message itself, of its first one."""
    lane: str | None
    due: float
    size: int
    state: str = State.QUEUED.value
    received: float
    attempts: int = 0
    breaks: int = 0
    asked: bytes
    ending: bytes | None = None
    message: str = ""
    ended: float | None = None
    payload: bytes | int = b""
    """A number: of its pieces."""
    answer: bytes | int = b""
    version: int = 0
    """Sequence of the message; not in it."""

    def encode(self) -> bytes:
        return bytes(msgpack.packb([getattr(self, it) for it in _FIELDS]))

    @classmethod
    def decode(cls, body: bytes, sequence: int) -> Self:
        image = cls(**dict(zip(_FIELDS, msgpack.unpackb(body), strict=True)), version=sequence)
        image.number = image.number or sequence
        return image


_FIELDS: Final = tuple(it for it in Image.__slots__ if it != "version")


class KeyImage(NamedTuple):
    function: str
    key: str
    id: str
    digest: bytes
    until: float
    answer: bytes | int | None = None
    """A number: of its pieces. In the copy it is whole."""
    version: int = 0

    def encode(self) -> bytes:
        return bytes(msgpack.packb(self[:-1]))

    @classmethod
    def decode(cls, body: bytes, sequence: int) -> "KeyImage":
        function, key, event, digest, until, answer = msgpack.unpackb(body)
        return cls(function, key, event, digest, until, answer, sequence)


class Copy(SqliteStore):
    """What is asked of a store it answers from its file; `apply` alone changes what is kept."""

    def __init__(self, connection: Connection, folder: Path, most_bytes: int, spare_bytes: int) -> None:
        connection.execute("PRAGMA synchronous = OFF")
        for statement in _MORE.split(";"):
            connection.execute(statement)
        super().__init__(connection, folder, most_bytes, spare_bytes)
        self.held: set[str] = set()
        """Queues that this frontend runs."""

    @classmethod
    def fresh(cls, folder: Path) -> Self:
        """Raises CannotOpen."""
        shutil.rmtree(folder, ignore_errors=True)
        return cls.open(folder, most_bytes=2**62, spare_bytes=0)

    async def apply(self, batch: Sequence[Arrived], now: float) -> Sequence[tuple[str, float]]:
        """Returns the lanes held here that have more to be done, each with the time it is due."""

        def work(db: Connection) -> list[tuple[str, float]]:
            return [it for arrived in batch for it in self._applied(db, arrived, now)]

        return await self._thread.write(work)

    def _applied(self, db: Connection, arrived: Arrived, now: float) -> list[tuple[str, float]]:
        sequence, kind, rest, body = arrived
        if not body:
            _delete(db, kind, rest)
            db.execute("INSERT OR REPLACE INTO gone VALUES (?, ?, ?)", (f"{kind}.{rest}", sequence, now))
        elif kind == PIECE:
            event, what, place = rest.split(".")
            row = event, what, int(place), body, sequence
            db.execute("INSERT OR REPLACE INTO piece VALUES (?, ?, ?, ?, ?)", row)
        elif kind == KEY:
            image = KeyImage.decode(body, sequence)
            if isinstance(image.answer, int):
                image = image._replace(answer=_whole(db, rest, "answer", image.answer))
            db.execute("INSERT OR REPLACE INTO key VALUES (?, ?, ?, ?, ?, ?)", image[:-1])
            kept = rest, sequence, image.encode(), image.until
            db.execute("INSERT OR REPLACE INTO key_copy VALUES (?, ?, ?, ?)", kept)
        else:
            return self._event_applied(db, Image.decode(body, sequence))
        return []

    def _event_applied(self, db: Connection, it: Image) -> list[tuple[str, float]]:
        here = it.lane if it.queue in self.held else None
        db.execute(
            "INSERT OR REPLACE INTO event (number, id, function, state, lane, due, size, received, attempts, "
            "breaks, asked, ending, message, ended) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(it.number, it.id, it.function, it.state, here, it.due, it.size, it.received),
                *(it.attempts, it.breaks, it.asked, it.ending, it.message, it.ended),
            ),
        )
        db.execute(
            "INSERT OR REPLACE INTO copy VALUES (?, ?, ?, ?, ?)",
            (it.id, it.number, it.version, it.queue, it.lane),
        )
        for what, value in (("payload", it.payload), ("answer", it.answer)):
            if isinstance(value, int):
                value = _whole(db, it.id, what, value)
            if value:
                db.execute(f"INSERT OR REPLACE INTO {what} VALUES (?, ?)", (it.number, value))
            else:
                db.execute(f"DELETE FROM {what} WHERE number = ?", (it.number,))
        return [(here, it.due)] if here is not None else []

    async def image(self, of: int | str) -> tuple[Image, bytes, bytes] | None:
        """Of an event by its number or id, with payload and answer."""
        column = "number" if isinstance(of, int) else "id"

        def work(db: Connection) -> tuple[Image, bytes, bytes] | None:
            row = db.execute(f"{_IMAGE} WHERE e.{column} = ?", (of,)).fetchone()
            if row is None:
                return None
            names = [it for it in _FIELDS if it not in ("payload", "answer")]
            found = Image(**dict(zip(names, row[:-1], strict=True)), version=row[-1])
            return found, *bytes_of(db, found.number)

        return await self._thread.read(work)

    async def key(self, digest: str) -> KeyImage | None:
        def work(db: Connection) -> KeyImage | None:
            row = db.execute("SELECT image, version FROM key_copy WHERE digest = ?", (digest,)).fetchone()
            return KeyImage.decode(*row) if row else None

        return await self._thread.read(work)

    async def queues(self) -> Sequence[str]:
        """That have something left to be done, or to be forgotten."""

        def work(db: Connection) -> list[str]:
            found: list[str] = []
            ask = "SELECT queue FROM copy WHERE queue > ? ORDER BY queue LIMIT 1"
            while row := db.execute(ask, (found[-1] if found else "",)).fetchone():
                found.append(row[0])
            return found

        return await self._thread.read(work)

    async def hold(self, queue: str, *, here: bool) -> None:
        """Its events are in their lanes here, or are so no longer."""
        (self.held.add if here else self.held.discard)(queue)
        lane = "(SELECT lane FROM copy WHERE copy.number = event.number)" if here else "NULL"
        change = (
            f"UPDATE event SET lane = {lane} WHERE number IN "
            "(SELECT number FROM copy WHERE queue = ? AND lane IS NOT NULL)"
        )
        await self._thread.write(lambda db: db.execute(change, (queue,)))

    async def forgettable(
        self, ended_before: float, given_up_before: float, most_ended: int
    ) -> Sequence[tuple[str, int]]:
        """Ids and versions of events of queues that are held here."""
        ask = (
            "SELECT e.ended, e.id, c.version, c.queue "
            "FROM event e JOIN copy c ON c.id = e.id "
            "WHERE e.state = ? AND e.ended <= ? ORDER BY e.ended LIMIT ?"
        )
        ended = (State.SUCCEEDED, State.CANCELLED)

        def work(db: Connection) -> list[tuple[str, int]]:
            count = "SELECT count(*) FROM event WHERE state IN (?, ?) AND ended NOT NULL"
            too_many = db.execute(count, [it.value for it in ended]).fetchone()[0] - most_ended
            old = _oldest(db, ask, ended, ended_before, FORGET_AT_ONCE)
            if too_many > len(old):
                old = _oldest(db, ask, ended, 2.0**62, min(too_many, FORGET_AT_ONCE))
            old += _oldest(db, ask, GIVEN_UP, given_up_before, FORGET_AT_ONCE)
            return [(row[1], row[2]) for row in old if row[3] in self.held]

        return await self._thread.read(work)

    async def old_keys(self, now: float) -> Sequence[tuple[str, int]]:
        ask = "SELECT digest, version FROM key_copy WHERE until < ? LIMIT ?"
        return await self._thread.read(lambda db: db.execute(ask, (now, FORGET_AT_ONCE)).fetchall())

    async def gone(self, before: float) -> Sequence[tuple[str, int]]:
        ask = "SELECT subject, version FROM gone WHERE at < ? LIMIT ?"
        return await self._thread.read(lambda db: db.execute(ask, (before, FORGET_AT_ONCE)).fetchall())

    async def deleted(self, subject: str) -> None:
        await self._thread.write(lambda db: db.execute("DELETE FROM gone WHERE subject = ?", (subject,)))


def token_of(function: FunctionName, key: Key) -> str:
    """Of a key, in its subject."""
    return hashlib.sha256(f"{function}\0{key.text}".encode()).hexdigest()


def _oldest(db: Connection, ask: str, states: Sequence[State], before: float, most: int) -> list[Any]:
    found = [row for state in states for row in db.execute(ask, (state.value, before, most))]
    return sorted(found)[:most]


def _whole(db: Connection, of: str, what: str, pieces: int) -> bytes:
    ask = "SELECT bytes FROM piece WHERE id = ? AND what = ? ORDER BY place LIMIT ?"
    return b"".join(row[0] for row in db.execute(ask, (of, what, pieces)))


def _delete(db: Connection, kind: str, rest: str) -> None:
    if kind == EVENT:
        row = db.execute("SELECT number FROM copy WHERE id = ?", (rest,)).fetchone()
        for table in ("event", "payload", "answer", "copy") if row else ():
            db.execute(f"DELETE FROM {table} WHERE number = ?", row)
    elif kind == KEY:
        row = db.execute("SELECT image FROM key_copy WHERE digest = ?", (rest,)).fetchone()
        if row:
            db.execute("DELETE FROM key WHERE function = ? AND key = ?", msgpack.unpackb(row[0])[:2])
        db.execute("DELETE FROM key_copy WHERE digest = ?", (rest,))
    if kind != PIECE:
        db.execute(  # they say nothing by themselves, and may go at once
            "INSERT OR REPLACE INTO gone "
            "SELECT 'piece.' || id || '.' || what || '.' || place, version, 0.0 FROM piece WHERE id = ?",
            (rest,),
        )
        db.execute("DELETE FROM piece WHERE id = ?", (rest,))
