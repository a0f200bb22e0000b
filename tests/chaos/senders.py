"""Who sends events, and to where: asynchronous calls, and a queue of each kind that triggers read.

Those that write into streams are in tests/chaos/streams.py.
"""

import asyncio
import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from lambent.client import Client
from lambent_proto.v1.triggers_pb2 import TriggerSettings
from tests.brokers.aws import Aws
from tests.brokers.processes import Broker

POISON: Final = "poison"
EVERY: Final = 50
"""One event of so many can never be processed."""
PAUSE_S: Final = 0.2
"""After what was not taken. That nobody promised: the next one has another name."""
SETTINGS: Final = {"batch_size": 10, "max_retries": 2}


class Sender(ABC):
    """Sends events that have names, and keeps the names of those that were taken."""

    kind: str
    share: float = 1.0
    """Of the events."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.lines: dict[str, list[str]] = {}
        """Where the source promises an order: what was taken by each of its lines, in that order."""
        self.places: dict[str, str] = {}
        """Where what is given up is told of by its place: whose each is."""
        self._number = 0

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        yield None

    @abstractmethod
    async def _send(self, connected: Any, names: Sequence[str]) -> None:
        """Returns when all of them were taken."""

    @abstractmethod
    async def deploy(self, client: Client, function: str, graves: str, graves_arn: str) -> None:
        """Has the function called with what is sent, and `graves` with what is given up."""

    async def send(self, events: int, at_once: int = 1) -> None:
        """Goes on until so many were taken."""
        enough = len(self.taken) + events
        while (missing := enough - len(self.taken)) > 0:
            try:
                async with self._connected() as connected:
                    for start in range(0, missing, at_once):
                        names = [self._name() for _ in range(min(at_once, missing - start))]
                        await self._send(connected, names)
                        self.taken += names
            except Exception:  # noqa: BLE001 - a library's own, of whatever kind: the broker is away
                await asyncio.sleep(PAUSE_S)

    def _name(self) -> str:
        self._number += 1
        return f"{POISON if self._number % EVERY == 7 else 'good'}-{self.kind}-{self._number}"


class Calls(Sender):
    """Asynchronous calls, at each frontend in turn."""

    kind = "calls"

    def __init__(self, clients: Sequence[Client]) -> None:
        super().__init__()
        self._clients = cycle(clients)

    async def deploy(self, client: Client, function: str, graves: str, graves_arn: str) -> None:
        self._function = function
        await client.async_invocations.configure(
            function, retries=1, delays_s=[1.0], on_failure=graves_arn, replace=True
        )

    async def _send(self, connected: Any, names: Sequence[str]) -> None:
        for name in names:
            await next(self._clients).async_invocations.begin(self._function, {"name": name})


class Source(Sender):
    def __init__(self, broker: Broker) -> None:
        super().__init__()
        self.url = broker.url
        self.arn = f"arn:aws:lambent-{self.kind}:us-east-1:000000000000:{self.kind}/events"
        self.queue = ""

    @abstractmethod
    async def prepare(self) -> None:
        """Makes the stream or queue."""

    async def deploy(self, client: Client, function: str, graves: str, graves_arn: str) -> None:
        await self.prepare()
        settings = TriggerSettings(on_failure=graves_arn, **SETTINGS)  # type: ignore[arg-type]
        await client.triggers.create(function, self.arn, queue=self.queue, settings=settings)


class Redis(Source):
    kind = "redis"

    async def prepare(self) -> None:
        pass

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        from redis.asyncio import Redis as Library

        async with Library.from_url(self.url) as connected:
            yield connected

    async def _send(self, connected: Any, names: Sequence[str]) -> None:
        for name in names:
            await connected.xadd("events", {"data": name})


class Nats(Source):
    kind = "nats"

    async def prepare(self) -> None:
        async with self._connected() as stream:
            await stream.add_stream(name="events", subjects=["events.>"])

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        import nats

        connection = await nats.connect(self.url, allow_reconnect=False, connect_timeout=2, error_cb=_heard)
        try:
            yield connection.jetstream()
        finally:
            await connection.close()

    async def _send(self, connected: Any, names: Sequence[str]) -> None:
        for name in names:
            await connected.publish("events.some", name.encode())


class Rabbit(Source):
    """With the broker's word for each message that it is on disk."""

    kind = "rabbitmq"

    def __init__(self, broker: Broker) -> None:
        super().__init__(broker)
        self.arn, self.queue = "arn:aws:mq:us-east-1:000000000000:broker:rabbitmq:any", "events"

    async def prepare(self) -> None:
        async with self._connected() as channel:
            await channel.declare_queue("events", durable=True, arguments={"x-queue-type": "quorum"})

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        import aio_pika

        connection = aio_pika.Connection(self.url)  # type: ignore[arg-type]
        async with connection:  # also one that could not be made: it says so loudly if nobody closes it
            await connection.connect(timeout=5)
            yield await connection.channel()

    async def _send(self, connected: Any, names: Sequence[str]) -> None:
        import aio_pika

        for name in names:
            message = aio_pika.Message(name.encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            async with asyncio.timeout(10):
                await connected.default_exchange.publish(message, "events", mandatory=True)


class Files(Sender):
    """Files that are on disk, under their names, in a folder that both frontends have. They stay there."""

    kind = "folder"
    share = 0.3

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    async def deploy(self, client: Client, function: str, graves: str, graves_arn: str) -> None:
        settings = TriggerSettings(on_failure=graves_arn, **SETTINGS)  # type: ignore[arg-type]
        arn = "arn:aws:lambent-folder:us-east-1:000000000000:inbox"
        await client.triggers.create(function, arn, starting_position="TRIM_HORIZON", settings=settings)

    async def _send(self, connected: Any, names: Sequence[str]) -> None:
        for name in names:
            await asyncio.to_thread(self._write, name)

    def _write(self, name: str) -> None:
        hidden = self._folder / f".{name}"
        with hidden.open("w") as file:
            file.write(name)
            os.fsync(file.fileno())
        hidden.rename(self._folder / name)


class Sqs(Sender):
    """Its server keeps everything in memory, and is the one that nobody kills. It takes long for each message
    when it has thousands."""

    kind = "sqs"
    share = 0.1
    DEAD: Final = "arn:aws:sqs:us-east-1:000000000000:dead"

    def __init__(self, aws: Aws) -> None:
        super().__init__()
        self.url = aws.url
        self._sqs = aws.client("sqs")

    async def deploy(self, client: Client, function: str, graves: str, graves_arn: str) -> None:
        """What the queue gives up goes to another one, which the graves are called with."""
        self._sqs.create_queue(QueueName="dead")
        redrive = {"deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:dead", "maxReceiveCount": 4}
        attributes = {"VisibilityTimeout": "1", "RedrivePolicy": json.dumps(redrive)}
        self._queue = self._sqs.create_queue(QueueName="events", Attributes=attributes)["QueueUrl"]
        settings = TriggerSettings(batch_size=10)
        await client.triggers.create(function, self.DEAD.replace("dead", "events"), settings=settings)
        await client.triggers.create(graves, self.DEAD, settings=settings)

    async def send(self, events: int, at_once: int = 10) -> None:
        await super().send(events, at_once)

    async def _send(self, connected: Any, names: Sequence[str]) -> None:
        entries = [{"Id": str(at), "MessageBody": name} for at, name in enumerate(names)]
        await asyncio.to_thread(self._sqs.send_message_batch, QueueUrl=self._queue, Entries=entries)


async def _heard(_: Exception) -> None:
    """What goes wrong shows where it is used."""


logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # what it says of a broker that is away is known here
