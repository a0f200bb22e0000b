"""The own server's connection by the clock: who is silent, who is slow and who is gone."""

import asyncio
from typing import Any, Final

import grpc
import pytest

from lambent_frontend.grpc_door.call import MESSAGE_RATE, MESSAGE_S, QUEUED_BYTES, TAKE_S
from lambent_frontend.grpc_door.connection import (
    GREETING_S,
    PING_ANSWER_S,
    PING_EVERY_S,
    SEND_S,
    ClientConnection,
)
from lambent_frontend.grpc_door.core import wire
from lambent_frontend.grpc_door.core.blocks import Field
from lambent_frontend.grpc_door.core.calls import framed
from lambent_frontend.grpc_door.core.wire import PREFACE, Code, Setting, frame, rst_stream, settings_frame
from lambent_frontend.grpc_door.server import OwnServer
from tests.unit.frontend.grpc_door.test_core import REQUEST, headers


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__({"peername": (host, 1)})
        self.written = b""
        self.aborted = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.abort()


async def test_who_is_gone_after_a_word_is_noticed() -> None:
    """Something came after the ping, though not its answer, and then nothing any more."""
    line = Wire()
    connection = ClientConnection(OwnServer())
    connection.connection_made(line)
    connection.data_received(PREFACE + settings_frame([]))
    now = asyncio.get_running_loop().time()
    connection.check(now + PING_EVERY_S + 1)
    await asyncio.sleep(0)
    assert frame(wire.PING, 0, 0, b"lambent?") in line.written
    connection.data_received(frame(wire.WINDOW_UPDATE, 0, 0, b"\0\0\0\1"))
    line.written = b""
    connection.check(now + 2 * PING_EVERY_S + 2)
    await asyncio.sleep(0)
    assert not line.aborted
    assert frame(wire.PING, 0, 0, b"lambent?") in line.written
    connection.check(now + 2 * PING_EVERY_S + PING_ANSWER_S + 4)
    assert line.aborted


async def test_a_stop_does_not_wait_for_what_was_cancelled() -> None:
    """The last call under way ends without a word from here."""
    server = OwnServer()
    server.handlers["/a/b"] = grpc.unary_unary_rpc_method_handler(never)
    connection = ClientConnection(server)
    connection.connection_made(Wire())
    connection.data_received(PREFACE + settings_frame([]) + headers(1))
    stopping = asyncio.create_task(server.stop(60))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not connection.idle
    connection.data_received(rst_stream(1, 8))
    async with asyncio.timeout(20):
        await stopping


SAYS: Final = b"grpc-status"


def served(
    method: Any, server: OwnServer | None = None, host: str = "127.0.0.1"
) -> tuple[ClientConnection, Wire]:
    """A connection whose client lets nothing of an answer's data through."""
    server = server or OwnServer()
    server.handlers["/a/b"] = method
    connection, line = ClientConnection(server), Wire(host)
    connection.connection_made(line)
    connection.data_received(PREFACE + settings_frame([Setting(wire.INITIAL_WINDOW_SIZE, 0)]))
    return connection, line


async def after(connection: ClientConnection, line: Wire, seconds: float) -> bytes:
    """What is written when this time has passed. The client is there, and says so."""
    connection.data_received(frame(wire.PING, wire.ACK, 0, b"lambent?"))
    await asyncio.sleep(0)
    line.written = b""
    connection.check(asyncio.get_running_loop().time() + seconds)
    await asyncio.sleep(0)
    return line.written


@pytest.mark.parametrize("came", [b"", framed(b"1" * 100)[:50]])
async def test_a_call_that_does_not_come_is_ended(came: bytes) -> None:
    """Nothing of its message, or not all; others go on."""
    connection, line = served(grpc.unary_unary_rpc_method_handler(never))
    connection.data_received(headers(1) + frame(wire.DATA, 0, 1, came) if came else headers(1))
    assert SAYS not in await after(connection, line, MESSAGE_S - 1)
    said = await after(connection, line, MESSAGE_S + 1)
    assert SAYS in said
    assert b"send it faster" in said
    assert connection.idle


