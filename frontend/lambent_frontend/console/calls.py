"""Methods of the public services as the page calls them, JSON in and out.

They are behind the guard that gRPC's callers stand before: each needs the right that it needs there, and
leaves the same line in the log.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from lambent_frontend.http.messages import Request

BESIDE: Final = 64 * 1024
"""Bytes of an answer above which it is put into JSON beside the event loop."""

_AHEAD: Final = 4
"""Messages of a stream that may wait for the page to take them."""


class Aborted(Exception):
    """How a call ended that did not succeed: gRPC's name for the status, and words for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def facts(self) -> dict[str, str]:
        return {"code": self.code, "message": self.message}


class Method(NamedTuple):
    call: Callable[[Any, Any], Awaitable[Any]]
    asked: type[Message]
    streams: bool


class _Context:
    """What the services use of grpc.aio.ServicerContext, with the same meanings."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.written: asyncio.Queue[Message | None] = asyncio.Queue()
        """None is the end."""
        self.room = asyncio.Semaphore(_AHEAD)

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        return [("authorization", self._request.header(b"authorization"))]

    def peer(self) -> str:
        return f"console:{self._request.source}"

    def time_remaining(self) -> None:
        """The page sets no deadline."""

    def set_trailing_metadata(self, metadata: object) -> None:
        """The answer has the request id too."""

    async def write(self, message: Message) -> None:
        await self.room.acquire()
        self.written.put_nowait(message)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing: object = ()) -> NoReturn:
        raise Aborted(code.name, details)


def methods(guarded: Any, service: ServiceDescriptor, names: Iterable[str]) -> Mapping[str, Method]:
    """`guarded` is what `Guard.over` makes of a servicer; of its methods those that are named."""
    described = ((name, service.methods_by_name[name]) for name in names)
    return {
        name: Method(getattr(guarded, name), GetMessageClass(it.input_type), it.server_streaming)
        for name, it in described
    }


async def called(method: Method, request: Request) -> bytes:
    """The answer, as JSON. Raises Aborted."""
    answer: Message = await method.call(_asked(method, request), _Context(request))
    if answer.ByteSize() > BESIDE:
        return await asyncio.to_thread(_json, answer)
    return _json(answer)


async def parts(method: Method, request: Request) -> AsyncGenerator[bytes, None]:
    """A line of JSON for each message of a stream; where it fails the last one has an `error`.

    Nobody reads on once it is closed.
    """
    context = _Context(request)

    async def run() -> None:
        try:
            await method.call(_asked(method, request), context)
        finally:
            context.written.put_nowait(None)

    running = asyncio.create_task(run())
    try:
        while (message := await context.written.get()) is not None:
            yield _json(message) + b"\n"
            context.room.release()
        await running
    except Aborted as why:
        yield json.dumps({"error": why.facts()}).encode() + b"\n"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _asked(method: Method, request: Request) -> Message:
    """Raises Aborted."""
    asked = method.asked()
    try:
        json_format.Parse(request.body or b"{}", asked)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise Aborted("INVALID_ARGUMENT", f"the request cannot be read: {error}") from None
    return asked


def _json(message: Message) -> bytes:
    """Names as in lambent.v1, zeros and empty texts included; 64-bit numbers are texts, bytes are base64."""
    told = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
