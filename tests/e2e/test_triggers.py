"""Triggers on a whole fleet: functions are called with what comes in a queue, whichever frontend is there."""

import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from lambent.client import Client
from lambent_proto.errors import UnknownTrigger
from lambent_proto.v1.triggers_pb2 import Filters, Trigger, TriggerSettings
from tests.brokers import aws, processes
from tests.e2e.by_hand import Part, by_hand
from tests.e2e.fleet import Fleet
from tests.e2e.load import eventually
from tests.e2e.triggered import Seen, deploy

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ARN = "arn:aws:sqs:us-east-1:000000000000:"


@pytest.fixture(scope="module")
def server(sqs_port: int) -> Iterator[aws.Aws]:
    with aws.running(sqs_port) as server:
        yield server


@pytest.fixture(autouse=True)
async def no_trigger_is_left(client: Client) -> AsyncIterator[None]:
    yield
    for trigger in await client.triggers.list():
        if trigger.state != "Deleting":
            await client.triggers.delete(trigger.id)


@pytest.fixture
def seen(tmp_path: Any) -> Seen:
    return Seen(tmp_path / "seen")


@pytest.fixture(scope="module")
def sqs(server: aws.Aws) -> Any:
    return server.client("sqs")


class Queue:
    def __init__(self, sqs: Any, name: str, **attributes: str) -> None:
        self.arn = ARN + name
        self._sqs = sqs
        self.url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]

    def send(self, *bodies: str) -> None:
        for start in range(0, len(bodies), 10):
            entries = [
                {"Id": str(at), "MessageBody": body} for at, body in enumerate(bodies[start : start + 10])
            ]
            self._sqs.send_message_batch(QueueUrl=self.url, Entries=entries)

    def left(self) -> int:
        """Waiting and in somebody's hands."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        told = self._sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(int(told[name]) for name in names)


async def in_state(client: Client, trigger_id: str, state: str) -> Trigger:
    async def reached() -> Trigger | None:
        trigger = await client.triggers.get(trigger_id)
        return trigger if trigger.state == state else None

    found: Trigger = await eventually(reached, f"the state {state}")
    return found


async def test_all_messages_are_processed_and_deleted(
    client: Client, name: str, seen: Seen, sqs: Any, shared: Fleet
) -> None:
    """In batches, with the event that Lambda would give, and then the trigger says how it went."""
    queue = Queue(sqs, name)
    await deploy(client, name, seen)
    trigger = await client.triggers.create(name, queue.arn)
    assert trigger.state in ("Creating", "Enabled")
    bodies = [json.dumps({"n": n}) for n in range(25)]
    queue.send(*bodies)
    await eventually(lambda: sorted(seen.data) == sorted(bodies) and queue.left() == 0, "all are processed")
    [record, *_] = seen.calls[0]["event"]["Records"]
    assert set(record) == {
        "messageId", "receiptHandle", "body", "attributes", "messageAttributes", "md5OfBody", "eventSource",
        "eventSourceARN", "awsRegion",
    }  # fmt: skip
    assert (record["eventSource"], record["eventSourceARN"]) == ("aws:sqs", queue.arn)
    assert record["attributes"]["ApproximateReceiveCount"] == "1"
    assert max(len(call["data"]) for call in seen.calls) <= 10

    async def told() -> bool:
        listed = shared.lambent("trigger", "ls", name, "--json")
        [shown] = json.loads(listed.stdout)
        return bool(shown["state"] == "Enabled" and shown["lag"] == 0 and shown["records"] == 25)

    await eventually(told, "it is listed with its lag")


async def test_filters_delete_what_they_do_not_want(client: Client, name: str, seen: Seen, sqs: Any) -> None:
    queue = Queue(sqs, name)
    await deploy(client, name, seen)
    settings = TriggerSettings(filters=Filters(patterns=['{"body": {"n": [{"numeric": [">=", 8]}]}}']))
    await client.triggers.create(name, queue.arn, settings=settings)
    queue.send(*(json.dumps({"n": n}) for n in range(10)), "no JSON")
    await eventually(lambda: queue.left() == 0, "the queue is empty")
    assert sorted(seen.data) == ['{"n": 8}', '{"n": 9}']


async def test_reported_failures_alone_come_again(client: Client, name: str, seen: Seen, sqs: Any) -> None:
    """And go where the queue's redrive policy says."""
    dead = Queue(sqs, f"{name}-dead")
    redrive = json.dumps(
        {"deadLetterTargetArn": dead.arn.replace("0" * 12, "123456789012"), "maxReceiveCount": 2}
    )
    queue = Queue(sqs, name, VisibilityTimeout="1", RedrivePolicy=redrive)
    await deploy(client, name, seen, REPORTS="1")
    settings = TriggerSettings(partial=True, batch_size=5)
    await client.triggers.create(name, queue.arn, settings=settings)
    queue.send("a", "poison", "b")
    await eventually(lambda: dead.left() == 1 and queue.left() == 0, "the poison is in the dead-letter queue")
    assert sorted(seen.data) == ["a", "b", "poison", "poison"]


