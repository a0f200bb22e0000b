"""Three ways to a frontend, each as lean as Python lets it be, of which any stranger could be the caller.

A call is begun with `begin`, and `done(start, error)` is called once, when it has ended: how it started, as
its explanation says, and the code of its error, empty if it succeeded.
"""

import asyncio
import math
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol
from urllib.parse import quote

import grpc.aio

from lambent_chassis.clock import unix_s
from lambent_frontend.sigv4 import SignedRequest, sign
from lambent_proto.errors import NotReady
from lambent_proto.status import from_rpc, from_service_error
from lambent_proto.v1 import invoke_pb2, invoke_pb2_grpc

Done = Callable[[str, str], None]

CONNECTION_LOST: Final = "CONNECTION_LOST"
_REGION: Final = "us-east-1"
"""Any does."""
_BATCH_BYTES: Final = 1024 * 1024


class Transport(Protocol):
    def begin(self, target: int, done: Done) -> None: ...

    async def close(self) -> None: ...


def function_error(named: str) -> str:
    return f"FUNCTION_ERROR ({named})"


class Stream:
    """InvokeStream; where one has ended, the next call opens another."""

    def __init__(
        self,
        stub: "invoke_pb2_grpc.InvocationsAsyncStub",
        requests: Sequence[invoke_pb2.InvokeRequest],
        metadata: Sequence[tuple[str, str]],
    ) -> None:
        self._opened = partial(_Link, stub, requests, metadata)
        self._link = self._opened()

    def begin(self, target: int, done: Done) -> None:
        if self._link.over:
            self._link = self._opened()
        self._link.begin(target, done)

    async def close(self) -> None:
        await self._link.close()


class _Link:
    """One stream: what gathers while a message is being written goes together in the next."""

    def __init__(
        self,
        stub: "invoke_pb2_grpc.InvocationsAsyncStub",
        requests: Sequence[invoke_pb2.InvokeRequest],
        metadata: Sequence[tuple[str, str]],
    ) -> None:
        self._call = stub.InvokeStream(metadata=metadata)
        self._requests = requests
        self._message = invoke_pb2.InvokeStreamRequest()
        self._room = _BATCH_BYTES
        self._full: list[invoke_pb2.InvokeStreamRequest] = []
        self._more = asyncio.Event()
        self._number = 0
        self._waiting: dict[int, Done] = {}
        self.over = ""
        """The code of what ended it."""
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._read())]

    def begin(self, target: int, done: Done) -> None:
        self._number += 1
        request = self._requests[target]
        if self._room <= 0:
            self._full.append(self._message)
            self._message, self._room = invoke_pb2.InvokeStreamRequest(), _BATCH_BYTES
        self._message.invocations.add(id=self._number, request=request)
        self._room -= len(request.payload) + 64
        self._waiting[self._number] = done
        self._more.set()

    async def close(self) -> None:
        self._call.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _write(self) -> None:
        while not self.over:
            await self._more.wait()
            self._more.clear()
            while self._full or self._message.invocations:
                message = self._full.pop(0) if self._full else self._message
                if message is self._message:
                    self._message, self._room = invoke_pb2.InvokeStreamRequest(), _BATCH_BYTES
                try:
                    await self._call.write(message)
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    return  # the reader says why

    async def _read(self) -> None:
        over = CONNECTION_LOST
        try:
            while isinstance(message := await self._call.read(), invoke_pb2.InvokeStreamResponse):
                for result in message.results:
                    self._settle(result)
                if message.HasField("taken"):
                    self._leave_out(message.taken)
        except grpc.aio.AioRpcError as error:
            over = from_rpc(error).reason
        self.over = self.over or over
        self._more.set()  # or the writer waits for ever
        left, self._waiting = self._waiting, {}
        for done in left.values():
            done("", over)

    def _leave_out(self, taken: int) -> None:
        """The frontend is being stopped: it answers the first `taken`, the others never ran."""
        self.over = NotReady.reason
        for number in [number for number in self._waiting if number > taken]:
            self._waiting.pop(number)("", NotReady.reason)

    def _settle(self, result: invoke_pb2.StreamedResult) -> None:
        done = self._waiting.pop(result.id, None)
        if done is None:
            return
        if result.HasField("error"):
            done("", from_service_error(result.error).reason)
        else:
            done(*_ended(result.response))


