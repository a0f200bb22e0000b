"""A topic of Kafka, as Tansu has it, which is another broker of Kafka's protocol. Apache Kafka itself is
nowhere where tests install from: nothing here was tried against it."""

import asyncio
import base64
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from confluent_kafka import Producer

from lambent_chassis.clock import unix_s
from lambent_frontend.triggers.sources.base import Item, SourceFailed
from lambent_frontend.triggers.sources.kafka import Kafka, security
from lambent_frontend.triggers.store import NotOurs
from tests.brokers import processes
from tests.brokers.aws import free_port
from tests.integration.triggers.conftest import Broker, Function, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

DESTINATION = "arn:aws:lambda:us-east-1:000000000000:function:destination"


async def committed(kafka: Broker, group: str) -> list[int | None]:
    servers = kafka.urls["bus"].removeprefix("kafka://")
    async with AIOKafkaConsumer(bootstrap_servers=servers, group_id=group) as consumer:
        return [await consumer.committed(TopicPartition(kafka.trigger.queue, it)) for it in (0, 1)]


async def test_all_is_processed_in_the_order_of_partitions(kafka: Broker, function: Function) -> None:
    """A second poller goes on where the first one was stopped; what is done with is committed."""
    texts = [f"{key}-{n:02}" for n in range(16) for key in "ab"]
    await kafka.send(*texts[:20])
    async with kafka.polled(function, batch_size=5) as poller:
        await until(lambda: len(function.data) == 20)
        await until(lambda: poller.records == 20)
        assert await poller.lag() == 0
    async with kafka.polled(function, batch_size=5):
        await kafka.send(*texts[20:])
        await until(lambda: len(function.data) == 32)
    for key in "ab":
        assert [it for it in function.data if it[0] == key] == [it for it in texts if it[0] == key]
    assert await committed(kafka, kafka.trigger.group) == [16, 16]


async def test_the_event(kafka: Broker, function: Function) -> None:
    """As Lambda's of a self-managed Kafka."""
    async with kafka.polled(function):
        await kafka.send("a-1", "b-1")
        await until(lambda: len(function.events) == 2)
    first = next(it for it in function.events if "a-1" in str(base64.b64decode(_records(it)[0]["value"])))
    assert first["eventSource"] == "SelfManagedKafka"
    assert first["bootstrapServers"] == kafka.urls["bus"].removeprefix("kafka://")
    assert list(first["records"]) == [f"{kafka.trigger.queue}-0"]
    [record] = _records(first)
    assert abs(record.pop("timestamp") / 1000 - unix_s()) < 60
    assert record == {
        "topic": kafka.trigger.queue,
        "partition": 0,
        "offset": 0,
        "timestampType": "CREATE_TIME",
        "key": base64.b64encode(b"a").decode(),
        "value": base64.b64encode(b"a-1").decode(),
        "headers": [{"kind": list(b"test")}],
    }


def _records(event: dict[str, Any]) -> list[dict[str, Any]]:
    return [it for records in event["records"].values() for it in records]


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ('{"value": {"n": [1]}}', ['{"n": 1}']),
        ('{"value": ["a-x"]}', ["a-x"]),
        ('{"key": ["a"]}', ["a-x"]),
        ('{"offset": [{"numeric": ["=", 2]}]}', ["a-x"]),
        ('{"headers": {"kind": ["test"]}, "value": {"n": [0]}}', ['{"n": 0}']),
    ],
)
async def test_filters(kafka: Broker, function: Function, pattern: str, wanted: list[str]) -> None:
    """By the value as JSON or as text, the key and what else a record has; the rest is done with uncalled."""
    await kafka.send('{"n": 0}', '{"n": 1}', "a-x")
    async with kafka.polled(function, filters=(pattern,)) as poller:
        await until(lambda: poller.records == 3)
    assert function.data == wanted


async def test_bisecting_gives_up_the_poison_alone(kafka: Broker, function: Function) -> None:
    """The destination hears of the one record, in Lambda's form; what is behind it is called with."""
    await kafka.send("a-1", "poison-1", "a-2", "a-3")
    async with kafka.polled(function, bisect=True, max_retries=0, on_failure=DESTINATION) as poller:
        await until(lambda: poller.records == 4)
    assert {"a-1", "a-2", "a-3"} <= set(function.data)
    [told] = function.told
    assert told["requestContext"]["condition"] == "RetryAttemptsExhausted"
    info = told["KafkaBatchInfo"]
    assert info["batchSize"] == 1
    partition = info["recordsInfo"][f"{kafka.trigger.queue}-0"]
    assert (partition["firstRecordOffset"], partition["lastRecordOffset"]) == ("1", "1")


async def test_latest_is_what_came_since_the_first_poller_began(kafka: Broker, function: Function) -> None:
    """What comes while no poller is there is called with, though none was done with anything before."""
    await kafka.send("a-before", "b-before")
    async with kafka.polled(function, starting_position="LATEST"):
        pass
    await kafka.send("a-between", "b-between")
    async with kafka.polled(function, starting_position="LATEST"):
        await until(lambda: len(function.data) == 2)
    assert sorted(function.data) == ["a-between", "b-between"]


