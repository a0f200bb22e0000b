"""A stream of Kinesis, or of what speaks as it does. How far each shard is done with is kept in etcd."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from lambent_chassis.clock import unix_s
from lambent_frontend.triggers.core.messages import Record
from lambent_frontend.triggers.core.pattern import Text
from lambent_frontend.triggers.names import source_named
from lambent_frontend.triggers.sources.aws import Aws
from lambent_frontend.triggers.sources.base import Item, LineEnded, StreamSource, records_event
from lambent_proto.ids import ACCOUNT
from lambent_proto.triggers import Trigger

MOST_AT_ONCE: Final = 10_000
"""Records of one request, Kinesis's limit."""
EMPTY_PAUSE_S: Final = 0.5
"""After a request that brought nothing. Kinesis allows five a second for each shard, to all readers."""
THREADS: Final = 8
END: Final = "END"
"""The place of a shard that has ended and is done with."""
SINCE: Final = "since"
"""Beside the shards' places, of a trigger that begins at LATEST: when it was first read, Unix seconds.
Whoever reads on begins there with a shard that has no place yet, and not at what is the latest by then."""

Place = Callable[[str, str], Awaitable[None]]


class Kinesis(StreamSource):
    """A shard that came of others is read once those have ended and are done with. Each begins where the
    trigger says, so that one which came later has all its records read."""

    def __init__(self, trigger: Trigger, url: str, places: Mapping[str, str], place: Place) -> None:
        """`places` are those that were kept before, by shard."""
        super().__init__(trigger, url)
        self._named = source_named(trigger.source)
        self._places = dict(places)
        self._place = place
        self._iterators: dict[str, str] = {}
        self._last: dict[str, str] = {}
        """The last record of each shard that was read."""
        self._over: set[str] = set()

    async def open(self) -> None:
        self._aws = Aws("kinesis", self._named.region, self.url, THREADS)
        self._closing.callback(self._aws.close)
        await self.lines()
        await self.begin()

    async def begin(self) -> None:
        """Of a trigger that begins at LATEST: notes when that was."""
        if self.trigger.starting_position == "LATEST" and SINCE not in self._places:
            await self.checkpoint(SINCE, str(unix_s()))

    async def lines(self) -> Sequence[str]:
        shards: list[Mapping[str, Any]] = []
        asked: dict[str, str] = {"StreamName": self._named.name}
        while True:
            page = await self._aws.call("list_shards", **asked)
            shards += page["Shards"]
            if not page.get("NextToken"):
                break
            asked = {"NextToken": page["NextToken"]}
        there = {it["ShardId"] for it in shards}
        ready = []
        for shard in shards:
            name = shard["ShardId"]
            named = (shard.get("ParentShardId", ""), shard.get("AdjacentParentShardId", ""))
            parents = there.intersection(named)
            if self._places.get(name) != END and all(self._places.get(it) == END for it in parents):
                ready.append(name)
        return ready

    async def read(self, line: str, most: int) -> list[Item]:
        if line in self._over:
            raise LineEnded
        iterator = self._iterators.get(line) or await self._begin(line)
        try:
            answer = await self._aws.call(
                "get_records", ShardIterator=iterator, Limit=min(most, MOST_AT_ONCE)
            )
        except Exception as error:
            if type(error).__name__ == "ProvisionedThroughputExceededException":
                await asyncio.sleep(EMPTY_PAUSE_S)  # others read the shard as well: it is no failure
                return []
            if "ExpiredIterator" not in type(error).__name__:
                raise
            self._iterators.pop(line, None)
            return []
        following = answer.get("NextShardIterator")
        if following:
            self._iterators[line] = following
        else:
            self._over.add(line)
        records = answer["Records"]
        if not records and following:
            await asyncio.sleep(EMPTY_PAUSE_S)
        elif records:
            self._last[line] = records[-1]["SequenceNumber"]
        return [self._item(line, it) for it in records]

    async def _begin(self, line: str) -> str:
        where: dict[str, Any]
        if at := self._last.get(line) or self._places.get(line):
            where = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": at}
        elif self.trigger.starting_position == "LATEST":
            where = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": float(self._places[SINCE])}
        else:
            where = {"ShardIteratorType": self.trigger.starting_position}
            if self.trigger.starting_at:
                where["Timestamp"] = self.trigger.starting_at
        answer = await self._aws.call(
            "get_shard_iterator", StreamName=self._named.name, ShardId=line, **where
        )
        iterator: str = answer["ShardIterator"]
        return iterator

    def _item(self, shard: str, said: Mapping[str, Any]) -> Item:
        arrived = said["ApproximateArrivalTimestamp"].timestamp()
        name = said["SequenceNumber"]
        facts = {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": said["PartitionKey"],
            "sequenceNumber": name,
            "data": base64.b64encode(said["Data"]).decode(),
            "approximateArrivalTimestamp": arrived,
        }
        shape = {
            "kinesis": facts,
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": f"{shard}:{name}",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": f"arn:aws:iam::{ACCOUNT}:role/lambent",
            "awsRegion": self._named.region,
            "eventSourceARN": self.trigger.source,
        }
        body = json.dumps(shape).encode()
        record = Record(name, len(body) + 1, said["PartitionKey"], arrived)
        view = {**facts, "data": Text(said["Data"].decode(errors="replace")), "shardId": shard}
        return Item(record, body, view)

    def event(self, items: Sequence[Item]) -> bytes:
        return records_event(items)

    async def checkpoint(self, line: str, place: str) -> None:
        await self._place(line, place)
        self._places[line] = place

    def rewind(self, line: str) -> None:
        self._iterators.pop(line, None)
        self._last.pop(line, None)
        self._over.discard(line)

    async def ended(self, line: str) -> None:
        await self.checkpoint(line, END)

    async def lag(self) -> int | None:
        return None
