"""A stream of Redis, read as a queue: a consumer group of its own says which entries are done with."""

import base64
import contextlib
import heapq
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lambent_chassis.clock import monotonic_s
from lambent_frontend.triggers.core.messages import Record
from lambent_frontend.triggers.core.pattern import Text
from lambent_frontend.triggers.names import source_named
from lambent_frontend.triggers.sources.base import (
    DEFAULT_DELIVERIES,
    Item,
    QueueSource,
    SourceFailed,
    records_event,
)
from lambent_proto.triggers import UNLIMITED, Trigger

CONSUMER: Final = "lambent"
"""One name for all frontends: one of them at a time has the trigger."""
POLL_S: Final = 2.0
PAGE: Final = 1000
GIVEN_UP: Final = ":given-up"
"""What is put behind the stream's name for the one that entries go to which failed too often."""


class RedisStream(QueueSource):
    """An entry that fails comes again after a pause. What another frontend had in hand comes at once."""

    def __init__(self, trigger: Trigger, url: str) -> None:
        super().__init__(trigger, url)
        self._stream = source_named(trigger.source).stream
        self.deliveries = DEFAULT_DELIVERIES if trigger.max_retries == UNLIMITED else trigger.max_retries + 1
        self._again: list[tuple[float, str]] = []
        """When, and which: a heap."""
        self._delivered: dict[str, int] = {}
        """How often, of those in hand or to come again."""
        self._fields: dict[str, Mapping[bytes, bytes]] = {}

    async def open(self) -> None:
        self._connect()
        from redis.exceptions import ResponseError

        try:
            await self._redis.xgroup_create(self._stream, self.trigger.group, "0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        await self._find_pending()

    def _connect(self) -> None:
        try:
            import redis.asyncio
        except ImportError:
            raise SourceFailed(
                "redis is not installed where the frontend runs: install lambent[redis]"
            ) from None
        self._redis: Any = redis.asyncio.Redis.from_url(self.url, socket_timeout=POLL_S + 5)
        self._closing.push_async_callback(self._redis.aclose)

    async def forget(self) -> None:
        self._connect()
        from redis.exceptions import ResponseError

        with contextlib.suppress(ResponseError):  # there is no such stream
            await self._redis.xgroup_destroy(self._stream, self.trigger.group)

    async def _find_pending(self) -> None:
        """What was given out and never done with: by a frontend that is gone."""
        first = "-"
        while True:
            found = await self._redis.xpending_range(self._stream, self.trigger.group, first, "+", PAGE)
            for each in found:
                name = each["message_id"].decode()
                self._delivered[name] = each["times_delivered"]
                heapq.heappush(self._again, (0.0, name))
            if len(found) < PAGE:
                return
            first = f"({found[-1]['message_id'].decode()}"

    async def read(self, line: str, most: int) -> list[Item]:
        due = self._due(most)
        if due:
            claimed = await self._redis.xclaim(self._stream, self.trigger.group, CONSUMER, 0, due)
            there = [(name, fields) for name, fields in claimed if fields is not None]
            for name in set(due) - {name.decode() for name, _ in there}:
                self._delivered.pop(name, None)  # it was deleted from the stream meanwhile
            return [self._item(name.decode(), fields) for name, fields in there]
        wait_s = POLL_S
        if self._again:
            wait_s = max(0.01, min(POLL_S, self._again[0][0] - monotonic_s()))
        answer = await self._redis.xreadgroup(
            self.trigger.group,
            CONSUMER,
            {self._stream: ">"},
            count=most,
            block=max(1, round(1000 * wait_s)),
        )
        streams = answer.values() if isinstance(answer, dict) else [entries for _, entries in answer or ()]
        return [self._item(name.decode(), fields) for entries in streams for name, fields in _flat(entries)]

    def _due(self, most: int) -> list[str]:
        due: list[str] = []
        now = monotonic_s()
        while self._again and len(due) < most and self._again[0][0] <= now:
            due.append(heapq.heappop(self._again)[1])
        return due

    def _item(self, name: str, fields: Mapping[bytes, bytes]) -> Item:
        self._delivered[name] = self._delivered.get(name, 0) + 1
        self._fields[name] = fields
        texts, binary = {}, {}
        for key, value in fields.items():
            try:
                texts[key.decode()] = value.decode()
            except UnicodeDecodeError:
                binary[key.decode(errors="replace")] = base64.b64encode(value).decode()
        shape = {
            "messageId": name,
            "stream": self._stream,
            "fields": texts,
            "binaryFields": binary,
            "deliveries": self._delivered[name],
            "eventSource": "lambent:redis",
            "eventSourceARN": self.trigger.source,
        }
        body = json.dumps(shape).encode()
        record = Record(
            name,
            len(body) + 1,
            written_at=int(name.partition("-")[0]) / 1000,
            deliveries=self._delivered[name],
        )
        view = {**shape, "fields": {key: Text(value) for key, value in texts.items()}}
        return Item(record, body, view)

    def event(self, items: Sequence[Item]) -> bytes:
        return records_event(items)

    async def done(self, ids: Sequence[str]) -> None:
        await self._redis.xack(self._stream, self.trigger.group, *ids)
        self._forget(ids)

    async def give_back(self, ids: Sequence[str], pause_s: float | None) -> None:
        """They stay with the group as given out: a frontend that comes next finds them there."""
        for name in ids:
            heapq.heappush(self._again, (monotonic_s() + (pause_s or 0.0), name))

    async def give_up(self, ids: Sequence[str]) -> None:
        """They are kept in a stream beside, as nobody else will."""
        for name in ids:
            await self._redis.xadd(self._stream + GIVEN_UP, {**self._fields[name], b"lambent-id": name})
        await self.done(ids)

    async def lag(self) -> int | None:
        groups = await self._redis.xinfo_groups(self._stream)
        lags = [it.get("lag") for it in groups if it["name"].decode() == self.trigger.group]
        return lags[0] if lags else None

    def _forget(self, ids: Sequence[str]) -> None:
        for name in ids:
            self._delivered.pop(name, None)
            self._fields.pop(name, None)


def _flat(entries: Any) -> Any:
    """The library gives the entries of a stream in one list, or in a list of lists, by its protocol."""
    return [it for part in entries for it in part] if entries and isinstance(entries[0], list) else entries
