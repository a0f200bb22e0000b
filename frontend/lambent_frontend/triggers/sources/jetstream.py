"""A stream of NATS JetStream, read as a queue: a durable consumer of its own says what is done with."""

import asyncio
import base64
import contextlib
import json
from collections.abc import Sequence
from typing import Any, Final

from lambent_frontend.triggers.core.messages import Record
from lambent_frontend.triggers.core.pattern import Text
from lambent_frontend.triggers.names import source_named
from lambent_frontend.triggers.sources.base import (
    DEFAULT_DELIVERIES,
    Item,
    QueueSource,
    SourceFailed,
    records_event,
)
from lambent_proto.triggers import UNLIMITED, Trigger

POLL_S: Final = 2.0
CONNECT_S: Final = 5
OURS_S: Final = 10.0
"""After so long without a word from us a message is given out again: so it is when a frontend dies."""
MOST_OUT: Final = 20_000
"""Messages that are given out and not done with."""


class JetStream(QueueSource):
    def __init__(self, trigger: Trigger, url: str) -> None:
        super().__init__(trigger, url)
        self._stream = source_named(trigger.source).stream
        self.deliveries = DEFAULT_DELIVERIES if trigger.max_retries == UNLIMITED else trigger.max_retries + 1
        self._messages: dict[str, Any] = {}

    async def open(self) -> None:
        await self._connect()
        from nats.js.api import AckPolicy, ConsumerConfig

        stream: Any = self._connection.jetstream()
        consumer = self.trigger.group
        await stream.add_consumer(
            self._stream,
            ConsumerConfig(
                durable_name=consumer,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=OURS_S,
                max_ack_pending=MOST_OUT,
            ),
        )
        self._pull: Any = await stream.pull_subscribe_bind(consumer=consumer, stream=self._stream)
        self._keeping = asyncio.create_task(self._keep())
        self._closing.callback(self._keeping.cancel)

    async def _connect(self) -> None:
        try:
            import nats
        except ImportError:
            raise SourceFailed(
                "nats-py is not installed where the frontend runs: install lambent[nats]"
            ) from None
        self._connection: Any = await nats.connect(
            self.url, connect_timeout=CONNECT_S, allow_reconnect=False, error_cb=_heard
        )
        self._closing.push_async_callback(self._connection.close)

    async def forget(self) -> None:
        await self._connect()
        from nats.js.errors import NotFoundError

        with contextlib.suppress(NotFoundError):
            await self._connection.jetstream().delete_consumer(self._stream, self.trigger.group)

    async def _keep(self) -> None:
        """Says of all that is in hand that it is."""
        while True:
            await asyncio.sleep(OURS_S / 3)
            for message in list(self._messages.values()):
                await message.in_progress()

    async def read(self, line: str, most: int) -> list[Item]:
        if self._keeping.done():
            self._keeping.result()
        try:
            messages = await self._pull.fetch(most, timeout=POLL_S)
        except TimeoutError:
            if not self._connection.is_connected:
                raise SourceFailed("the connection to NATS was lost") from None
            return []
        return [self._item(message) for message in messages]

    def _item(self, message: Any) -> Item:
        told = message.metadata
        name = str(told.sequence.stream)
        self._messages[name] = message
        shape = {
            "messageId": name,
            "stream": self._stream,
            "subject": message.subject,
            "headers": dict(message.headers or {}),
            "data": base64.b64encode(message.data).decode(),
            "timestamp": told.timestamp.timestamp(),
            "deliveries": told.num_delivered,
            "eventSource": "lambent:nats",
            "eventSourceARN": self.trigger.source,
        }
        body = json.dumps(shape).encode()
        record = Record(
            name,
            len(body) + 1,
            written_at=told.timestamp.timestamp(),
            deliveries=told.num_delivered,
        )
        return Item(record, body, {**shape, "data": Text(message.data.decode(errors="replace"))})

    def event(self, items: Sequence[Item]) -> bytes:
        return records_event(items)

    async def done(self, ids: Sequence[str]) -> None:
        for name in ids:
            await self._messages.pop(name).ack()
        await self._connection.flush()

    async def give_back(self, ids: Sequence[str], pause_s: float | None) -> None:
        for name in ids:
            await self._messages.pop(name).nak(delay=pause_s or None)
        await self._connection.flush()

    async def give_up(self, ids: Sequence[str]) -> None:
        """The stream keeps it, if that is how it is set, and NATS tells whoever listens for it."""
        for name in ids:
            await self._messages.pop(name).term()
        await self._connection.flush()

    async def lag(self) -> int | None:
        info = await self._pull.consumer_info()
        return int(info.num_pending)


async def _heard(_: Exception) -> None:
    """What goes wrong shows where it is used; the library would write it to a log of its own."""