async def test_neighbours_of_poison_are_not_lost(client: Client, name: str, seen: Seen, sqs: Any) -> None:
    """Where the function fails as a whole: with five deliveries each is called with alone at last."""
    dead = Queue(sqs, f"{name}-dead")
    redrive = json.dumps(
        {"deadLetterTargetArn": dead.arn.replace("0" * 12, "123456789012"), "maxReceiveCount": 5}
    )
    queue = Queue(sqs, name, VisibilityTimeout="1", RedrivePolicy=redrive)
    await deploy(client, name, seen)
    await client.triggers.create(name, queue.arn, settings=TriggerSettings(batch_size=5))
    queue.send("a", "poison", "b", "c")
    await eventually(lambda: dead.left() == 1 and queue.left() == 0, "all is settled", within_s=40)
    alone = [call["data"] for call in seen.calls if call["data"] in (["a"], ["b"], ["c"])]
    whole = [call["data"] for call in seen.calls if "poison" not in call["data"]]
    assert alone or sorted(it for call in whole for it in call) == ["a", "b", "c"]


async def test_states(client: Client, name: str, seen: Seen, sqs: Any) -> None:
    """A trigger that is off reads nothing; one that is deleted is gone."""
    queue = Queue(sqs, name)
    await deploy(client, name, seen)
    created = await client.triggers.create(name, queue.arn, settings=TriggerSettings(enabled=False))
    await in_state(client, created.id, "Disabled")
    queue.send("one")
    changed = await client.triggers.update(created.id, TriggerSettings(enabled=True))
    assert changed.state in ("Enabling", "Enabled")
    await in_state(client, created.id, "Enabled")
    await eventually(lambda: seen.data == ["one"], "it is processed")
    await client.triggers.update(created.id, TriggerSettings(enabled=False))
    await in_state(client, created.id, "Disabled")
    queue.send("two")
    await client.triggers.delete(created.id)

    async def gone() -> bool:
        try:
            await client.triggers.get(created.id)
        except UnknownTrigger:
            return True
        return False

    await eventually(gone, "it is gone")
    assert seen.data == ["one"]
    assert queue.left() == 1
    again = await client.triggers.create(name, queue.arn)
    assert again.id != created.id
    await eventually(lambda: seen.data == ["one", "two"], "another takes over")


async def test_a_queue_that_is_not_there(client: Client, name: str, seen: Seen, sqs: Any) -> None:
    """The trigger says why it does not begin, and begins once it can."""
    await deploy(client, name, seen)
    created = await client.triggers.create(name, ARN + name)

    async def told() -> bool:
        return "NonExistentQueue" in (await client.triggers.get(created.id)).last_error

    await eventually(told, "it says what is wrong")
    queue = Queue(sqs, name)
    queue.send("late")
    await eventually(lambda: seen.data == ["late"], "it is processed")


@pytest.fixture
def second(shared: Fleet, server: aws.Aws) -> Iterator[Part]:
    with by_hand(
        shared, "frontend", "second-frontend", grpc_port=0, http_port=0, sources=[f"sqs={server.url}"]
    ) as part:
        yield part


