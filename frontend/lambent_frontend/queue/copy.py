"""What JetStream has of the queue, as a file of SQLite's at each frontend: to be asked, and thrown away.

It follows the stream message by message and is the same at all frontends, but that an event is in its lane
here only where this frontend holds the event's queue.
"""

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import msgpack
import structlog

from lambent_frontend.queue.core.lanes import Run
from lambent_frontend.queue.messages import (
    EVENT,
    FIELDS,
    GONE,
    KEY,
    PIECE,
    Arrived,
    Gone,
    Image,
    KeyImage,
    Pieces,
    Unreadable,
    decode_gone,
)
from lambent_frontend.queue.sqlite import SqliteStore, bytes_of
from lambent_frontend.queue.store import GIVEN_UP, State
from lambent_proto.errors import LambentError
from lambent_proto.ids import RequestId

FORGET_AT_ONCE: Final = 500

_MORE: Final = """
CREATE TABLE copy (
    number INTEGER PRIMARY KEY, version INTEGER NOT NULL, queue TEXT NOT NULL, lane TEXT, pieces BLOB,
    reading INTEGER NOT NULL
);
CREATE INDEX copy_queue ON copy (queue, number);
CREATE TABLE key_copy (
    digest TEXT PRIMARY KEY, version INTEGER NOT NULL, event TEXT NOT NULL, image BLOB NOT NULL, answer BLOB,
    until REAL NOT NULL, reading INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX key_copy_until ON key_copy (until);
CREATE INDEX key_copy_event ON key_copy (event);
CREATE TABLE piece (
    id TEXT, token TEXT, place INTEGER, bytes BLOB NOT NULL, version INTEGER NOT NULL, at REAL NOT NULL,
    used INTEGER NOT NULL, reading INTEGER NOT NULL, PRIMARY KEY (id, token, place)
);
CREATE INDEX piece_left ON piece (at) WHERE NOT used;
CREATE TABLE note (sequence INTEGER PRIMARY KEY, at REAL NOT NULL, reading INTEGER NOT NULL);
CREATE INDEX note_at ON note (at);
CREATE TABLE unreadable (subject TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;
"""
_CHANGING: Final = (
    *(
        "state",
        "lane",
        "due",
        "size",
        "received",
        "attempts",
        "breaks",
        "asked",
        "ending",
        "message",
        "ended",
    ),
)
"""Columns of an event's row that a later message may say otherwise."""
_INSERT: Final = (
    f"INSERT INTO event (number, id, function, {', '.join(_CHANGING)}) "
    f"VALUES (?, ?, ?, {', '.join('?' * len(_CHANGING))})"
)
_UPDATE: Final = f"UPDATE event SET {', '.join(f'{it} = ?' for it in _CHANGING)} WHERE number = ?"
_UPDATE_COPY: Final = (
    "UPDATE copy SET version = ?, queue = ?, lane = ?, pieces = ?, reading = ? WHERE number = ?"
)
_NAMES: Final = [it for it in FIELDS if it not in ("payload", "answer")]
_IMAGE: Final = (
    f"SELECT {', '.join(f'c.{it}' if it in ('queue', 'lane') else f'e.{it}' for it in _NAMES)}, c.version, "
    "c.pieces FROM event e JOIN copy c ON c.number = e.number "
)

Connection = sqlite3.Connection
Loaded = tuple[Image, bytes, bytes]
"""An event's image, and its payload and answer, whole."""


class Forgettable(NamedTuple):
    gone: Sequence[Gone]
    """Events of queues that are held here, with their pieces."""
    keys: Sequence[tuple[str, KeyImage]]
    """That still stand for them."""
    events: int


