"""One InvokeStream: many invocations a message in, whatever has finished out.

No task and no future belongs to an invocation: the reader submits all of a message, the dispatcher's
callbacks append to a list, and the writer sends what gathered while its last write was under way, and for a
moment longer if many are in flight.
"""

import asyncio
from collections import deque
from functools import partial
from typing import Any, Final, Protocol

import grpc.aio

from lambent_frontend.calls import Answer, Call, Dispatcher
from lambent_frontend.wire import fill_response, new_request_id
from lambent_proto import status
from lambent_proto.errors import InvalidRequest, LambentError
from lambent_proto.ids import RequestId
from lambent_proto.v1 import invoke_pb2

MAX_BATCH: Final = 256
"""Most results in a message, so that building one takes less than a millisecond."""

MAX_BATCH_BYTES: Final = 1024 * 1024
"""Most bytes in a message of several results: gRPC clients take 4 MB unless told otherwise."""

MAX_HELD_BYTES: Final = 64 * 1024 * 1024
"""Nothing is read from a stream that has so much payload in flight and unsent; TCP tells the client."""

GATHER_ABOVE: Final = 16
"""Calls in flight above which results are gathered: sooner than that one caller's wait would show."""

GATHER_S: Final = 0.002
"""How long. A message costs as much as ten calls, and every wake-up of another process costs all of them."""

_CALL_BYTES: Final = 1024
"""What a call without a payload counts towards MAX_HELD_BYTES."""


class Checked(Protocol):
    def __call__(
        self, request: invoke_pb2.InvokeRequest, request_id: RequestId, *, remaining_s: float | None
    ) -> Call: ...


class InvocationStream:
    def __init__(
        self, context: grpc.aio.ServicerContext[Any, Any], dispatcher: Dispatcher, checked: Checked
    ) -> None:
        self._context = context
        self._dispatcher = dispatcher
        self._checked = checked
        self._loop = asyncio.get_running_loop()
        remaining_s = context.time_remaining()
        self._ends_at = None if remaining_s is None else self._loop.time() + remaining_s
        self._in_flight: dict[int, Call] = {}
        self._finished: deque[tuple[int, Call, Answer] | tuple[int, LambentError]] = deque()
        self._read_all = False
        self._taken = 0
        self._stopping = False
        self._says_taken = False
        self._held_bytes = 0
        self._writer_wake: asyncio.Future[None] | None = None
        self._reader_wake: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Returns once the client has said all and heard all; a client that goes away ends its calls."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read())
                await self._write()
        finally:
            for call in self._in_flight.values():
                self._dispatcher.abandon(call.request_id)

    def take_no_more(self) -> None:
        """The client is told what it has to send elsewhere; `run` returns once it has closed its side and the
        rest is answered. It is read on until then: a write into a stream that has ended would look to it
        as if the call might have run.
        """
        self._stopping = self._says_taken = True
        self._wake_writer()

    async def _read(self) -> None:
        while (message := await self._context.read()) is not grpc.aio.EOF:
            remaining_s = None if self._ends_at is None else self._ends_at - self._loop.time()
            if not self._stopping:
                self._taken += len(message.invocations)
                for item in message.invocations:
                    self._begin(item.id, item.request, remaining_s)
            for number in message.cancelled:
                self._cancel(number)
            while self._held_bytes > MAX_HELD_BYTES:
                self._reader_wake = self._loop.create_future()
                await self._reader_wake
        self._read_all = True
        self._wake_writer()

    def _begin(self, number: int, request: invoke_pb2.InvokeRequest, remaining_s: float | None) -> None:
        request_id = new_request_id()
        if number in self._in_flight:
            self._fail(number, InvalidRequest(f"id {number} is in flight on this stream already", request_id))
            return
        try:
            call = self._checked(request, request_id, remaining_s=remaining_s)
        except LambentError as error:
            self._fail(number, error)
            return
        self._in_flight[number] = call
        self._held_bytes += len(call.payload) + _CALL_BYTES
        self._dispatcher.submit(call, partial(self._done, number, call))

    def _cancel(self, number: int) -> None:
        """One that is not in flight has been answered meanwhile: nobody waits for it either way."""
        call = self._in_flight.pop(number, None)
        if call is not None:
            self._held_bytes -= len(call.payload) + _CALL_BYTES
            self._dispatcher.abandon(call.request_id)
            self._wake_writer()

    def _done(self, number: int, call: Call, outcome: Answer | LambentError) -> None:
        del self._in_flight[number]
        self._held_bytes -= len(call.payload) + _CALL_BYTES
        if isinstance(outcome, LambentError):
            outcome.request_id = call.request_id
            self._fail(number, outcome)
            return
        self._held_bytes += len(outcome.payload) + _CALL_BYTES
        self._finished.append((number, call, outcome))
        self._wake_writer()

    def _fail(self, number: int, error: LambentError) -> None:
        self._held_bytes += _CALL_BYTES
        self._finished.append((number, error))
        self._wake_writer()

    def _wake_writer(self) -> None:
        wake, self._writer_wake = self._writer_wake, None
        _wake(wake)

    async def _write(self) -> None:
        while True:
            if self._finished or self._says_taken:
                await self._context.write(self._gathered())
                if len(self._in_flight) > GATHER_ABOVE:
                    await asyncio.sleep(GATHER_S)
            elif self._read_all and not self._in_flight:
                return
            else:
                self._writer_wake = self._loop.create_future()
                await self._writer_wake

    def _gathered(self) -> invoke_pb2.InvokeStreamResponse:
        message = invoke_pb2.InvokeStreamResponse()
        if self._says_taken:
            message.taken, self._says_taken = self._taken, False
        results, finished = message.results, self._finished
        size = 0
        while finished and len(results) < MAX_BATCH:
            entry = finished[0]
            entry_bytes = _CALL_BYTES if len(entry) == 2 else _CALL_BYTES + len(entry[2].payload)
            if size and size + entry_bytes > MAX_BATCH_BYTES:
                break
            size += entry_bytes
            finished.popleft()
            result = results.add()
            result.id = entry[0]
            if len(entry) == 2:
                status.fill(result.error, entry[1])
            else:
                fill_response(result.response, entry[1], entry[2])
        self._held_bytes -= size
        if self._held_bytes <= MAX_HELD_BYTES:
            wake, self._reader_wake = self._reader_wake, None
            _wake(wake)
        return message


def _wake(sleeper: asyncio.Future[None] | None) -> None:
    """A future that is done was cancelled: the client has gone away, and nobody has been told yet."""
    if sleeper is not None and not sleeper.done():
        sleeper.set_result(None)
