"""Makes the calls of a load test, when they are due or one after the other, and sees what comes of them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeVar

from lambent.loadtest.results import Results, Step
from lambent.loadtest.schedule import Send
from lambent.loadtest.transports import Transport
from lambent_chassis.clock import monotonic_s

_AT_ONCE: Final = 32
"""Calls that are overdue are begun so many at a time, and answers are read in between."""

_PAUSE_S: Final = 0.001
"""A caller in a closed loop whose call failed makes the next one so much later: no storm on what refuses."""


class _Due(Protocol):
    @property
    def at(self) -> float: ...


D = TypeVar("D", bound=_Due)


async def when_due(calls: Iterable[D], began: float, begin: Callable[[D], object]) -> None:
    """Begins each call when it is due, whatever has become of those before; `began` is by the clock."""
    at_once = 0
    for call in calls:
        wait_s = began + call.at - monotonic_s()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
            at_once = 0
        begin(call)
        at_once += 1
        if at_once == _AT_ONCE:
            await asyncio.sleep(0)
            at_once = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How a run is, while it goes on."""

    at: float
    """Seconds from its beginning."""
    step: Step | None
    """Its last second that is whole."""
    in_flight: int
    errors: int
    late: int

    def merged(self, also: "Progress") -> "Progress":
        step = Step()
        for it in (self.step, also.step):
            if it is not None:
                step.merge(it)
        return Progress(
            max(self.at, also.at),
            step,
            self.in_flight + also.in_flight,
            self.errors + also.errors,
            self.late + also.late,
        )


@dataclass(slots=True)
class Engine:
    """One run."""

    transport: Transport
    results: Results
    drain_s: float
    """How long answers are waited for once no more calls are made."""
    in_flight: int = 0
    _began: float = 0.0
    _busy_s: float = 0.0
    _empty: asyncio.Event = field(default_factory=asyncio.Event)

    def progress(self) -> Progress:
        now, steps = self.now(), self.results.steps
        step = steps[max(0, min(len(steps) - 1, int(now)) - 1)] if steps else None
        errors, late = sum(self.results.errors.values()), self.results.late
        return Progress(now, step, self.in_flight, errors, late)

    async def open_loop(self, sends: Iterable[Send], seconds: float) -> None:
        """Can be cancelled, and then waits for no answers."""

        async def calls() -> None:
            await when_due(sends, self._began, self._send)
            await asyncio.sleep(seconds - self.now())

        await self._measured(calls)

    async def closed_loop(self, callers: Iterable[int], seconds: float, targets: int) -> None:
        """Each of the callers makes its next call when the last one has ended; as `open_loop`."""

        def again(number: int) -> None:
            if (now := self.now()) < seconds:
                self._begin(Send(now, number % targets), now, partial(later, number))

        def later(number: int, failed: bool) -> None:
            loop = asyncio.get_running_loop()
            loop.call_later(_PAUSE_S, again, number) if failed else loop.call_soon(again, number)

        async def calls() -> None:
            for number in callers:
                again(number)
            await asyncio.sleep(seconds)

        await self._measured(calls)

    def now(self) -> float:
        return monotonic_s() - self._began

    async def _measured(self, calls: Callable[[], Awaitable[None]]) -> None:
        self._began, cpu_s, self._busy_s = monotonic_s(), time.process_time(), busy_s()
        results = self.results
        try:
            await calls()
            self._end()
            await self._drained()
        finally:
            results.wall_s, results.cpu_s = self.now(), time.process_time() - cpu_s
            if not results.draining:
                self._end()

    def _end(self) -> None:
        now = self.now()
        self.results.end(now)
        self.results.busy_share = min(1.0, (busy_s() - self._busy_s) / now) if now else 0.0

    async def _drained(self) -> None:
        deadline = monotonic_s() + self.drain_s
        while self.in_flight and (left_s := deadline - monotonic_s()) > 0:
            self._empty.clear()
            try:
                async with asyncio.timeout(left_s):
                    await self._empty.wait()
            except TimeoutError:
                return

    def _send(self, send: Send) -> None:
        now = self.now()
        # Timers of the loop are of whole milliseconds and may be early: nothing was waited for until then.
        self._begin(send if send.at <= now else Send(now, send.target), now, None)

    def _begin(self, send: Send, sent_at: float, then: Callable[[bool], None] | None) -> None:
        self.results.was_sent(send.at, sent_at)
        self.in_flight += 1
        self.transport.begin(send.target, partial(self._ended, send.at, sent_at, then))

    def _ended(
        self, due: float, sent_at: float, then: Callable[[bool], None] | None, start: str, error: str
    ) -> None:
        self.in_flight -= 1
        self.results.was_answered(due, sent_at, self.now(), start, error)
        if then is not None:
            then(bool(error))
        if not self.in_flight:
            self._empty.set()


def busy_s() -> float:
    """How long this thread has run or waited for a CPU; the latter only where the kernel counts it."""
    try:
        waited_ns = int(Path("/proc/thread-self/schedstat").read_text().split()[1])
    except (OSError, LookupError, ValueError):
        waited_ns = 0
    return time.thread_time() + waited_ns / 1e9
