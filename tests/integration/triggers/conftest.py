"""Real brokers, each with what writes into it, and a function that does as the test says."""

import asyncio
import base64
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import pytest

from lambent_frontend.calls import Answer, Call, Counted, Explained
from lambent_frontend.invoker import Invoker
from lambent_frontend.queue.adapters import adapters
from lambent_frontend.queue.destinations import Destinations
from lambent_frontend.triggers.on_failure import OnFailure
from lambent_frontend.triggers.poller import Poller
from lambent_frontend.triggers.rules import check, with_defaults
from lambent_frontend.triggers.sources import source_of
from lambent_proto.errors import LambentError
from lambent_proto.ids import FunctionName, RequestId
from lambent_proto.triggers import Trigger
from tests.brokers import aws, processes
from tests.e2e.load import eventually
from tests.unit.scripted import AnyFunction, answer
from tests.unit.triggers.kept import InMemory


class Function:
    """Takes down what it is called with. It fails of `poison`, and hangs while `hangs`, or once it was
    given more than `hangs_after` texts."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.told: list[dict[str, Any]] = []
        """What came for the function `destination`."""
        self.hangs = False
        self.hangs_after: int | None = None
        self.counts: Counter[Counted] = Counter()

    def submit(self, call: Call, done: Callable[[Answer | LambentError], None]) -> None:
        event = json.loads(call.payload)
        if call.definition.name == "destination":
            self.told.append(event)
            done(answer(b"null"))
            return
        self.events.append(event)
        if self.hangs_after is not None and len(self.data) > self.hangs_after:
            self.hangs = True
        if not self.hangs:
            failed = any(it.startswith("poison") for it in data(event))
            done(answer(b'{"errorType":"E"}' if failed else b"null", failed=failed))

    def taken(self, request_id: RequestId, size: int) -> None:
        raise NotImplementedError

    def under_way(self, request_id: RequestId) -> bool:
        raise NotImplementedError

    def abandon(self, request_id: RequestId) -> None:
        pass

    def explain(self, request_id: RequestId) -> Explained | None:
        return None

    @property
    def data(self) -> list[str]:
        return [it for event in self.events for it in data(event)]


def data(event: dict[str, Any]) -> list[str]:
    queues = event.get("rmqMessagesByQueue", {})
    partitions = event.get("records", {})
    groups = queues or partitions
    records = event.get("Records") or [it for group in groups.values() for it in group]
    return [_data(it) for it in records]


def _data(record: dict[str, Any]) -> str:
    if "fields" in record:
        return str(record["fields"]["data"])
    if "s3" in record:
        return unquote_plus(record["s3"]["object"]["key"], errors="surrogateescape")
    if "topic" in record:
        return base64.b64decode(record["value"]).decode()
    return base64.b64decode(record["kinesis"]["data"] if "kinesis" in record else record["data"]).decode()


@dataclass
class Broker:
    """One source: what a trigger says of it, where it is, and how to write into it."""

    trigger: Trigger
    urls: dict[str, str]
    write: Callable[..., Any]
    """Called with the texts; what it returns is awaited if that can be done."""
    places: dict[str, str] = field(default_factory=dict)
    failures: dict[str, bytes] = field(default_factory=dict)

    async def send(self, *texts: str) -> None:
        written = self.write(*texts)
        if asyncio.iscoroutine(written):
            await written

    @asynccontextmanager
    async def polled(self, function: Function, **settings: Any) -> AsyncIterator[Poller]:
        """By a poller that is stopped at the end, which has to end by itself."""
        trigger = Trigger(**{**_facts(self.trigger), **settings})
        check(trigger)

        kept = InMemory(self.places, self.failures)
        source = await source_of(trigger, self.urls, kept)
        await source.open()
        invoker = Invoker(AnyFunction(), function, waiting_s=10)
        destinations = Destinations(adapters(self.urls), (), self.urls)
        on_failure = OnFailure(invoker, destinations)
        poller = Poller(trigger, source, invoker, on_failure, lambda: None, kept)
        running = asyncio.create_task(poller.run())
        try:
            yield poller
            poller.stop()
            async with asyncio.timeout(20):
                await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await source.close()
            await destinations.close()


def _facts(trigger: Trigger) -> dict[str, Any]:
    return {name: getattr(trigger, name) for name in Trigger.__dataclass_fields__}


def _trigger(name: str, kind: str, source: str, **facts: Any) -> Trigger:
    made = Trigger(
        id=name, function=FunctionName("f"), kind=kind, source=source, batch_size=0, window_s=-1.0, **facts
    )
    return with_defaults(made)


async def until(condition: Callable[[], Any]) -> None:
    await eventually(condition, "what the test waits for", within_s=25.0)


@pytest.fixture
def function() -> Function:
    return Function()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with processes.redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with processes.nats(tmp_path_factory.mktemp("nats")) as url:
        yield url


@pytest.fixture(scope="session")
def rabbitmq_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with processes.rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as url:
        yield url


@pytest.fixture(scope="session")
def aws_server() -> Iterator[aws.Aws]:
    with aws.running() as server:
        yield server


@pytest.fixture
async def redis_stream(redis_url: str, name: str) -> AsyncIterator[Broker]:
    import redis.asyncio

    client = redis.asyncio.Redis.from_url(redis_url)

    async def write(*texts: str) -> None:
        for text in texts:
            await client.xadd(name, {"data": text})

    source = f"arn:aws:lambent-redis:us-east-1:000000000000:jobs/{name}"
    yield Broker(_trigger(name, "redis", source), {"jobs": redis_url}, write)
    await client.aclose()


@pytest.fixture
async def jetstream(nats_url: str, name: str) -> AsyncIterator[Broker]:
    import nats

    connection = await nats.connect(nats_url)
    stream = connection.jetstream()
    await stream.add_stream(name=name, subjects=[f"{name}.>"])

    async def write(*texts: str) -> None:
        for text in texts:
            await stream.publish(f"{name}.some", text.encode())

    source = f"arn:aws:lambent-nats:us-east-1:000000000000:bus/{name}"
    yield Broker(_trigger(name, "nats", source), {"bus": nats_url}, write)
    await connection.close()


@pytest.fixture
async def rabbit_queue(rabbitmq_url: str, name: str) -> AsyncIterator[Broker]:
    import aio_pika

    connection = await aio_pika.connect(rabbitmq_url)
    channel = await connection.channel()
    await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})

    async def write(*texts: str) -> None:
        for text in texts:
            await channel.default_exchange.publish(aio_pika.Message(text.encode()), name)

    source = "arn:aws:mq:us-east-1:000000000000:broker:mq:b-1"
    yield Broker(_trigger(name, "rabbitmq", source, queue=name), {"mq": rabbitmq_url}, write)
    await connection.close()


@pytest.fixture
def kinesis(aws_server: aws.Aws, name: str) -> Broker:
    """With two shards. The key of a record is the text up to a dash."""
    client = aws_server.client("kinesis")
    client.create_stream(StreamName=name, ShardCount=2)

    def write(*texts: str) -> None:
        for text in texts:
            client.put_record(StreamName=name, Data=text.encode(), PartitionKey=text.partition("-")[0])

    source = f"arn:aws:kinesis:us-east-1:000000000000:stream/{name}"
    trigger = _trigger(name, "kinesis", source, starting_position="TRIM_HORIZON")
    return Broker(trigger, {"kinesis": aws_server.url}, write)


@pytest.fixture(scope="session")
def kafka_url() -> Iterator[str]:
    with processes.kafka() as url:
        yield url


@pytest.fixture
async def kafka(kafka_url: str, name: str) -> AsyncIterator[Broker]:
    """A topic of two partitions. The key of a record is the text up to a dash; `b...` goes to the second."""
    from aiokafka import AIOKafkaProducer

    await processes.make_topic(kafka_url, name, 2)
    servers = kafka_url.removeprefix("kafka://")
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:

        async def write(*texts: str) -> None:
            for text in texts:
                key, partition = text.partition("-")[0].encode(), int(text.startswith("b"))
                headers = [("kind", b"test")]
                await producer.send_and_wait(name, text.encode(), key, partition, headers=headers)

        source = "arn:aws:lambent-kafka:us-east-1:000000000000:bus"
        trigger = _trigger(name, "kafka", source, queue=name, starting_position="TRIM_HORIZON")
        yield Broker(trigger, {"bus": kafka_url}, write)


@pytest.fixture
def folder(tmp_path: Path, name: str) -> Broker:
    """The texts are names of files, and what they hold, or `NAME=TEXT`."""
    root = tmp_path / "in box"
    root.mkdir()

    def write(*texts: str) -> None:
        for text in texts:
            name, _, body = text.partition("=")
            (root / name).parent.mkdir(exist_ok=True, parents=True)
            (root / name).write_text(body or name)

    source = f"arn:aws:lambent-folder:us-east-1:000000000000:{name}"
    return Broker(_trigger(name, "folder", source), {name: f"file://{root}"}, write)


@pytest.fixture
def bucket(aws_server: aws.Aws, name: str) -> Broker:
    client, name = aws_server.client("s3"), name.lower().replace("_", "-").strip("-")
    client.create_bucket(Bucket=name)

    def write(*texts: str) -> None:
        for text in texts:
            key, _, body = text.partition("=")
            client.put_object(Bucket=name, Key=key, Body=(body or key).encode())

    return Broker(_trigger(name, "s3", f"arn:aws:s3:::{name}"), {"s3": aws_server.url}, write)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Of a stream or a queue that is this test's own."""
    return "".join(it if it.isalnum() else "-" for it in request.node.name.removeprefix("test_"))[:60]


@pytest.fixture(params=["redis_stream", "jetstream", "rabbit_queue"])
def queue(request: pytest.FixtureRequest) -> Broker:
    broker: Broker = request.getfixturevalue(request.param)
    return broker
