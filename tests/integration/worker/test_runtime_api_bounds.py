"""The Runtime API under what no runtime sends: it stays small, and is there for everybody else at once."""

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest

from lambent_proto.ids import MAX_PAYLOAD_BYTES
from lambent_worker.runtime_api.http import MOST_AT_ONCE
from tests.integration.worker.api_scene import NEXT, ApiScene, Client, api_scene

pytestmark = pytest.mark.integration

RESPONSE = "/2018-06-01/runtime/invocation/r1/response"
REGISTER = "/2020-01-01/extension/register"


Connects = Callable[[], Awaitable[Client]]


@pytest.fixture
async def scene() -> AsyncIterator[ApiScene]:
    async with api_scene() as it:
        yield it


@pytest.fixture
async def connect(scene: ApiScene) -> AsyncIterator[Connects]:
    clients = []

    async def one() -> Client:
        clients.append(await scene.client())
        return clients[-1]

    yield one
    for client in clients:
        client.writer.transport.abort()
        with suppress(ConnectionError):
            await client.close()


async def _ended(client: Client) -> bytes:
    """All that came until the connection ended."""
    try:
        async with asyncio.timeout(30):
            return await client.reader.read()
    except ConnectionError:
        return b""


async def _send_on(client: Client, data: bytes, times: int) -> None:
    """Until it is refused."""
    try:
        for _ in range(times):
            client.writer.write(data)
            await client.writer.drain()
    except ConnectionError:
        return


async def test_a_header_without_an_end_is_not_kept(connect: Connects) -> None:
    """Whoever sends one loses the connection."""
    client = await connect()
    client.writer.write(b"GET / HTTP/1.1\r\nX: ")
    tracemalloc.start()
    try:
        await _send_on(client, b"a" * 65_536, 160)
        await _ended(client)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


async def test_many_requests_in_one_piece_are_refused(connect: Connects) -> None:
    """Nobody needs it, and to answer thousands of them at once would hold up everybody else."""
    client = await connect()
    client.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2_000)
    assert (await _ended(client)).count(b"404 Not Found") <= MOST_AT_ONCE


async def test_unfinished_bodies_of_all_connections_are_bounded_together(connect: Connects) -> None:
    """However many connections begin to send one."""
    tracemalloc.start()
    try:
        clients = [await connect() for _ in range(8)]
        for client in clients:
            client.writer.write(
                f"POST {RESPONSE} HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_PAYLOAD_BYTES}\r\n\r\n".encode()
            )
            await _send_on(client, b"a" * 65_536, MAX_PAYLOAD_BYTES // 65_536)
        other = await connect()
        other.send("GET", "/nothing")
        assert (await other.answer())[0] == 404
        assert tracemalloc.get_traced_memory()[0] < 2 * MAX_PAYLOAD_BYTES + 8_000_000
    finally:
        tracemalloc.stop()


async def test_a_streamed_answer_of_tiny_pieces_holds_up_nobody(scene: ApiScene, connect: Connects) -> None:
    """Each piece costs as little as the first."""
    client = await connect()
    client.send("GET", NEXT)
    assert (await scene.hears())[0] == ["ready"]
    scene.deliver({})
    await client.answer()
    client.writer.write(
        f"POST {RESPONSE} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n".encode()
        + b"Lambda-Runtime-Function-Response-Mode: streaming\r\n\r\n"
    )
    began = time.process_time()
    client.writer.write(b"1\r\nx\r\n" * 60_000 + b"0\r\n\r\n")
    head, body = await scene.hears()
    assert (head, body) == (["answer", "r1"], b"x" * 60_000)
    assert time.process_time() - began < 2


async def test_what_extensions_send_is_small(connect: Connects) -> None:
    """A large body is neither kept nor read as JSON."""
    client = await connect()
    client.send("POST", REGISTER, b"[" + b"[]," * 100_000 + b"[]]", Lambda_Extension_Name="it")
    assert (await client.answer())[0] == 413
