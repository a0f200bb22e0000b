"""The own server's connection by the clock: who is silent and who is gone."""

import asyncio
from typing import Any

import grpc

from lambent_frontend.grpc_door.connection import PING_ANSWER_S, PING_EVERY_S, ClientConnection
from lambent_frontend.grpc_door.core import wire
from lambent_frontend.grpc_door.core.wire import PREFACE, frame, rst_stream, settings_frame
from lambent_frontend.grpc_door.server import OwnServer
from tests.unit.frontend.grpc_door.test_core import headers


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
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


async def never(_: object, __: object) -> None:
    raise AssertionError
