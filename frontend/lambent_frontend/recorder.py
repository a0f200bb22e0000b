"""The calls that this frontend served, a line each: a trace of one's own, for `lambent simulate`.

A CSV file whose first line names the columns; docs/simulation.md says what they mean. What is added is
gathered in memory, and put into words and onto the disk in a thread: no call waits for either.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from lambent_chassis import clock

_log = structlog.get_logger()

COLUMNS: Final = (
    "at_s",
    "function",
    "memory_mb",
    "running_ms",
    "start",
    "waiting_ms",
    "starting_ms",
    "outcome",
)
HEADER: Final = ",".join(COLUMNS) + "\n"

WRITE_EVERY_S: Final = 1.0
"""How late a call may be in its file."""

MOST_UNWRITTEN: Final = 100_000
"""Calls. What comes while the disk is so far behind is dropped, and the log says how many."""


class Ended(NamedTuple):
    """A call of which nothing runs any more."""

    at: float
    """When it came, on the monotonic clock."""
    function: str
    memory_mb: int
    running_ms: float | None
    """None if it never ran, or was lost while it did."""
    start: str
    """`warm`, `cold` or `snapstart`; empty if it never ran."""
    waiting_ms: float
    starting_ms: float
    """The start of its instance with the initialisation; 0 of a warm one."""
    outcome: str
    """One of those in fleet.proto."""


class Recorder:
    """Keeps the file and one older one beside it, `PATH.1`, of `limit_bytes` each."""

    def __init__(self, path: Path, limit_bytes: int, *, unix_s: Callable[[], float] = clock.unix_s) -> None:
        """Raises OSError if it cannot be written, ValueError if something else is there."""
        self._path = path
        self._limit_bytes = limit_bytes
        self._unwritten: list[Ended] = []
        self._dropped = 0
        # Fixed, so that the times of one run never go back when somebody sets the host's clock.
        self._unix_of_monotonic_s = unix_s() - clock.monotonic_s()
        self._writing = threading.Lock()
        self._begin()

    def add(self, ended: Ended) -> None:
        if len(self._unwritten) < MOST_UNWRITTEN:
            self._unwritten.append(ended)
        else:
            self._dropped += 1

    async def run(self) -> None:
        """Writes until it is cancelled, and then what is left."""
        try:
            while True:
                await asyncio.sleep(WRITE_EVERY_S)
                await asyncio.to_thread(self._write, *self._take())
        finally:
            self.flush()

    def flush(self) -> None:
        """What was added until now is in the file when this returns."""
        self._write(*self._take())

    def _take(self) -> tuple[list[Ended], int]:
        calls, dropped = self._unwritten, self._dropped
        self._unwritten, self._dropped = [], 0
        return calls, dropped

    def _write(self, calls: list[Ended], dropped: int) -> None:
        """A disk that takes nothing costs the record its calls, never the frontend its work."""
        try:
            with self._writing:
                if calls:
                    self._append("".join([self._line(it) for it in calls]))
        except (OSError, ValueError) as error:
            dropped += len(calls)
            _log.warning("record_not_written", path=str(self._path), error=str(error))
        if dropped:
            _log.warning("calls_not_recorded", path=str(self._path), calls=dropped)

    def _line(self, it: Ended) -> str:
        running = "" if it.running_ms is None else f"{it.running_ms:.2f}"
        return (
            f"{it.at + self._unix_of_monotonic_s:.3f},{it.function},{it.memory_mb},{running},{it.start},"
            f"{it.waiting_ms:.2f},{it.starting_ms:.2f},{it.outcome}\n"
        )

    def _append(self, lines: str) -> None:
        if not self._path.exists():  # somebody has moved it away
            self._begin()
        if self._path.stat().st_size > self._limit_bytes:
            os.replace(self._path, f"{self._path}.1")
            self._begin()
        with self._path.open("a") as file:
            file.write(lines)

    def _begin(self) -> None:
        """The header, or in a record that is there already the end of a line that a crash has cut."""
        with self._path.open("a+b") as file:
            size = file.tell()
            file.seek(0)
            first = file.readline()
            if size == 0:
                file.write(HEADER.encode())
                return
            if first != HEADER.encode():
                raise ValueError(f"{self._path} is there, and is no record of calls: choose another file")
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
