"""What the kernel knows about a process and all that it started. Linux."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Seen:
    """One process at one moment; pid and start together are never used again."""

    pid: int
    parent: int
    start: int
    """Clock ticks since the machine's start."""
    cpu_s: float
    """Its own, and that of the children which it has outlived and reaped."""

    @property
    def identity(self) -> tuple[int, int]:
        return self.pid, self.start


def tree(root: int) -> dict[int, Seen]:
    """The process and its descendants, by pid."""
    everyone = {seen.pid: seen for seen in map(_seen, _pids()) if seen}
    found = {root: everyone[root]} if root in everyone else {}
    grown = True
    while grown:
        below = {pid: seen for pid, seen in everyone.items() if seen.parent in found and pid not in found}
        found |= below
        grown = bool(below)
    return found


def still_there(processes: Iterable[Seen]) -> list[int]:
    """The pids of those that have not ended; a zombie has."""
    now = {seen.identity for seen in map(_seen, _pids()) if seen}
    return [process.pid for process in processes if process.identity in now]


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]


def _seen(pid: int) -> Seen | None:
    """None if it has ended meanwhile."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, in parentheses, may hold anything; proc(5) numbers the fields, the state is the third.
    fields = stat.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    ticks = sum(int(field) for field in fields[11:15])
    return Seen(pid, int(fields[1]), int(fields[19]), ticks / _TICKS_A_SECOND)
