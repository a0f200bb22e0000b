"""Records for a subject of NATS that a stream of JetStream keeps: without one nobody says it was taken."""

from collections.abc import Mapping
from typing import Any, Final

from lambent_frontend.queue.adapters.connections import Connections
from lambent_frontend.queue.destinations import Refused, place_of
from lambent_frontend.queue.records import Record

CONNECT_S: Final = 5


class NatsSubjects:
    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = sources
        self._connections: Connections[Any] = Connections(_connect, lambda it: it.close())

    async def deliver(self, arn: str, record: Record) -> None:
        """The same record twice within the stream's time for that is kept once."""
        place = place_of(arn, self._sources)
        async with self._connections.to(place.url) as connection:
            headers = {"Nats-Msg-Id": f"{record.id}:{arn}", **_on_one_line(record.attributes)}
            await connection.jetstream().publish(place.what, record.body, headers=headers)

    async def close(self) -> None:
        await self._connections.close()


async def _connect(url: str) -> Any:
    try:
        import nats
    except ImportError:
        raise Refused("nats-py is not installed where the frontend runs: install lambent[nats]") from None
    return await nats.connect(url, connect_timeout=CONNECT_S, allow_reconnect=False, error_cb=_heard)


async def _heard(_: Exception) -> None:
    """Who waits for an answer has it told as well."""


def _on_one_line(attributes: Mapping[str, str]) -> dict[str, str]:
    return {name: " ".join(value.split()) for name, value in attributes.items()}
