"""Carries events from the store to the dispatcher and their outcomes back: the shell around the queue's core.

An event leaves its lane in the store only when its end is written there. So whatever dies in between, it is
run again: at least once, never less.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Final, Protocol, TypeVar

import structlog

from lambent_frontend.calls import Answer, Counted
from lambent_frontend.invoker import Invoker
from lambent_frontend.queue.core.lanes import Fetch, Lanes, Run, pause_s
from lambent_frontend.queue.core.verdict import (
    Again,
    Condition,
    Outcome,
    Over,
    Policy,
    after,
    delivery_again,
    too_old,
)
from lambent_frontend.queue.destinations import (
    GoesRound,
    Refused,
    destination_of,
    is_dead_letter,
    is_delivery,
    shown,
)
from lambent_frontend.queue.records import Record, dead_letter, invocation_record
from lambent_frontend.queue.store import Asked, Ending, Event, State, Store
from lambent_proto.definition import Definition
from lambent_proto.errors import LambentError, NotReady, PlatformError, Throttled
from lambent_proto.ids import FunctionName, RequestId
from lambent_proto.v1 import invoke_pb2

T = TypeVar("T")

MOST_RUNNING: Final = 1000
MOST_BYTES: Final = 64 * 1024 * 1024
"""Of events that run at one time, over all functions of this frontend."""

DELIVERIES: Final = 8
"""Of one destination at one time: one that hangs, or the many of a host that does, shall not take the places
of events."""

_STILL_RUNS_S: Final = 1.0
"""When an event is looked at again of which an earlier attempt, long given up, still runs."""

_THROTTLED, _DELIVERED, _REFUSED = (Counted("attempt", it) for it in ("throttled", "delivered", "refused"))

_log = structlog.get_logger()


class Rules(Protocol):
    def policy(self, asked: Asked) -> Policy: ...

    def targets(self, asked: Asked, condition: Condition) -> tuple[str, ...]: ...


class Definitions(Protocol):
    def get(self, name: FunctionName) -> Definition | None: ...


Deliver = Callable[[str, Record], Awaitable[None]]
"""Of the lane and the record; raises Refused."""


@dataclass(slots=True)
class _Attempt:
    run: Run
    event: Event
    version: str


class Runner:
    def __init__(
        self,
        store: Store,
        invoker: Invoker,
        definitions: Definitions,
        rules: Rules,
        deliver: Deliver,
        counts: Counter[Counted],
        *,
        now: Callable[[], float],
        most_in_lane: int,
    ) -> None:
        self._store = store
        self._invoker = invoker
        self._definitions = definitions
        self._rules = rules
        self._deliver = deliver
        self._now = now
        self._lanes = Lanes(
            widest=lambda lane: min(DELIVERIES, most_in_lane) if is_delivery(lane) else most_in_lane,
            most_running=MOST_RUNNING,
            most_bytes=MOST_BYTES,
        )
        self._running: dict[RequestId, _Attempt] = {}
        self._woken = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._counts = counts
        """How attempts and deliveries ended."""

    # For the doors

    def more(self, lane: str, due: float) -> None:
        """The store has taken one more."""
        self._lanes.more(lane, due)
        self._woken.set()

    def attempt(self, event: RequestId) -> int:
        """Which one runs just now; 0 if none does."""
        found = self._running.get(event)
        return found.event.tally.attempts + found.event.tally.breaks + 1 if found else 0

    def cancelled(self, event: Event) -> None:
        """The store has it cancelled: what runs is finished by its instance, unheard."""
        attempt = self._running.pop(event.id, None)
        if attempt is None:
            self._lanes.cancelled(event.asked.function, event.item.number)
        else:
            self._invoker.dispatcher.abandon(event.id)
            self._lanes.over(attempt.run.lane, attempt.run.item)
        self._woken.set()

    def wake(self) -> None:
        """The clock may have been set."""
        self._woken.set()

    # Its life

    async def run(self) -> None:
        """Until it is cancelled. What waited in the store when this frontend began goes on first."""
        found = await self._insisting(self._store.lanes)
        if found:
            _log.info("queue_resumed", lanes=len(found))
        for lane, due in found:
            self._lanes.more(lane, due)
        while True:
            self._woken.clear()
            self._step()
            wait_s = self._lanes.wake_at() - self._now()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if wait_s == inf else max(wait_s, 0.0)):
                    await self._woken.wait()

    def take_no_more(self) -> None:
        """No attempt begins from now on; those under way may end."""
        self._stopping = True

    async def stop(self, within_s: float) -> None:
        """Waits for what runs. What does not end is run again by whoever opens the store next."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._running or self._tasks:
                    self._woken.clear()
                    await self._woken.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _step(self) -> None:
        if self._stopping:
            return
        runs = []
        for command in self._lanes.next(self._now()):
            if isinstance(command, Fetch):
                self._go(self._fetch(command))
            else:
                runs.append(command)
        if runs:
            self._go(self._load(runs))

    def _go(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._gone)

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._woken.set()
        if not task.cancelled() and (error := task.exception()):
            _log.error("queue_fault", exc_info=error)

    async def _fetch(self, command: Fetch) -> None:
        found = await self._insisting(lambda: self._store.next(command.lane, command.most + 1))
        now = self._now()
        items = [item for item in found[: command.most] if item.due <= now]
        left = found[len(items) :]
        self._lanes.fetched(command.lane, items, left[0].due if left else inf)

    async def _load(self, runs: list[Run]) -> None:
        loaded = {it[0].item.number: it for it in await self._insisting(lambda: self._store.load(runs))}
        for run in runs:
            found = loaded.get(run.item.number)
            if found is None:  # it was cancelled meanwhile, or another frontend has run it
                self._lanes.over(run.lane, run.item)
            elif is_delivery(run.lane):
                self._go(self._deliver_one(run, *found))
            else:
                self._begin(run, found[0], found[1])

    # An attempt

    def _begin(self, run: Run, event: Event, payload: bytes) -> None:
        definition = self._definitions.get(event.asked.function)
        if self._invoker.dispatcher.under_way(event.id):
            self._lanes.postponed(run.lane, run.item, self._now() + _STILL_RUNS_S)
        elif too_old(event.tally, self._rules.policy(event.asked), self._now()):
            self._go(self._over(run, event, Over(Condition.EVENT_AGE_EXCEEDED, event.tally), "", None))
        elif definition is not None and definition.concurrency == 0:
            self._judge(run, event, Outcome.SWITCHED_OFF, "its concurrency is 0")
        else:
            self._submit(run, event, payload)

    def _submit(self, run: Run, event: Event, payload: bytes) -> None:
        asked = event.asked
        request = invoke_pb2.InvokeRequest(
            function_name=f"{asked.function}:{asked.qualifier}" if asked.qualifier else asked.function,
            payload=payload,
            client_context=asked.client_context,
            priority=invoke_pb2.Priority.ValueType(asked.priority),
            tenant=asked.tenant,
            sticky_key=asked.sticky_key,
            trace=asked.trace,
        )
        try:
            call = self._invoker.checked(request, event.id)
        except LambentError as error:
            self._ended(_Attempt(run, event, ""), error)
            return
        attempt = self._running[event.id] = _Attempt(run, event, call.definition.version)
        self._invoker.dispatcher.submit(call, partial(self._ended, attempt))

    def _ended(self, attempt: _Attempt, outcome: Answer | LambentError) -> None:
        """Nothing is heard of one that was cancelled."""
        run, event = attempt.run, attempt.event
        self._running.pop(event.id, None)
        if isinstance(outcome, Answer):
            self._lanes.went_well(run.lane)
            kind = Outcome.FAILED if outcome.failed else Outcome.SUCCEEDED
            self._judge(run, event, kind, "", attempt.version, outcome)
        elif isinstance(outcome, Throttled | NotReady):
            self._counts[_THROTTLED] += 1
            self._lanes.throttled(run.lane, run.item, self._now())
        else:  # of what was checked when it came nothing can be wrong but that the function is gone
            kind = Outcome.BROKEN if isinstance(outcome, PlatformError) else Outcome.GONE
            self._judge(run, event, kind, outcome.message)
        self._woken.set()

    def _judge(
        self,
        run: Run,
        event: Event,
        outcome: Outcome,
        message: str,
        version: str = "",
        answer: Answer | None = None,
    ) -> None:
        self._counts[Counted("attempt", outcome.value)] += 1
        verdict = after(outcome, event.tally, self._rules.policy(event.asked), self._now())
        if isinstance(verdict, Again):
            self._go(self._again(run, verdict, message or _said(answer)))
        else:
            self._go(self._over(run, event, verdict, version, answer, message))

    async def _again(self, run: Run, verdict: Again, message: str) -> None:
        if await self._insisting(lambda: self._store.again(run, verdict.due, verdict.tally, message)):
            self._lanes.postponed(run.lane, run.item, verdict.due)
        else:
            self._lanes.over(run.lane, run.item)

    async def _over(
        self,
        run: Run,
        event: Event,
        verdict: Over,
        version: str,
        answer: Answer | None,
        message: str = "",
    ) -> None:
        good = verdict.condition is Condition.SUCCESS
        ending = Ending(
            State.SUCCEEDED if good else State.DEAD,
            verdict.condition.value,
            self._rules.targets(event.asked, verdict.condition),
            failed=answer.failed if answer else False,
            version=version,
            message=message,
            running_ms=answer.running_ms if answer else 0.0,
            ended=self._now(),
        )
        if not good:
            _log.warning(
                "event_given_up", function=event.asked.function, request_id=event.id, why=ending.condition
            )
        await self._write_end(run, event, ending, verdict, answer.payload if answer else None)

    async def _write_end(
        self, run: Run, event: Event, ending: Ending, verdict: Over, answer: bytes | None
    ) -> None:
        now = self._now()
        written = await self._insisting(lambda: self._store.end(run, ending, verdict.tally, now, answer))
        self._lanes.over(run.lane, run.item)
        if written and ending.targets:
            self.more(ending.targets[0], now)

    # A delivery

    async def _deliver_one(self, run: Run, event: Event, payload: bytes, answer: bytes) -> None:
        ending = event.ending
        assert ending is not None
        made = dead_letter if is_dead_letter(run.lane) else invocation_record
        try:
            await self._deliver(run.lane, made(event, payload, answer))
        except GoesRound as error:
            await self._stopped(run, event, ending, str(error))
            return
        except Refused as error:
            await self._not_delivered(run, event, ending, str(error))
            return
        except Exception as error:  # noqa: BLE001 - whatever an adapter's library raises, it was not taken
            await self._not_delivered(run, event, ending, f"{type(error).__name__}: {error}")
            return
        self._counts[_DELIVERED] += 1
        state = State.FAILED if ending.state is State.DEAD else ending.state
        await self._next_target(run, event, replace(ending.without_first_target(), state=state))

    async def _stopped(self, run: Run, event: Event, ending: Ending, why: str) -> None:
        """Whoever looks for what is dead shall find it, though the function may have succeeded."""
        self._counts[_REFUSED] += 1
        _log.error("event_goes_round", function=event.asked.function, request_id=event.id, why=why)
        said = f"{ending.message}; {why}".removeprefix("; ")
        over = replace(ending.without_first_target(), state=State.DEAD, message=said)
        await self._next_target(run, event, over)

    async def _not_delivered(self, run: Run, event: Event, ending: Ending, why: str) -> None:
        self._counts[_REFUSED] += 1
        failures = ending.deliveries + 1
        due = delivery_again(failures, self._now())
        if due is None:
            _log.error(
                "delivery_given_up", destination=shown(destination_of(run.lane)), request_id=event.id, why=why
            )
            said = f"{ending.message}; {why}".removeprefix("; ")
            await self._next_target(run, event, replace(ending.without_first_target(), message=said))
            return
        again = replace(ending, deliveries=failures)
        await self._insisting(lambda: self._store.end(run, again, event.tally, due))
        self._lanes.postponed(run.lane, run.item, due)

    async def _next_target(self, run: Run, event: Event, ending: Ending) -> None:
        await self._write_end(run, event, ending, Over(Condition(ending.condition), event.tally), None)

    async def _insisting(self, work: Callable[[], Awaitable[T]]) -> T:
        """Until the store does it: what has ended must not be forgotten because a disk is full."""
        for failures in range(1, 1_000_000):
            try:
                return await work()
            except PlatformError as error:
                _log.error("queue_store_failed", error=error.message, again_in_s=pause_s(failures))
                await asyncio.sleep(pause_s(failures))
        raise AssertionError("a million pauses")


def _said(answer: Answer | None) -> str:
    """The beginning of a function's error, for people."""
    return answer.payload[:256].decode(errors="replace") if answer else ""
