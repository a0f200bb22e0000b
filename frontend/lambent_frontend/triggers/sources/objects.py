"""Objects that appear in a folder or in a bucket, as a queue: each is read once, and comes again if it fails.

What is there is listed again and again, so nothing is lost that nobody was told of. Which objects were done
with, and how often each has failed, is kept in etcd, under the claim, at most a second later. There may be
many, so whatever goes through all of them does so in a thread.
"""

import asyncio
import heapq
import json
from abc import abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote_plus

from lambent_chassis.clock import monotonic_s
from lambent_frontend.triggers.core.messages import Record
from lambent_frontend.triggers.core.objects import Failures, Listing, Object, Objects
from lambent_frontend.triggers.names import source_named
from lambent_frontend.triggers.sources.base import (
    DEFAULT_DELIVERIES,
    Item,
    Kept,
    QueueSource,
    SourceFailed,
    records_event,
)
from lambent_proto.ids import REGION
from lambent_proto.triggers import UNLIMITED, Trigger

KEEP_EVERY_S: Final = 1.0
LONGEST_S: Final = 1.0
MOST_OBJECTS: Final = 100_000
"""All are listed each time, and a mark of 20 bytes is kept of each."""
REST: Final = 9.0
"""So many times as long as a listing took is waited for the next one: it takes a tenth of the time."""
SINCE: Final = "since"
"""Beside the segments of marks once those of what was there at first are all kept: which place it was, as far
as that can be told."""
ANY: Final = "1"
"""In its place: that cannot be told."""

FIRST_S: Final = -62_135_596_800.0
"""The year 1."""
LAST_S: Final = 253_402_300_799.0
"""The year 9999."""


