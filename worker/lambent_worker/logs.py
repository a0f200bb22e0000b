"""Each function's log: one file of lines, written behind the calls and never waited for by them.

A line is `SECONDS TAB INSTANCE TAB REQUEST TAB TEXT LF`: Unix seconds with milliseconds, the request empty
where no call ran, and the text as printed, tabs and all. The platform's own lines are Lambda's, so that
what reads Lambda's logs reads these.
"""

import asyncio
import math
import os
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self
from urllib.parse import quote

import structlog

from lambent_chassis import clock
from lambent_proto.definition import Definition
from lambent_proto.ids import FunctionName, InstanceId

_log = structlog.get_logger()

FLUSH_EVERY_S: Final = 0.2
"""How late a line may be in its file."""

FILE_LIMIT_BYTES: Final = 10_000_000
"""A function keeps at most two files of this size."""

MOST_UNWRITTEN_BYTES: Final = 4_000_000
"""Per function. What is printed faster than the disk takes it is dropped, and the log says how much."""

LONGEST_LINE_BYTES: Final = 256 * 1024
"""Longer ones are cut in pieces; the limit of an event in Lambda's logs."""

TAIL_BYTES: Final = 4_096
"""Lambda returns the last 4 KB of a call's log."""

_CALL_LINE_BYTES: Final = 300
"""What a line counts that is not in words yet, or is shorter: what it costs is not its bytes alone."""

_READ_BYTES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class LogLine:
    at: float
    """Unix seconds."""
    instance: str
    request_id: str
    text: str


class _Unwritten:
    """Lines of one function on their way to its file. Those that each call has are put into words at the
    last moment, many at a time: that costs half of what it does in the middle of a call."""

    def __init__(self) -> None:
        self.lines: list[bytes | partial[bytes]] = []
        self.size = 0
        self.dropped = 0

    @property
    def full(self) -> bool:
        return self.size > MOST_UNWRITTEN_BYTES

    def add(self, line: bytes | partial[bytes]) -> bool:
        """True if nothing was waiting before."""
        if self.full:
            self.dropped += 1
            return False
        self.size += max(len(line), _CALL_LINE_BYTES) if isinstance(line, bytes) else _CALL_LINE_BYTES
        self.lines.append(line)
        return len(self.lines) == 1

    def take(self) -> bytes:
        if self.dropped:
            notice = f"{self.dropped} lines were dropped: the function prints faster than its log is written"
            self.lines.append(f"{clock.unix_s():.3f}\t\t\t{notice}\n".encode())
        data = b"".join([line if isinstance(line, bytes) else line() for line in self.lines])
        self.lines, self.size, self.dropped = [], 0, 0
        return data


