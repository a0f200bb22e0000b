"""A stream with an outbox, over real gRPC."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from lambent_chassis.duplex import Outbox, converse

METHOD = "/test.Duplex/Talk"


class Talk(grpc.GenericRpcHandler):
    """Answers every message with itself, and ends the stream with UNAVAILABLE at `b"leave"`."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return grpc.stream_stream_rpc_method_handler(self._talk)

    async def _talk(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for message in requests:
            if message == b"leave":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "left")
            yield message


@pytest.fixture
async def talk() -> AsyncIterator[Any]:
    """Begins a stream when it is called."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Talk(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel.stream_stream(METHOD)
    await server.stop(None)


async def test_in_order(talk: Any) -> None:
    """What is put leaves in that order, what was put while the stream was busy as well."""
    call, outbox = talk(), Outbox[bytes]()
    taken: list[bytes] = []
    heard = asyncio.Event()

    def take(message: bytes) -> None:
        taken.append(message)
        if len(taken) == 100:
            heard.set()

    conversing = asyncio.create_task(converse(outbox, call, call, take))
    for number in range(100):
        outbox.put(b"%d" % number)
    async with asyncio.timeout(10):
        await heard.wait()
    assert taken == [b"%d" % number for number in range(100)]
    conversing.cancel()
    await asyncio.wait([conversing])


async def test_the_end_of_the_stream(talk: Any) -> None:
    """It is the status that the peer ended it with."""
    call, outbox = talk(), Outbox[bytes]()
    outbox.put(b"leave")
    async with asyncio.timeout(10):
        with pytest.raises(grpc.aio.AioRpcError, match="left"):
            await converse(outbox, call, call, lambda message: None)


async def test_a_message_for_a_stream_that_is_over(talk: Any) -> None:
    """Whether the writer or the reader notices first, the status is what is raised."""
    async with asyncio.timeout(20):
        for _ in range(20):  # which of the two is asked first is a matter of luck
            call, outbox = talk(), Outbox[bytes]()
            await call.write(b"leave")
            await call.code()
            outbox.put(b"too late")
            with pytest.raises(grpc.aio.AioRpcError, match="left"):
                await converse(outbox, call, call, lambda message: None)
