"""Many invocations over one stream: those begun while a message is being written go together in the next."""

import asyncio
from collections import deque
from collections.abc import Mapping
from itertools import count
from types import TracebackType
from typing import Final, Self

import grpc.aio

from lambent.messages import Invocation, Priority, fill_request, invocation_of
from lambent_proto.errors import (
    DeadlinePassed,
    LambentError,
    LostWithWorker,
    NoCredentials,
    NotReady,
    UnknownKey,
)
from lambent_proto.status import from_rpc, from_service_error
from lambent_proto.v1 import invoke_pb2, invoke_pb2_grpc

GRACE_S: Final = 2.0
"""The frontend answers within a second of the deadline; the client gives up this long after it."""

MAX_MESSAGE_BYTES: Final = 1024 * 1024
"""A message takes no further invocation once it has so many bytes."""


class InvocationStream:
    """From `Client.stream()`; an async context manager that ends once all that was begun is answered."""

    def __init__(self, stub: "invoke_pb2_grpc.InvocationsAsyncStub") -> None:
        self._call = stub.InvokeStream()
        self._loop = asyncio.get_running_loop()
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[Invocation]] = {}
        self._gathered: deque[invoke_pb2.InvokeStreamRequest] = deque()
        self._gathered_bytes = 0  # of the last message
        self._unsent: set[int] = set()
        self._writer_wake: asyncio.Future[None] | None = None
        self._closing = False
        self._over: LambentError | None = None
        self._heard = False
        """The frontend has this stream."""
        self._writer = asyncio.create_task(self._write())
        self._reader = asyncio.create_task(self._read())

    @property
    def is_over(self) -> bool:
        """Whether it takes no more."""
        return self._over is not None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
        else:
            await self.abort()

    async def invoke(
        self,
        name: str,
        payload: bytes | object = b"",
        *,
        tail: bool = False,
        timeout_s: float | None = None,
        client_context: Mapping[str, object] | None = None,
        priority: Priority = "normal",
        tenant: str = "",
        sticky_key: str = "",
    ) -> Invocation:
        """As `Client.invoke`. Giving up on it (cancelling) does not stop a function that runs; what stands in
        line leaves it.
        """
        if self._over is not None:
            raise NotReady(f"the stream is over, open another one: {self._over}")
        request = invoke_pb2.InvokeRequest()
        fill_request(
            request,
            name,
            payload,
            tail=tail,
            timeout_s=timeout_s,
            client_context=client_context,
            priority=priority,
            tenant=tenant,
            sticky_key=sticky_key,
        )
        number = next(self._numbers)  # of what is sent alone: the frontend counts how many it takes
        self._next_message().invocations.add(id=number, request=request)
        self._gathered_bytes += len(request.payload)
        answer: asyncio.Future[Invocation] = self._loop.create_future()
        self._waiting[number] = answer
        self._unsent.add(number)
        self._wake_writer()
        try:
            if timeout_s is None:
                return await answer
            async with asyncio.timeout(timeout_s + GRACE_S):
                return await answer
        except TimeoutError:
            raise DeadlinePassed(
                "the deadline passed and the frontend did not answer; it may have run"
            ) from None
        finally:
            del self._waiting[number]
            if not answer.done() or answer.cancelled():
                self._give_up(number)

    async def close(self) -> None:
        """Sends no more, waits for the answers that are due, and ends the stream."""
        self._over = self._over or NotReady("it was closed")
        self._closing = True
        self._wake_writer()
        await self._writer
        await self._reader

    async def abort(self) -> None:
        """Ends the stream at once; what was begun fails here, though it may have run."""
        self._over = self._over or NotReady("it was aborted")
        self._closing = True
        self._call.cancel()
        self._writer.cancel()
        await asyncio.gather(self._writer, self._reader, return_exceptions=True)

    def _give_up(self, number: int) -> None:
        if self._over is None:
            self._next_message().cancelled.append(number)
            self._wake_writer()

    def _next_message(self) -> invoke_pb2.InvokeStreamRequest:
        if not self._gathered or self._gathered_bytes > MAX_MESSAGE_BYTES:
            self._gathered.append(invoke_pb2.InvokeStreamRequest())
            self._gathered_bytes = 0
        return self._gathered[-1]

    def _wake_writer(self) -> None:
        if self._writer_wake is not None:
            self._writer_wake.set_result(None)
            self._writer_wake = None

    async def _write(self) -> None:
        try:
            while True:
                if self._gathered:
                    message = self._gathered.popleft()
                    self._unsent.difference_update(item.id for item in message.invocations)
                    await self._call.write(message)
                elif self._closing:
                    await self._call.done_writing()
                    return
                else:
                    self._writer_wake = self._loop.create_future()
                    await self._writer_wake
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the reader tells why the call is over

    async def _read(self) -> None:
        try:
            while isinstance(message := await self._call.read(), invoke_pb2.InvokeStreamResponse):
                self._heard = True
                for result in message.results:
                    self._settle(result)
                if message.HasField("taken"):
                    self._leave_out(message.taken)
            over: LambentError = LostWithWorker("the frontend ended the stream before it had answered")
        except grpc.aio.AioRpcError as error:
            over = from_rpc(error)
            if self._heard and isinstance(over, NotReady):  # not the frontend, which has it, but a proxy
                over = LostWithWorker(f"it was cut off on the way: {error.details()}")
        except asyncio.CancelledError:
            over = LostWithWorker("the stream was aborted before the answer came; it may have run")
        self._end(over)

    def _leave_out(self, taken: int) -> None:
        """The frontend is being stopped: it answers the first `taken`, the others never ran."""
        self._over = self._over or NotReady("the frontend is being stopped")
        self._closing = True
        self._gathered.clear()
        for number, answer in self._waiting.items():
            if number > taken and not answer.done():
                answer.set_exception(NotReady("the frontend is being stopped and did not take the call"))
        self._wake_writer()

    def _settle(self, result: invoke_pb2.StreamedResult) -> None:
        answer = self._waiting.get(result.id)
        if answer is None or answer.done():
            return
        if result.HasField("error"):
            answer.set_exception(from_service_error(result.error))
        else:
            answer.set_result(invocation_of(result.response))

    def _end(self, over: LambentError) -> None:
        self._over = self._over or over
        never_ran = isinstance(over, NotReady)
        refused = isinstance(over, (NoCredentials, UnknownKey))  # the whole stream, before any of it was read
        for number, answer in self._waiting.items():
            if answer.done():
                continue
            if refused:
                answer.set_exception(type(over)(over.message))
            elif never_ran or number in self._unsent:
                answer.set_exception(NotReady(f"it was not sent, the stream was over: {over}"))
            else:
                answer.set_exception(LostWithWorker(f"the stream was lost, it may have run: {over}"))
        self._wake_writer()
        self._closing = True
        self._gathered.clear()
