"""Connections to brokers that stay open from one record to the next."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Connections(Generic[T]):
    """One for each URL, made when it is needed, and made anew after a failure on it."""

    def __init__(
        self, connect: Callable[[str], Awaitable[T]], close: Callable[[T], Awaitable[object]]
    ) -> None:
        self._connect = connect
        self._close = close
        self._open: dict[str, T] = {}
        self._opening: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def close(self) -> None:
        for connection in self._open.values():
            with contextlib.suppress(Exception):  # nothing is sent on it any more
                await self._close(connection)
        self._open.clear()

    @asynccontextmanager
    async def to(self, url: str) -> AsyncIterator[T]:
        async with self._opening[url]:
            if url not in self._open:
                self._open[url] = await self._connect(url)
            connection = self._open[url]
        try:
            yield connection
        except BaseException:
            if self._open.get(url) is connection:
                del self._open[url]
                with contextlib.suppress(Exception):  # it has failed already, and that is told
                    await self._close(connection)
            raise
