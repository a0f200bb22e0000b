"""Warm calls through one path of the frontend, and what they cost each part of the fleet."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from loadtest import etcd_counters
from loadtest.callers import Round
from loadtest.etcd_counters import Counters
from loadtest.fleet import Fleet, Off, by_part

PARTS: Final = ("frontend", "workers", "instances", "placement", "etcd")

_STOP_WITHIN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Path:
    """How calls are made: `stream`, `unary` or `http`, and how many at a time."""

    kind: str
    in_flight: int
    calls: int
    """In each round."""
    server: str = ""
    """Whose gRPC server answers, where it is not the default one."""
    size: int = 100
    """Bytes of an event."""

    @property
    def name(self) -> str:
        """What its figures are called by."""
        kind = f"{self.kind}_{self.server}" if self.server else self.kind
        return kind if self.in_flight > 1 else f"{kind}_1"


@dataclass
class Measured:
    """The rounds of one path."""

    rounds: list[Round] = field(default_factory=list)
    cpu_us: list[dict[str, float]] = field(default_factory=list)
    """A call, by part, in each round."""

    def total_us(self) -> list[float]:
        return [sum(by_part.values()) for by_part in self.cpu_us]


class Callers:
    """The calling process of one path, ready to make its rounds."""

    def __init__(self, process: "subprocess.Popen[str]", running: Fleet, path: Path) -> None:
        self._process = process
        self._running = running
        self._path = path

    def round(self, measured: Measured) -> Counters:
        """One round of warm calls; returns what etcd did meanwhile. Raises Off if one was not warm."""
        operations, spent = etcd_counters.read(self._running.etcd), self._running.cpu_s()
        seen = self.call(self._path.calls)
        spent_since = since(spent, self._running.cpu_s())
        operations = etcd_counters.read(self._running.etcd).since(operations)
        if seen.starts != {"warm": seen.calls}:
            raise Off(f"not all calls were warm: {seen.starts}")
        measured.rounds.append(seen)
        measured.cpu_us.append({part: s / seen.calls * 1e6 for part, s in spent_since.items()})
        return operations

    def call(self, count: int) -> Round:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        return Round(**json.loads(self.said()))

    def said(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Off(f"the callers of {self._path.name} ended with exit code {self._process.wait()}")
        return line


@contextmanager
def callers(running: Fleet, function: str, path: Path) -> Iterator[Callers]:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "loadtest.callers",
            running.http if path.kind == "http" else running.endpoint,
            function,
            path.kind,
            str(path.in_flight),
            str(path.size),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        calling = Callers(process, running, path)
        calling.said()
        yield calling
        assert process.stdin is not None
        process.stdin.close()
        process.wait(_STOP_WITHIN_S)
    finally:
        process.kill()  # nothing happens if it has ended
        process.wait()


def since(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """CPU seconds of each part between the two."""
    spent = by_part({name: cpu_s - before.get(name, 0.0) for name, cpu_s in after.items()})
    return dict.fromkeys(PARTS, 0.0) | spent
