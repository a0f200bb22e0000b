"""What Kinesis says of a shard that has too many readers."""

from typing import Any

import pytest

from lambent_frontend.triggers.sources.kinesis import Kinesis
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
