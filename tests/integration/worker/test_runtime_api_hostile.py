"""A function's code may try to harm its worker through the Runtime API. Each try is contained, and a runtime
that does as it should is served as before."""

import asyncio
import contextlib
import json
import resource
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from lambent_worker.runtime_api import http
from tests.integration.worker.api_scene import NEXT, ApiScene, Client, api_scene

pytestmark = pytest.mark.integration

RESPONSE = "/2018-06-01/runtime/invocation/r1/response"


@pytest.fixture
async def scene() -> AsyncIterator[ApiScene]:
    async with api_scene() as it:
        yield it


async def serves(scene: ApiScene) -> None:
    """One whole call of a runtime that has just started."""
    runtime = await scene.client()
    runtime.send("GET", NEXT)
    assert await scene.hears() == (["ready"], b"")
    scene.deliver("x" * 1_000_000)
    assert len((await runtime.answer())[2]) == 1_000_002
    assert (await runtime.asks("POST", RESPONSE, b"1"))[0] == 202
    assert await scene.hears() == (["answer", "r1"], b"1")
    await runtime.close()


async def ended(client: Client) -> bytes:
    """What it still gets until its connection ends."""
    got = b""
    async with asyncio.timeout(30):
        with contextlib.suppress(ConnectionError):
            while data := await client.reader.read(2**16):
                got += data
    with contextlib.suppress(ConnectionError):
        await client.close()
    return got


GARBAGE = [
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9, id="TLS"),
    pytest.param(b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", id="negative length"),
    pytest.param(
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", id="two lengths"
    ),
    pytest.param(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZ\r\n", id="no chunk"),
    pytest.param(b"GET / HTTP/1.1\r\na: " + b"x" * 2_000_000, id="a header without an end"),
    pytest.param(b"GET /" + b"x" * 2_000_000, id="a path without an end"),
    pytest.param(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 600_000, id="headers without end"),
    pytest.param(b"GET / HTTP/1.1\r\n\r\n" * 1000, id="many requests at once"),
    pytest.param(
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 2_000_000,
        id="an endless extension",
    ),
    pytest.param(
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\na: " + b"x" * 2_000_000,
        id="a trailer without an end",
    ),
]


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_what_is_no_http_ends_its_connection_alone(scene: ApiScene, garbage: bytes) -> None:
    other = await scene.client()
    other.writer.write(garbage)
    assert (await ended(other)).endswith(b"400 Bad Request")
    await serves(scene)


async def test_two_requests_at_once_are_not_served(scene: ApiScene) -> None:
    """Who asks for an event and for more on the same connection has left the first wait by that."""
    other = await scene.client()
    other.send("GET", NEXT)
    assert await scene.hears() == (["ready"], b"")
    other.send("GET", NEXT)
    assert b"400" in await ended(other)
    runtime = await scene.client()
    runtime.send("GET", NEXT)
    scene.deliver(1)
    assert (await runtime.answer())[2] == b"1"
    await runtime.close()


async def test_many_connections_are_held_in_line(scene: ApiScene) -> None:
    """More than anybody needs: the ones beyond wait until others end."""
    others = [await scene.client() for _ in range(100)]
    late = await scene.client()
    late.send("GET", "/")
    for other in others:
        await other.close()
    assert (await late.answer())[0] == 404
    await late.close()
    await serves(scene)


async def test_connections_in_quick_succession_are_slowed_down(
    scene: ApiScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait for the next second, and are served then."""
    monkeypatch.setattr(http, "MOST_NEW_A_SECOND", 10)
    began = asyncio.get_running_loop().time()
    for _ in range(25):
        client = await scene.client()
        assert (await client.asks("GET", "/"))[0] == 404
        await client.close()
    assert asyncio.get_running_loop().time() - began > 1
    await serves(scene)


async def test_whose_requests_are_refused_is_read_from_less_often(scene: ApiScene) -> None:
    client = await scene.client()
    began = asyncio.get_running_loop().time()
    for _ in range(11):
        assert (await client.asks("GET", "/"))[0] == 404
    assert asyncio.get_running_loop().time() - began > 10 * http.REST_S
    await client.close()


async def test_a_client_that_does_not_read_is_not_read_from(scene: ApiScene) -> None:
    """It can make its worker keep one answer, and no more."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", scene.port))
    sock.sendall(f"GET {NEXT} HTTP/1.1\r\n\r\n".encode())
    assert await scene.hears() == (["ready"], b"")
    scene.deliver("x" * 6_000_000)
    sock.settimeout(0.2)
    more = f"GET / HTTP/1.1\r\na: {'x' * 50_000_000}\r\n\r\n".encode()
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(sock.sendall, more)
    scene.api.restart()
    sock.close()
    await serves(scene)


