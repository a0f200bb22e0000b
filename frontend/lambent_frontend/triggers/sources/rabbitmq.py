"""A queue of RabbitMQ."""

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, urlsplit

from lambent_frontend.triggers.core.messages import Record
from lambent_frontend.triggers.core.pattern import Text
from lambent_frontend.triggers.sources.base import DEFAULT_DELIVERIES, Item, QueueSource, SourceFailed
from lambent_proto.triggers import UNLIMITED, Trigger

POLL_S: Final = 2.0
CONNECT_S: Final = 5
MOST_OUT: Final = 65_535
"""Messages that RabbitMQ gives out and were not done with: its own most."""
LEAST_OUT: Final = 200


class RabbitQueue(QueueSource):
    """A message that fails is kept here for its pause and called with again. A broker whose connection ends
    gives all out again that were not done with.

    One that failed too often is rejected: it goes to the queue's dead-letter exchange, if it has one.
    """

    def __init__(self, trigger: Trigger, url: str) -> None:
        super().__init__(trigger, url)
        self.deliveries = DEFAULT_DELIVERIES if trigger.max_retries == UNLIMITED else trigger.max_retries + 1
        said = [uri for kind, uri in trigger.access if kind == "VIRTUAL_HOST"]
        parts = urlsplit(url)
        self._vhost = said[0] if said else parts.path.removeprefix("/") or "/"
        self._url = parts._replace(path=f"/{quote(self._vhost, safe='')}").geturl()
        self._came: asyncio.Queue[tuple[Any, int]] = asyncio.Queue()
        """Messages, and how often each was delivered."""
        self._messages: dict[str, tuple[Any, int]] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._lost = asyncio.Event()

    async def open(self) -> None:
        try:
            import aio_pika
        except ImportError:
            raise SourceFailed(
                "aio-pika is not installed where the frontend runs: install lambent[rabbitmq]"
            ) from None
        self._connection: Any = await aio_pika.connect(self._url, timeout=CONNECT_S)
        self._closing.push_async_callback(self._connection.close)
        self._closing.callback(self._no_more)
        self._connection.close_callbacks.add(lambda *_: self._lost.set())
        self._channel: Any = await self._connection.channel()
        self._channel.close_callbacks.add(lambda *_: self._lost.set())
        out = min(MOST_OUT, max(LEAST_OUT, 2 * self.trigger.batch_size))
        await self._channel.set_qos(prefetch_count=out)
        self._queue: Any = await self._channel.get_queue(self.trigger.queue, ensure=True)
        await self._queue.consume(self._take)

    def _no_more(self) -> None:
        for timer in self._timers:
            timer.cancel()

    async def _take(self, message: Any) -> None:
        self._came.put_nowait((message, deliveries(message)))

    async def read(self, line: str, most: int) -> list[Item]:
        if self._lost.is_set():
            raise SourceFailed("the connection to RabbitMQ was lost")
        came = []
        try:
            async with asyncio.timeout(POLL_S):
                came.append(await self._came.get())
        except TimeoutError:
            return []
        while len(came) < most and not self._came.empty():
            came.append(self._came.get_nowait())
        return [self._item(message, count) for message, count in came]

    def _item(self, message: Any, count: int) -> Item:
        name = str(message.delivery_tag)
        self._messages[name] = message, count
        shape = {
            "basicProperties": _properties(message),
            "redelivered": count > 1,
            "data": base64.b64encode(message.body).decode(),
            "messageId": name,
        }
        body = json.dumps(shape).encode()
        record = Record(name, len(body) + 1, deliveries=count)
        return Item(record, body, {**shape, "data": Text(message.body.decode(errors="replace"))})

    def event(self, items: Sequence[Item]) -> bytes:
        head = {"eventSource": "aws:rmq", "eventSourceArn": self.trigger.source}
        queue = json.dumps(
            f"{self.trigger.queue}::{self._vhost if self._vhost == '/' else '/' + self._vhost}"
        )
        records = b",".join(item.body for item in items)
        start = json.dumps(head).encode()[:-1]
        return start + b',"rmqMessagesByQueue":{' + queue.encode() + b":[" + records + b"]}}"

    async def done(self, ids: Sequence[str]) -> None:
        for name in ids:
            await self._messages.pop(name)[0].ack()

    async def give_back(self, ids: Sequence[str], pause_s: float | None) -> None:
        for name in ids:
            message, count = self._messages.pop(name)
            if pause_s:
                self._later(pause_s, message, count + 1)
            else:
                await message.nack(requeue=True)

    def _later(self, pause_s: float, message: Any, count: int) -> None:
        def come() -> None:
            self._timers.discard(timer)
            self._came.put_nowait((message, count))

        timer = asyncio.get_running_loop().call_later(pause_s, come)
        self._timers.add(timer)

    async def give_up(self, ids: Sequence[str]) -> None:
        for name in ids:
            await self._messages.pop(name)[0].reject(requeue=False)

    async def lag(self) -> int | None:
        queue = await self._channel.declare_queue(self.trigger.queue, passive=True)
        return int(queue.declaration_result.message_count)


def deliveries(message: Any) -> int:
    """This one included, as far as the broker says it. A quorum queue counts those before, in a header that
    takes the place of what the publisher wrote there; of a message that was not given out before that is the
    publisher's own."""
    if not message.redelivered:
        return 1
    count = (message.headers or {}).get("x-delivery-count")
    return count + 1 if type(count) is int and count > 0 else 2


def _properties(message: Any) -> Mapping[str, Any]:
    """By the names that Lambda gives them."""
    at: datetime | None = message.timestamp
    return {
        "contentType": message.content_type,
        "contentEncoding": message.content_encoding,
        "headers": {name: _plain(value) for name, value in (message.headers or {}).items()},
        "deliveryMode": int(message.delivery_mode or 1),
        "priority": message.priority,
        "correlationId": message.correlation_id,
        "replyTo": message.reply_to,
        "expiration": None if message.expiration is None else str(round(1000 * message.expiration)),
        "messageId": message.message_id,
        "timestamp": at.strftime("%b %-d, %Y, %-I:%M:%S %p") if at else None,
        "type": message.type,
        "userId": message.user_id,
        "appId": message.app_id,
        "clusterId": None,
        "bodySize": len(message.body),
    }


def _plain(value: Any) -> Any:
    """Text of a header is bytes to Lambda."""
    if isinstance(value, str):
        return {"bytes": list(value.encode())}
    return value if isinstance(value, (int, float, bool)) or value is None else str(value)