class InstanceLog:
    """What one instance adds to its function's log: its output, cut into lines, and the platform's lines."""

    def __init__(self, logs: "FunctionLogs", definition: Definition, instance: InstanceId) -> None:
        self._logs = logs
        self._unwritten = logs.unwritten(definition.name)
        self._function = definition.name
        self._version = definition.version
        self._memory_mb = definition.memory_mb
        self._instance = instance
        self._request = ""
        self._open_line = b""
        self._tail: bytearray | None = None

    def start(self, request_id: str, tail: bool) -> None:
        self._end_line()
        self._request = request_id
        self._tail = bytearray(f"{_start(request_id, self._version)}\n".encode()) if tail else None
        at = clock.unix_s()
        self._logs.add(self._unwritten, partial(_started, at, self._instance, request_id, self._version))

    def output(self, data: bytes) -> None:
        lines = (self._open_line + data).split(b"\n") if self._open_line else data.split(b"\n")
        self._open_line = lines.pop()
        for number, line in enumerate(lines):
            if self._unwritten.full:
                self._drop(lines[number:])
                break
            self._add(line)
        while len(self._open_line) > LONGEST_LINE_BYTES:
            self._add(self._open_line[:LONGEST_LINE_BYTES])
            self._open_line = self._open_line[LONGEST_LINE_BYTES:]

    def line(self, text: str) -> None:
        """A line of the platform's own."""
        self._add(text.encode())

    def end(
        self,
        running_ms: float,
        peak_memory_mb: int,
        init_ms: float | None,
        status: str,
        *,
        restored: bool = False,
    ) -> bytes:
        """Closes the call; returns the last of its log if `start` was asked for it.

        `init_ms` belongs to the first call of an instance, which was `restored` from a snapshot instead of
        initialised; `status` is empty, or why the call failed.
        """
        self._end_line()
        request = self._request
        said = (request, running_ms, self._memory_mb, peak_memory_mb, init_ms, status, restored)
        self._logs.add(self._unwritten, partial(_ended, clock.unix_s(), self._instance, said))
        tail = b""
        if self._tail is not None:
            end, report = _end_and_report(*said)
            tail = bytes(self._tail + f"{end}\n{report}\n".encode())[-TAIL_BYTES:]
            self._tail = None
        self._request = ""
        return tail

    def timed_out(self, timeout_s: float) -> None:
        at = datetime.fromtimestamp(clock.unix_s(), UTC).isoformat(timespec="milliseconds")
        self._end_line()
        self.line(f"{at[:-6]}Z {self._request} Task timed out after {timeout_s:.2f} seconds")

    def close(self) -> None:
        self._end_line()

    def _end_line(self) -> None:
        if self._open_line:
            self._add(self._open_line)
            self._open_line = b""

    def _add(self, text: bytes) -> None:
        start = f"{clock.unix_s():.3f}\t{self._instance}\t{self._request}\t".encode()
        self._logs.add(self._unwritten, b"%b%b\n" % (start, text))
        if self._tail is not None:
            self._tail += b"%b\n" % text
            del self._tail[:-TAIL_BYTES]

    def _drop(self, lines: list[bytes]) -> None:
        """At once: 64 KB may be as many lines, and nobody else is served meanwhile."""
        self._unwritten.dropped += len(lines)
        if self._tail is not None:
            self._tail += b"%b\n" % b"\n".join(lines[-TAIL_BYTES:])
            del self._tail[:-TAIL_BYTES]


def _started(at: float, instance: str, request: str, version: str) -> bytes:
    return f"{at:.3f}\t{instance}\t{request}\t{_start(request, version)}\n".encode()


def _start(request: str, version: str) -> str:
    return f"START RequestId: {request} Version: {version}"


Said = tuple[str, float, int, int, float | None, str, bool]


def _ended(at: float, instance: str, said: Said) -> bytes:
    end, report = _end_and_report(*said)
    begin = f"{at:.3f}\t{instance}\t{said[0]}\t"
    return f"{begin}{end}\n{begin}{report}\n".encode()


def _end_and_report(
    request: str,
    running_ms: float,
    memory_mb: int,
    peak_mb: int,
    init_ms: float | None,
    status: str,
    restored: bool,
) -> tuple[str, str]:
    init = "" if init_ms is None else f"Init Duration: {init_ms:.2f} ms\t"
    if init and restored:
        billed = math.ceil(init_ms or 0.0)
        init = f"Restore Duration: {init_ms:.2f} ms\tBilled Restore Duration: {billed} ms\t"
    return f"END RequestId: {request}", (
        f"REPORT RequestId: {request}\tDuration: {running_ms:.2f} ms\t"
        f"Billed Duration: {math.ceil(running_ms)} ms\tMemory Size: {memory_mb} MB\t"
        f"Max Memory Used: {peak_mb} MB\t{init}{status}"
    )


