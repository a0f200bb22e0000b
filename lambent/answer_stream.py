"""One invocation whose answer comes in parts, as its function writes them."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

import grpc.aio

from lambent.rpc import pauses
from lambent_proto.errors import LambentError, LostWithWorker, NotReady
from lambent_proto.status import from_rpc
from lambent_proto.v1 import invoke_pb2

if TYPE_CHECKING:
    from lambent_proto.v1.invoke_pb2_grpc import InvocationsAsyncStub


class AnswerStream:
    """From `Client.invoke_with_response_stream`:

        async with client.invoke_with_response_stream("report", {"year": 2025}) as answer:
            async for part in answer:
                print(part)
        if answer.function_error:
            print("it failed:", answer.error)

    Entering waits until the answer begins, and sends again what certainly never ran, as `invoke` does; it
    and iterating raise LambentError. A function that fails, even in the middle, raises nothing:
    `function_error` says so. Leaving before the end does not stop the function.
    """

    content_type: str
    """Of the parts, as the runtime said it. Known once it is entered, as the next two."""
    executed_version: str
    request_id: str
    function_error: str
    """Empty on success, else `Unhandled`. Known behind the last part, as all that follows."""
    error: bytes
    """Lambda's error document; empty on success."""
    tail: bytes
    """The last 4 KB of the log, when asked for."""
    explanation: invoke_pb2.Explanation

    def __init__(
        self,
        stub: "InvocationsAsyncStub",
        request: invoke_pb2.InvokeRequest,
        within_s: float | None,
        retries: int,
    ) -> None:
        self._stub = stub
        self._request = request
        self._within_s = within_s
        self._retries = retries
        self._over = False

    async def __aenter__(self) -> Self:
        for pause_s in (*pauses(self._retries), None):
            try:
                await self._begin()
                return self
            except NotReady:
                self._call.cancel()
                if pause_s is None:
                    raise
                await asyncio.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self._call.cancel()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._over:
            raise StopAsyncIteration
        try:
            event = await self._next()
        except NotReady as error:  # it has begun, whoever cut it off
            raise LostWithWorker(f"the answer was cut off, and is not whole: {error.message}") from error
        if event.HasField("ended"):
            self._end(event.ended)
            raise StopAsyncIteration
        return event.part

    async def _begin(self) -> None:
        self._call = self._stub.InvokeWithResponseStream(self._request, timeout=self._within_s)
        self._events = aiter(self._call)
        begun = (await self._next()).begun
        self.content_type = begun.content_type
        self.executed_version = begun.executed_version
        self.request_id = begun.request_id

    async def _next(self) -> invoke_pb2.InvokeWithResponseStreamResponse:
        """Raises LambentError."""
        try:
            return await anext(self._events)
        except StopAsyncIteration:
            error: LambentError = LostWithWorker("the frontend ended the answer before its end")
        except grpc.aio.AioRpcError as failed:
            error = from_rpc(failed)
        self._over = True
        raise error

    def _end(self, ended: invoke_pb2.AnswerEnded) -> None:
        self._over = True
        self.function_error = ended.function_error
        self.error = ended.error
        self.tail = ended.log_tail
        self.explanation = ended.explanation
