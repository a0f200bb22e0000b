"""The protocol and its bounds, over real sockets: what is taken, what is refused, who is waited for how
long."""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import pytest

from lambent_frontend.http import limits
from lambent_frontend.http.messages import Request, Response
from lambent_frontend.http.server import HttpServer
from tests.unit.frontend.http_client import INVOKE, WITHIN_S, Client, connected, invoking, listening
from tests.unit.scripted import ScriptedDispatcher

ECHO, HELD = INVOKE.format("echo"), INVOKE.format("held")


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


async def test_a_connection_is_kept(client: Client) -> None:
    """Until the client says otherwise."""
    assert (await client.ask("POST", ECHO, b"1")).body == b"1"
    assert (await client.ask("POST", ECHO, b"2")).body == b"2"
    answer = await client.ask("POST", ECHO, b"3", Connection="close")
    assert (answer.body, answer.headers["connection"]) == (b"3", "close")
    assert await client.ended() == b""


async def test_requests_sent_at_once_are_answered_in_their_order(
    client: Client, dispatcher: ScriptedDispatcher
) -> None:
    client.request("POST", HELD, b"1")
    client.request("POST", ECHO, b"2")
    client.request("GET", "/nowhere")
    await dispatcher.until(lambda: bool(dispatcher.held))
    dispatcher.release(b"1")
    assert [(await client.answer()).body for _ in range(2)] == [b"1", b"2"]
    assert (await client.answer()).status == 404


async def test_bodies_in_pieces(client: Client) -> None:
    """Chunked, byte by byte, and only once the server says that it goes on."""
    client.send(f"POST {ECHO} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    client.send(b'4\r\n{"a"\r\n1;x=y\r\n:\r\n2\r\n1}\r\n0\r\n\r\n')
    assert (await client.answer()).body == b'{"a":1}'
    for byte in f"POST {ECHO} HTTP/1.1\r\nContent-Length: 2\r\n\r\n17".encode():
        client.send(bytes([byte]))
        await client.writer.drain()
    assert (await client.answer()).body == b"17"
    client.send(f"POST {ECHO} HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n".encode())
    assert (await client.answer()).status == 100
    client.send(b"18")
    assert (await client.answer()).body == b"18"


async def test_who_goes_away_is_not_waited_for(
    listens: tuple[HttpServer, int], dispatcher: ScriptedDispatcher
) -> None:
    """Its call is given up, and nothing of it is held."""
    server, port = listens
    async with connected(port) as client:
        client.request("POST", HELD, b"1")
        await dispatcher.until(lambda: bool(dispatcher.held))
        assert server.held == 1
    await dispatcher.until(lambda: bool(dispatcher.abandoned))
    assert dispatcher.abandoned == list(dispatcher.held)
    assert server.held == 0


async def test_what_brings_no_body_is_refused_as_well_while_too_much_is_held(
    listens: tuple[HttpServer, int], client: Client, dispatcher: ScriptedDispatcher
) -> None:
    """By answers that their clients do not read: more of them would only be made."""
    listens[0].held = limits.HELD + 1
    assert (await client.ask("POST", ECHO)).status == 503
    assert await client.ended() == b""
    listens[0].held = 0
    assert dispatcher.calls == []


async def test_what_comes_behind_the_body_is_no_header(
    client: Client, dispatcher: ScriptedDispatcher
) -> None:
    """It takes no other one's place, were it a proxy's."""
    head = f"POST {ECHO} HTTP/1.1\r\nTransfer-Encoding: chunked\r\nx-lambent-tenant: a\r\n\r\n"
    client.send(f"{head}2\r\n17\r\n0\r\nx-lambent-tenant: b\r\nx-amz-log-type: Tail\r\n\r\n".encode())
    assert (await client.answer()).body == b"17"
    assert [(call.tenant, call.tail) for call in dispatcher.calls] == [("a", False)]
    assert (await client.ask("POST", ECHO, b"1", x_lambent_tenant="c")).status == 200
    assert dispatcher.calls[-1].tenant == "c"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01", 400, id="TLS"),
        pytest.param(b"GET / HTTP/1.1\nno colon\r\n\r\n", 400, id="a bad header"),
        pytest.param(b"BREW / HTTP/1.1\r\n\r\n", 400, id="no method of HTTP's"),
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, id="a negative length"),
        pytest.param(
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            id="two lengths",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, id="two sizes"
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, id="no size of a chunk"
        ),
        pytest.param(b"CONNECT a:1 HTTP/1.1\r\n\r\n", 400, id="a tunnel"),
        pytest.param(b"GET /" + b"a" * limits.HEAD + b" HTTP/1.1\r\n\r\n", 431, id="a long path"),
        pytest.param(b"GET / HTTP/1.1\r\nA: " + b"a" * limits.HEAD + b"\r\n\r\n", 431, id="a large header"),
        pytest.param(b"GET / HTTP/1.1\r\nA: " + b"a" * 8 * limits.HEAD, 431, id="one without an end"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * limits.HEAD, 431, id="many headers"),
        pytest.param(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: " + b"a" * 8 * limits.HEAD,
            431,
            id="a large trailer",
        ),
        pytest.param(
            f"POST {ECHO} HTTP/1.1\r\nContent-Length: {limits.INVOKE_BODY + 1}\r\n\r\n".encode(),
            413,
            id="a large body, said so",
        ),
        pytest.param(
            (
                f"POST {ECHO} HTTP/1.1\r\nTransfer-Encoding: "
                f"chunked\r\n\r\n{limits.INVOKE_BODY + 1:x}\r\n".encode()
            )
            + bytes(limits.INVOKE_BODY + 1),
            413,
            id="a large body in chunks",
        ),
    ],
)
async def test_what_is_no_request(
    client: Client, dispatcher: ScriptedDispatcher, sent: bytes, status: int
) -> None:
    """It gets its error, with a body as all errors have, and the connection ends."""
    client.send(sent)
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (status, "close"), answer.body
    assert answer.error.endswith("Exception")
    assert len(answer.headers["x-amzn-requestid"]) == 36
    assert answer.json()["Type"] == "User"
    client.writer.write_eof()
    assert await client.ended() == b""
    assert dispatcher.calls == []


