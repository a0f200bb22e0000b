"""Synchronous calls with an idempotency key: run once, and answered as often as the caller asks."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Final

import msgpack
import structlog

from lambent_chassis.clock import monotonic_s
from lambent_frontend.calls import Answer, Call
from lambent_frontend.invoker import Invoker
from lambent_frontend.queue.queue import check_same
from lambent_frontend.queue.store import Kept, Key, Store
from lambent_proto.errors import (
    DeadlinePassed,
    LambentError,
    LostWithWorker,
    NotReady,
    PlatformError,
    Throttled,
)
from lambent_proto.ids import FunctionName, RequestId

LOOK_S: Final = 0.25
"""Between two looks for the answer of a call that another frontend has under way."""
GONE_S: Final = 10.0
"""How long a frontend is not seen before its calls are taken for lost: two of its leases."""

_log = structlog.get_logger()


class Once:
    def __init__(
        self, store: Store, invoker: Invoker, is_there: Callable[[str], bool] = lambda frontend: False
    ) -> None:
        """`is_there` says whether another frontend lives."""
        self._store = store
        self._invoker = invoker
        self._is_there = is_there
        self._running: dict[tuple[FunctionName, str], asyncio.Task[Answer]] = {}

    async def run(self, call: Call, key: Key) -> tuple[RequestId, Answer]:
        """The first call's id and answer; who comes while it runs, here or at another frontend, waits for it,
        as long as his own call may take. It goes on if its caller goes away. Raises whatever LambentError it
        ended with.

        What certainly never ran leaves the key free. LostWithWorker if the first call was under way when its
        frontend ended: the key is used, and nobody knows what for.
        """
        seen = monotonic_s()
        by = seen + call.deadline_s
        while True:
            found = await asyncio.shield(asyncio.ensure_future(self._begun(call, key)))
            if not isinstance(found, Kept):
                return call.request_id, await asyncio.shield(found)
            check_same(key, found.digest, call.request_id)
            running = self._running.get((call.definition.name, key.text))
            if found.answer is not None or running is not None or not found.at:
                return found.id, await self._answer(found, running, call)
            await asyncio.sleep(LOOK_S)
            now = monotonic_s()
            if now >= by:
                raise _still_runs(found)
            if self._is_there(found.at):
                seen = now
            elif now - seen > GONE_S:
                raise _lost(found)
            call = replace(call, deadline_s=by - now)

    async def _begun(self, call: Call, key: Key) -> "Kept | asyncio.Task[Answer]":
        """What the key stands for already, or the call. A key that is kept has a call begun, whoever left."""
        of = call.definition.name, key.text
        known = await self._store.reserve(call.definition.name, key, call.request_id)
        if known is not None:
            return known
        task = self._running[of] = asyncio.create_task(self._first(call, key))
        task.add_done_callback(lambda task: self._ended(of, task))
        return task

    async def _first(self, call: Call, key: Key) -> Answer:
        name = call.definition.name
        answer: Answer | LambentError
        try:
            answer = await self._invoker.run(call)
            said: bytes | None = bytes(msgpack.packb(asdict(answer)))
        except LambentError as error:
            answer = error
            ran = isinstance(error, PlatformError) and not isinstance(error, Throttled | NotReady)
            said = bytes(msgpack.packb({"error": error.message})) if ran else None
        try:
            await self._store.answered(name, key, said)
        except PlatformError as error:  # the caller has the answer all the same; it is used up for others
            _log.error("answer_not_kept", function=name, request_id=call.request_id, error=error.message)
        if isinstance(answer, LambentError):
            raise answer
        return answer

    def _ended(self, of: tuple[FunctionName, str], task: "asyncio.Task[Answer]") -> None:
        if self._running.get(of) is task:  # else its key was free again, and another call has it by now
            del self._running[of]
        if not task.cancelled():
            task.exception()  # heard, also where its caller has gone away

    async def _answer(self, known: Kept, running: "asyncio.Task[Answer] | None", call: Call) -> Answer:
        if known.answer is not None:
            return _unpacked(known)
        if running is None:
            raise _lost(known)
        try:
            async with asyncio.timeout(call.deadline_s):
                return await asyncio.shield(running)
        except TimeoutError:
            raise _still_runs(known) from None


def _lost(known: Kept) -> LostWithWorker:
    return LostWithWorker(
        f"call {known.id} with this idempotency key was under way when its frontend ended, and may "
        "have run: take another key to have it run again",
        known.id,
    )


def _still_runs(known: Kept) -> DeadlinePassed:
    return DeadlinePassed(f"call {known.id} with this idempotency key still runs", known.id)


def _unpacked(known: Kept) -> Answer:
    fields = msgpack.unpackb(known.answer or b"")
    if "error" in fields:
        raise LostWithWorker(f"call {known.id} with this idempotency key failed: {fields['error']}", known.id)
    return Answer(**fields)
