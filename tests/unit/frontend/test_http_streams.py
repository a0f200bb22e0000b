"""InvokeWithResponseStream over HTTP, with a dispatcher that does as the test says: events of the encoding as
botocore reads them, clients that are slow, old, or gone."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer, EventStreamMessage

from lambent_frontend.http import eventstream
from lambent_frontend.http.server import HttpServer
from lambent_proto.errors import LostWithWorker, Throttled
from lambent_proto.ids import MAX_PAYLOAD_BYTES
from tests.unit.frontend.http_client import INVOKE, STREAM, WITHIN_S, Client, connected, invoking, listening
from tests.unit.scripted import ScriptedDispatcher, answer

HELD = STREAM.format("held")


@pytest.fixture
def dispatcher() -> ScriptedDispatcher:
    return ScriptedDispatcher()


@pytest.fixture
async def listens(dispatcher: ScriptedDispatcher) -> AsyncIterator[tuple[HttpServer, int]]:
    async with listening(invoking(dispatcher)) as (server, port):
        yield server, port


@pytest.fixture
async def client(listens: tuple[HttpServer, int]) -> AsyncIterator[Client]:
    async with connected(listens[1]) as client:
        yield client


class Events:
    """The answer that a client has begun to read."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._buffer = EventStreamBuffer()

    async def head(self) -> dict[str, str]:
        """Names in lower case."""
        async with asyncio.timeout(WITHIN_S):
            head = (await self._client.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        assert first == "HTTP/1.1 200 OK"
        return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}

    async def next(self) -> EventStreamMessage | None:
        """Each is one chunk; None at the end."""
        async with asyncio.timeout(WITHIN_S):
            size = int(await self._client.reader.readuntil(b"\r\n"), 16)
            chunk = await self._client.reader.readexactly(size + 2)
        if not size:
            return None
        self._buffer.add_data(chunk[:-2])
        (message,) = self._buffer
        assert isinstance(message, EventStreamMessage)
        return message

    async def part(self) -> bytes:
        message = await self.next()
        assert message is not None
        assert message.headers == {
            ":event-type": "PayloadChunk",
            ":content-type": "application/octet-stream",
            ":message-type": "event",
        }
        return bytes(message.payload)

    async def complete(self) -> Any:
        message = await self.next()
        assert message is not None
        assert message.headers[":event-type"] == "InvokeComplete"
        return json.loads(message.payload)


async def streaming(client: Client, dispatcher: ScriptedDispatcher, **headers: str) -> Events:
    """The answer has begun."""
    client.request("POST", HELD, b"{}", **headers)
    await dispatcher.until(lambda: bool(dispatcher.held))
    dispatcher.begin("text/html")
    return Events(client)


async def test_parts_come_before_the_end(client: Client, dispatcher: ScriptedDispatcher) -> None:
    """Each in an event of its own; then the connection is as good as before."""
    events = await streaming(client, dispatcher, X_Amz_Log_Type="Tail")
    said = await events.head()
    assert said["content-type"] == "application/vnd.amazon.eventstream"
    assert said["x-amz-executed-version"] == "$LATEST"
    assert said["x-amzn-requestid"] == dispatcher.calls[0].request_id
    assert (said["x-lambent-content-type"], said["x-lambent-start"]) == ("text/html", "warm")
    assert "content-length" not in said
    dispatcher.write(b"one")
    assert await events.part() == b"one"
    dispatcher.write(b"two")
    dispatcher.end()
    assert await events.part() == b"two"
    assert await events.complete() == {"LogResult": base64.b64encode(b"END").decode()}
    assert await events.next() is None
    assert (await client.ask("POST", INVOKE.format("echo"), b"1")).body == b"1"


async def test_a_failure_in_the_middle(client: Client, dispatcher: ScriptedDispatcher) -> None:
    """The last event has Lambda's document."""
    events = await streaming(client, dispatcher)
    await events.head()
    dispatcher.write(b"one")
    dispatcher.end(answer('{"errorType":"ü"}'.encode(), failed=True))
    assert await events.part() == b"one"
    assert await events.complete() == {"ErrorCode": "Unhandled", "ErrorDetails": '{"errorType":"ü"}'}
    assert await events.next() is None