async def test_a_moment_to_begin_at(kafka: Broker, function: Function) -> None:
    await kafka.send("a-1", "b-1")
    await asyncio.sleep(0.01)  # so that a millisecond lies between
    at = unix_s()
    await kafka.send("a-2", "b-2")
    async with kafka.polled(function, starting_position="AT_TIMESTAMP", starting_at=at):
        await until(lambda: len(function.data) >= 2)
    assert sorted(function.data) == ["a-2", "b-2"]


async def test_a_consumer_group_is_taken_over(kafka: Broker, function: Function) -> None:
    """It is gone on with where it was, whatever a trigger begins with."""
    await kafka.send("a-1", "a-2", "b-1")
    async with kafka.polled(function, consumer_group="team", batch_size=1):
        await until(lambda: len(function.data) == 3)
    await kafka.send("a-3", "b-2")
    kafka.places.clear()
    async with kafka.polled(function, consumer_group="team", starting_position="LATEST"):
        await until(lambda: len(function.data) == 5)
    assert await committed(kafka, "team") == [3, 2]


async def test_a_group_with_members_is_not_taken(kafka: Broker, function: Function) -> None:
    """Their records would be processed twice. It is said so before any is read."""
    servers, place = kafka.urls["bus"].removeprefix("kafka://"), AsyncMock()
    await kafka.send("a-1")
    async with AIOKafkaConsumer(
        kafka.trigger.queue, bootstrap_servers=servers, group_id="busy", auto_offset_reset="earliest"
    ) as member:
        await member.getone()
        source = Kafka(replace(kafka.trigger, consumer_group="busy"), kafka.urls["bus"], {}, place)
        with pytest.raises(SourceFailed, match="the consumer group busy has other members"):
            await source.open()
        await source.close()
    place.assert_not_awaited()


async def test_a_trigger_that_is_deleted_before_it_was_read(kafka: Broker) -> None:
    """Nothing is committed to its group, which may be a team's that is to begin by itself."""
    await kafka.send("a-1", "b-1")
    source = Kafka(replace(kafka.trigger, consumer_group="other"), kafka.urls["bus"], {}, AsyncMock())
    await source.forget()
    await source.close()
    assert await committed(kafka, "other") == [None, None]


async def unreadable(url: str, topic: str, partition: int) -> None:
    """Writes a batch that says it is compressed and is not: a broker takes it, and nobody can read it."""
    from aiokafka.client import AIOKafkaClient
    from aiokafka.protocol.produce import ProduceRequest
    from aiokafka.record.default_records import DefaultRecordBatchBuilder
    from aiokafka.record.util import calc_crc32c

    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=1000,
    )  # fmt: skip
    builder.append(0, 1_700_000_000_000, b"k", b"what nobody can read", [])
    batch = bytearray(builder.build())
    batch[22] |= 1  # gzip, among the attributes
    batch[17:21] = calc_crc32c(bytes(batch[21:])).to_bytes(4, "big")
    client = AIOKafkaClient(bootstrap_servers=url.removeprefix("kafka://"))
    await client.bootstrap()
    try:
        [node] = {it.nodeId for it in client.cluster.brokers()}
        request = ProduceRequest(None, 1, 5000, [(topic, [(partition, bytes(batch))])])
        answer = await client.send(node, request)
        assert answer.topics[0][1][0][1] == 0, answer
    finally:
        await client.close()


async def test_a_partition_that_cannot_be_read_harms_no_other(kafka: Broker, function: Function) -> None:
    """No call of theirs is ended. It is said which one it is; what came before it is processed once."""
    await kafka.send("a-1", "b-1")
    await unreadable(kafka.urls["bus"], kafka.trigger.queue, 0)
    async with kafka.polled(function, batch_size=1) as poller:
        await until(lambda: poller.error.startswith("0: "))
        await kafka.send("b-2")
        await until(lambda: "b-2" in function.data)
        assert poller.error.startswith("0: ")
        await until(lambda: kafka.places["0"] == "1" and kafka.places["1"] == "2")
    assert sorted(function.data) == ["a-1", "b-1", "b-2"]


async def test_who_is_late_commits_nothing(kafka: Broker, function: Function) -> None:
    """Once the claim is another's its place is not written, and nothing is committed to the group."""
    await kafka.send("a-1", "b-1")

    async def place(line: str, at: str) -> None:
        if line == "0":
            raise NotOurs

    source = Kafka(kafka.trigger, kafka.urls["bus"], {"since": "1"}, place)
    await source.open()
    try:
        for line in ("0", "1"):
            [item] = await source.read(line, 10)
            with contextlib.suppress(NotOurs):
                await source.checkpoint(line, item.record.id)
    finally:
        await source.close()
    assert await committed(kafka, kafka.trigger.group) == [None, 1]