class FunctionLogs:
    """The logs of all functions on this worker. Used as a context manager; on exit it writes the rest."""

    def __init__(self, folder: Path, file_limit_bytes: int = FILE_LIMIT_BYTES) -> None:
        self._folder = folder
        self._file_limit_bytes = file_limit_bytes
        self._unwritten: dict[FunctionName, _Unwritten] = {}
        self._dirty = asyncio.Event()
        self._written = asyncio.Event()
        """Set and replaced at each flush: readers that follow wait for it."""
        self._flushing = asyncio.Lock()
        self._closing = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._flusher = asyncio.create_task(self._flush_until_closed())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._dirty.set()
        await self._flusher
        await self.flush()

    def of(self, definition: Definition, instance: InstanceId) -> InstanceLog:
        return InstanceLog(self, definition, instance)

    def unwritten(self, function: FunctionName) -> _Unwritten:
        return self._unwritten.setdefault(function, _Unwritten())

    def add(self, unwritten: _Unwritten, line: bytes | partial[bytes]) -> None:
        """`line` is in the file within FLUSH_EVERY_S."""
        if unwritten.add(line):
            self._dirty.set()

    async def _flush_until_closed(self) -> None:
        while not self._closing.is_set():
            await self._dirty.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_EVERY_S):
                    await self._closing.wait()
            await self.flush()

    async def flush(self) -> None:
        """Writes what has been logged so far."""
        async with self._flushing:
            self._dirty.clear()
            batches = {name: lines.take() for name, lines in self._unwritten.items() if lines.lines}
            if batches:
                await asyncio.to_thread(self._write, batches)
                self._written.set()
                self._written = asyncio.Event()

    def _write(self, batches: dict[FunctionName, bytes]) -> None:
        for function, data in batches.items():
            path = self._path(function)
            try:
                with path.open("ab") as file:
                    file.write(data)
                    size = file.tell()
                if size > self._file_limit_bytes:
                    os.replace(path, _older(path))
            except OSError as error:
                _log.warning("log_lost", function=function, lost_bytes=len(data), error=str(error))

    def _path(self, function: str) -> Path:
        return self._folder / f"{quote(function, safe='')}.log"

    async def read(self, function: str, follow: bool) -> AsyncGenerator[list[LogLine], None]:
        """The lines that are kept, oldest first; with `follow`, the coming ones as well, without end.

        A reader slower than two files' worth of lines misses some.
        """
        path = self._path(function)
        await self.flush()
        reader = _Reader(path)
        try:
            while True:
                written = self._written
                while lines := await asyncio.to_thread(reader.lines):
                    yield lines
                if not follow:
                    return
                await written.wait()
        finally:
            reader.close()


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".1")


class _Reader:
    """Reads the older file, then the newer one as it grows, and goes on with the next when it is replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: deque[IO[bytes]] = deque()
        """Opened and not read to their end; an older one comes first."""
        self._rest = b""
        with suppress(FileNotFoundError):
            self._files.append(path.open("rb"))
        with suppress(FileNotFoundError):
            older = _older(path).open("rb")
            if self._files and os.path.sameopenfile(older.fileno(), self._files[0].fileno()):
                older.close()  # it was replaced just now
            else:
                self._files.appendleft(older)

    def lines(self) -> list[LogLine]:
        """The next lines; empty if there are none by now."""
        while self._files or self._open_successor():
            data = self._files[0].read(_READ_BYTES)
            whole, _, self._rest = (self._rest + data).rpartition(b"\n")
            if whole:
                return [_parsed(line) for line in whole.split(b"\n")]
            if data:
                continue
            if len(self._files) == 1 and not self._open_successor():
                return []
            if not (more := self._files[0].read(_READ_BYTES)):
                self._files.popleft().close()
                continue
            self._rest += more  # written between the last look and the replacing
        return []

    def _open_successor(self) -> bool:
        """Opens the newest file, if that is another than the one being read."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return False
        if self._files and os.path.sameopenfile(file.fileno(), self._files[-1].fileno()):
            file.close()
            return False
        self._files.append(file)
        return True

    def close(self) -> None:
        for file in self._files:
            file.close()


def _parsed(line: bytes) -> LogLine:
    at, instance, request_id, text = line.decode(errors="replace").split("\t", 3)
    return LogLine(float(at), instance, request_id, text)