class Copy(SqliteStore):
    """What is asked of a store it answers from its file; `apply` alone changes what is kept."""

    def __init__(self, connection: Connection, folder: Path, most_bytes: int, spare_bytes: int) -> None:
        connection.execute("PRAGMA synchronous = OFF")
        for statement in _MORE.split(";"):
            connection.execute(statement)
        super().__init__(connection, folder, most_bytes, spare_bytes)
        self.held: set[str] = set()
        """Queues that this frontend runs."""
        self.reading = 1
        """How often the stream is read from its beginning: what a later reading does not see is gone."""
        self.unreadable = 0
        """Messages that are set aside."""
        self.aside: Callable[[int], None] = lambda number: None
        """Told of each."""

    @classmethod
    def fresh(cls, folder: Path) -> Self:
        """Raises CannotOpen."""
        shutil.rmtree(folder, ignore_errors=True)
        return cls.open(folder, most_bytes=2**62, spare_bytes=0)

    # What arrives

    async def apply(self, batch: Sequence[Arrived], now: float) -> Sequence[tuple[str, float]]:
        """Returns the lanes held here that have more to be done, each with the time it is due.

        What cannot be read is set aside, and takes nothing with it. Raises NotReady and QueueFull.
        """
        try:
            return await self._all_applied(batch, now)
        except LambentError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever one of them makes of us, it is that one's fault
            if len(batch) == 1:
                await self._set_aside(batch[0], error)
                return []
        return [it for arrived in batch for it in await self.apply([arrived], now)]

    async def _all_applied(self, batch: Sequence[Arrived], now: float) -> Sequence[tuple[str, float]]:
        def work(db: Connection) -> list[tuple[str, float]]:
            try:
                return [it for arrived in batch for it in self._applied(db, arrived, now)]
            except (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError) as error:
                raise Unreadable(repr(error)) from error

        return await self._thread.write(work)

    async def _set_aside(self, arrived: Arrived, error: Exception) -> None:
        subject = f"{arrived.kind}.{arrived.rest}"

        def work(db: Connection) -> int:
            if arrived.kind != PIECE:
                _delete(db, Gone(arrived.kind, arrived.rest, arrived.sequence))
            db.execute("INSERT OR REPLACE INTO unreadable VALUES (?, ?)", (subject, arrived.sequence))
            return int(db.execute("SELECT count(*) FROM unreadable").fetchone()[0])

        self.unreadable = await self._thread.write(work)
        self.aside(1)
        structlog.get_logger().error(
            "queue_message_set_aside",
            subject=subject,
            sequence=arrived.sequence,
            reason=f"{type(error).__name__}: {error}",
            what_to_do="it stays in the stream, and is not run: have a frontend of the release that wrote it "
            "run it, or delete that message",
        )

    def _applied(self, db: Connection, arrived: Arrived, now: float) -> Sequence[tuple[str, float]]:
        sequence, kind, rest, body, at = arrived
        if self.unreadable:
            db.execute("DELETE FROM unreadable WHERE subject = ?", (f"{kind}.{rest}",))
        if kind == EVENT:
            image = Image.decode(body, sequence)
            if image.id != rest:
                raise Unreadable(f"its event is {image.id[:80]}, of another subject")
            return self._event_applied(db, image)
        if kind == PIECE:
            event, token, place = rest.split(".")
            row = event, token, int(place), body, sequence, now, self.reading
            db.execute(
                "INSERT INTO piece VALUES (?, ?, ?, ?, ?, ?, 0, ?) "
                "ON CONFLICT (id, token, place) DO UPDATE SET version = excluded.version, "
                "reading = excluded.reading",
                row,
            )
        elif kind == KEY:
            self._key_applied(db, rest, KeyImage.decode(body, sequence))
        elif kind == GONE:
            for it in decode_gone(body):
                _delete(db, it)
            db.execute("INSERT OR REPLACE INTO note VALUES (?, ?, ?)", (sequence, at, self.reading))
        else:
            raise Unreadable(f"nothing of the kind {kind[:80]!r} is known")
        return []

    def _event_applied(self, db: Connection, it: Image) -> Sequence[tuple[str, float]]:
        here = it.lane if it.queue in self.held else None
        values = (
            *(it.state, here, it.due, it.size, it.received, it.attempts, it.breaks, it.asked, it.ending),
            *(it.message, it.ended),
        )
        ask = "SELECT e.number, c.version, c.pieces FROM event e JOIN copy c ON c.number = e.number "
        before = db.execute(f"{ask} WHERE e.id = ?", (it.id,)).fetchone()
        if before and before[0] != it.number:  # it was forgotten, and came anew
            _delete_event(db, before[0])
            before = None
        elif before and before[1] == it.version:
            db.execute("UPDATE copy SET reading = ? WHERE number = ?", (self.reading, it.number))
            return []
        pieces = _packed(it)
        bytes_before: tuple[Pieces | None, Pieces | None] = (None, None)
        if before:
            db.execute(_UPDATE, (*values, it.number))
            bytes_before = _unpacked(before[2])
            db.execute(_UPDATE_COPY, (it.version, it.queue, it.lane, pieces, self.reading, it.number))
        else:
            db.execute(_INSERT, (it.number, it.id, it.function, *values))
            row = it.number, it.version, it.queue, it.lane, pieces, self.reading
            db.execute("INSERT INTO copy VALUES (?, ?, ?, ?, ?, ?)", row)
        for what, value, old in zip(
            ("payload", "answer"), (it.payload, it.answer), bytes_before, strict=True
        ):
            if isinstance(value, Pieces):
                value = b"" if value == old else _whole(db, it.id, value)
                if not value:
                    continue
            if value:
                db.execute(f"INSERT OR REPLACE INTO {what} VALUES (?, ?)", (it.number, value))
            elif before:
                db.execute(f"DELETE FROM {what} WHERE number = ?", (it.number,))
        if pieces or (before and before[2]):
            _use(db, it.id, (it.payload, it.answer))
        return [(here, it.due)] if here is not None else []

    def _key_applied(self, db: Connection, digest: str, image: KeyImage) -> None:
        answer = image.answer
        if isinstance(answer, Pieces):
            answer = _whole(db, digest, answer)
        body = image._replace(answer=None).encode()
        row = digest, image.version, image.id, body, answer, image.until, self.reading
        db.execute("INSERT OR REPLACE INTO key_copy VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        _use(db, digest, (image.answer,))

    async def swept(self) -> None:
        """The stream has been read from its beginning: what was not seen is gone from it."""

        def work(db: Connection) -> None:
            unseen = db.execute("SELECT number FROM copy WHERE reading < ?", (self.reading,)).fetchall()
            for (number,) in unseen:
                _delete_event(db, number)
            for table in ("key_copy", "piece", "note"):
                db.execute(f"DELETE FROM {table} WHERE reading < ?", (self.reading,))

        await self._thread.write(work)

    async def emptied(self) -> None:
        """The stream is another one than it was, and is read from its beginning."""

        def work(db: Connection) -> None:
            for table in ("event", "payload", "answer", "copy", "key_copy", "piece", "note", "unreadable"):
                db.execute(f"DELETE FROM {table}")

        await self._thread.write(work)
        self.unreadable = 0

    # What is asked

    async def image(self, of: int | str) -> Image | None:
        """Of an event by its number or id."""
        column = "number" if isinstance(of, int) else "id"

        def work(db: Connection) -> Image | None:
            row = db.execute(f"{_IMAGE} WHERE e.{column} = ?", (of,)).fetchone()
            return _image(db, row)[0] if row else None

        return await self._thread.read(work)

    async def loaded(self, runs: Sequence[Run]) -> Sequence[Loaded]:
        """As `Store.load`."""

        def work(db: Connection) -> list[Loaded]:
            found: list[Loaded] = []
            ask = f"{_IMAGE} WHERE e.number = ? AND e.lane = ? AND e.due = ?"
            for lane, item in runs:
                row = db.execute(ask, (item.number, lane, item.due)).fetchone()
                if row:
                    found.append(_image(db, row))
            return found

        return await self._thread.read(work)

    async def key(self, digest: str) -> KeyImage | None:
        def work(db: Connection) -> KeyImage | None:
            ask = "SELECT image, version, answer FROM key_copy WHERE digest = ?"
            row = db.execute(ask, (digest,)).fetchone()
            return KeyImage.decode(row[0], row[1])._replace(answer=row[2]) if row else None

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

    # What may be forgotten

    async def forgettable(
        self, ended_before: float, given_up_before: float, most_ended: int, now: float
    ) -> Forgettable:
        ask = (
            "SELECT e.ended, e.id, c.version, c.queue "
            "FROM event e JOIN copy c ON c.number = e.number "
            "WHERE e.state = ? AND e.ended <= ? ORDER BY e.ended LIMIT ?"
        )
        ended = (State.SUCCEEDED, State.CANCELLED)

        def work(db: Connection) -> Forgettable:
            count = "SELECT count(*) FROM event WHERE state IN (?, ?) AND ended NOT NULL"
            too_many = db.execute(count, [it.value for it in ended]).fetchone()[0] - most_ended
            old = _oldest(db, ask, ended, ended_before, FORGET_AT_ONCE)
            if too_many > len(old):
                old = _oldest(db, ask, ended, 2.0**62, min(too_many, FORGET_AT_ONCE))
            old += _oldest(db, ask, GIVEN_UP, given_up_before, FORGET_AT_ONCE)
            old = [row for row in old if row[3] in self.held]
            gone = [Gone(EVENT, event, version) for _, event, version, *_ in old]
            gone += [it for _, event, *_ in old for it in _pieces_of(db, event)]
            keys = [it for _, event, *_ in old for it in _keys_of(db, event, now)]
            return Forgettable(gone, keys, len(old))

        return await self._thread.read(work)

    async def old_keys(self, now: float) -> Sequence[Gone]:
        """With their pieces."""
        ask = "SELECT digest, version FROM key_copy WHERE until < ? LIMIT ?"

        def work(db: Connection) -> list[Gone]:
            keys = [Gone(KEY, *row) for row in db.execute(ask, (now, FORGET_AT_ONCE))]
            return keys + [piece for it in keys for piece in _pieces_of(db, it.rest)]

        return await self._thread.read(work)

    async def left_pieces(self, before: float) -> Sequence[Gone]:
        """Those of events and keys that never came, or have others by now, known here since then. What was
        set aside may be another release's, which needs its pieces.
        """
        ask = (
            "SELECT id || '.' || token || '.' || place, version FROM piece WHERE NOT used AND at < ? "
            "AND NOT EXISTS (SELECT 1 FROM unreadable WHERE subject IN ('event.' || id, 'key.' || id)) "
            "LIMIT ?"
        )

        def work(db: Connection) -> list[Gone]:
            return [Gone(PIECE, *row) for row in db.execute(ask, (before, FORGET_AT_ONCE))]

        return await self._thread.read(work)

    async def old_notes(self, before: float) -> Sequence[int]:
        """Sequences of messages that tell what was gone before then."""
        ask = "SELECT sequence FROM note WHERE at < ? LIMIT ?"
        return await self._thread.read(
            lambda db: [row[0] for row in db.execute(ask, (before, FORGET_AT_ONCE))]
        )

    async def drop_notes(self, sequences: Sequence[int]) -> None:
        rows = [(it,) for it in sequences]
        await self._thread.write(lambda db: db.executemany("DELETE FROM note WHERE sequence = ?", rows))

    async def gone(self, it: Gone) -> None:
        """By somebody's hand, or long ago: no message says so."""
        await self._thread.write(lambda db: _delete(db, it))


def _image(db: Connection, row: Sequence[Any]) -> Loaded:
    *values, version, pieces = row
    image = Image(**dict(zip(_NAMES, values, strict=True)), version=version)
    payload, answer = bytes_of(db, image.number)
    places = _unpacked(pieces)
    image.payload, image.answer = places[0] or payload, places[1] or answer
    return image, payload, answer


def _packed(it: Image) -> bytes | None:
    """Where payload and answer are, if one of them is in pieces."""
    places = [value if isinstance(value, Pieces) else None for value in (it.payload, it.answer)]
    return bytes(msgpack.packb(places)) if any(places) else None


def _unpacked(pieces: bytes | None) -> tuple[Pieces | None, Pieces | None]:
    if pieces is None:
        return None, None
    payload, answer = (Pieces(*it) if it else None for it in msgpack.unpackb(pieces))
    return payload, answer


def _oldest(db: Connection, ask: str, states: Sequence[State], before: float, most: int) -> list[Any]:
    found = [row for state in states for row in db.execute(ask, (state.value, before, most))]
    return sorted(found, key=lambda row: row[:2])[:most]


def _whole(db: Connection, of: str, pieces: Pieces) -> bytes:
    ask = "SELECT bytes FROM piece WHERE id = ? AND token = ? ORDER BY place LIMIT ?"
    found = [row[0] for row in db.execute(ask, (of, *pieces))]
    if len(found) != pieces.number:
        raise Unreadable(f"{len(found)} of its {pieces.number} pieces {pieces.token[:80]} are there")
    return b"".join(found)


def _use(db: Connection, of: str, values: Sequence[object]) -> None:
    """These pieces of it are what it has. Those that it had may go at once."""
    db.execute("UPDATE piece SET used = 0, at = 0 WHERE id = ? AND used", (of,))
    for it in values:
        if isinstance(it, Pieces):
            db.execute("UPDATE piece SET used = 1 WHERE id = ? AND token = ?", (of, it.token))


def _pieces_of(db: Connection, of: str) -> list[Gone]:
    ask = "SELECT token, place, version FROM piece WHERE id = ?"
    return [Gone(PIECE, f"{of}.{token}.{place}", version) for token, place, version in db.execute(ask, (of,))]


def _keys_of(db: Connection, event: RequestId, now: float) -> list[tuple[str, KeyImage]]:
    ask = "SELECT digest, image, version FROM key_copy WHERE event = ? AND until >= ?"
    found = [
        (digest, KeyImage.decode(image, version)) for digest, image, version in db.execute(ask, (event, now))
    ]
    return [it for it in found if not it[1].came]


def _delete(db: Connection, it: Gone) -> None:
    if it.kind == EVENT:
        ask = "SELECT e.number FROM event e JOIN copy c ON c.number = e.number WHERE e.id = ?"
        row = db.execute(f"{ask} AND c.version <= ?", (it.rest, it.version)).fetchone()
        if row:
            _delete_event(db, row[0])
    elif it.kind == KEY:
        db.execute("DELETE FROM key_copy WHERE digest = ? AND version <= ?", (it.rest, it.version))
    elif it.kind == PIECE:
        event, token, place = it.rest.split(".")
        db.execute("DELETE FROM piece WHERE id = ? AND token = ? AND place = ?", (event, token, int(place)))


def _delete_event(db: Connection, number: int) -> None:
    for table in ("event", "payload", "answer", "copy"):
        db.execute(f"DELETE FROM {table} WHERE number = ?", (number,))
