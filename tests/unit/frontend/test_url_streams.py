"""URLs whose answers come in parts, with a dispatcher that does as the test says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import structlog

from lambent_frontend.urls.answer import HTTP, MAX_PRELUDE
from lambent_proto.errors import LostWithWorker, Throttled
from tests.unit.frontend.http_client import WITHIN_S, Client, connected
from tests.unit.frontend.test_url_door import STREAMED, served
from tests.unit.scripted import ScriptedDispatcher, answer

HOST = f"{STREAMED}.lambda-url.localhost"
HEAD = b'{"statusCode": 201, "headers": {"x-a": "1"}, "cookies": ["a=1", "b=2"]}'
END = bytes(8)


@pytest.fixture
def functions() -> ScriptedDispatcher:
    return ScriptedDispatcher()


@pytest.fixture
async def client(functions: ScriptedDispatcher) -> AsyncIterator[Client]:
    """With a request that the function has and has not answered."""
    async with served(functions, None) as port, connected(port) as client:
        client.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nOrigin: https://a.example\r\n\r\n".encode())
        await functions.until(lambda: bool(functions.held))
        yield client


async def head(client: Client) -> tuple[str, list[str]]:
    async with asyncio.timeout(WITHIN_S):
        status, *lines = (await client.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        return status, lines


async def part(client: Client) -> bytes:
    """Of a body in chunks; empty: its end."""
    async with asyncio.timeout(WITHIN_S):
        size = int(await client.reader.readuntil(b"\r\n"), 16)
        return (await client.reader.readexactly(size + 2))[:-2]


async def test_a_head_and_parts_as_they_come(functions: ScriptedDispatcher, client: Client) -> None:
    """The head may be cut anywhere; each part is sent before the next is there, and the connection stays."""
    functions.begin(HTTP)
    functions.write(HEAD[:9], HEAD[9:] + END[:3], END[3:] + b"first")
    status, lines = await head(client)
    assert status == "HTTP/1.1 201 Created"
    assert {"x-a: 1", "Set-Cookie: a=1", "Set-Cookie: b=2", "Transfer-Encoding: chunked"} <= set(lines)
    assert {
        "Content-Type: application/octet-stream",
        "access-control-allow-origin: https://a.example",
    } <= set(lines)
    assert await part(client) == b"first"
    functions.write(b"second")
    assert await part(client) == b"second"
    functions.end()
    assert await part(client) == b""
    client.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    await functions.until(lambda: bool(functions.held))
    functions.end(answer(b"again"))
    assert (await head(client))[0] == "HTTP/1.1 200 OK"
    assert [await part(client), await part(client)] == [b"again", b""]


async def test_what_has_no_head_is_the_body_as_it_is(functions: ScriptedDispatcher, client: Client) -> None:
    functions.begin("text/event-stream")
    functions.write(HEAD + END)
    status, lines = await head(client)
    assert (status, "Content-Type: text/event-stream" in lines) == ("HTTP/1.1 200 OK", True)
    assert await part(client) == HEAD + END


async def test_what_is_not_streamed_is_not_looked_into(functions: ScriptedDispatcher, client: Client) -> None:
    """As at AWS: an answer with a statusCode is no more than JSON there."""
    functions.end(answer(b'{"statusCode": 404}'))
    status, lines = await head(client)
    assert (status, "Content-Type: application/json" in lines) == ("HTTP/1.1 200 OK", True)
    assert await part(client) == b'{"statusCode": 404}'


async def test_a_status_without_a_body(functions: ScriptedDispatcher, client: Client) -> None:
    functions.begin(HTTP)
    functions.write(b'{"statusCode": 204}' + END + b"none")
    status, lines = await head(client)
    assert status == "HTTP/1.1 204 No Content"
    assert not [line for line in lines if line.startswith(("Transfer-Encoding", "Content-Length"))]


def failed(functions: ScriptedDispatcher) -> None:
    functions.end(answer(b"{}", failed=True))


def failed_within_its_head(functions: ScriptedDispatcher) -> None:
    functions.begin(HTTP)
    functions.write(HEAD)
    functions.end(answer(b"{}", failed=True))


def ended_within_its_head(functions: ScriptedDispatcher) -> None:
    functions.begin(HTTP)
    functions.write(HEAD)
    functions.end()


def typed_badly(functions: ScriptedDispatcher) -> None:
    functions.begin("text/plain\r\nx-injected: c")
    functions.write(b"a")


def wrote(*parts: bytes) -> Callable[[ScriptedDispatcher], None]:
    def write(functions: ScriptedDispatcher) -> None:
        functions.begin(HTTP)
        functions.write(*parts)

    return write


@pytest.mark.parametrize(
    "does",
    [
        failed,
        failed_within_its_head,
        ended_within_its_head,
        wrote(b"no JSON" + END),
        wrote(b"[]" + END),
        wrote(b'{"statusCode": 99}' + END),
        wrote(b'{"headers": {"x-a": "b\\r\\nx-injected: c"}}' + END),
        wrote(b" " * MAX_PRELUDE, b" "),
        typed_badly,
    ],
)
async def test_what_is_no_answer(
    functions: ScriptedDispatcher, client: Client, does: Callable[[ScriptedDispatcher], Any]
) -> None:
    does(functions)
    told = await client.answer()
    assert (told.status, told.body) == (502, b"Internal Server Error")
    assert "x-injected" not in told.headers


async def test_lambent_s_own_error_before_the_answer(functions: ScriptedDispatcher, client: Client) -> None:
    functions.end(Throttled("full"))
    assert (await client.answer()).status == 429


@pytest.mark.parametrize("end", [answer(b"{}", failed=True), LostWithWorker("node n1 was lost")])
async def test_what_fails_in_the_middle_is_cut_off(
    functions: ScriptedDispatcher, client: Client, end: Any
) -> None:
    """Without the chunk that ends it, so that nobody takes half an answer for the whole; it is no bug."""
    functions.begin(HTTP)
    functions.write(HEAD + END + b"first")
    await head(client)
    assert await part(client) == b"first"
    with structlog.testing.capture_logs() as logs:
        functions.end(end)
        assert await client.ended() == b""
    assert [line for line in logs if line["log_level"] == "error"] == []


async def test_who_leaves_lets_it_run_on_unheard(functions: ScriptedDispatcher, client: Client) -> None:
    functions.begin(HTTP)
    functions.write(HEAD + END + b"first")
    await head(client)
    [held] = functions.held
    client.writer.close()
    await functions.until(lambda: functions.abandoned == [held])