async def test_an_error_in_the_middle(client: Client, dispatcher: ScriptedDispatcher) -> None:
    """What a client of AWS's raises, and no end that could be taken for one."""
    events = await streaming(client, dispatcher)
    await events.head()
    dispatcher.write(b"one")
    dispatcher.end(LostWithWorker("its node is gone"))
    assert await events.part() == b"one"
    message = await events.next()
    assert message is not None
    assert message.headers == {
        ":error-code": "ServiceException",
        ":error-message": "its node is gone",
        ":message-type": "error",
    }
    assert await events.next() is None


async def test_errors_before_the_first_part(client: Client, dispatcher: ScriptedDispatcher) -> None:
    """They are what they are for Invoke."""
    dispatcher.errors["full"] = Throttled("the line is full")
    assert (await client.ask("POST", STREAM.format("full"))).status == 429
    missing = await client.ask("POST", STREAM.format("unknown"))
    assert (missing.status, missing.error) == (404, "ResourceNotFoundException")
    wrong = await client.ask("POST", HELD, X_Amz_Invocation_Type="Event")
    assert (wrong.status, wrong.error) == (400, "ValidationException")
    assert (await client.ask("POST", HELD, b"{")).error == "InvalidRequestContentException"
    dry = await client.ask("POST", HELD, X_Amz_Invocation_Type="DryRun")
    assert (dry.status, dry.headers["x-amz-executed-version"]) == (204, "$LATEST")
    assert dispatcher.held == {}
    large = await client.ask("POST", HELD, bytes(MAX_PAYLOAD_BYTES + 1))
    assert (large.status, large.error) == (413, "RequestEntityTooLargeException")


async def test_a_slow_client(client: Client, dispatcher: ScriptedDispatcher) -> None:
    """No more is taken than its connection holds, until it reads on."""
    events = await streaming(client, dispatcher)
    await events.head()
    pieces = 1000
    dispatcher.write(*[b"x" * 65_536] * pieces)
    dispatcher.end()
    size = len(await events.part())
    assert dispatcher.taken_bytes < pieces * 65_536 // 2
    for _ in range(pieces - 1):
        size += len(await events.part())
    assert size == pieces * 65_536
    assert await events.complete() == {}
    assert dispatcher.taken_bytes > (pieces - 2) * 65_536


@pytest.mark.parametrize("reads", [True, False])
async def test_a_client_that_goes_away(
    listens: tuple[HttpServer, int], dispatcher: ScriptedDispatcher, reads: bool
) -> None:
    """Its call is given up, and nothing of it is held, also if its connection was full."""
    server, port = listens
    async with connected(port) as client:
        events = await streaming(client, dispatcher)
        await events.head()
        dispatcher.write(*[b"x" * 65_536] * (1 if reads else 1000))
        await events.part()
    await dispatcher.until(lambda: bool(dispatcher.abandoned))
    assert dispatcher.abandoned == list(dispatcher.held)
    await server.stop(0)
    assert server.held == 0


async def test_an_old_client(listens: tuple[HttpServer, int], dispatcher: ScriptedDispatcher) -> None:
    """HTTP/1.0 has no chunks: the connection's end is the answer's."""
    async with connected(listens[1]) as client:
        client.send(f"POST {HELD} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".encode())
        await dispatcher.until(lambda: bool(dispatcher.held))
        dispatcher.begin()
        dispatcher.write(b"one")
        dispatcher.end()
        head, _, body = (await client.ended()).partition(b"\r\n\r\n")
        assert b"chunked" not in head
        assert b"Connection: close" in head
        buffer = EventStreamBuffer()
        buffer.add_data(body)
        assert [message.payload for message in buffer] == [b"one", b"{}"]


async def test_a_frontend_that_stops(
    listens: tuple[HttpServer, int], client: Client, dispatcher: ScriptedDispatcher
) -> None:
    """What does not end in time is cut off, and cannot be taken for whole."""
    events = await streaming(client, dispatcher)
    await events.head()
    dispatcher.write(b"one")
    await events.part()
    await listens[0].stop(0)
    assert await client.ended() == b""
    assert dispatcher.abandoned == list(dispatcher.held)


def test_a_message_may_be_empty_and_long_texts_are_cut() -> None:
    """The checksums are those that botocore counts."""
    buffer = EventStreamBuffer()
    buffer.add_data(eventstream.event("InvokeComplete", "application/json", b""))
    buffer.add_data(eventstream.error("ServiceException", "ü" * 40_000))
    complete, error = buffer
    assert complete.payload == b""
    assert error.headers[":error-message"] == "ü" * 2048