async def test_a_body_without_an_end_is_cut_off(scene: ApiScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes none of its worker's memory, and not for ever of its time."""
    monkeypatch.setattr(http, "MOST_STREAMED_BYTES", 20_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in ("/", RESPONSE, "/2018-06-01/runtime/init/error"):
        other = await scene.client()
        other.writer.write(f"POST {path} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        with contextlib.suppress(ConnectionError):
            while not other.reader.at_eof():
                other.writer.write(piece)
                await other.writer.drain()
        await ended(other)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000
    await serves(scene)


async def test_an_answer_in_single_bytes_is_an_answer(scene: ApiScene) -> None:
    """Its cost grows with its size, and not with its size squared."""
    runtime = await scene.client()
    runtime.send("GET", NEXT)
    await scene.hears()
    scene.deliver(1)
    await runtime.answer()
    runtime.writer.write(f"POST {RESPONSE} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    runtime.writer.write(b"1\r\nx\r\n" * 500_000 + b"0\r\n\r\n")
    assert (await runtime.answer())[0] == 202
    assert await scene.hears() == (["answer", "r1"], b"x" * 500_000)
    await runtime.close()


async def test_large_bodies_are_taken_of_answers_alone(scene: ApiScene) -> None:
    """Of a large init error its type stays."""
    client = await scene.client()
    large = b"x" * 300_000
    register = "/2020-01-01/extension/register"
    status, _, body = await client.asks("POST", register, large, Lambda_Extension_Name="me")
    assert status == 413
    assert json.loads(body) == {
        "errorMessage": "Exceeded maximum allowed payload size (262144 bytes).",
        "errorType": "RequestEntityTooLarge",
    }
    await client.close()
    await serves(scene)
    scene.api.restart()
    client = await scene.client()
    said = {"Lambda_Runtime_Function_Error_Type": "Runtime.MyReason"}
    assert (await client.asks("POST", "/2018-06-01/runtime/init/error", large, **said))[0] == 202
    head, error = await scene.hears()
    assert (head, json.loads(error)["errorType"]) == (["init_error"], "Runtime.MyReason")
    await client.close()


async def test_what_waits_to_be_accepted_at_a_restart_is_of_the_run_before(scene: ApiScene) -> None:
    """A runtime's last words do not count as the first ones of the next."""
    with socket.create_connection(("127.0.0.1", scene.port)) as dead, socket.socket() as unheard:
        dead.sendall(f"GET {NEXT} HTTP/1.1\r\n\r\n".encode())
        assert await scene.hears() == (["ready"], b"")
        unheard.connect(("127.0.0.1", scene.port))
        unheard.sendall(f"GET {NEXT} HTTP/1.1\r\n\r\n".encode())
        scene.api.restart()
        await serves(scene)


async def test_a_mistake_of_the_workers_is_not_hidden(
    scene: ApiScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reaches the loop's handler of errors, as any other; the client is told that it is not at fault."""
    seen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: seen.append(context["exception"]))
    mistake: Callable[..., None] = lambda *_: (_ for _ in ()).throw(ZeroDivisionError())  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(scene.api, "complete", mistake)
        client = await scene.client()
        client.send("GET", NEXT)
        assert b"InternalServerError" in await ended(client)
    assert [type(it) for it in seen] == [ZeroDivisionError]
    await serves(scene)
