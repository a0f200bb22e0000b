"""Records for a stream of Redis: entries with `body`, `id`, and of a dead letter its attributes."""

from collections.abc import Mapping
from typing import Any, Final

from lambent_frontend.queue.adapters.connections import Connections
from lambent_frontend.queue.destinations import Refused, place_of
from lambent_frontend.queue.records import Record

WITHIN_S: Final = 5


class RedisStreams:
    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = sources
        self._connections: Connections[Any] = Connections(_connect, lambda it: it.aclose())

    async def deliver(self, arn: str, record: Record) -> None:
        place = place_of(arn, self._sources)
        async with self._connections.to(place.url) as redis:
            await redis.xadd(place.what, {"body": record.body, "id": record.id, **record.attributes})

    async def close(self) -> None:
        await self._connections.close()


async def _connect(url: str) -> Any:
    try:
        from redis.asyncio import Redis
    except ImportError:
        raise Refused("redis is not installed where the frontend runs: install lambent[redis]") from None
    return Redis.from_url(url, socket_connect_timeout=WITHIN_S, socket_timeout=WITHIN_S)
