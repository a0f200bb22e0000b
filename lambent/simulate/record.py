"""Traces of one's own: the calls that a fleet's frontends have recorded, each with what became of it.

A record is a CSV file whose first line names its columns, as it is or packed by gzip. Four are needed, so
that whatever knows its own calls can write one; the others say what the fleet made of a call.
"""

import csv
import gzip
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import IO, Final

from lambent.simulate.figures import Counted, Figures
from lambent.simulate.over_time import step_s
from lambent.simulate.trace import LONGEST_S, BrokenTrace, Invocation, Trace, TracedFunction
from lambent.simulate.trace import read as read_published

NEEDED: Final = ("at_s", "function", "memory_mb", "running_ms")
RECORDED: Final = "recorded"
"""What a fleet itself made of its calls, among the policies."""

_UNKNOWN_S: Final = 0.1
"""How long a call takes of a function none of whose calls is known to have run."""
_GZIP: Final = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a fleet made of one call."""

    call: Invocation
    start: str
    """Empty if it never ran."""
    waited_s: float
    starting_s: float
    throttled: bool


@dataclass(slots=True)
class RecordedTrace(Trace):
    calls: list[Invocation] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    """Empty if the record does not say."""

    @property
    def minutes(self) -> int:
        return math.floor(self.calls[-1].at / 60) + 1

    def invocations(self, seed: int, minutes: int | None = None) -> list[Invocation]:
        """As they were: there is nothing to be drawn."""
        return [it for it in self.calls if minutes is None or it.at < minutes * 60]

    @property
    def cold_s(self) -> float | None:
        """What a cold start took, in the median; None if none is known."""
        starting = [it.starting_s for it in self.seen if it.starting_s > 0]
        return median(starting) if starting else None

    @property
    def starts_s(self) -> tuple[float, ...]:
        """What each cold start took, in the order in which they began; a busy host's take longer."""
        cold = [it for it in self.seen if it.starting_s > 0]
        cold.sort(key=lambda it: it.call.at + it.waited_s - it.starting_s)
        return tuple(it.starting_s for it in cold)

    def figures(self, from_s: float, minutes: int | None) -> Figures:
        """Of what the fleet made of it. Of its instances nothing is recorded."""
        counted = Counted(from_s, len(self.functions), step_s(minutes or self.minutes))
        for it in self.seen:
            if minutes is not None and it.call.at >= minutes * 60:
                continue
            if it.start:
                cold, began = it.start != "warm", it.call.at + it.waited_s
                counted.served(it.call.function, it.call.at, it.waited_s, cold=cold)
                counted.ran(began, began + it.call.duration_s)
            elif it.throttled:
                counted.gave_up(it.call.at, it.waited_s)
        return counted.figures(RECORDED, instances_known=False)


@dataclass(frozen=True, slots=True)
class _Row:
    at: float
    function: int
    running_s: float | None
    start: str
    waited_s: float
    starting_s: float
    throttled: bool


def read(path: Path) -> Trace:
    """A record, a folder of records, or a folder in the form of the Azure Functions trace: headers tell.

    The records of a folder are one trace: those of several frontends, or older ones of the same. Raises
    BrokenTrace.
    """
    try:
        files = sorted(it for it in path.iterdir() if it.is_file()) if path.is_dir() else [path]
        records = [file for file in files if not _lacking(file)]
    except OSError as error:
        raise BrokenTrace(f"{path} cannot be read: {error.strerror}") from error
    if records:
        return _joined(records)
    if path.is_dir():
        return read_published(path)
    raise BrokenTrace(
        f"{path} is no record of calls: its first line does not name {', '.join(_lacking(path))}"
    )


def _joined(records: Sequence[Path]) -> RecordedTrace:
    names: dict[str, int] = {}
    functions: list[TracedFunction] = []
    rows: list[_Row] = []
    says = True
    for path in records:
        with _opened(path) as file:
            reader = csv.DictReader(file)
            says = says and "start" in (reader.fieldnames or ())
            for row in reader:
                if row[NEEDED[-1]] is None:
                    continue  # cut by a crash in the middle of a write
                number = names.setdefault(row["function"], len(names))
                memory_mb = max(1, math.ceil(_number(row, "memory_mb", path) or 0))
                if number == len(functions):
                    functions.append(TracedFunction(row["function"], memory_mb, []))
                functions[number].memory_mb = memory_mb
                rows.append(_row(row, number, path))
    if not rows:
        raise BrokenTrace(f"{records[0]} has no call")
    rows.sort(key=lambda it: it.at)
    calls = _invocations(rows, len(functions))
    seen = [
        Seen(call, it.start, it.waited_s, it.starting_s, it.throttled)
        for call, it in zip(calls, rows, strict=True)
    ]
    return RecordedTrace(functions, calls, seen if says else [])


def _row(row: dict[str, str], function: int, path: Path) -> _Row:
    at, running_ms = _number(row, "at_s", path), _number(row, "running_ms", path)
    if at is None:
        raise BrokenTrace(f"{path}: a call of {row['function'][:20]!r} has no at_s")
    return _Row(
        at,
        function,
        None if running_ms is None else min(LONGEST_S, max(0.001, running_ms / 1000)),
        row.get("start") or "",
        (_number(row, "waiting_ms", path) or 0.0) / 1000,
        (_number(row, "starting_ms", path) or 0.0) / 1000,
        row.get("outcome") == "throttled",
    )


def _invocations(rows: Sequence[_Row], functions: int) -> list[Invocation]:
    """From the first call on. One that never ran takes as long as those of its function do, in the median."""
    known: list[list[float]] = [[] for _ in range(functions)]
    for it in rows:
        if it.running_s is not None:
            known[it.function].append(it.running_s)
    usual = [median(durations) if durations else _UNKNOWN_S for durations in known]
    return [
        Invocation(
            it.at - rows[0].at, it.function, usual[it.function] if it.running_s is None else it.running_s
        )
        for it in rows
    ]


def _number(row: dict[str, str], column: str, path: Path) -> float | None:
    """None where nothing is said."""
    text = row.get(column)
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise BrokenTrace(
            f"{path}: {text[:20]!r} of {row['function'][:20]!r}, {column}, is no number"
        ) from None


def _lacking(path: Path) -> list[str]:
    """The columns that a record has and this file's first line does not name."""
    try:
        with _opened(path) as file:
            named = next(csv.reader(_first(file)), [])
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, csv.Error):
        named = []
    return [column for column in NEEDED if column not in named]


def _first(file: IO[str]) -> Iterator[str]:
    yield file.readline(1000)


def _opened(path: Path) -> IO[str]:
    with path.open("rb") as file:
        packed = file.read(len(_GZIP)) == _GZIP
    return gzip.open(path, "rt", newline="") if packed else path.open(newline="")
