"""A stream of Kinesis, as moto has it: the order of keys, the places that are kept, and what is given up."""

import pytest

from tests.brokers.aws import Aws
from tests.integration.triggers.conftest import Broker, Function, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

KEYS = ("a", "b", "c", "d")


async def test_all_is_processed_in_order(kinesis: Broker, function: Function) -> None:
    """By key; and a second poller goes on where the first one was stopped."""
    texts = [f"{key}-{n:02}" for n in range(8) for key in KEYS]
    await kinesis.send(*texts[:20])
    async with kinesis.polled(function, batch_size=5, parallelization=3):
        await until(lambda: len(function.data) == 20)
    async with kinesis.polled(function, batch_size=5, parallelization=3):
        await kinesis.send(*texts[20:])
        await until(lambda: len(function.data) == 32)
    for key in KEYS:
        assert [it for it in function.data if it[0] == key] == [it for it in texts if it[0] == key]


async def test_the_event(kinesis: Broker, function: Function) -> None:
    async with kinesis.polled(function):
        await kinesis.send("k-1")
        await until(lambda: function.events)
    [record] = function.events[0]["Records"]
    assert record["eventID"].startswith("shardId-")
    assert record["kinesis"]["partitionKey"] == "k"
    assert record["kinesis"]["data"] == "ay0x"
    assert record["eventID"].endswith(":" + record["kinesis"]["sequenceNumber"])
    assert (record["eventName"], record["eventVersion"]) == ("aws:kinesis:record", "1.0")
    assert record["eventSourceARN"] == kinesis.trigger.source


async def test_bisecting_gives_up_the_poison_alone(kinesis: Broker, function: Function) -> None:
    """With no retry at all; the destination hears of the one record, and the rest is called with."""
    await kinesis.send("poison-0", "poison-0b", *(f"poisonless-{n}" for n in range(2)))
    await kinesis.send("k-1", "k-2", "k-3", "k-4")
    async with kinesis.polled(
        function,
        bisect=True,
        max_retries=0,
        on_failure="arn:aws:lambda:us-east-1:000000000000:function:destination",
    ):
        await until(lambda: {"k-1", "k-2", "k-3", "k-4"} <= set(function.data))
        await until(lambda: len(function.told) == 4)
    told = function.told[0]
    assert told["requestContext"]["condition"] == "RetryAttemptsExhausted"
    info = told["KinesisBatchInfo"]
    assert info["batchSize"] == 1
    assert info["startSequenceNumber"] == info["endSequenceNumber"]
    assert info["shardId"].startswith("shardId-")


async def test_latest_is_what_came_since_the_first_poller_began(kinesis: Broker, function: Function) -> None:
    """What comes while no poller is there is called with, though none was done with anything before."""
    await kinesis.send("k-before")
    async with kinesis.polled(function, starting_position="LATEST"):
        pass
    await kinesis.send("k-between")
    async with kinesis.polled(function, starting_position="LATEST"):
        await kinesis.send("k-after")
        await until(lambda: len(function.data) == 2)
    assert function.data == ["k-between", "k-after"]


async def test_a_shard_that_is_split(kinesis: Broker, aws_server: Aws, function: Function) -> None:
    """Nothing is missed. moto goes on writing into shards that were split: those that come of them are in
    tests/unit/triggers/test_kinesis.py."""
    client = aws_server.client("kinesis")
    name = kinesis.trigger.id
    await kinesis.send(*(f"{key}-1" for key in KEYS))
    async with kinesis.polled(function):
        await until(lambda: len(function.data) == 4)
    for shard in client.list_shards(StreamName=name)["Shards"][:2]:
        low, high = (int(shard["HashKeyRange"][it]) for it in ("StartingHashKey", "EndingHashKey"))
        middle = str((low + high) // 2)
        client.split_shard(StreamName=name, ShardToSplit=shard["ShardId"], NewStartingHashKey=middle)
    await kinesis.send(*(f"{key}-2" for key in KEYS))
    async with kinesis.polled(function, starting_position="LATEST"):
        await until(lambda: len(function.data) == 8)
    for key in KEYS:
        assert [it for it in function.data if it[0] == key] == [f"{key}-1", f"{key}-2"]