async def test_another_frontend_takes_over(
    client: Client, second: Part, name: str, seen: Seen, sqs: Any
) -> None:
    """Killed in the midst of it: every message is processed, by the one that is left."""
    await deploy(client, name, seen)
    settings, whose = TriggerSettings(batch_size=2), ""
    queues: list[Queue] = []
    while whose.partition(".")[0] != "second-frontend":  # a digest of the names decides
        queues.append(Queue(sqs, f"{name}-{len(queues)}", VisibilityTimeout="1"))
        created = await client.triggers.create(name, queues[-1].arn, settings=settings)
        whose = (await in_state(client, created.id, "Enabled")).frontend
    bodies = [f"{n}" for n in range(60)]
    queues[-1].send(*bodies[:40])
    await eventually(lambda: len(seen.data) > 5, "it has begun")
    os.kill(second.pid, signal.SIGKILL)
    queues[-1].send(*bodies[40:])
    await eventually(lambda: set(seen.data) == set(bodies), "all are processed", within_s=90)
    frontends = {it.frontend.partition(".")[0] for it in await client.triggers.list()}
    assert frontends == {"frontend"}


async def test_kafka_keeps_its_order_when_another_frontend_takes_over(
    client: Client, shared: Fleet, name: str, seen: Seen, kafka_port: int
) -> None:
    """Killed in the midst of it: every record is processed, those of a partition in their order."""
    sources = [f"bus=kafka://127.0.0.1:{kafka_port}"]
    settings = TriggerSettings(batch_size=2, window_s=0)
    texts = [f"{partition}-{n:02}" for n in range(30) for partition in (0, 1)]
    with (
        processes.kafka(kafka_port) as url,
        by_hand(shared, "frontend", "second-frontend", grpc_port=0, http_port=0, sources=sources) as second,
    ):
        await deploy(client, name, seen)
        whose, topics = "", list[str]()
        while whose.partition(".")[0] != "second-frontend":  # a digest of the names decides
            topics.append(f"{name}-{len(topics)}")
            await processes.make_topic(url, topics[-1], 2)
            created = await client.triggers.create(
                name,
                servers=[f"127.0.0.1:{kafka_port}"],
                queue=topics[-1],
                starting_position="TRIM_HORIZON",
                settings=settings,
            )
            whose = (await in_state(client, created.id, "Enabled")).frontend
        async with AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{kafka_port}") as producer:
            for text in texts[:40]:
                await producer.send_and_wait(topics[-1], text.encode(), partition=int(text[0]))
            await eventually(lambda: len(seen.data) > 5, "it has begun")
            os.kill(second.pid, signal.SIGKILL)
            for text in texts[40:]:
                await producer.send_and_wait(topics[-1], text.encode(), partition=int(text[0]))
        await eventually(lambda: set(seen.data) == set(texts), "all are processed", within_s=60)
        firsts = list(dict.fromkeys(seen.data))
        for partition in "01":
            assert [it for it in firsts if it[0] == partition] == [it for it in texts if it[0] == partition]

        async def told() -> bool:
            shown = await client.triggers.get(created.id)
            return shown.state == "Enabled" and shown.HasField("lag") and shown.lag == 0

        await eventually(told, "its lag is shown")
        for trigger in await client.triggers.list():
            await client.triggers.delete(trigger.id)


async def test_files_in_a_folder(
    client: Client, shared: Fleet, name: str, seen: Seen, inbox: Path, second: Part
) -> None:
    """Each calls the function once. Its triggers are had by the frontend that has the folder."""
    await deploy(client, name, seen)
    (inbox / name).mkdir()
    (inbox / name / "before").write_text("x")
    for prefix in range(8):
        source = f"folder:inbox/{name}/{prefix}-"
        made = shared.lambent("trigger", "create", name, source, "--from", "oldest", "--json")
        created = json.loads(made.stdout)
        shown = await in_state(client, created["id"], "Enabled")
        assert shown.frontend.partition(".")[0] == "frontend"
        (inbox / name / f"{prefix}-file").write_text("x")
    await eventually(lambda: len(seen.data) == 8, "all are called with")
    assert sorted(seen.data) == [f"{name}/{prefix}-file" for prefix in range(8)]
    [record] = seen.calls[0]["event"]["Records"]
    assert (record["eventSource"], record["s3"]["bucket"]["name"]) == ("aws:s3", "inbox")
