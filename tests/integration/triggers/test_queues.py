"""Redis Streams, NATS JetStream and RabbitMQ as queues: the same of each, against the real one."""

import contextlib
import json
from dataclasses import replace
from typing import Any, cast

import pytest

from lambent_frontend.triggers.sources import jetstream, source_of
from tests.integration.triggers.conftest import Broker, Function, data, until
from tests.unit.triggers.kept import InMemory

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]


async def test_all_is_processed_once(queue: Broker, function: Function) -> None:
    """Also what was there before; afterwards nothing is left for a second poller."""
    texts = [f"t{n}" for n in range(50)]
    await queue.send(*texts[:20])
    async with queue.polled(function, batch_size=10) as poller:
        await queue.send(*texts[20:])
        await until(lambda: len(function.data) == 50)
        await until(lambda: poller.records == 50)
        assert await poller.lag() == 0
    assert sorted(function.data) == sorted(texts)
    async with queue.polled(function):
        await queue.send("more")
        await until(lambda: function.data[-1] == "more")
    assert len(function.data) == 51


async def test_poison_is_given_up_and_its_neighbours_are_not(queue: Broker, function: Function) -> None:
    """After the deliveries that the trigger allows; the destination is told, with what it was."""
    async with queue.polled(
        function,
        batch_size=4,
        window_s=0.5,
        max_retries=2,
        on_failure="arn:aws:lambda:us-east-1:000000000000:function:destination",
    ):
        await queue.send("a", "poison", "b", "c")
        await until(lambda: function.told)
        good = [it for it in ("a", "b", "c") if [it] in [data(event) for event in function.events]]
        whole = [it for event in function.events for it in data(event) if "poison" not in data(event)]
        assert sorted(whole) == ["a", "b", "c"] or good == ["a", "b", "c"]
        await queue.send("later")
        await until(lambda: "later" in function.data)
    [told] = function.told
    assert told["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert told["requestContext"]["approximateInvokeCount"] == 3
    assert len(told["payload"]["records"]) == 1
    assert function.data.count("poison") == 3


async def test_what_is_under_way_when_a_poller_dies_comes_again(
    queue: Broker, function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing tells the source of the end; the next poller has all of it."""
    monkeypatch.setattr(jetstream, "OURS_S", 2.0)
    await queue.send("one", "two")
    function.hangs = True
    with contextlib.suppress(ZeroDivisionError):
        async with queue.polled(function):
            await until(lambda: sorted(function.data) == ["one", "two"])
            raise ZeroDivisionError
    function.hangs, function.events = False, []
    async with queue.polled(function) as poller:
        await until(lambda: poller.records == 2)
    assert sorted(set(function.data)) == ["one", "two"]


async def test_filters(queue: Broker, function: Function) -> None:
    """What no filter takes is done with uncalled."""
    where = "fields" if queue.trigger.kind == "redis" else "data"
    document = {"data": {"n": [1]}} if where == "fields" else {"n": [1]}
    async with queue.polled(function, filters=(json.dumps({where: document}),)) as poller:
        await queue.send('{"n": 0}', '{"n": 1}', "no JSON")
        await until(lambda: poller.records == 3)
    assert function.data == ['{"n": 1}']


async def test_the_event_of_redis(redis_stream: Broker, function: Function) -> None:
    async with redis_stream.polled(function):
        await redis_stream.send("x")
        await until(lambda: function.events)
    [record] = function.events[0]["Records"]
    assert record["fields"] == {"data": "x"}
    assert record["messageId"].partition("-")[0].isdecimal()
    assert (record["eventSource"], record["eventSourceARN"]) == ("lambent:redis", redis_stream.trigger.source)
    assert record["deliveries"] == 1


async def test_the_event_of_nats(jetstream: Broker, function: Function) -> None:
    async with jetstream.polled(function):
        await jetstream.send("x")
        await until(lambda: function.events)
    [record] = function.events[0]["Records"]
    assert record["subject"] == f"{jetstream.trigger.id}.some"
    assert (record["messageId"], record["data"], record["deliveries"]) == ("1", "eA==", 1)
    assert record["eventSource"] == "lambent:nats"


async def test_the_event_of_rabbitmq(rabbit_queue: Broker, function: Function) -> None:
    """As Lambda's of Amazon MQ."""
    async with rabbit_queue.polled(function):
        await rabbit_queue.send("x")
        await until(lambda: function.events)
    event = function.events[0]
    assert (event["eventSource"], event["eventSourceArn"]) == ("aws:rmq", rabbit_queue.trigger.source)
    [record] = event["rmqMessagesByQueue"][f"{rabbit_queue.trigger.queue}::/"]
    assert (record["data"], record["redelivered"]) == ("eA==", False)
    assert record["basicProperties"]["bodySize"] == 1
    assert record["basicProperties"]["deliveryMode"] == 1


async def test_what_was_made_for_a_trigger_that_is_deleted_goes_with_it(
    redis_stream: Broker, jetstream: Broker
) -> None:
    """The group of Redis and the consumer of NATS."""
    import nats
    from redis.asyncio import Redis

    for broker in (redis_stream, jetstream):
        source: Any = await source_of(broker.trigger, broker.urls, InMemory())
        await source.open()
        await source.close()
        for _ in range(2):  # what is not there any more can be forgotten as well
            again: Any = await source_of(broker.trigger, broker.urls, InMemory())
            await again.forget()
            await again.close()
    async with Redis.from_url(redis_stream.urls["jobs"]) as redis:
        assert await redis.xinfo_groups(redis_stream.trigger.id) == []
    connection = await nats.connect(jetstream.urls["bus"])
    assert await connection.jetstream().consumers_info(jetstream.trigger.id) == []
    await connection.close()


async def test_a_stream_of_redis_is_told(redis_stream: Broker, function: Function) -> None:
    """As of asynchronous calls, in Lambda's form, with the record itself."""
    from redis.asyncio import Redis

    told = f"{redis_stream.trigger.id}-told"
    await redis_stream.send("poison")
    arn = f"arn:aws:lambent-redis:us-east-1:000000000000:jobs/{told}"
    async with redis_stream.polled(function, max_retries=0, on_failure=arn) as poller:
        await until(lambda: poller.records == 1)
    async with Redis.from_url(redis_stream.urls["jobs"], decode_responses=True) as redis:
        [(_, fields)] = cast("list[tuple[str, dict[str, str]]]", await redis.xrange(told))
    body = json.loads(fields["body"])
    assert body["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert json.loads(body["payload"]["records"][0])["fields"] == {"data": "poison"}


async def test_a_count_of_deliveries_that_somebody_else_wrote(
    rabbit_queue: Broker, rabbitmq_url: str, function: Function
) -> None:
    """It is not believed of a new message, whatever it is. RabbitMQ's own takes its place in one that is
    given out again, and is believed."""
    import aio_pika

    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        for text, count in (("poison", 1000), ("good", "many"), ("better", -1000)):
            message = aio_pika.Message(text.encode(), headers={"x-delivery-count": count})
            await channel.default_exchange.publish(message, rabbit_queue.trigger.queue)
    function.hangs = True
    with contextlib.suppress(ZeroDivisionError):
        async with rabbit_queue.polled(function):
            await until(lambda: len(function.data) == 3)
            raise ZeroDivisionError
    assert all(not it["redelivered"] for it in _of_rabbit(function))
    function.hangs, function.events = False, []
    async with rabbit_queue.polled(function, max_retries=2) as poller:
        await until(lambda: poller.records == 3)
    assert all(it["redelivered"] for it in _of_rabbit(function))
    assert sorted(set(function.data)) == ["better", "good", "poison"]
    assert function.data.count("poison") == 2  # and once before


def _of_rabbit(function: Function) -> list[dict[str, Any]]:
    return [it for event in function.events for group in event["rmqMessagesByQueue"].values() for it in group]


@pytest.mark.parametrize("queue", ["jetstream", "rabbit_queue"], indirect=True)
async def test_no_connection_is_left_of_a_source_that_is_not_there(queue: Broker) -> None:
    """It is tried again and again: the broker would have one more each time."""
    of_none = "arn:aws:lambent-nats:us-east-1:000000000000:bus/none"
    trigger = replace(queue.trigger, source=of_none if queue.trigger.kind == "nats" else queue.trigger.source)
    trigger = replace(trigger, queue="none" if trigger.kind == "rabbitmq" else "")
    source: Any = await source_of(trigger, queue.urls, InMemory())
    with pytest.raises(Exception, match=r"(?i)not.found|no queue"):
        await source.open()
    await source.close()
    assert source._connection.is_closed
