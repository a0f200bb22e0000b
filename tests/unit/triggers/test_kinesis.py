"""What Kinesis says of a shard that has too many readers, and shards that come of others.

moto does neither: it ends no shard, and goes on writing into one that was split.
"""

from datetime import UTC, datetime
from typing import Any

import pytest

from lambent_chassis.clock import unix_s
from lambent_frontend.triggers.sources.base import LineEnded
from lambent_frontend.triggers.sources.kinesis import END, Kinesis
from lambent_proto.ids import FunctionName
from lambent_proto.triggers import Trigger

pytestmark = pytest.mark.timeout(20)


class ProvisionedThroughputExceededException(Exception):  # boto3 calls it so
    pass


class Busy:
    """In the place of the client."""

    async def call(self, method: str, **given: Any) -> Any:
        if method == "get_shard_iterator":
            return {"ShardIterator": "i"}
        raise ProvisionedThroughputExceededException


async def test_a_shard_that_is_read_too_often_brings_nothing_for_now() -> None:
    """To fail would end the calls under way of all shards."""
    trigger = Trigger(
        id="t",
        function=FunctionName("f"),
        kind="kinesis",
        source="arn:aws:kinesis:us-east-1:000000000000:stream/s",
        starting_position="TRIM_HORIZON",
        batch_size=10,
    )

    async def place(line: str, at: str) -> None:
        raise AssertionError("nothing was done with")

    source = Kinesis(trigger, "", {}, place)
    source._aws = Busy()  # type: ignore[assignment]
    assert await source.read("shard", 10) == []


class Stream:
    """In the place of the client: shards with their parents, and records with the time they came."""

    def __init__(self, **records: dict[str, float]) -> None:
        self.parents = {"old": "", "new": "old"}
        self.records = records

    async def call(self, method: str, **given: Any) -> Any:
        if method == "list_shards":
            shards = [{"ShardId": shard, "ParentShardId": it} for shard, it in self.parents.items()]
            return {"Shards": shards}
        if method == "get_shard_iterator":
            since = given.get("Timestamp", 0.0 if given["ShardIteratorType"] == "TRIM_HORIZON" else None)
            assert since is not None, "the test knows no other type"
            return {"ShardIterator": f"{given['ShardId']} {since}"}
        shard, since = given["ShardIterator"].split()
        records = [
            {
                "Data": text.encode(),
                "PartitionKey": "k",
                "SequenceNumber": text,
                "ApproximateArrivalTimestamp": datetime.fromtimestamp(at, UTC),
            }
            for text, at in self.records[shard].items()
            if at >= float(since)
        ]
        return {"Records": records, "NextShardIterator": None if shard == "old" else f"{shard} {at_end}"}


at_end = 10**11
"""No record comes so late."""


@pytest.mark.parametrize(
    ("position", "starting_at", "new_has"),
    [
        ("LATEST", 0.0, ["later"]),
        ("AT_TIMESTAMP", 50.0, ["mid", "later"]),
        ("TRIM_HORIZON", 0.0, ["early", "mid", "later"]),
    ],
)
async def test_a_shard_that_comes_of_another(position: str, starting_at: float, new_has: list[str]) -> None:
    """It is read when that is done with, and has what came from where the trigger begins, no more or less."""
    trigger = Trigger(
        id="t",
        function=FunctionName("f"),
        kind="kinesis",
        source="arn:aws:kinesis:us-east-1:000000000000:stream/s",
        starting_position=position,
        starting_at=starting_at,
        batch_size=10,
    )
    places: dict[str, str] = {}

    async def place(line: str, at: str) -> None:
        places[line] = at

    source = Kinesis(trigger, "http://127.0.0.1:1", {}, place)
    source._aws = Stream(old={}, new={"early": 1.0, "mid": 60.0, "later": unix_s() + 60})  # type: ignore[assignment]
    await source.begin()
    assert await source.lines() == ["old"]
    await source.read("old", 10)
    with pytest.raises(LineEnded):
        await source.read("old", 10)
    await source.ended("old")
    assert places["old"] == END
    assert await source.lines() == ["new"]
    assert [it.record.id for it in await source.read("new", 10)] == new_has
