"""Telemetry on its way to one extension: gathered into batches, sent until it is taken, and never waited for.

What comes faster than it is taken is dropped once MOST_WAITING_BYTES wait. The extension is told how much.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final

import httptools

from lambent_worker.runtime_api.subscription import Subscription

MOST_WAITING_BYTES: Final = 4 * 1024 * 1024
"""Of one extension."""

FULL_BYTES: Final = MOST_WAITING_BYTES - 1024
"""From here on what is dropped is not even put into words: short lines cost more than their bytes."""

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 5.0
"""Between two attempts to reach who does not listen, or refuses; each pause is twice the one before."""

_READ_BYTES: Final = 64 * 1024

_LONGEST_ANSWER_BYTES: Final = 64 * 1024
"""Headers and all: the parser keeps a header until it has its end."""

Connect = Callable[[int], Awaitable[socket.socket]]
"""To a port inside the sandbox. Raises PermissionError where that is never possible, OSError."""
Dropped = Callable[[int, int], bytes]
"""The event that so many others, of so many bytes, were dropped."""


class Delivery:
    def __init__(
        self,
        subscription: Subscription,
        connect: Connect,
        dropped: Dropped,
        first: socket.socket | None,
        waiting: Iterable[bytes],
    ) -> None:
        """`first` is a connection that is there already; `waiting` goes before what is added."""
        self.subscription = subscription
        self._connect = connect
        self._dropped = dropped
        self._first = first
        self._loop = asyncio.get_running_loop()
        self._items: deque[bytes] = deque()
        self._bytes = 0
        self._since = 0.0
        """When the first of them came."""
        self._dropped_items = 0
        self._dropped_bytes = 0
        self._some = asyncio.Event()
        self._full = asyncio.Event()
        self._sending: list[bytes] = []
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        for item in waiting:
            self.add(item)
        self._task = self._loop.create_task(self._deliver())

    def add(self, item: bytes) -> None:
        """A JSON object."""
        if self._bytes + len(item) > MOST_WAITING_BYTES:
            self.drop(1, len(item))
            return
        if not self._items:
            self._since = self._loop.time()
            self._some.set()
        self._items.append(item)
        self._bytes += len(item)
        it = self.subscription
        if self._bytes >= it.max_bytes or len(self._items) >= it.max_items:
            self._full.set()

    @property
    def full(self) -> bool:
        return self._bytes > FULL_BYTES

    def drop(self, items: int, size: int) -> None:
        self._dropped_items += items
        self._dropped_bytes += size

    def flush(self) -> None:
        """What waits need not wait for more."""
        if self._items:
            self._full.set()

    def close(self) -> list[bytes]:
        """Ends it. Returns what was not taken, or may not have been."""
        self._task.cancel()
        self._disconnect()
        return [*self._sending, *self._items]

    async def _deliver(self) -> None:
        while True:
            await self._some.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._since + self.subscription.timeout_s):
                    await self._full.wait()
            self._sending = self._take()
            await self._send_until_taken()
            self._sending = []

    def _take(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        it = self.subscription
        while self._items and len(batch) < it.max_items and size < it.max_bytes:
            item = self._items.popleft()
            size += len(item)
            batch.append(item)
        self._bytes -= size
        if self._dropped_items and it.wants("platform.logsDropped"):
            batch.append(self._dropped(self._dropped_items, self._dropped_bytes))
        self._dropped_items = self._dropped_bytes = 0
        self._full.clear()
        if self._items:
            self._since = self._loop.time()
        else:
            self._some.clear()
        return batch

    async def _send_until_taken(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await self._send()
                return
            except (OSError, httptools.HttpParserError):
                self._disconnect()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _send(self) -> None:
        """Raises OSError, or HttpParserError, if it was not taken."""
        reader, writer = self._streams or await self._connected()
        it = self.subscription
        if not it.method:
            writer.write(b"".join(b"%b\n" % item for item in self._sending))
            await writer.drain()
            return
        body = b"[%b]" % b",".join(self._sending)
        head = (
            f"{it.method} {it.path} HTTP/1.1\r\nHost: sandbox.localdomain:{it.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        answer = _Answer()
        while not answer.ended:
            answer.feed(await reader.read(_READ_BYTES))
        if not answer.keep_alive:
            self._disconnect()
        if answer.status // 100 != 2:
            raise ConnectionError(f"the extension answered with status {answer.status}")

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        sock, self._first = self._first, None
        if sock is None:
            sock = await self._connect(self.subscription.port)
        self._streams = await asyncio.open_connection(sock=sock)
        return self._streams

    def _disconnect(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None
        if self._first is not None:
            self._first.close()
            self._first = None


class _Answer:
    """What an extension answers to a batch, of which only the status matters."""

    def __init__(self) -> None:
        self.ended = False
        self.keep_alive = False
        self.status = 0
        self._bytes = 0
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Raises ConnectionError if it has ended too early, or does not end."""
        self._bytes += len(data)
        if self._bytes > _LONGEST_ANSWER_BYTES:
            raise ConnectionError(f"the extension answered with more than {_LONGEST_ANSWER_BYTES} bytes")
        if data:
            self._parser.feed_data(data)
        elif self.status:
            self.ended = True  # it did not say how long it is
        else:
            raise ConnectionError("the extension closed the connection")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_message_complete(self) -> None:
        self.keep_alive = self._parser.should_keep_alive()
        self.ended = True
