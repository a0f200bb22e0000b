"""The connections of a load test: what a server does with them is no failure of its calls."""

import asyncio
from typing import Any, cast

import grpc.aio
import pytest

from lambent.loadtest.transports import Http, HttpRequest, Stream, Transport
from lambent_frontend.sigv4 import SignedRequest, verify
from lambent_proto.v1 import invoke_pb2

pytestmark = pytest.mark.timeout(20)


async def called(transport: Transport) -> str:
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    transport.begin(0, lambda _, error: ended.set_result(error))
    return await ended


@pytest.mark.parametrize("said", ["Connection: close\r\n", ""], ids=["said", "unsaid"])
async def test_a_connection_that_the_server_closed_is_not_used_again(said: str) -> None:
    gone: asyncio.Queue[None] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(f"HTTP/1.1 200 OK\r\n{said}Content-Length: 2\r\n\r\n{{}}".encode())
        writer.close()
        await writer.wait_closed()
        gone.put_nowait(None)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport = Http(f"127.0.0.1:{port}", [HttpRequest("echo", b"{}", [])])
    try:
        for _ in range(3):
            assert await called(transport) == ""
            await gone.get()
    finally:
        await transport.close()
        server.close()


async def test_a_signature_is_of_the_second_it_is_sent_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would not be good for ever; and within a second it is the same for all."""
    heads: list[list[str]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n{}")
        heads.append(head.decode().split("\r\n\r\n")[0].split("\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport = Http(f"127.0.0.1:{port}", [HttpRequest("a:b", b"{}", [], "LA1.secret")])
    try:
        for at in (1e9 + 0.1, 1e9 + 0.9, 1e9 + 400):
            monkeypatch.setattr("lambent.loadtest.transports.unix_s", lambda now=at: now)
            assert await called(transport) == ""
            first, *rest = heads[-1]
            headers = dict(line.split(": ", 1) for line in rest)
            signed = SignedRequest("POST", first.split()[1], "", headers, b"{}")
            del headers["Content-Length"]
            assert verify(signed, {"LA1": "secret"}.get, at) == "LA1"
    finally:
        await transport.close()
        server.close()
    assert heads[0] == heads[1] != heads[2]


class Ended:
    """A stream that ends at once."""

    def InvokeStream(self, **_: object) -> "Ended":
        return self

    async def read(self) -> object:
        return grpc.aio.EOF

    async def write(self, _: object) -> None: ...

    def cancel(self) -> None: ...


async def test_nothing_is_left_of_streams_that_have_ended() -> None:
    """Where a fleet is away each call opens one."""
    before = asyncio.all_tasks()
    transport = Stream(cast(Any, Ended()), [invoke_pb2.InvokeRequest()], [])
    for _ in range(5):
        assert await called(transport) == "CONNECTION_LOST"
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    await transport.close()
