"""Synchronous calls with an idempotency key: run once, and answered as often as the caller asks."""

import asyncio
from dataclasses import asdict

import msgpack
import structlog

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

_log = structlog.get_logger()


class Once:
    def __init__(self, store: Store, invoker: Invoker) -> None:
        self._store = store
        self._invoker = invoker
        self._running: dict[tuple[FunctionName, str], asyncio.Task[Answer]] = {}

    async def run(self, call: Call, key: Key) -> tuple[RequestId, Answer]:
        """The first call's id and answer; who comes while it runs waits for it, as long as his own call may
        take. It goes on if its caller goes away. Raises whatever LambentError it ended with.

        What certainly never ran leaves the key free. LostWithWorker if the first call was under way when its
        frontend ended: the key is used, and nobody knows what for.
        """
        of = call.definition.name, key.text
        known = await self._store.reserve(call.definition.name, key, call.request_id)
        if known is None:
            task = self._running[of] = asyncio.create_task(self._first(call, key))
            task.add_done_callback(lambda task: self._ended(of, task))
            return call.request_id, await asyncio.shield(task)
        check_same(key, known.digest, call.request_id)
        return known.id, await self._answer(known, self._running.get(of), call)

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
        del self._running[of]
        if not task.cancelled():
            task.exception()  # heard, also where its caller has gone away

    async def _answer(self, known: Kept, running: "asyncio.Task[Answer] | None", call: Call) -> Answer:
        if known.answer is not None:
            return _unpacked(known)
        if running is None:
            raise LostWithWorker(
                f"call {known.id} with this idempotency key was under way when its frontend ended, and may "
                "have run: take another key to have it run again",
                known.id,
            )
        try:
            async with asyncio.timeout(call.deadline_s):
                return await asyncio.shield(running)
        except TimeoutError:
            raise DeadlinePassed(f"call {known.id} with this idempotency key still runs", known.id) from None


def _unpacked(known: Kept) -> Answer:
    fields = msgpack.unpackb(known.answer or b"")
    if "error" in fields:
        raise LostWithWorker(f"call {known.id} with this idempotency key failed: {fields['error']}", known.id)
    return Answer(**fields)
