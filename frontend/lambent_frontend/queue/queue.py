"""The queue as the doors see it: takes events, answers for them, has them cancelled and run again."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from lambent_frontend.calls import Call
from lambent_frontend.invoker import Invoker
from lambent_frontend.queue.records import Record
from lambent_frontend.queue.runner import Runner
from lambent_frontend.queue.store import GIVEN_UP, Asked, Counts, Event, Key, State, Store
from lambent_frontend.wire import new_request_id
from lambent_proto.errors import InUse, InvalidRequest, PayloadTooLarge, PlatformError, UnknownRequest
from lambent_proto.ids import FunctionName, RequestId
from lambent_proto.v1 import invoke_pb2

MAX_EVENT_BYTES: Final = 1_048_576
"""Largest event of an asynchronous call: Lambda's limit, 1 MB."""

MAX_KEY: Final = 256
"""Characters of an idempotency key."""

MOST_RESULTS: Final = 100_000
"""Of calls that succeeded or were cancelled, how many are remembered at most."""

_SWEEP_S: Final = 5.0
"""How often what is too old is looked for."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an asynchronous call."""

    event: Event
    answer: bytes
    attempt: int
    """Which one runs just now; 0 if none does."""


class Queue:
    """Use it once: `run` it, then stop it."""

    def __init__(
        self,
        store: Store,
        invoker: Invoker,
        runner: Runner,
        *,
        now: Callable[[], float],
        results_s: float,
        given_up_s: float,
    ) -> None:
        self.store = store
        self._invoker = invoker
        self._runner = runner
        self._now = now
        self._results_s = results_s
        self._given_up_s = given_up_s

    async def take(self, request: invoke_pb2.InvokeRequest, event: RequestId) -> tuple[Call, RequestId]:
        """Returns once the event is on disk, with the id that it has: of a known idempotency key the first
        call's. Raises what `Invoker.checked` raises, and QueueFull.
        """
        check_size(request.payload, event)
        call = self._invoker.checked(request, event)
        key = self.key_of(request, call)
        asked = replace(asked_of(request), trace=call.given_trace)
        return call, await self._put(asked, call.payload, event, key)

    async def put_record(self, name: str, qualifier: str, record: Record) -> None:
        """A record whose destination is a function: an event as any, but it may be as large as a call's."""
        event = new_request_id()
        asked = Asked(FunctionName(name), qualifier, turn=record.turn + 1, trace=record.trace)
        request = invoke_pb2.InvokeRequest(
            function_name=f"{name}:{qualifier}".removesuffix(":"), payload=record.body
        )
        call = self._invoker.checked(request, event)
        await self._put(asked, call.payload, event, None)

    async def put_once(self, function: str, payload: bytes, event: RequestId) -> None:
        """A schedule's: put again under the same id it is the same event, as long as that is remembered.

        Not to be called for one id twice at one time. Raises what `Invoker.checked` raises, and QueueFull.
        """
        request = invoke_pb2.InvokeRequest(function_name=function, payload=payload)
        call = self._invoker.checked(request, event)
        asked = asked_of(request)
        if await self.store.get(asked.function, event) is None:
            await self._put(asked, call.payload, event, None)

    def key_of(self, request: invoke_pb2.InvokeRequest, call: Call) -> Key | None:
        """None if the caller gave none. Raises InvalidRequest."""
        text = request.idempotency_key
        if not text:
            return None
        if len(text) > MAX_KEY or not text.isprintable():
            raise InvalidRequest(
                f"the idempotency key {text[:80]!r} is not at most {MAX_KEY} characters that can be printed",
                call.request_id,
            )
        what = f"{request.function_name}\0{request.invocation_type}\0".encode() + (request.payload or b"{}")
        now = self._now()
        # No key has a line break of its own. A function that was made before it had a mark has none.
        of_function = f"{text}\n{call.definition.made}".removesuffix("\n")
        return Key(of_function, hashlib.sha256(what).digest(), now, now + self._results_s)

    async def get(self, function: FunctionName, event: RequestId) -> Known:
        """Raises UnknownRequest."""
        found = await self.store.get(function, event)
        if found is None:
            raise _unknown(function, event)
        return Known(*found, self._runner.attempt(event))

    async def list(
        self, function: FunctionName, state: State | None, after: int, most: int
    ) -> Sequence[Known]:
        found = await self.store.list(function, state, after, most)
        return [Known(it, b"", self._runner.attempt(it.id)) for it in found]

    async def counts(self) -> Counts:
        """It looks at every event: for people, now and then."""
        return await self.store.counts()

    async def cancel(self, function: FunctionName, event: RequestId) -> Known:
        """What runs just now is finished, and nobody hears of it. Raises UnknownRequest, and InUse for what
        is over.
        """
        before = await self.store.cancel(function, event, self._now())
        if before is None:
            raise _unknown(function, event)
        if before.state not in (State.QUEUED, State.RETRYING, State.CANCELLED):
            raise InUse(f"call {event} is over, {before.state.value}: there is nothing to cancel", event)
        self._runner.cancelled(before)
        return await self.get(function, event)

    async def redrive(self, function: FunctionName, event: RequestId) -> Known:
        """One that was given up has all attempts again. Raises UnknownRequest, and InUse for any other."""
        now = self._now()
        try:
            before = await self.store.redrive(function, event, now)
        except asyncio.CancelledError:  # as in `_put`
            self._runner.more(function, now)
            raise
        if before is None:
            raise _unknown(function, event)
        if before.state not in GIVEN_UP:
            raise InUse(f"call {event} is {before.state.value}: only what was given up runs again", event)
        self._runner.more(function, now)
        return await self.get(function, event)

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._runner.run())
            tasks.create_task(self._sweep())

    def take_no_more(self) -> None:
        self._runner.take_no_more()

    async def stop(self, within_s: float) -> None:
        """What runs then goes on after the next start."""
        await self._runner.stop(within_s)

    async def _put(self, asked: Asked, payload: bytes, event: RequestId, key: Key | None) -> RequestId:
        now = self._now()
        try:
            taken = await self.store.put(event, asked, payload, now, key)
        except asyncio.CancelledError:  # it is on disk all the same, and its key may be asked for again
            self._runner.more(asked.function, now)
            raise
        if taken.before is not None:
            assert key is not None
            check_same(key, taken.before.digest, event)
            return taken.before.id
        self._runner.more(asked.function, now)
        return event

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = self._now()
            bounds = now - self._results_s, now - self._given_up_s, MOST_RESULTS, now
            try:
                while await self.store.forget(*bounds):
                    pass
            except PlatformError as error:
                _log.error("queue_store_failed", error=error.message, again_in_s=_SWEEP_S)


def check_size(payload: bytes, event: RequestId) -> None:
    if len(payload) > MAX_EVENT_BYTES:
        raise PayloadTooLarge(
            f"{len(payload)} byte payload is too large for the Event invocation type (limit "
            f"{MAX_EVENT_BYTES} bytes): pass a reference to it",
            event,
        )


def check_same(key: Key, digest: bytes, event: RequestId) -> None:
    """Raises InvalidRequest if the key came with something else before."""
    if key.digest != digest:
        raise InvalidRequest(
            f"the idempotency key {key.text.splitlines()[0]!r} came with another call of this function "
            "before: take another key for another call",
            event,
        )


def asked_of(request: invoke_pb2.InvokeRequest) -> Asked:
    name, _, qualifier = request.function_name.partition(":")
    return Asked(
        FunctionName(name),
        qualifier,
        request.client_context,
        request.priority,
        request.tenant,
        request.sticky_key,
    )


def _unknown(function: FunctionName, event: RequestId) -> UnknownRequest:
    return UnknownRequest(
        f"no asynchronous call {event} of {function!r} is known, or it is forgotten by now: of a queue in a "
        "file nobody knows while its frontend is not there",
        event,
    )