class Unary:
    """A call of gRPC for each."""

    def __init__(
        self,
        stub: "invoke_pb2_grpc.InvocationsAsyncStub",
        requests: Sequence[invoke_pb2.InvokeRequest],
        metadata: Sequence[tuple[str, str]],
    ) -> None:
        self._invoke = stub.Invoke
        self._requests = requests
        self._metadata = metadata
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, target: int, done: Done) -> None:
        task = asyncio.create_task(self._call(target, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        await _cancelled(self._tasks)

    async def _call(self, target: int, done: Done) -> None:
        try:
            ended = _ended(await self._invoke(self._requests[target], metadata=self._metadata))
        except grpc.aio.AioRpcError as error:
            ended = "", from_rpc(error).reason
        done(*ended)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What is written for a call of one function."""

    function: str
    payload: bytes
    headers: Sequence[tuple[str, str]]
    key: str = ""
    """The token of the access key that signs it; empty if none does."""

    def packed(self, address: str, at: float) -> bytes:
        """`at` is Unix time, of which a signature has whole seconds."""
        path = f"/2015-03-31/functions/{quote(self.function, safe='')}/invocations"
        headers = {"host": address, **dict(self.headers)}
        if self.key:
            key_id, _, secret = self.key.partition(".")
            headers["x-amz-date"] = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
            request = SignedRequest("POST", path, "", headers, self.payload)
            headers["authorization"] = sign(request, key_id, secret, _REGION)
        said = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return (
            f"POST {path} HTTP/1.1\r\n{said}Content-Length: {len(self.payload)}\r\n\r\n".encode()
            + self.payload
        )


_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Http:
    """The HTTP API: connections are kept, and as many as calls are in flight."""

    def __init__(
        self, address: str, requests: Sequence[HttpRequest], tls: ssl.SSLContext | None = None
    ) -> None:
        self._address = address
        self._host, _, self._port = address.rpartition(":")
        self._tls = tls
        self._asked = requests
        self._packed: list[bytes] = []
        self._good_until = 0.0
        self._idle: list[_Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, target: int, done: Done) -> None:
        task = asyncio.create_task(self._call(target, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        await _cancelled(self._tasks)
        for _, writer in self._idle:
            writer.close()

    async def _call(self, target: int, done: Done) -> None:
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = self._kept() or await self._connect()
            writer.write(self._request(target))
            status, headers = await _head(reader)
            await reader.readexactly(int(headers["content-length"]))
        except (OSError, EOFError, LookupError, ValueError, asyncio.LimitOverrunError):
            if writer is not None:
                writer.close()
            done("", CONNECTION_LOST)
            return
        except asyncio.CancelledError:
            if writer is not None:
                writer.close()
            raise
        if headers.get("connection", "").lower() == "close":
            writer.close()
        else:
            self._idle.append((reader, writer))
        done(*_answered(status, headers))

    def _request(self, target: int) -> bytes:
        """As packed in this second; what nobody signs is the same in any."""
        if (now := unix_s()) >= self._good_until:
            self._packed = [it.packed(self._address, now) for it in self._asked]
            self._good_until = now // 1 + 1 if any(it.key for it in self._asked) else math.inf
        return self._packed[target]

    def _kept(self) -> _Connection | None:
        """One that the server has not closed meanwhile, as it may with what has long been idle."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return None

    async def _connect(self) -> _Connection:
        return await asyncio.open_connection(self._host.strip("[]"), int(self._port), ssl=self._tls)


async def _head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    named = (line.partition(":") for line in lines if line)
    return first.split(" ", 2)[1], {name.lower(): value.strip() for name, _, value in named}


def _answered(status: str, headers: dict[str, str]) -> tuple[str, str]:
    start = headers.get("x-lambent-start", "")
    if status != "200":
        return start, headers.get("x-lambent-error") or f"HTTP {status} {headers.get('x-amzn-errortype', '')}"
    failed = headers.get("x-amz-function-error", "")
    return start, function_error(failed) if failed else ""


def _ended(response: invoke_pb2.InvokeResponse) -> tuple[str, str]:
    failed = response.function_error
    return response.explanation.start, function_error(failed) if failed else ""


async def _cancelled(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
