"""Records for a queue of RabbitMQ: persistent messages, each confirmed by the broker."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from lambent_frontend.queue.adapters.connections import Connections
from lambent_frontend.queue.destinations import Refused, place_of
from lambent_frontend.queue.records import Record

WITHIN_S: Final = 5


class _Open(NamedTuple):
    connection: Any
    channel: Any


class RabbitQueues:
    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = sources
        self._connections: Connections[_Open] = Connections(_connect, _close)

    async def deliver(self, arn: str, record: Record) -> None:
        """Raises, among others, aio_pika's DeliveryError for a queue that is not there."""
        place = place_of(arn, self._sources)
        async with self._connections.to(place.url) as open_:
            await open_.channel.default_exchange.publish(
                _message(record), place.what, mandatory=True, timeout=WITHIN_S
            )

    async def close(self) -> None:
        await self._connections.close()


async def _connect(url: str) -> _Open:
    try:
        import aio_pika
    except ImportError:
        raise Refused(
            "aio-pika is not installed where the frontend runs: install lambent[rabbitmq]"
        ) from None
    connection = await aio_pika.connect(url, timeout=WITHIN_S)
    return _Open(connection, await connection.channel(publisher_confirms=True, on_return_raises=True))


async def _close(open_: _Open) -> None:
    await open_.connection.close()


def _message(record: Record) -> Any:
    from aio_pika import DeliveryMode, Message

    return Message(
        record.body,
        message_id=record.id,
        content_type="application/json",
        delivery_mode=DeliveryMode.PERSISTENT,
        headers=dict(record.attributes),
    )
