"""Whether a stream of JetStream may take one more event.

Its server is not asked to see to that. With a bound of its own it would drop the oldest message for a change
that is larger than what it replaces, as nats-server 2.9 does and our tests saw, or refuse the change.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from lambent_chassis.clock import monotonic_s
from lambent_proto.errors import QueueFull

LOOK_S: Final = 1.0
"""What others have put meanwhile is not known: by that much it may be exceeded."""
OVERHEAD: Final = 256
"""Bytes of an event beside its payload, about."""


class Room:
    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._used = 0
        """When it was looked last."""
        self._put = 0
        """From here, ever."""
        self._put_then = 0
        """Of that, what was surely seen by the last look."""
        self._coming = 0
        self._looked_at = float("-inf")

    @asynccontextmanager
    async def taking(self, size: int, used: Callable[[], Awaitable[int]]) -> AsyncIterator[None]:
        """While so many bytes are put. Raises QueueFull; `used` says what the stream has."""
        size += OVERHEAD
        now = monotonic_s()
        if now >= self._looked_at + LOOK_S or not self._fits(size):
            await self._look(now, used)
        if not self._fits(size):
            raise QueueFull(
                f"the queue of events at NATS is full, {self._used:,} of {self.most_bytes:,} bytes are in "
                "use, and nothing was kept: send it again later, or raise the frontends' `queue_mb`"
            )
        self._coming += size
        try:
            yield
            self._put += size
        finally:
            self._coming -= size

    def _fits(self, size: int) -> bool:
        since = self._put - self._put_then
        return self._used + since + self._coming + size <= self.most_bytes

    async def _look(self, now: float, used: Callable[[], Awaitable[int]]) -> None:
        before, self._looked_at = self._put, now
        try:
            self._used, self._put_then = await used(), before
        except BaseException:
            self._looked_at = float("-inf")
            raise