async def test_what_is_under_way_when_a_poller_dies_comes_again(kafka: Broker, function: Function) -> None:
    await kafka.send("a-1", "b-1")
    function.hangs = True
    with contextlib.suppress(ZeroDivisionError):
        async with kafka.polled(function):
            await until(lambda: sorted(function.data) == ["a-1", "b-1"])
            raise ZeroDivisionError
    function.hangs, function.events = False, []
    async with kafka.polled(function) as poller:
        await until(lambda: poller.records == 2)
    assert sorted(function.data) == ["a-1", "b-1"]


async def test_a_partition_that_was_added(kafka: Broker, function: Function) -> None:
    """It is read from its beginning, also of a trigger that began with what was the latest. That it was added
    is played here: Tansu adds none."""
    await kafka.send("a-0", "b-0")
    async with kafka.polled(function, starting_position="LATEST"):
        pass
    del kafka.places["1"]
    async with kafka.polled(function, starting_position="LATEST"):
        await kafka.send("a-1")
        await until(lambda: len(function.data) == 2)
    assert sorted(function.data) == ["a-1", "b-0"]


async def test_two_readers_of_one_topic(kafka: Broker) -> None:
    """As after partitions were added: each has its own, and both are read at one time."""
    source = Kafka(kafka.trigger, kafka.urls["bus"], {}, AsyncMock())
    await source.open()
    try:
        del source._readers[1]
        assert await source.lines() == ["0", "1"]
        assert source._readers[0] is not source._readers[1]
        await kafka.send("a-1", "b-1")
        first, second = await asyncio.gather(source.read("0", 10), source.read("1", 10))
        assert [it.view["value"] for it in (*first, *second)] == ["a-1", "b-1"]
    finally:
        await source.close()


async def test_what_cannot_be_used(kafka: Broker, function: Function) -> None:
    """It is said why, and no connection is left."""
    for trigger, url, said in (
        (replace(kafka.trigger, queue="none"), kafka.urls["bus"], "there is no topic none"),
        (kafka.trigger, "kafka://127.0.0.1:1", "Unable to bootstrap"),
        (kafka.trigger, "kafka://u:p@127.0.0.1:1/?mechanism=OAUTH", "`mechanism` is one of"),
    ):
        source = Kafka(trigger, url, {}, AsyncMock())
        with pytest.raises(Exception, match=said) as error:
            await source.open()
        assert isinstance(error.value, SourceFailed) or "bootstrap" in said
        await source.close()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """With its key."""
    made, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*command, "-keyout", key, "-out", made], check=True, capture_output=True)
    made.write_bytes(made.read_bytes() + key.read_bytes())
    return made


@pytest.fixture
async def secured(certificate: Path) -> AsyncIterator[tuple[str, Path]]:
    """A broker behind TLS, and the certificate to trust."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    port, behind = free_port(), free_port()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", behind)
        await asyncio.gather(pipe(reader, back), pipe(there, writer))

    with processes.kafka(behind, advertised=port):
        async with await asyncio.start_server(connected, "127.0.0.1", port, ssl=context):
            yield f"kafkas://127.0.0.1:{port}", certificate


async def test_tls(secured: tuple[str, Path], kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate is checked, by what the frontend's host trusts."""
    url, certificate = secured
    source = Kafka(kafka.trigger, url, {}, AsyncMock())
    with pytest.raises(Exception, match="bootstrap"):
        await source.open()
    await source.close()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    source = Kafka(kafka.trigger, url, {}, AsyncMock())
    with pytest.raises(SourceFailed, match="there is no topic"):  # so it has answered
        await source.open()
    await source.close()


@pytest.fixture
def stand_in() -> Iterator[str]:
    """The servers of librdkafka's cluster for tests, which says, as Tansu does not, what is out of range."""
    producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "-", "log_level": 0})
    brokers = producer.list_topics(timeout=10).brokers.values()
    yield ",".join(f"{it.host}:{it.port}" for it in brokers)
    del producer


async def test_with_a_stand_in_what_the_topic_has_forgotten(stand_in: str, kafka: Broker) -> None:
    """Where the place is no more it is begun at the oldest record there is, and none of those is left out.
    Not tried against a broker that forgets."""
    async with AIOKafkaProducer(bootstrap_servers=stand_in) as producer:
        for text in (b"1", b"2"):
            await producer.send_and_wait("t", text, partition=0)
    places = {"since": "1", "0": "1000"}
    source = Kafka(replace(kafka.trigger, queue="t"), f"kafka://{stand_in}", places, AsyncMock())
    await source.open()
    try:
        items: list[Item] = []
        while len(items) < 2:
            items += await source.read("0", 10)
    finally:
        await source.close()
    assert [it.view["value"] for it in items] == ["1", "2"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("kafka://h:1", {"security_protocol": "PLAINTEXT"}),
        (
            "kafka://u:p%40@h:1,i:2/?mechanism=SCRAM-SHA-512",
            {
                "security_protocol": "SASL_PLAINTEXT",
                "sasl_mechanism": "SCRAM-SHA-512",
                "sasl_plain_username": "u",
                "sasl_plain_password": "p@",
            },
        ),
    ],
)
def test_who_the_broker_is_told_that_we_are(url: str, expected: dict[str, str]) -> None:
    """Not tried against a broker that asks: what the library is told is what its documentation says."""
    assert security(url) == expected