async def test_a_large_message_may_take_longer() -> None:
    """As long as it brings its bytes at the least rate."""
    connection, line = served(grpc.unary_unary_rpc_method_handler(never))
    whole = framed(bytes(4 * MESSAGE_RATE))
    connection.data_received(headers(1))
    for at in range(0, 3 * MESSAGE_RATE, 16_384):
        connection.data_received(frame(wire.DATA, 0, 1, whole[at : at + 16_384]))
    assert SAYS not in await after(connection, line, MESSAGE_S + 2)
    assert SAYS in await after(connection, line, MESSAGE_S + 4)


async def test_a_stream_may_be_silent_between_its_messages() -> None:
    """And not within one, once its service has taken those before."""
    taken = asyncio.Event()

    async def take(messages: Any, _: object) -> None:
        async for _ in messages:
            taken.set()

    connection, line = served(grpc.stream_unary_rpc_method_handler(take, bytes, bytes))
    connection.data_received(headers(1))
    assert SAYS not in await after(connection, line, 1_000)
    connection.data_received(frame(wire.DATA, 0, 1, framed(b"1")))
    async with asyncio.timeout(20):
        await taken.wait()
    assert SAYS not in await after(connection, line, 1_000)
    connection.data_received(frame(wire.DATA, 0, 1, framed(b"12")[:6]))
    assert SAYS in await after(connection, line, MESSAGE_S + 1)


@pytest.mark.parametrize("reads", [False, True])
async def test_empty_messages_count_as_what_they_take(reads: bool) -> None:
    """While nobody has read them: five bytes each as they come, more than a hundred in memory."""
    taken: list[bytes] = []
    more = asyncio.Event()

    async def take(messages: Any, _: object) -> None:
        async for message in messages if reads else never_any():
            taken.append(message)
            more.set()

    server = OwnServer(most_held=100_000)
    server.handlers["/a/b"] = grpc.stream_unary_rpc_method_handler(take, bytes, bytes)
    connection, line = ClientConnection(server), Wire()
    connection.connection_made(line)
    connection.data_received(PREFACE + settings_frame([]) + headers(1))
    for sent in range(500, 3_001, 500):
        connection.data_received(frame(wire.DATA, 0, 1, framed(b"") * 500))
        async with asyncio.timeout(20):
            while reads and len(taken) < sent:
                more.clear()
                await more.wait()
    await asyncio.sleep(0)
    assert (b"holds as many" in line.written) is not reads
    assert server.hold(100_000, "")  # all was given back


async def never_any() -> Any:
    await asyncio.Event().wait()
    yield


async def test_an_answer_that_nobody_takes_is_dropped() -> None:
    """Once nothing of it was taken for a while, and no sooner."""
    connection, line = served(grpc.unary_unary_rpc_method_handler(large, bytes, bytes))
    connection.data_received(headers(1) + frame(wire.DATA, wire.END_STREAM, 1, framed(b"")))
    dropped = rst_stream(1, Code.ENHANCE_YOUR_CALM)
    for _ in range(3):
        await asyncio.sleep(0)
    for passed in range(3):
        connection.data_received(wire.window_update(1, 10))
        assert dropped not in await after(connection, line, passed * SEND_S)
    assert dropped not in await after(connection, line, 3 * SEND_S - 1)
    assert not connection.idle
    assert dropped in await after(connection, line, 3 * SEND_S + 1)
    assert connection.idle


async def large(_: object, __: object) -> bytes:
    return b"1" * 1000


@pytest.mark.parametrize(("timeout", "dropped"), [([], True), ([(b"grpc-timeout", b"9H")], False)])
async def test_a_stream_of_which_nothing_is_taken_ends(timeout: list[Field], dropped: bool) -> None:
    """Unless its client has said until when it is to wait."""

    async def endless(_: object, __: object) -> Any:
        while True:
            yield bytes(QUEUED_BYTES)

    connection, line = served(grpc.unary_stream_rpc_method_handler(endless, bytes, bytes))
    asked = headers(1, fields=[*REQUEST, *timeout])
    connection.data_received(asked + frame(wire.DATA, wire.END_STREAM, 1, framed(b"")))
    for _ in range(3):
        await asyncio.sleep(0)
    for passed in range(3):  # it takes a little, now and then
        connection.data_received(wire.window_update(1, 10))
        await after(connection, line, passed * TAKE_S)
        assert not connection.idle
    await after(connection, line, 3 * TAKE_S - 1)
    before = asyncio.all_tasks()
    await after(connection, line, 3 * TAKE_S + 1)
    for _ in range(3):
        await asyncio.sleep(0)
    assert (len(asyncio.all_tasks()) < len(before)) is dropped
    await after(connection, line, 3 * TAKE_S + 2)
    await after(connection, line, 3 * TAKE_S + SEND_S + 3)
    assert connection.idle is dropped