async def test_who_sends_too_much_reads_why(client: Client) -> None:
    """A client that sends all before it reads anything is not cut off under it."""
    size = 3 * limits.INVOKE_BODY
    client.send(f"POST {ECHO} HTTP/1.1\r\nContent-Length: {size}\r\n\r\n".encode())
    client.send(bytes(size))
    async with asyncio.timeout(WITHIN_S):
        await client.writer.drain()
    answer = await client.answer()
    assert (answer.status, answer.error) == (413, "RequestEntityTooLargeException")
    assert await client.ended() == b""


@pytest.mark.parametrize(
    ("sent", "after_s", "status"),
    [
        pytest.param(b"", limits.HEAD_S, 0, id="nothing"),
        pytest.param(b"POST / HTTP/1.1\r\nA", limits.HEAD_S, 408, id="half a head"),
        pytest.param(
            f"POST {ECHO} HTTP/1.1\r\nContent-Length: 100\r\n\r\n{{".encode(),
            limits.BODY_S + 1,
            408,
            id="half a body",
        ),
    ],
)
async def test_who_is_too_slow(
    listens: tuple[HttpServer, int], client: Client, sent: bytes, after_s: float, status: int
) -> None:
    """Just before its time is over it is still waited for; then it is told, and the connection ends."""
    server, _ = listens
    client.send(sent)
    await until_read(server, len(sent))
    now = asyncio.get_running_loop().time()
    server.check(now + after_s - 1)
    assert server.open == 1
    server.check(now + after_s + 1)
    if status:
        assert (await client.answer()).status == status
        server.check(now + after_s + limits.LINGER_S + 10)
    assert await client.ended() == b""


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110 - nothing else tells it
            await asyncio.sleep(0)


async def until_read(server: HttpServer, size: int) -> None:
    await until(lambda: server.read >= size and server.open > 0)


async def test_an_idle_connection_ends(listens: tuple[HttpServer, int], client: Client) -> None:
    server, _ = listens
    await client.ask("POST", ECHO, b"1")
    now = asyncio.get_running_loop().time()
    server.check(now + limits.IDLE_S - 1)
    assert (await client.ask("POST", ECHO, b"1")).status == 200
    server.check(now + 2 * limits.IDLE_S)
    assert await client.ended() == b""


async def test_a_stop_waits_for_what_is_under_way(
    listens: tuple[HttpServer, int], client: Client, dispatcher: ScriptedDispatcher
) -> None:
    """The answer says that the connection ends; one without a request ends at once, and nobody new comes."""
    server, port = listens
    async with connected(port) as idle:
        await idle.ask("POST", ECHO, b"1")
        client.request("POST", HELD, b"1")
        await dispatcher.until(lambda: bool(dispatcher.held))
        stopping = asyncio.create_task(server.stop(WITHIN_S))
        assert await idle.ended() == b""
        with pytest.raises(OSError, match=r"\d+"):
            await asyncio.open_connection("127.0.0.1", port)
        dispatcher.release(b"1")
        answer = await client.answer()
        assert (answer.body, answer.headers["connection"]) == (b"1", "close")
        await stopping


async def test_a_stop_that_waits_no_longer_says_so(
    listens: tuple[HttpServer, int], client: Client, dispatcher: ScriptedDispatcher
) -> None:
    """By a status that no client sends again; one whose connection is cut off would be, and may run twice."""
    client.request("POST", HELD, b"1")
    await dispatcher.until(lambda: bool(dispatcher.held))
    await listens[0].stop(0)
    answer = await client.answer()
    assert (answer.status, answer.error) == (520, "ServiceException")
    assert answer.headers["connection"] == "close"
    assert await client.ended() == b""
    assert dispatcher.abandoned == list(dispatcher.held)


async def test_a_taken_port_is_an_error(listens: tuple[HttpServer, int]) -> None:
    server = HttpServer(invoking(ScriptedDispatcher()))
    with pytest.raises(OSError, match="is something else there"):
        await server.start("127.0.0.1", listens[1])


