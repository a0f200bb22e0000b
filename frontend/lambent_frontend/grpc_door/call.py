"""One call of the own gRPC server: what its service sees of it as `context`, and the task that answers it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Final, NoReturn, Protocol

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from lambent_frontend.grpc_door.core import calls
from lambent_frontend.grpc_door.core.calls import (
    Asked,
    BadMessage,
    Message,
    Messages,
    Metadata,
    Refusal,
    Value,
)
from lambent_proto.errors import LambentError, NotReady
from lambent_proto.status import status_of

QUEUED_BYTES: Final = 256 * 1024
"""Of messages that a service has not read, above which the client's window is not opened again; and of what
it has written, above which it waits."""

MESSAGE_TAKES: Final = 128
"""Bytes of a message that is whole, beside its own: an empty one comes as five and is more in memory."""

MESSAGE_S: Final = 20.0
"""What a message may take at least to be whole, one of a unary call from the call's beginning; a larger one
more, at MESSAGE_RATE."""

TAKE_S: Final = 300.0
"""How long a client without a deadline may take nothing of what its call still writes. With a deadline it may
do as it likes until then."""

MESSAGE_RATE: Final = 64 * 1024
"""Bytes a second that a message has to bring."""

UNPACKED_AT_ONCE: Final = 256 * 1024
"""Of a compressed message. A larger one is unpacked beside the loop, once it is known who sent it."""

_FAULT: Final = "the frontend failed at this call, which is a fault of its own: its log says more"

_log = structlog.get_logger()


class Line(Protocol):
    """The connection, as a call sees it."""

    peer: str

    def respond(self, stream: int, head: bytes, data: bytes, trailers: bytes) -> None: ...
    def headers(self, stream: int, block: bytes, *, ends: bool = False) -> None: ...
    def data(self, stream: int, data: bytes) -> None: ...
    def end(self, stream: int, trailers: bytes) -> None: ...
    def took(self, stream: int, size: int) -> None: ...
    def waits(self, stream: int) -> int: ...
    def hold(self, size: int, whose: str) -> bool: ...
    def asks(self) -> bool: ...
    def whose(self, call: "Call") -> str: ...
    def beside(self, work: Callable[[], bytes]) -> Awaitable[bytes]: ...
    def over(self, stream: int) -> None: ...


class Call:
    """Also the part of grpc.aio.ServicerContext that the services use, with the same meanings."""

    _taken: tuple[int, float] | None = None
    """Of what waits for the client while the service waits for that: how much it was, and since when."""

    def __init__(self, line: Line, stream: int, asked: Asked, handler: Any, loop: asyncio.AbstractEventLoop):
        self._line = line
        self._stream = stream
        self._asked = asked
        self._handler = handler
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._ends_at: float | None = None
        if asked.timeout_s is not None:
            self._ends_at = loop.time() + asked.timeout_s
            self._deadline = loop.call_later(asked.timeout_s, self._late)
        self._parser = Messages(asked.encoding)
        self._messages: deque[Message] = deque()
        self._held = 0
        """Bytes that came and that the service has not read."""
        self._whose = ""
        """Whom they count for, once that was asked."""
        self._awaited: float | None = None if handler.request_streaming else loop.time()
        """Since when the client owes the rest of a message."""
        self._owed = 0
        self._all_came = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._said_head = False
        self._over = False
        self._head: Metadata = ()
        self._trailing: Iterable[tuple[str, Value]] = ()
        self._code = calls.OK
        self._said = ""

    # From the connection

    def came(self, data: bytes, *, ended: bool) -> None:
        self._all_came = self._all_came or ended
        try:
            found = self._parser.feed(data) if data else []
        except BadMessage as bad:
            self._refuse(bad.refusal)
            return
        self._messages += found
        if not self._hold(len(data) + MESSAGE_TAKES * len(found)):
            self._decline(
                "the frontend holds as many bytes of requests as it may, of all or of yours: try again"
            )
            return
        if self._parser.halfway:
            if ended:
                self._refuse(Refusal(calls.INTERNAL, "the request ends in the middle of a message"))
                return
            if self._line.asks() and not self._asked_whose():
                return
        if self._handler.request_streaming:
            self._open_window(len(data))
            if self._task is None:
                # Not before: grpc.aio's client loses the status of a call that ends before it has written.
                self._start()
            self._await_rest()
            _wake(self._reader)
        else:
            self._line.took(self._stream, len(data))
            self._unary()

    def _hold(self, size: int) -> bool:
        """Whether there is room for it. Taken anyhow."""
        self._held += size
        return self._line.hold(size, self._whose)

    def _asked_whose(self) -> bool:
        """Whether it is known who calls; if not, that was the end of the call."""
        if not self._whose:
            try:
                whose = self._line.whose(self)
            except LambentError as error:
                # Nobody comes to know what it would have been, and to write it into the audit.
                _log.info("stranger_refused", method=self._asked.path, peer=self.peer(), reason=error.reason)
                self._fail(error)
                return False
            held = self._held
            self._hold(-held)
            self._whose = whose
            self._hold(held)
        return True

    def _await_rest(self) -> None:
        """Of a stream: what its service has not read may be what keeps the client back."""
        if not self._parser.halfway or self._messages:
            self._awaited = None
        elif self._awaited is None:
            self._awaited = self._loop.time()

    def check(self, now: float) -> None:
        """Ends it if a message takes too long to come, or to be taken; `now` is the loop's time."""
        self._check_taken(now)
        if self._awaited is None:
            return
        waited = now - self._awaited
        if waited > MESSAGE_S + self._parser.halfway / MESSAGE_RATE:
            self._decline(f"no whole message came within {waited:.0f} seconds: send it faster")

    def _check_taken(self, now: float) -> None:
        if self._writer is None or self._writer.done() or self._ends_at is not None:
            self._taken = None
            return
        left = self._line.waits(self._stream)
        if self._taken is None or left != self._taken[0]:
            self._taken = left, now
        elif now - self._taken[1] > TAKE_S:
            said = f"nothing of the answer was taken within {TAKE_S:.0f} seconds: give the call a deadline"
            self._refuse(Refusal(calls.RESOURCE_EXHAUSTED, said))

    def _decline(self, said: str) -> None:
        if self._task is None:
            # Nothing ran: clients are told so in the service's own words, by which they send it again.
            self._fail(NotReady(said))
        else:
            self._refuse(Refusal(calls.RESOURCE_EXHAUSTED, said))

    def _fail(self, error: LambentError) -> None:
        code, said, self._trailing = status_of(error)
        self._refuse(Refusal(code.value[0], said))

    def _unary(self) -> None:
        if len(self._messages) > 1 or (self._all_came and not self._messages):
            self._refuse(Refusal(calls.UNIMPLEMENTED, "the method takes one message, no more and no less"))
        elif self._all_came and self._task is None:
            self._awaited = None
            self._start()

    def room(self) -> None:
        """Nothing of it waits to be written."""
        _wake(self._writer)

    def gone(self) -> None:
        """Nobody hears the answer any more."""
        self._close()
        if self._task is not None:
            self._task.cancel()

    def give_up(self) -> None:
        """The frontend stops, and it has not ended."""
        said = "the frontend was stopped while the call was under way: it may have run"
        self._refuse(Refusal(calls.UNAVAILABLE, said))

    def _late(self) -> None:
        said = "the deadline of the call passed before it was answered"
        self._refuse(Refusal(calls.DEADLINE_EXCEEDED, said))

    def _refuse(self, refusal: Refusal) -> None:
        """Ends it now."""
        if not self._over:
            self._code, self._said = refusal.code, refusal.said
            self._end()
        if self._task is not None:
            self._task.cancel()

    def _close(self) -> None:
        self._over = True
        if self._deadline is not None:
            self._deadline.cancel()
        self._messages.clear()
        self._hold(-self._held)
        self._line.over(self._stream)

    # The service at work

    def _start(self) -> None:
        self._task = self._loop.create_task(self._run())
        self._task.add_done_callback(self._ran)

    async def _run(self) -> None:
        handler = self._handler
        asked: Any = self._each() if handler.request_streaming else await self._next()
        if not handler.response_streaming:
            method = handler.stream_unary if handler.request_streaming else handler.unary_unary
            answer = await method(asked, self)
            if not self._over:
                self._respond(handler.response_serializer(answer))
            return
        method = handler.stream_stream if handler.request_streaming else handler.unary_stream
        answers = method(asked, self)
        if hasattr(answers, "__aiter__"):
            async for answer in answers:
                await self.write(answer)
        else:
            await answers
        if not self._over:
            self._end()

    def _respond(self, message: bytes) -> None:
        if self._said_head or self._head or self._code or self._said:
            self._begin()
            self._line.data(self._stream, calls.framed(message))
            self._end()
            return
        trailers = calls.trailers_block(calls.OK, "", self._trailing)
        self._line.respond(self._stream, calls.HEAD, calls.framed(message), trailers)
        self._close()

    def _ran(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if self._over:
            return
        if isinstance(error, grpc.aio.AbortError):
            self._end()
        elif task.cancelled():
            # Not CANCELLED, by which clients know what certainly never ran.
            self._refuse(Refusal(calls.UNAVAILABLE, "it was cancelled in the frontend: it may have run"))
        else:
            _log.error("request_failed", method=self._asked.path, reason=repr(error), exc_info=error)
            self._trailing = ()
            self._refuse(Refusal(calls.UNKNOWN, _FAULT))

    def _begin(self) -> None:
        if not self._said_head:
            self._said_head = True
            self._line.headers(self._stream, calls.head_block(self._head) if self._head else calls.HEAD)

    def _end(self) -> None:
        if self._said_head:
            self._line.end(self._stream, calls.trailers_block(self._code, self._said, self._trailing))
        else:
            only = calls.only_block(Refusal(self._code, self._said), self._trailing)
            self._line.headers(self._stream, only, ends=True)
        self._close()

    async def _next(self) -> Any:
        message = self._messages.popleft()
        try:
            unpacked = self._parser.unpacked_if_small(message, UNPACKED_AT_ONCE)
            if unpacked is None:
                if not self._asked_whose():
                    raise grpc.aio.AbortError
                unpacked = await self._line.beside(partial(self._parser.unpacked, message))
        except BadMessage as bad:
            self._refuse(bad.refusal)
            raise grpc.aio.AbortError from None
        finally:
            self._hold(-(5 + len(message.body) + MESSAGE_TAKES) if not self._over else 0)
        try:
            return self._handler.request_deserializer(unpacked)
        except DecodeError as error:
            self._refuse(Refusal(calls.INTERNAL, f"a message is not what the method takes: {error}"))
            raise grpc.aio.AbortError from None

    def _open_window(self, size: int) -> None:
        self._owed += size
        if self._held <= QUEUED_BYTES or not self._messages:
            self._line.took(self._stream, self._owed)
            self._owed = 0

    async def _each(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    # From the service

    async def read(self) -> Any:
        """The next message, or grpc.aio.EOF."""
        while not self._messages:
            if self._all_came or self._over:
                return grpc.aio.EOF
            self._reader = self._loop.create_future()
            await self._reader
        message = await self._next()
        self._await_rest()
        self._open_window(0)
        return message

    async def write(self, message: Any) -> None:
        """Waits while the client is slower than that."""
        self._check()
        self._begin()
        self._line.data(self._stream, calls.framed(self._handler.response_serializer(message)))
        while self._line.waits(self._stream) > QUEUED_BYTES:
            self._writer, self._taken = self._loop.create_future(), None
            await self._writer
            self._check()

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        self._check()
        self._head = tuple(metadata)
        self._begin()

    def _check(self) -> None:
        if self._over:
            raise grpc.aio.UsageError("the call is over")

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Iterable[tuple[str, Value]] = ()
    ) -> NoReturn:
        self._code, self._said = code.value[0], details
        if trailing_metadata:
            self._trailing = trailing_metadata
        raise grpc.aio.AbortError

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code.value[0]

    def set_details(self, details: str) -> None:
        self._said = details

    def set_trailing_metadata(self, metadata: Iterable[tuple[str, Value]]) -> None:
        self._trailing = metadata

    def invocation_metadata(self) -> Metadata:
        return self._asked.metadata

    def time_remaining(self) -> float | None:
        """Seconds."""
        return None if self._ends_at is None else max(0.0, self._ends_at - self._loop.time())

    def peer(self) -> str:
        return self._line.peer


def _wake(sleeper: asyncio.Future[None] | None) -> None:
    if sleeper is not None and not sleeper.done():
        sleeper.set_result(None)
