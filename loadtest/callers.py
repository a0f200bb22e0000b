"""The calling side of a benchmark, in a process of its own so that its CPU can be told from the fleet's.

    python -m loadtest.callers ENDPOINT FUNCTION PATH IN_FLIGHT BYTES

PATH is `stream`, `unary` or `http`, for which ENDPOINT is that of the HTTP API. It says `ready`, and for
each line `COUNT` on its standard input it makes so many calls with events of BYTES, IN_FLIGHT at a time, and
answers with one line of JSON: a `Round`.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Final, Protocol

import grpc.aio
import uvloop

from lambent_chassis import grpc_options
from lambent_proto.v1 import invoke_pb2, invoke_pb2_grpc
from loadtest.figures import percentile

ROUND_WITHIN_S: Final = 120.0


@dataclass
class Round:
    """What the callers saw and spent."""

    calls: int
    elapsed_s: float
    cpu_s: float
    """User and system, of this process."""
    p50_ms: float
    p99_ms: float
    sent: int
    """Messages to the frontend."""
    received: int
    starts: dict[str, int]


def payload(size: int) -> bytes:
    """JSON of so many bytes, as the function gives it back."""
    return b'{"text":"%s"}' % (b"x" * (size - 11))


@dataclass
class _Seen:
    payload: bytes
    latencies_ms: list[float] = field(default_factory=list)
    starts: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    received: int = 0

    def answered(self, began: float, response: invoke_pb2.InvokeResponse) -> None:
        if response.function_error or response.payload != self.payload:
            raise SystemExit(f"not an echo: {response}")
        self.took(began, response.explanation.start)

    def took(self, began: float, start: str) -> None:
        self.latencies_ms.append((time.perf_counter() - began) * 1000)
        self.starts[start] += 1


class _Path(Protocol):
    async def calls(self, count: int, in_flight: int, seen: _Seen) -> None: ...


class _Unary:
    def __init__(
        self, stub: "invoke_pb2_grpc.InvocationsAsyncStub", request: invoke_pb2.InvokeRequest
    ) -> None:
        self._stub = stub
        self._request = request

    async def calls(self, count: int, in_flight: int, seen: _Seen) -> None:
        numbers = iter(range(count))

        async def caller() -> None:
            for _ in numbers:
                began = time.perf_counter()
                seen.answered(began, await self._stub.Invoke(self._request))

        async with asyncio.TaskGroup() as callers:
            for _ in range(in_flight):
                callers.create_task(caller())
        seen.sent = seen.received = count


class _Http:
    """One connection for each call in flight, kept, and the headers that boto3 sends."""

    def __init__(self, address: str, function: str, payload: bytes) -> None:
        self._address = address
        self._payload = payload
        self._connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._request = (
            f"POST /2015-03-31/functions/{function}/invocations HTTP/1.1\r\nHost: {address}\r\n"
            f"Accept-Encoding: identity\r\nUser-Agent: Boto3/1.44 md/Botocore#1.44 ua/2.1 os/linux "
            f"lang/python#3.11\r\n"
            "X-Amz-Date: 20260101T000000Z\r\nX-Amz-Invocation-Type: RequestResponse\r\n"
            "Authorization: AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/lambda/aws4_request, "
            f"SignedHeaders=host;x-amz-date;x-amz-invocation-type, Signature={'0' * 64}\r\n"
            "amz-sdk-invocation-id: 00000000-0000-4000-a000-000000000000\r\namz-sdk-request: attempt=1\r\n"
            f"Content-Length: {len(payload)}\r\n\r\n"
        ).encode() + payload

    async def calls(self, count: int, in_flight: int, seen: _Seen) -> None:
        host, _, port = self._address.rpartition(":")
        while len(self._connections) < in_flight:
            self._connections.append(await asyncio.open_connection(host, int(port)))
        numbers = iter(range(count))

        async def caller(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for _ in numbers:
                began = time.perf_counter()
                writer.write(self._request)
                head = await reader.readuntil(b"\r\n\r\n")
                start = head.partition(b"x-lambent-start: ")[2].partition(b"\r\n")[0]
                if not start or await reader.readexactly(len(self._payload)) != self._payload:
                    raise SystemExit(f"not an echo: {head!r}")
                seen.took(began, start.decode())

        async with asyncio.TaskGroup() as callers:
            for connection in self._connections:
                callers.create_task(caller(*connection))
        seen.sent = seen.received = count


class _Stream:
    """Sends what has gathered while the last write was under way, as the service's contract has it."""

    def __init__(
        self, stub: "invoke_pb2_grpc.InvocationsAsyncStub", request: invoke_pb2.InvokeRequest
    ) -> None:
        self._stream = stub.InvokeStream()
        self._request = request
        self._unsent = 0
        self._next = 0
        self._more = asyncio.Event()

    async def calls(self, count: int, in_flight: int, seen: _Seen) -> None:
        began: dict[int, float] = {}
        left = count
        writing = asyncio.create_task(self._write(count, began, seen))
        self._begin(in_flight)
        while left:
            message = await self._stream.read()
            if not isinstance(message, invoke_pb2.InvokeStreamResponse):
                raise SystemExit("the frontend ended the stream")
            seen.received += 1
            for result in message.results:
                if result.HasField("error"):
                    raise SystemExit(f"a call failed: {result.error}")
                seen.answered(began.pop(result.id), result.response)
            left -= len(message.results)
            self._begin(min(len(message.results), left - len(began) - self._unsent))
        await writing

    def _begin(self, count: int) -> None:
        self._unsent += max(count, 0)
        self._more.set()

    async def _write(self, count: int, began: dict[int, float], seen: _Seen) -> None:
        written = 0
        while written < count:
            await self._more.wait()
            self._more.clear()
            if not self._unsent:
                continue
            message = invoke_pb2.InvokeStreamRequest()
            now = time.perf_counter()
            for _ in range(self._unsent):
                self._next += 1
                message.invocations.add(id=self._next, request=self._request)
                began[self._next] = now
            written += self._unsent
            self._unsent = 0
            seen.sent += 1
            await self._stream.write(message)


