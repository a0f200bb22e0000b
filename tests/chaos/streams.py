"""Who writes into streams that promise an order: a topic of Kafka, and a stream of Kinesis.

Both keep everything in memory, so nobody kills them. What is given up of them is told of by its place.
"""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from lambent.client import Client
from lambent_proto.v1.triggers_pb2 import TriggerSettings
from tests.brokers.aws import Aws
from tests.brokers.processes import Broker, make_topic
from tests.chaos.senders import SETTINGS, Sender

STREAM: Final = "events"
LINES: Final = 2
"""Partitions, or shards."""


class Stream(Sender):
    """Each line has its records in the order in which they were taken."""

    arn: str
    queue = ""

    @abstractmethod
    async def prepare(self) -> None:
        """Makes the stream."""

    async def deploy(self, client: Client, function: str, graves: str, graves_arn: str) -> None:
        await self.prepare()
        settings = TriggerSettings(on_failure=graves_arn, bisect=True, **SETTINGS)  # type: ignore[arg-type]
        await client.triggers.create(
            function, self.arn, queue=self.queue, starting_position="TRIM_HORIZON", settings=settings
        )

    def _took(self, name: str, line: str, place: str) -> None:
        self.places[place] = name
        self.lines.setdefault(line, []).append(name)


class Kafka(Stream):
    kind = "kafka"
    share = 0.5
    arn = "arn:aws:lambent-kafka:us-east-1:000000000000:kafka"
    queue = STREAM

    def __init__(self, broker: Broker) -> None:
        super().__init__()
        self.url = broker.url

    async def prepare(self) -> None:
        await make_topic(self.url, STREAM, LINES)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        from aiokafka import AIOKafkaProducer

        async with AIOKafkaProducer(bootstrap_servers=self.url.removeprefix("kafka://")) as producer:
            yield producer

    async def _send(self, connected: Any, names: Sequence[str]) -> None:
        for name in names:
            told = await connected.send_and_wait(STREAM, name.encode(), partition=self._number % LINES)
            line = f"{STREAM}-{told.partition}"
            self._took(name, line, f"{line}:{told.offset}")


class Kinesis(Stream):
    kind = "kinesis"
    share = 0.2
    arn = f"arn:aws:kinesis:us-east-1:000000000000:stream/{STREAM}"

    def __init__(self, aws: Aws) -> None:
        super().__init__()
        self._kinesis = aws.client("kinesis")

    async def prepare(self) -> None:
        await asyncio.to_thread(self._kinesis.create_stream, StreamName=STREAM, ShardCount=LINES)

    async def _send(self, connected: Any, names: Sequence[str]) -> None:
        for name in names:
            told = await asyncio.to_thread(
                self._kinesis.put_record, StreamName=STREAM, Data=name.encode(), PartitionKey=name
            )
            self._took(name, told["ShardId"], f"{told['ShardId']}:{told['SequenceNumber']}")
