"""Fires each time of each schedule once in the whole fleet: the shell around the schedules' core.

Whoever first swaps a schedule's progress has the time, and puts the event into its own queue. Should it die
in between, another one finishes that under the same request id: at least once, and the id tells duplicates.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from math import inf
from typing import Final, Protocol

import structlog

from lambent_chassis.etcd import Compare, Put
from lambent_frontend import commits
from lambent_frontend.queue.queue import Known as Queued
from lambent_frontend.queue.store import State
from lambent_frontend.schedules import view
from lambent_frontend.schedules.core import Decision, Due, Turn, decide, next_due
from lambent_frontend.schedules.event import event_of, request_id_of
from lambent_frontend.schedules.records import Progress, Replaced
from lambent_frontend.schedules.view import Defined, Known, View
from lambent_proto import keys
from lambent_proto.errors import CallerError, InUse, LambentError, PlatformError, UnknownRequest
from lambent_proto.ids import FrontendId, FunctionName, RequestId

TAKEN_OVER_S: Final = 10.0
"""How long an event may be on its way into a queue before another frontend sees to it."""

SPREAD_S: Final = 0.25
"""Each frontend waits a part of this of its own, another one for each schedule: most of them then find the
time dealt with already, and the schedules are shared out."""

LOOK_S: Final = 1.0
"""How often the queue is asked whether an event is over."""

SURELY_OVER_S: Final = 22_500.0
"""After that an event counts as over, also if nobody has said so as its frontend is gone for good: no event
grows older than 6 hours in a queue, and no attempt takes longer than 15 minutes."""

MOST_REPLACED: Final = 20
"""Frontends, with the last event of each that gave way, which are remembered of a schedule."""

_AGAIN_S: Final = 1.0
"""After a turn that failed, or that another frontend had, if no news come first."""

_MOST_WAIT_S: Final = 10.0
"""The machine's clock may be set meanwhile."""

_log = structlog.get_logger()


class Store(commits.Store, view.Store, Protocol):
    """What is needed of `lambent_chassis.etcd.Etcd`."""


class Queue(Protocol):
    """What is needed of `lambent_frontend.queue.queue.Queue`."""

    async def put_once(self, function: str, payload: bytes, event: RequestId) -> None: ...

    async def get(self, function: FunctionName, event: RequestId) -> Queued: ...

    async def cancel(self, function: FunctionName, event: RequestId) -> Queued: ...


@dataclass(slots=True)
class _Own:
    """What this frontend alone knows of a schedule."""

    part_s: float
    """Of SPREAD_S."""
    held_until: float = -inf
    event: str = ""
    """The schedule's last one, once its news have been dealt with."""
    mine: bool | None = None
    """Whether the event is in this frontend's queue; None: not looked for yet."""
    look_at: float = -inf
    counted: tuple[int, float] | None = None
    due: Due | None = None
    """As counted from there."""
    complaint: str = ""


