"""A bidirectional gRPC stream with an outbox: what is put is written in order, and putting never waits."""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

M = TypeVar("M")
M_contra = TypeVar("M_contra", contravariant=True)


class Writes(Protocol[M_contra]):
    """What a client's call and a server's context have in common."""

    def write(self, message: M_contra) -> Awaitable[Any]: ...


class Outbox(Generic[M]):
    """Gathers messages of one stream; `run` writes them until it is cancelled or the stream breaks."""

    def __init__(self) -> None:
        self._messages: list[M] = []
        self._more = asyncio.Event()
        self._over = False

    def put(self, message: M) -> None:
        """Dropped once the stream is over: the next one begins with the whole truth anyway."""
        if not self._over:
            self._messages.append(message)
            self._more.set()

    def close(self) -> None:
        self._over = True
        self._messages.clear()

    async def run(self, stream: Writes[M]) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            messages, self._messages = self._messages, []
            for message in messages:
                await stream.write(message)


async def converse(
    outbox: Outbox[Any], stream: Writes[Any], incoming: AsyncIterable[M], take: Callable[[M], None]
) -> None:
    """Reads `incoming` to its end while the outbox is written; the outbox is closed afterwards."""
    writing = asyncio.create_task(outbox.run(stream))
    reading = asyncio.create_task(_read(incoming, take))
    try:
        done, _ = await asyncio.wait({writing, reading}, return_when=asyncio.FIRST_COMPLETED)
        if writing in done and isinstance(writing.exception(), asyncio.InvalidStateError):
            await reading  # gRPC's word for a stream that is over: only the reader learns how it ended
            return
        for task in done:
            task.result()
    finally:
        outbox.close()
        writing.cancel()
        reading.cancel()
        await asyncio.gather(writing, reading, return_exceptions=True)


async def _read(incoming: AsyncIterable[M], take: Callable[[M], None]) -> None:
    async for message in incoming:
        take(message)
