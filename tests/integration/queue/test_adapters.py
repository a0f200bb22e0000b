"""Each destination's adapter and a real broker: what was taken is there, what was not is said not to be."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from lambent_frontend.queue.adapters import adapters
from lambent_frontend.queue.destinations import Destinations, Refused, lane_of_dead_letter, lane_of_record
from lambent_frontend.queue.records import Record
from lambent_proto.errors import InvalidRequest
from tests.integration.queue import brokers

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

RECORD = Record("43de9d4f-93ff-41d7-a7d1-5bd1d02a6ea2", b'{"version": "1.0"}', {})
LETTER = Record(
    "43de9d4f-93ff-41d7-a7d1-5bd1d02a6ea2",
    b'{"a": 1}',
    {"RequestID": "43de9d4f", "ErrorCode": "200", "ErrorMessage": "no such\nthing"},
)
OF = "arn:aws:lambent-{}:us-east-1:000000000000:here/{}"
SQS = "arn:aws:sqs:us-east-1:123456789012:{}"


@asynccontextmanager
async def sending(**sources: str) -> AsyncIterator[Destinations]:
    there = Destinations(adapters(sources), (), sources)
    yield there
    await there.close()


async def test_a_subject_of_nats(tmp_path: Path) -> None:
    """A stream keeps it, once also if it is sent twice; without a stream it is not taken."""
    import nats

    with brokers.nats(tmp_path) as url:
        arn = OF.format("nats", "told.f")
        async with sending(here=url) as there:
            there.check(arn)
            client = await nats.connect(url)
            await client.jetstream().add_stream(name="told", subjects=["told.*"])
            for _ in range(2):
                await there.deliver(lane_of_record(arn), RECORD)
            await there.deliver(lane_of_dead_letter(OF.format("nats", "told.g")), LETTER)
            messages = await (await client.jetstream().subscribe("told.*")).messages.__aiter__().__anext__()
            assert messages.data == RECORD.body
            state = (await client.jetstream().stream_info("told")).state
            assert state.messages == 2
            with pytest.raises(Exception, match="no response from stream"):
                await there.deliver(lane_of_record(OF.format("nats", "nobody")), RECORD)
            await client.close()


async def test_a_stream_of_redis(tmp_path: Path) -> None:
    from redis.asyncio import Redis

    with brokers.redis(tmp_path) as url:
        arn = OF.format("redis", "told")
        async with sending(here=url) as there:
            there.check(arn)
            await there.deliver(lane_of_record(arn), RECORD)
            await there.deliver(lane_of_dead_letter(arn), LETTER)
            client: Any = Redis.from_url(url, decode_responses=True)
            (_, record), (_, letter) = await client.xrange("told")
            assert record == {"body": RECORD.body.decode(), "id": RECORD.id}
            assert letter == {"body": LETTER.body.decode(), "id": LETTER.id, **LETTER.attributes}
            await client.aclose()


async def test_a_broker_that_is_gone_and_comes_back(tmp_path: Path) -> None:
    """What fails on a connection is not taken, and the next one makes another."""
    with brokers.redis(tmp_path) as url:
        arn = OF.format("redis", "told")
        async with sending(here=url) as there:
            await there.deliver(lane_of_record(arn), RECORD)
    with pytest.raises(Exception, match=r"onnect"):
        await there.deliver(lane_of_record(arn), RECORD)


async def test_a_queue_of_rabbitmq(tmp_path: Path) -> None:
    """One that is not there does not take it."""
    import aio_pika

    with brokers.rabbitmq(tmp_path) as url:
        arn = OF.format("rabbitmq", "told")
        async with sending(here=url) as there:
            there.check(arn)
            connection = await aio_pika.connect(url)
            queue = await (await connection.channel()).declare_queue("told", durable=True)
            await there.deliver(lane_of_dead_letter(arn), LETTER)
            message = await queue.get(timeout=10)
            assert (message.body, message.message_id) == (LETTER.body, LETTER.id)
            assert message.headers == LETTER.attributes
            with pytest.raises(aio_pika.exceptions.DeliveryError):
                await there.deliver(lane_of_record(OF.format("rabbitmq", "nobody")), RECORD)
            await connection.close()


@pytest.fixture
def sqs(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Any]]:
    """The URL of a server that speaks as SQS does, and a client for it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    server = ThreadedMotoServer(port=0, ip_address="127.0.0.1", verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client("sqs", endpoint_url=url, region_name="us-east-1")
    yield url, client
    client.close()
    server.stop()


async def test_a_queue_of_sqs(sqs: tuple[str, Any]) -> None:
    """With a dead letter's attributes as Lambda sends them."""
    url, client = sqs
    arn = SQS.format("told")
    async with sending(sqs=url) as there:
        there.check(arn)
        queue = client.create_queue(QueueName="told")["QueueUrl"]
        await there.deliver(lane_of_dead_letter(arn), LETTER)
        (message,) = client.receive_message(QueueUrl=queue, MessageAttributeNames=["All"])["Messages"]
        assert json.loads(message["Body"]) == {"a": 1}
        told = {
            name: (it["DataType"], it["StringValue"]) for name, it in message["MessageAttributes"].items()
        }
        assert told == {
            "RequestID": ("String", "43de9d4f"),
            "ErrorCode": ("Number", "200"),
            "ErrorMessage": ("String", "no such\nthing"),
        }
        with pytest.raises(Exception, match=r"[Nn]on.?[Ee]xistent|does not exist"):
            await there.deliver(lane_of_record(SQS.format("nobody")), RECORD)


@pytest.mark.parametrize(
    ("destination", "why"),
    [
        (OF.format("redis", "told"), "sends nothing to"),
        (SQS.format("told"), "sends nothing to"),
        ("http://127.0.0.1/hook", "sends nothing to"),
        ("arn:aws:sqs:us-east-1:told", "is no destination"),
        ("arn:aws:sns:us-east-1:123456789012:told", "is no destination"),
        ("arn:aws:lambent-redis:::nowhere", "is no destination"),
        ("ftp://here/there", "is no destination"),
        ("told", "is no destination"),
        ("https://" + "h" * 400, "characters"),
    ],
)
async def test_what_is_not_allowed(destination: str, why: str) -> None:
    """Neither to be configured, nor, where it was before, to be sent to."""
    async with sending() as nowhere:
        with pytest.raises(InvalidRequest, match=why):
            nowhere.check(destination)
        with pytest.raises(Refused):
            await nowhere.deliver(lane_of_record(destination), RECORD)
