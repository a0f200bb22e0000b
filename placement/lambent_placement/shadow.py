"""Runs a shadow beside the live scheduler, later and at its own risk.

What the live one hears and decides is put down, and looked at in later turns of the event loop, after it was
sent. A fault in the shadow, or one that cannot keep up, ends it: a line in the log says so, and its report,
which then stays as it is.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from lambent_placement.core.books import Books
from lambent_placement.core.commands import Command
from lambent_placement.core.events import Event
from lambent_placement.core.shadow import Noted, Shadow, noted
from lambent_placement.core.tally import Tally

TURN: Final = 16
"""Events that are looked at before everything else in the process has its turn again."""

MOST: Final = 20_000
"""Events that may wait: more than this and it does not keep up."""


@dataclass(frozen=True, slots=True)
class Report:
    state: str
    """running, or failed."""
    reason: str
    """Why it failed."""
    counted_s: float
    live: Tally
    own: Tally
    cpu_us: float
    """Of the shadow's CPU, for each event that it has seen."""


class ShadowRun:
    """`soon` has something called after what is to be done already, as an event loop's `call_soon` does."""

    def __init__(self, shadow: Shadow, soon: Callable[[Callable[[], None]], object]) -> None:
        self._shadow: Shadow | None = shadow
        """None once it has failed: its memory is given back."""
        self._counts = shadow.live, shadow.own
        self._counted_s = 0.0
        self._soon = soon
        self._waiting: deque[Noted] = deque()
        self._called = False
        self._failed = ""
        self._events = 0
        self._cpu_ns = 0
        self._log = structlog.get_logger()

    def take(self, event: Event, commands: list[Command], books: Books) -> None:
        """Right after the live scheduler's commands were carried out. Raises nothing."""
        if self._shadow is None:
            return
        try:
            self._waiting.append(noted(event, commands, books))
            if len(self._waiting) > MOST:
                self._end(f"it does not keep up: {len(self._waiting)} events wait")
            elif not self._called:
                self._called = True
                self._soon(self._turn)
        except Exception as error:  # noqa: BLE001 - whatever it is, the live scheduler goes on
            self._end(repr(error), error)

    def _turn(self) -> None:
        self._called = False
        if self._shadow is None:
            return
        began = time.thread_time_ns()
        try:
            for _ in range(min(TURN, len(self._waiting))):
                self._shadow.see(self._waiting.popleft())
                self._events += 1
            self._counted_s = self._shadow.counted_s
            if self._waiting:
                self._called = True
                self._soon(self._turn)
        except Exception as error:  # noqa: BLE001 - whatever it is, the live scheduler goes on
            self._end(repr(error), error)
        self._cpu_ns += time.thread_time_ns() - began

    def _end(self, reason: str, error: Exception | None = None) -> None:
        self._failed = reason
        self._shadow = None
        self._waiting.clear()
        self._log.error("shadow_failed", reason=reason, exc_info=error)

    def report(self) -> Report:
        live, own = self._counts
        return Report(
            state="failed" if self._shadow is None else "running",
            reason=self._failed,
            counted_s=self._counted_s,
            live=live,
            own=own,
            cpu_us=self._cpu_ns / 1000 / self._events if self._events else 0.0,
        )