class Clock:
    """`now` gives the Unix time in seconds; `wake` is called when it was set."""

    def __init__(self, store: Store, queue: Queue, frontend: FrontendId, *, now: Callable[[], float]) -> None:
        self._store = store
        self._queue = queue
        self._frontend = frontend
        self._now = now
        self._view = View(now, self._news)
        self._own: dict[str, _Own] = {}
        self._woken = asyncio.Event()
        self._stopping = False

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._view.follow(self._store))
            while True:
                self._woken.clear()
                await self._turns([name for name in self._view.known if self._turn_at(name) <= self._now()])
                wait_s = min(map(self._turn_at, self._view.known), default=inf) - self._now()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(max(wait_s, 0.0), _MOST_WAIT_S)):
                        await self._woken.wait()

    def take_no_more(self) -> None:
        """From now on all is left to the others."""
        self._stopping = True

    def wake(self) -> None:
        self._woken.set()

    def _news(self) -> None:
        self._own = {name: own for name, own in self._own.items() if name in self._view.known}
        for own in self._own.values():
            own.held_until = -inf
        self.wake()

    # When

    def _turn_at(self, name: str) -> float:
        known, own = self._view.known[name], self._own_of(name)
        if self._stopping or known.defined is None or not known.readable:
            return inf
        progress = known.progress
        if progress is not None and not progress.queued:
            unfinished = progress.frontend == self._frontend and own.mine and own.event == progress.request_id
            at = -inf if unfinished else known.seen_at + TAKEN_OVER_S + own.part_s
        elif progress is not None and progress.request_id != own.event:
            at = -inf
        else:
            looks = progress is not None and progress.running and own.mine is not False
            at = min(own.look_at if looks else inf, self._due_at(known, known.defined, own))
        return max(at, own.held_until)

    def _own_of(self, name: str) -> _Own:
        if (own := self._own.get(name)) is None:
            digest = blake2b(f"{self._frontend} {name}".encode(), digest_size=8).digest()
            own = self._own[name] = _Own(SPREAD_S * int.from_bytes(digest) / 2**64)
        return own

    def _due_at(self, known: Known, defined: Defined, own: _Own) -> float:
        if not defined.schedule.enabled:
            return inf
        count = known.revision, known.decided_until
        if own.counted != count:
            own.counted, own.due = count, next_due(defined.schedule, defined.after, known.decided_until)
        return own.due.put_off_to + own.part_s if own.due else inf

    # A turn

    async def _turns(self, names: Sequence[str]) -> None:
        for name, failed in zip(
            names, await asyncio.gather(*map(self._turn, names), return_exceptions=True), strict=True
        ):
            if isinstance(failed, BaseException):
                self._own_of(name).held_until = self._now() + _AGAIN_S
                _log.error("schedule_fault", schedule=name, exc_info=failed)

    async def _turn(self, name: str) -> None:
        known, own = self._view.known.get(name), self._own_of(name)
        if known is None or known.defined is None:  # gone meanwhile
            return
        try:
            if known.progress is not None and not known.progress.queued:
                await self._take_over(name, known, known.defined, own, known.progress)
                return
            if known.progress is not None:
                await self._look(name, known, own, known.progress)
            await self._decide(name, known, own)
        except LambentError as error:
            own.held_until = self._now() + _AGAIN_S
            _log.warning("schedule_put_off", schedule=name, error=error.message, again_in_s=_AGAIN_S)

    async def _decide(self, name: str, known: Known, own: _Own) -> None:
        defined, before, now = known.defined, known.progress, self._now()
        if defined is None or self._due_at(known, defined, own) > now:
            return
        due = own.due
        assert due is not None
        runs = before is not None and before.running and now - before.fired_at < SURELY_OVER_S
        decision = decide(defined.schedule, defined.after, due, now, before_runs=runs)
        if decision.turn in (Turn.MISSED, Turn.OVERLAPS):
            why, until = decision.turn.name.lower(), decision.decided_until
            left = replace(before or Progress(decided_until=until), decided_until=until, left_out=why)
            if await self._claim(name, known, own, left) is not None:
                _log.info("schedule_left_out", schedule=name, due=due.at, why=why)
            return
        claim = self._firing(defined, due, decision, before)
        if (revision := await self._claim(name, known, own, claim)) is not None:
            await self._put(name, defined, own, claim, revision)

    def _firing(self, defined: Defined, due: Due, decision: Decision, before: Progress | None) -> Progress:
        return Progress(
            decided_until=decision.decided_until,
            due=due.at,
            request_id=request_id_of(defined.schedule.name, due.at),
            function=defined.schedule.function,
            fired_at=self._now(),
            frontend=self._frontend,
            queued=False,
            running=True,
            replaced=self._replaced(before, also_last=decision.turn is Turn.REPLACE) if before else [],
        )

    def _replaced(self, before: Progress, *, also_last: bool) -> list[Replaced]:
        """What a frontend replaced earlier it has cancelled by the time that it has another event."""
        young = [it for it in before.replaced if self._now() - it[3] < SURELY_OVER_S]
        if not also_last:
            return young
        name = before.frontend.rpartition(".")[0]
        last = name, before.request_id, before.function, before.fired_at
        return [*(it for it in young if it[0] != name), last][-MOST_REPLACED:]

    async def _take_over(
        self, name: str, known: Known, defined: Defined, own: _Own, progress: Progress
    ) -> None:
        taken = replace(progress, frontend=self._frontend, fired_at=self._now())
        if (revision := await self._claim(name, known, own, taken)) is not None:
            _log.warning("schedule_taken_over", schedule=name, of=progress.frontend, due=progress.due)
            await self._put(name, defined, own, taken, revision)

    async def _put(self, name: str, defined: Defined, own: _Own, progress: Progress, revision: int) -> None:
        """What fails here for now stays as it is, and is taken over."""
        own.event, own.mine = progress.request_id, None
        done = replace(progress, queued=True)
        try:
            await self._cancel_replaced(progress)
            request_id = RequestId(progress.request_id)
            payload = event_of(defined.schedule, progress.due, request_id)
            await self._queue.put_once(progress.function, payload, request_id)
            own.mine, own.look_at, own.complaint = True, self._now() + LOOK_S, ""
        except CallerError as error:
            done = replace(done, running=False, outcome=f"refused: {error.message}")
            if own.complaint != error.message:
                own.complaint = error.message
                _log.error("schedule_cannot_fire", schedule=name, error=error.message)
        except PlatformError as error:
            _log.warning("schedule_put_off", schedule=name, error=error.message, again_in_s=TAKEN_OVER_S)
            return
        await self._write(name, done, revision)

    # What became of the last one

    async def _look(self, name: str, known: Known, own: _Own, progress: Progress) -> None:
        revision = known.progress_revision  # there may be news meanwhile
        if own.event != progress.request_id:
            await self._cancel_replaced(progress)
            own.event, own.mine, own.look_at = progress.request_id, None, -inf
        if not progress.running or own.mine is False or own.look_at > self._now():
            return
        own.look_at = self._now() + LOOK_S
        if outcome := await self._outcome(own, progress):
            await self._write(name, replace(progress, running=False, outcome=outcome), revision)

    async def _outcome(self, own: _Own, progress: Progress) -> str:
        """Empty as long as it is not over, or another frontend's."""
        try:
            found = await self._queue.get(_name(progress.function), RequestId(progress.request_id))
        except UnknownRequest:
            forgotten = own.mine
            own.mine = False
            return "forgotten" if forgotten else ""
        own.mine = True
        state, ending = found.event.state, found.event.ending
        if state in (State.QUEUED, State.RETRYING):
            return ""
        if ending is None:
            return str(state.value)
        return "succeeded" if ending.state is State.SUCCEEDED else f"failed: {ending.condition}"

    async def _cancel_replaced(self, progress: Progress) -> None:
        """Those that are in this frontend's queue, and are not over."""
        for _, request_id, function, _ in progress.replaced:
            with contextlib.suppress(UnknownRequest, InUse):
                await self._queue.cancel(_name(function), RequestId(request_id))

    # One way to write

    async def _claim(self, name: str, known: Known, own: _Own, progress: Progress) -> int | None:
        """Of all frontends one succeeds, and none if the schedule was changed meanwhile."""
        seen = known.revision, known.progress_revision
        fence = Compare.mod_revision(keys.schedule(name), seen[0])
        revision = await self._write(name, progress, seen[1], fence)
        now = self._view.known.get(name)
        if revision is None and now is not None and (now.revision, now.progress_revision) == seen:
            own.held_until = self._now() + _AGAIN_S  # until there is news, which may have come first
        return revision

    async def _write(self, name: str, progress: Progress, before: int, *fences: Compare) -> int | None:
        """The revision; None, and nothing is written, if it is not as it was at `before` any more."""
        key = keys.fired(name)
        fences = Compare.mod_revision(key, before), *fences
        of = f"the progress of schedule {name!r}"
        revision = await commits.commit(self._store, fences, [Put(key, progress.encode())], of)
        if revision is not None:
            self._view.moved(name, progress, revision)
        return revision


def _name(function: str) -> FunctionName:
    """Without the qualifier."""
    return FunctionName(function.partition(":")[0])