async def test_an_offer_of_another_protocol_is_ignored(client: Client) -> None:
    """With a body and without one, whatever else is in the head, and again on the same connection."""
    offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    post = f"POST {ECHO} HTTP/1.1\r\nHost: here\r\n{offer}Content-Length: 5\r\n\r\n".encode()
    client.send(post + b"12345" + f"GET /nowhere HTTP/1.1\r\n{offer}\r\n".encode() + post + b"1")
    assert (await client.answer()).body == b"12345"
    assert (await client.answer()).status == 404
    client.send(b"2345")
    assert (await client.answer()).body == b"12345"
    chunked = f"POST {ECHO} HTTP/1.1\r\n{offer}Transfer-Encoding: chunked\r\n\r\n1\r\n7\r\n0\r\n\r\n"
    client.send(chunked.encode())
    assert (await client.answer()).body == b"7"
    large = f"POST {ECHO} HTTP/1.1\r\n{offer}Content-Length: {limits.INVOKE_BODY + 1}\r\n\r\n"
    client.send(large.encode())
    assert (await client.answer()).status == 413


async def test_an_offer_makes_no_later_version_of_1_0(client: Client) -> None:
    """Whose clients may wait for the connection's end, and know no chunks."""
    client.send(f"POST {ECHO} HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n".encode())
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert await client.ended() == b""


class Telling:
    """An API whose answers have headers that latin-1 has not, and others that it has."""

    def most_body(self, request: Request) -> int:
        return 10

    def share(self, request: Request) -> str:
        return ""

    async def answer(self, request: Request) -> Response:
        headers = {"a": "1 \u20ac", "b": "\xc3\xbc"}  # as latin-1 carries what a function has said
        return (
            Response(200, b"", headers, parts=_one_part()) if request.body else Response(200, b"1", headers)
        )


async def _one_part() -> AsyncGenerator[bytes, None]:
    yield b"1"


async def test_a_header_is_written_whatever_is_in_it() -> None:
    """As UTF-8, where latin-1 does not have it."""
    async with listening(Telling()) as (_, port), connected(port) as client:  # type: ignore[arg-type]
        for body in (b"", b"1"):
            client.request("POST", "/", body)
            async with asyncio.timeout(WITHIN_S):
                head = await client.reader.readuntil(b"\r\n\r\n")
            assert b"\r\na: 1 \xe2\x82\xac\r\nb: \xc3\xbc\r\n" in head
            assert await client.reader.readexactly(1) == b"1" if not body else True


class Faulty:
    """An API with a bug."""

    def most_body(self, request: Request) -> int:
        return 10

    def share(self, request: Request) -> str:
        return ""

    def too_large(self, request: Request) -> Exception:
        raise NotImplementedError

    async def answer(self, request: Request) -> Response:
        raise ZeroDivisionError


async def test_a_bug_is_one_request_s_trouble() -> None:
    """Its client hears that it is ours, in a way that is not sent again, and the connection goes on."""
    async with listening(Faulty()) as (_, port), connected(port) as client:  # type: ignore[arg-type]
        for _ in range(2):
            answer = await client.ask("POST", ECHO, b"1")
            assert (answer.status, answer.error) == (520, "ServiceException")


async def test_too_many_bytes_are_not_held(
    listens: tuple[HttpServer, int], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes when others fill what there is is told to come again."""
    monkeypatch.setattr(limits, "HELD", 3)
    answer = await client.ask("POST", ECHO, b"1234")
    assert (answer.status, answer.error) == (503, "ServiceException")


async def test_an_answer_that_is_not_read(
    listens: tuple[HttpServer, int], dispatcher: ScriptedDispatcher
) -> None:
    """It is held for as long as the client may take, and then dropped with its connection."""
    server, port = listens
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(slow, ("127.0.0.1", port))
        event = b'"' + b"a" * (limits.INVOKE_BODY - 2) + b'"'
        head = f"POST {ECHO} HTTP/1.1\r\nContent-Length: {len(event)}\r\n\r\n".encode()
        await loop.sock_sendall(slow, head + event)
        await dispatcher.until(lambda: bool(dispatcher.calls))
        await until(lambda: 0 < server.held < len(event))
        server.check(loop.time() + limits.SEND_S - 1)
        assert server.open == 1
        server.check(loop.time() + limits.SEND_S + 1)
        await until(lambda: server.open == 0)
        assert server.held == 0


async def test_a_body_in_very_many_pieces(client: Client) -> None:
    client.send(f"POST {ECHO} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    client.send(b'1\r\n"\r\n' + b"1\r\n7\r\n" * 50_000 + b'1\r\n"\r\n0\r\n\r\n')
    assert (await client.answer()).body == b'"' + b"7" * 50_000 + b'"'


async def test_too_many_connections(
    listens: tuple[HttpServer, int], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.ask("POST", ECHO, b"1")
    monkeypatch.setattr(limits, "CONNECTIONS", 1)
    async with connected(listens[1]) as second:
        assert (await second.answer()).status == 503
        assert await second.ended() == b""
    assert (await client.ask("POST", ECHO, b"1")).status == 200
