"""Webhooks: what takes a record, and that one that hangs takes nothing from others."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from lambent_frontend.queue.adapters.webhook import AT_ONCE, Webhooks
from lambent_frontend.queue.destinations import Refused
from lambent_frontend.queue.records import Record

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

RECORD = Record("id-1", b"{}", {"ErrorMessage": "of two\r\nInjected: lines"})


class Host:
    """Answers as it is told to; None: not at all."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer
        self.asked: list[bytes] = []
        self.came = asyncio.Event()
        self.url = ""
        self.serving: list[asyncio.Task[None]] = []

    def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.append(asyncio.create_task(self.serve(reader, writer)))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head)
        self.came.set()
        if self.answer is not None:
            writer.write(self.answer)
        else:
            await reader.read()
        writer.close()


@asynccontextmanager
async def host(answer: bytes | None) -> AsyncIterator[Host]:
    there = Host(answer)
    server = await asyncio.start_server(there.take, "127.0.0.1", 0)
    there.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook?a=1"
    try:
        yield there
    finally:
        server.close()
        await asyncio.gather(*there.serving)  # a socket that is left open is told in another test


TAKEN = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"


async def test_what_takes_a_record() -> None:
    """2xx alone; an attribute makes no header of its own."""
    hooks = Webhooks()
    async with host(TAKEN) as there:
        await hooks.deliver(there.url, RECORD)
        head = there.asked[0].decode()
        assert head.startswith("POST /hook?a=1 HTTP/1.1\r\n")
        assert "x-lambent-request-id: id-1\r\n" in head
        assert "\r\nInjected" not in head
    await hooks.close()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "answered 302"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "answered 500"),
        (b"nonsense\r\n\r\n", "cannot be reached"),
        (b"", "cannot be reached"),
    ],
)
async def test_what_does_not(answer: bytes, why: str) -> None:
    hooks = Webhooks()
    async with host(answer) as there:
        with pytest.raises(Refused, match=why):
            await hooks.deliver(there.url, RECORD)
    with pytest.raises(Refused, match="cannot be reached"):
        await hooks.deliver(there.url, RECORD)
    await hooks.close()


async def test_a_host_that_hangs_takes_nothing_from_others() -> None:
    hooks = Webhooks()
    async with AsyncExitStack() as stack:
        hangs = await stack.enter_async_context(host(None))
        answers = await stack.enter_async_context(host(TAKEN))
        waiting = [asyncio.create_task(hooks.deliver(hangs.url, RECORD)) for _ in range(3 * AT_ONCE)]
        await until(hangs, lambda: len(hangs.asked) == AT_ONCE)
        await hooks.deliver(answers.url, RECORD)
        assert len(hangs.asked) == AT_ONCE
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await hooks.close()


async def until(there: Host, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            there.came.clear()
            await there.came.wait()