class ObjectSource(QueueSource):
    list_every_s = 1.0
    settle_s = 0.0

    identity = ANY
    """Of the place, that of its marks: in another one nothing is read, and none of them is dropped."""

    def __init__(self, trigger: Trigger, url: str, kept: Kept) -> None:
        super().__init__(trigger, url)
        self.named = source_named(trigger.source)
        self.deliveries = DEFAULT_DELIVERIES if trigger.max_retries == UNLIMITED else trigger.max_retries + 1
        self._kept = kept
        self._objects = Objects(self.settle_s)
        self._failures = Failures()
        self._ours = asyncio.Lock()
        """Of the two above: a thread may have them."""
        self._found: deque[Object] = deque()
        self._in_hand: dict[str, Object] = {}
        """By the record's id, as are those below."""
        self._delivered: dict[str, int] = {}
        self._again: list[tuple[float, str]] = []
        """When, and which: a heap."""
        self._list_at = 0.0
        self._kept_at = 0.0
        self._keeping = asyncio.Lock()

    @abstractmethod
    async def all(self, listing: Listing) -> None:
        """Adds all objects under the prefix, MOST_OBJECTS and a few more at the most. Raises SourceFailed
        where the place is not the one that `identity` says, and says which it is if that is ANY."""

    async def open(self) -> None:
        await self.connect()
        places = await self._kept.places()
        self.identity = places.get(SINCE, ANY)
        await asyncio.to_thread(self._load, places, await self._kept.failures())
        listing = await self._listed()
        if SINCE not in places and self.trigger.starting_position == "LATEST":
            await asyncio.to_thread(self._objects.begin, listing)
        await self._keep()
        if places.get(SINCE) != self.identity:
            await self._kept.place(SINCE, self.identity)
        self._closing.push_async_callback(self._keep)

    async def connect(self) -> None:
        """What has to be there before anything can be listed."""

    def _load(self, places: Mapping[str, str], failures: Mapping[str, bytes]) -> None:
        self._objects.load({int(n): text for n, text in places.items() if n != SINCE})
        self._failures.load({part: json.loads(value) for part, value in failures.items()})

    async def _listed(self) -> Listing:
        began = monotonic_s()
        listing = self._objects.listing()
        await self.all(listing)
        if len(listing.marks) > MOST_OBJECTS:
            raise SourceFailed(
                f"there are more than {MOST_OBJECTS:,} objects: move away those that are done with, or give "
                "a prefix; a bucket can tell a queue of SQS of new ones instead"
            )
        took_s = monotonic_s() - began
        self._list_at = monotonic_s() + max(self.list_every_s, REST * took_s)
        return listing

    async def read(self, line: str, most: int) -> list[Item]:
        now = monotonic_s()
        due: list[Object] = []
        while self._again and len(due) < most and self._again[0][0] <= now:
            due.append(self._in_hand[heapq.heappop(self._again)[1]])
        if not due and not self._found:
            await self._look()
        while self._found and len(due) < most:
            due.append(self._found.popleft())
        return [self._item(it) for it in due]

    async def _look(self) -> None:
        """Waits until something may be there, for a second at the most: so long a stop may have to wait."""
        at = min([self._list_at, *(it[0] for it in self._again[:1])])
        await asyncio.sleep(min(max(0.0, at - monotonic_s()), LONGEST_S))
        if monotonic_s() >= self._list_at:
            listing = await self._listed()
            # shielded, as the thread is not ended by that: nobody else may have the objects before it is
            self._found.extend(await asyncio.shield(asyncio.ensure_future(self._merged(listing))))
        if monotonic_s() >= self._kept_at + KEEP_EVERY_S:
            await self._keep()

    async def _merged(self, listing: Listing) -> list[Object]:
        """What is to be called with now."""

        def merge() -> list[Object]:
            self._failures.only(listing.marks)
            return self._objects.seen(listing, monotonic_s())

        async with self._ours:
            return await asyncio.to_thread(merge)

    async def _keep(self) -> None:
        async with self._keeping:
            self._kept_at = monotonic_s()
            async with self._ours:
                segments, failures = self._objects.to_keep(), self._failures.to_keep()
            for n, text in segments.items():
                await self._kept.place(str(n), text)
            for part, times in failures.items():
                await self._kept.keep_failures(part, json.dumps(times).encode())

    def _item(self, it: Object) -> Item:
        name = f"{round(it.modified_at * 1000):014X}{it.mark.upper()}"
        self._in_hand[name] = it
        self._delivered[name] = self._delivered.get(name, self._failures.of(it.mark)) + 1
        return item_of(it, name, self.named.name, self.trigger.id, self._delivered[name])

    def event(self, items: Sequence[Item]) -> bytes:
        return records_event(items)

    async def done(self, ids: Sequence[str]) -> None:
        async with self._ours:
            for name in ids:
                it = self._in_hand.pop(name)
                self._objects.done(it)
                self._failures.forget(it.mark)
                self._delivered.pop(name, None)
        if monotonic_s() >= self._kept_at + KEEP_EVERY_S:
            await self._keep()

    async def give_back(self, ids: Sequence[str], pause_s: float | None) -> None:
        """At once what was not called with, after a pause what failed."""
        if pause_s:
            async with self._ours:
                for name in ids:
                    self._failures.failed(self._in_hand[name].mark, self._delivered[name])
        for name in ids:
            heapq.heappush(self._again, (monotonic_s() + (pause_s or 0.0), name))

    async def give_up(self, ids: Sequence[str]) -> None:
        """The object stays where it is."""
        await self.done(ids)

    async def lag(self) -> int | None:
        return len(self._found) + self._objects.settling


def item_of(it: Object, name: str, bucket: str, trigger_id: str, deliveries: int) -> Item:
    """As S3 tells of a new object. Filters see the key as it is, the function sees it as S3 writes it."""
    told: dict[str, Any] = {"key": it.key, "size": it.size, "eTag": it.etag, "sequencer": name}
    shape: dict[str, Any] = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": REGION,
        "eventTime": _moment(it.modified_at),
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "lambent"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": name, "x-amz-id-2": it.mark},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": trigger_id,
            "bucket": {
                "name": bucket,
                "ownerIdentity": {"principalId": "lambent"},
                "arn": f"arn:aws:s3:::{bucket}",
            },
            "object": told,
        },
    }
    view = {**shape, "s3": {**shape["s3"], "object": dict(told)}}
    told["key"] = quote_plus(it.key.encode("utf-8", "surrogateescape"), safe="/")
    body = json.dumps(shape).encode()
    record = Record(name, len(body) + 1, written_at=it.modified_at, deliveries=deliveries)
    return Item(record, body, view)


def _moment(unix_s: float) -> str:
    """Of a file's time, which may be any, the nearest that can be written so."""
    unix_s = min(max(unix_s, FIRST_S), LAST_S)
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
