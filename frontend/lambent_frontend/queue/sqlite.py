"""The queue in a file of SQLite's: one of its own for each frontend."""

import os
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, Self

from lambent_frontend.queue.core.lanes import Item, Run
from lambent_frontend.queue.core.verdict import Tally
from lambent_frontend.queue.group_commit import GroupCommit
from lambent_frontend.queue.store import (
    GIVEN_UP,
    Asked,
    Counts,
    Ending,
    Event,
    Kept,
    Key,
    State,
    Taken,
)
from lambent_proto.errors import QueueFull
from lambent_proto.ids import FunctionName, RequestId

FILE: Final = "queue.sqlite"

_FORGET_AT_ONCE: Final = 500
"""Rows that are deleted in one transaction, so that no event waits long for it."""

_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE event (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    function TEXT NOT NULL,
    state TEXT NOT NULL,
    lane TEXT,
    due REAL NOT NULL,
    size INTEGER NOT NULL,
    received REAL NOT NULL,
    attempts INTEGER NOT NULL,
    breaks INTEGER NOT NULL,
    asked BLOB NOT NULL,
    ending BLOB,
    message TEXT NOT NULL,
    ended REAL
);
CREATE INDEX in_lane ON event (lane, due, number) WHERE lane IS NOT NULL;
CREATE INDEX of_function ON event (function, state, number);
CREATE INDEX over ON event (state, ended) WHERE ended IS NOT NULL;
CREATE TABLE payload (number INTEGER PRIMARY KEY, payload BLOB NOT NULL);
CREATE TABLE answer (number INTEGER PRIMARY KEY, answer BLOB NOT NULL);
CREATE TABLE key (
    function TEXT NOT NULL,
    key TEXT NOT NULL,
    id TEXT NOT NULL,
    digest BLOB NOT NULL,
    until REAL NOT NULL,
    answer BLOB,
    PRIMARY KEY (function, key)
) WITHOUT ROWID;
CREATE INDEX key_until ON key (until);
"""
_EVENT: Final = (
    "SELECT number, due, size, id, function, asked, state, received, attempts, breaks, ending, message "
    "FROM event "
)
_OLDEST: Final = (
    "SELECT received FROM event WHERE number = "
    "(SELECT min(number) FROM event INDEXED BY in_lane WHERE lane IS NOT NULL)"
)
"""By number, as the index has that and no time: to look at a million rows would take a second."""
_STILL: Final = "number = ? AND lane = ? AND due = ?"
"""Of an event that still waits for what was run."""
_ENDED: Final = (State.SUCCEEDED, State.CANCELLED)

Connection = sqlite3.Connection


class CannotOpen(Exception):
    """The message says which file, and why."""


class SqliteStore:
    """The `Store` of one frontend. Nobody else can open its file meanwhile."""

    def __init__(self, connection: Connection, folder: Path, most_bytes: int, spare_bytes: int) -> None:
        self._thread = GroupCommit(connection)
        self._folder = folder
        self._most_bytes = most_bytes
        self._spare_bytes = spare_bytes

    @classmethod
    def open(cls, folder: Path, *, most_bytes: int, spare_bytes: int) -> Self:
        """`most_bytes` is what it may grow to; `spare_bytes` are left free on the disk, for what is taken
        already and has an end to be written. Raises CannotOpen.
        """
        path = folder / FILE
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return cls(_connect(path), folder, most_bytes, spare_bytes)
        except (OSError, sqlite3.Error) as error:
            taken = " (another frontend has it: each wants a data folder of its own)"
            why = f"{error}{taken if 'locked' in str(error) else ''}"
            raise CannotOpen(f"the queue {path} cannot be opened: {why}") from error

    @property
    def commits(self) -> int:
        """So far."""
        return self._thread.commits

    async def put(self, event: RequestId, asked: Asked, payload: bytes, now: float, key: Key | None) -> Taken:
        def work(db: Connection) -> Taken:
            known = _kept(db, asked.function, key) if key else None
            if known:
                return Taken(0, known)
            self._check_room(db, len(payload))
            row = (event, asked.function, asked.function, now, len(payload), now, asked.encode())
            number = db.execute(
                "INSERT INTO event (id, function, state, lane, due, size, received, attempts, breaks, asked, "
                "message) VALUES (?, ?, 'queued', ?, ?, ?, ?, 0, 0, ?, '')",
                row,
            ).lastrowid
            assert number is not None
            db.execute("INSERT INTO payload VALUES (?, ?)", (number, payload))
            if key:
                _keep(db, asked.function, key, event)
            return Taken(number)

        return await self._thread.write(work, len(payload))

    async def lanes(self) -> Sequence[tuple[str, float]]:
        def work(db: Connection) -> list[tuple[str, float]]:
            found: list[tuple[str, float]] = []
            after = ""
            ask = "SELECT lane, due FROM event WHERE lane > ? ORDER BY lane, due LIMIT 1"  # skips from one
            while row := db.execute(ask, (after,)).fetchone():  # to the next: there may be millions in one
                found.append(row)
                after = row[0]
            return found

        return await self._thread.read(work)

    async def next(self, lane: str, most: int) -> Sequence[Item]:
        ask = "SELECT number, due, size FROM event WHERE lane = ? ORDER BY due, number LIMIT ?"
        return await self._thread.read(lambda db: [Item(*row) for row in db.execute(ask, (lane, most))])

    async def load(self, runs: Sequence[Run]) -> Sequence[tuple[Event, bytes, bytes]]:
        ask = f"{_EVENT} WHERE {_STILL}"

        def work(db: Connection) -> list[tuple[Event, bytes, bytes]]:
            rows = [db.execute(ask, _still(run)).fetchone() for run in runs]
            return [(_event(row), *bytes_of(db, row[0])) for row in rows if row]

        return await self._thread.read(work)

    async def again(self, run: Run, due: float, tally: Tally, message: str) -> bool:
        change = (
            "UPDATE event SET state = 'retrying', due = ?, attempts = ?, breaks = ?, message = ? "
            f"WHERE {_STILL}"
        )
        values = due, tally.attempts, tally.breaks, message, *_still(run)
        return await self._thread.write(lambda db: db.execute(change, values).rowcount == 1)

    async def end(
        self, run: Run, ending: Ending, tally: Tally, due: float, answer: bytes | None = None
    ) -> bool:
        def work(db: Connection) -> bool:
            left = ending.targets
            state = State.DELIVERING if left else ending.state
            changed = db.execute(
                "UPDATE event SET state = ?, lane = ?, due = ?, attempts = ?, breaks = ?, ending = ?, "
                f"ended = ?, size = size + ?, message = '' WHERE {_STILL}",
                (
                    *(state.value, left[0] if left else None, due, tally.attempts, tally.breaks),
                    *(ending.encode(), None if left else ending.ended, len(answer or b"")),
                    *_still(run),
                ),
            ).rowcount
            if not changed:
                return False
            if answer is not None:
                db.execute("INSERT OR REPLACE INTO answer VALUES (?, ?)", (run.item.number, answer))
            if state is State.SUCCEEDED:
                db.execute("DELETE FROM payload WHERE number = ?", (run.item.number,))
            return True

        return await self._thread.write(work, len(answer or b""))

    async def cancel(self, function: FunctionName, event: RequestId, now: float) -> Event | None:
        def work(db: Connection) -> Event | None:
            found = _found(db, function, event)
            if found and found.state in (State.QUEUED, State.RETRYING):
                number = found.item.number
                db.execute(
                    "UPDATE event SET state = 'cancelled', lane = NULL, ended = ? WHERE number = ?",
                    (now, number),
                )
                db.execute("DELETE FROM payload WHERE number = ?", (number,))
            return found

        return await self._thread.write(work)

    async def redrive(self, function: FunctionName, event: RequestId, now: float) -> Event | None:
        def work(db: Connection) -> Event | None:
            found = _found(db, function, event)
            if found and found.state in GIVEN_UP:
                number = found.item.number
                db.execute(
                    "UPDATE event SET state = 'queued', lane = function, due = ?, received = ?, "
                    "ending = NULL, attempts = 0, breaks = 0, ended = NULL, message = '' WHERE number = ?",
                    (now, now, number),
                )
                db.execute("DELETE FROM answer WHERE number = ?", (number,))
            return found

        return await self._thread.write(work)

    async def get(self, function: FunctionName, event: RequestId) -> tuple[Event, bytes] | None:
        def work(db: Connection) -> tuple[Event, bytes] | None:
            found = _found(db, function, event)
            return (found, bytes_of(db, found.item.number)[1]) if found else None

        return await self._thread.read(work)

    async def list(
        self, function: FunctionName, state: State | None, after: int, most: int
    ) -> Sequence[Event]:
        states = [it.value for it in ([state] if state else State)]
        ask = f"{_EVENT} WHERE function = ? AND state = ? AND number > ? ORDER BY number LIMIT ?"

        def work(db: Connection) -> list[Event]:
            rows = [row for it in states for row in db.execute(ask, (function, it, after, most))]
            return [_event(row) for row in sorted(rows)[:most]]

        return await self._thread.read(work)

    async def reserve(self, function: FunctionName, key: Key, event: RequestId) -> Kept | None:
        def work(db: Connection) -> Kept | None:
            known = _kept(db, function, key)
            if known is None:
                self._check_room(db, 0)
                _keep(db, function, key, event)
            return known

        return await self._thread.write(work)

    async def answered(self, function: FunctionName, key: Key, answer: bytes | None) -> None:
        def work(db: Connection) -> None:
            of = function, key.text
            if answer is None:
                db.execute("DELETE FROM key WHERE function = ? AND key = ?", of)
            else:
                db.execute("UPDATE key SET answer = ? WHERE function = ? AND key = ?", (answer, *of))

        await self._thread.write(work)

    async def forget(self, ended_before: float, given_up_before: float, most_ended: int, now: float) -> bool:
        def work(db: Connection) -> bool:
            count = "SELECT count(*) FROM event WHERE state IN (?, ?) AND ended NOT NULL"
            kept: int = db.execute(count, [it.value for it in _ENDED]).fetchone()[0]
            too_many = kept - most_ended
            crowded = _used(db) > self._most_bytes // 2 or self._free() < 2 * self._spare_bytes
            old = _oldest(db, _ENDED, now if crowded else ended_before)
            if too_many > len(old):
                old = _oldest(db, _ENDED, now, min(too_many, _FORGET_AT_ONCE))
            old += _oldest(db, GIVEN_UP, given_up_before)
            marks = ",".join("?" * len(old))
            for table in ("event", "payload", "answer") if old else ():
                db.execute(f"DELETE FROM {table} WHERE number IN ({marks})", old)
            keys = db.execute(
                "DELETE FROM key WHERE (function, key) IN "
                "(SELECT function, key FROM key WHERE until < ? LIMIT ?)",
                (now, _FORGET_AT_ONCE),
            ).rowcount
            return max(len(old), keys) >= _FORGET_AT_ONCE

        return await self._thread.write(work)

    async def counts(self) -> Counts:
        def work(db: Connection) -> Counts:
            by_state: Counter[str] = Counter()
            for state, count in db.execute("SELECT state, count(*) FROM event GROUP BY function, state"):
                by_state[state] += count  # in the index's own order: a third of what sorting by state costs
            row = db.execute(_OLDEST).fetchone()
            return Counts(by_state, _used(db), self._most_bytes, row[0] if row else None)

        return await self._thread.read(work)

    async def close(self) -> None:
        await self._thread.close()

    def _check_room(self, db: Connection, size: int) -> None:
        """Raises QueueFull."""
        used = _used(db)
        if used + size > self._most_bytes:
            raise QueueFull(
                f"the queue of events is full, {used:,} of {self._most_bytes:,} bytes are in use, and "
                "nothing was kept: send it again later, or raise the frontend's `queue_mb`"
            )
        if self._free() < self._spare_bytes + size:
            raise QueueFull(
                f"the disk of the queue {self._folder} has {self._free():,} bytes left, of which "
                f"{self._spare_bytes:,} are for events that it has already; nothing was kept: make room"
            )

    def _free(self) -> int:
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize


def unfinished(folder: Path) -> int:
    """Events in a folder's queue that still have something to be done; 0 without a queue. Of one that a
    frontend has open just now it is 0 as well: they are seen to. Raises CannotOpen."""
    path = folder / FILE
    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(path, timeout=0)) as db:
            return int(db.execute("SELECT count(*) FROM event WHERE lane IS NOT NULL").fetchone()[0])
    except sqlite3.Error as error:
        if "locked" in str(error):
            return 0
        raise CannotOpen(f"the queue {path} cannot be read: {error}") from error


def _connect(path: Path) -> Connection:
    db = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA journal_size_limit = 16777216")
        db.execute("PRAGMA cache_size = -16384")  # KB
        db.execute("BEGIN EXCLUSIVE")
        found = db.execute("PRAGMA user_version").fetchone()[0]
        if found == 0:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {_VERSION}")
        elif found != _VERSION:
            raise OSError(f"it is of another release: form {found}, and {_VERSION} is known")
        db.execute("COMMIT")
    except BaseException:
        db.close()
        raise
    return db


def _used(db: Connection) -> int:
    """Bytes of the file that hold something."""
    pages, free, size = (
        db.execute(f"PRAGMA {it}").fetchone()[0] for it in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _event(row: tuple[Any, ...]) -> Event:
    number, due, size, event, function, asked, state, received, attempts, breaks, ending, message = row
    return Event(
        Item(number, due, size),
        event,
        Asked.decode(function, asked),
        State(state),
        Tally(received, attempts, breaks),
        Ending.decode(ending) if ending else None,
        message,
    )


def _still(run: Run) -> tuple[int, str, float]:
    return run.item.number, run.lane, run.item.due


def _found(db: Connection, function: FunctionName, event: RequestId) -> Event | None:
    row = db.execute(f"{_EVENT} WHERE id = ? AND function = ?", (event, function)).fetchone()
    return _event(row) if row else None


def bytes_of(db: Connection, number: int) -> tuple[bytes, bytes]:
    """Payload and answer; empty where there is none."""
    payload, answer = (
        db.execute(f"SELECT {it} FROM {it} WHERE number = ?", (number,)).fetchone()
        for it in ("payload", "answer")
    )
    return payload[0] if payload else b"", answer[0] if answer else b""


def _kept(db: Connection, function: FunctionName, key: Key) -> Kept | None:
    row = db.execute(
        "SELECT id, digest, answer FROM key WHERE function = ? AND key = ? AND until >= ?",
        (function, key.text, key.now),
    ).fetchone()
    return Kept(*row) if row else None


def _keep(db: Connection, function: FunctionName, key: Key, event: RequestId) -> None:
    db.execute(
        "INSERT OR REPLACE INTO key VALUES (?, ?, ?, ?, ?, NULL)",
        (function, key.text, event, key.digest, key.until),
    )


def _oldest(db: Connection, states: Sequence[State], before: float, most: int = _FORGET_AT_ONCE) -> list[int]:
    ask = "SELECT ended, number FROM event WHERE state = ? AND ended <= ? ORDER BY ended LIMIT ?"
    found = [row for state in states for row in db.execute(ask, (state.value, before, most))]
    return [number for _, number in sorted(found)[:most]]