async def test_a_stream_whose_messages_are_taken_one_by_one_goes_on() -> None:
    """As much waits each time that one looks: messages of one size, of which each was taken whole."""

    async def endless(_: object, __: object) -> Any:
        while True:
            yield bytes(2 * QUEUED_BYTES)

    connection, line = served(grpc.unary_stream_rpc_method_handler(endless, bytes, bytes))
    connection.data_received(headers(1) + frame(wire.DATA, wire.END_STREAM, 1, framed(b"")))
    size = len(framed(bytes(2 * QUEUED_BYTES)))
    for passed in range(4):
        await after(connection, line, passed * TAKE_S * 0.7)
        assert not connection.idle
        connection.data_received(wire.window_update(0, size) + wire.window_update(1, size))
        for _ in range(5):
            await asyncio.sleep(0)


async def test_a_frame_that_does_not_come_ends_the_connection() -> None:
    """What brings whole frames, though never an end of the last one, is at work."""
    connection, line = served(grpc.unary_unary_rpc_method_handler(never))
    loop, ping = asyncio.get_running_loop(), frame(wire.PING, wire.ACK, 0, b"lambent?")
    connection.data_received(ping[:5])
    connection.check(loop.time() + GREETING_S - 1)
    connection.data_received(ping[5:] + ping[:5])
    connection.check(loop.time() + GREETING_S - 1)
    assert not line.aborted
    connection.check(loop.time() + GREETING_S + 1)
    assert line.aborted


async def test_what_is_not_read_here_is_not_late() -> None:
    """The rest of a frame may have come long ago, while nothing was read from a client that did not read."""
    connection, line = served(grpc.unary_unary_rpc_method_handler(never))
    now = asyncio.get_running_loop().time()
    connection.data_received(frame(wire.PING, wire.ACK, 0, b"lambent?")[:5])
    connection.pause_writing()
    connection.check(now + GREETING_S + 10)
    connection.resume_writing()
    connection.check(now + GREETING_S + 11)
    assert not line.aborted
    connection.check(now + 2 * GREETING_S + 11)
    assert line.aborted


async def test_answers_that_are_not_taken_are_bounded() -> None:
    """Whoever leaves most in all of its connections goes, and only so many of those as are needed."""
    server = OwnServer(most_untaken=4500)
    method = grpc.unary_unary_rpc_method_handler(large, bytes, bytes)
    lines = []
    for host, count in [("127.0.0.1", 2), *[("127.0.0.2", 1)] * 3]:
        connection, line = served(method, server, host)
        lines.append(line)
        for stream in range(count):
            request = headers(2 * stream + 1) + frame(wire.DATA, wire.END_STREAM, 2 * stream + 1, framed(b""))
            connection.data_received(request)
        server.make_room()
        assert not any(it.aborted for it in lines)
        for _ in range(3):
            await asyncio.sleep(0)
    server.make_room()
    assert not lines[0].aborted
    assert sum(it.aborted for it in lines) == 1


async def small(_: object, __: object) -> bytes:
    return b"x" * 1000


async def test_answers_that_are_framed_and_cannot_leave_are_counted() -> None:
    """Those that fit into the client's windows as well, while its connection takes nothing."""
    connection, _ = served(grpc.unary_unary_rpc_method_handler(small, bytes, bytes))
    connection.data_received(settings_frame([Setting(wire.INITIAL_WINDOW_SIZE, 65_535)]))
    connection.pause_writing()
    for stream in (1, 3, 5):
        connection.data_received(headers(stream) + frame(wire.DATA, wire.END_STREAM, stream, framed(b"")))
    for _ in range(3):
        await asyncio.sleep(0)
    assert connection.untaken >= 3000
    connection.resume_writing()
    await asyncio.sleep(0)
    assert connection.untaken == 0


async def never(_: object, __: object) -> None:
    raise AssertionError