async def _round(path: _Path, count: int, in_flight: int, sent: bytes) -> Round:
    seen = _Seen(sent)
    cpu_s, began = time.process_time(), time.perf_counter()
    async with asyncio.timeout(ROUND_WITHIN_S):
        await path.calls(count, in_flight, seen)
    return Round(
        count,
        time.perf_counter() - began,
        time.process_time() - cpu_s,
        percentile(seen.latencies_ms, 0.5),
        percentile(seen.latencies_ms, 0.99),
        seen.sent,
        seen.received,
        dict(seen.starts),
    )


async def _serve(endpoint: str, function: str, path: str, in_flight: int, sent: bytes) -> None:
    makers: dict[str, Callable[..., _Path]] = {"stream": _Stream, "unary": _Unary}
    if path == "http":
        await _rounds(_Http(endpoint, function, sent), in_flight, sent)
        return
    request = invoke_pb2.InvokeRequest(function_name=function, payload=sent)
    async with grpc.aio.insecure_channel(endpoint, options=grpc_options.CHANNEL) as channel:
        await _rounds(makers[path](invoke_pb2_grpc.InvocationsStub(channel), request), in_flight, sent)


async def _rounds(calls: _Path, in_flight: int, sent: bytes) -> None:
    line: Callable[[], Awaitable[str]] = lambda: asyncio.to_thread(sys.stdin.readline)  # noqa: E731
    _say("ready")
    while count := await line():
        _say(json.dumps(asdict(await _round(calls, int(count), in_flight, sent))))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _, endpoint, function, path, in_flight, size = sys.argv
    uvloop.run(_serve(endpoint, function, path, int(in_flight), payload(int(size))))
