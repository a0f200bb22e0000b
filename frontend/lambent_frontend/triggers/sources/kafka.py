"""A topic of Kafka, each partition a line. How far each is done with is kept in etcd, under the claim, and is
then committed to a consumer group as well: for who looks at the group, and for a trigger that takes it over.

The group has no members, as a claim says who reads. A commit that comes late sets nothing back for us.
"""

import asyncio
import base64
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from lambent_frontend.triggers.core.messages import Record
from lambent_frontend.triggers.core.pattern import Text
from lambent_frontend.triggers.names import kafka_servers
from lambent_frontend.triggers.sources.base import Item, SourceFailed, StreamSource
from lambent_proto.triggers import Trigger

POLL_MS: Final = 1000
"""How long the first record is waited for."""
ANSWER_S: Final = 15.0
"""Within which a broker answers; until then the library tries again by itself."""
PARTITIONS_EVERY_MS: Final = 30_000
"""How often it is looked for new ones."""
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
SINCE: Final = "since"
"""Beside the partitions' places once all that were there at first have one: what has none after that is new,
and is read from its beginning."""
TIMESTAMPS: Final = ("CREATE_TIME", "LOG_APPEND_TIME")

Place = Callable[[str, str], Awaitable[None]]


class Kafka(StreamSource):
    def __init__(self, trigger: Trigger, url: str, places: Mapping[str, str], place: Place) -> None:
        """`places` are those that were kept before, by partition: the offset that is to be read next."""
        super().__init__(trigger, url)
        self._topic = trigger.queue
        self._places = dict(places)
        self._place = place
        self._servers = ",".join(trigger.servers or kafka_servers(url))
        self._readers: dict[int, Any] = {}
        """A consumer of the library for each partition. Partitions that were found together share one."""
        self._next: dict[int, int] = {}
        """The offset that is read next."""
        self._from: dict[int, int] = {}
        """The offset before which all is done with, or before which nothing is read."""
        self._singly_until: dict[int, int] = {}
        """Before this offset something could not be read: one record is read at a time, so that those that
        stand before it are."""

    async def open(self) -> None:
        async with asyncio.timeout(2 * ANSWER_S):
            consumer = await self._consumer()
            if self._topic not in await consumer.topics():
                raise SourceFailed(f"there is no topic {self._topic}, or this frontend may not see it")
            partitions = sorted(await self._partitions_of(consumer))
            await self._begin(consumer, partitions)
            if self.trigger.consumer_group:  # so that nothing is read if it has members
                await self._commit(consumer, self._next)
            if SINCE not in self._places:
                for partition in partitions:
                    await self._keep(str(partition), self._next[partition])
                await self._keep(SINCE, 1)

    async def _consumer(self) -> Any:
        try:
            from aiokafka import AIOKafkaConsumer
        except ImportError:
            raise SourceFailed(
                "aiokafka is not installed where the frontend runs: install lambent[kafka]"
            ) from None
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._servers,
            client_id="lambent",
            group_id=self.trigger.group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",  # of what the topic has forgotten
            isolation_level="read_committed",
            request_timeout_ms=round(1000 * ANSWER_S),
            metadata_max_age_ms=PARTITIONS_EVERY_MS,
            **security(self.url),
        )
        self._closing.push_async_callback(consumer.stop)
        await consumer.start()
        return consumer

    async def _partitions_of(self, consumer: Any) -> set[int]:
        """Those that the library knows of, as soon as it knows: it asks for those of assigned topics."""
        from aiokafka import TopicPartition

        while not (found := consumer.partitions_for_topic(self._topic)):
            consumer.assign([TopicPartition(self._topic, 0)])
            await asyncio.sleep(0.05)
        return set(found)

    async def _begin(self, consumer: Any, partitions: Sequence[int]) -> None:
        from aiokafka import TopicPartition

        there = {TopicPartition(self._topic, it): it for it in partitions}
        consumer.assign(list(there))
        starts = await self._starts(consumer, there)
        for partition, number in there.items():
            consumer.seek(partition, starts[partition])
            self._next[number] = self._from[number] = starts[partition]
            self._readers[number] = consumer

    async def _starts(self, consumer: Any, there: Mapping[Any, int]) -> dict[Any, int]:
        """The offset of each: its place; else that of the consumer group, if one was named; else where the
        trigger begins."""
        starts = {it: int(self._places[str(n)]) for it, n in there.items() if str(n) in self._places}
        if self.trigger.consumer_group:
            for partition in there.keys() - starts.keys():
                if (committed := await consumer.committed(partition)) is not None:
                    starts[partition] = committed
        if not (fresh := list(there.keys() - starts.keys())):
            return starts
        position = self.trigger.starting_position
        if position == "TRIM_HORIZON" or SINCE in self._places:
            starts |= await consumer.beginning_offsets(fresh)
            return starts
        starts |= await consumer.end_offsets(fresh)
        if position == "AT_TIMESTAMP":
            found = await consumer.offsets_for_times(
                dict.fromkeys(fresh, round(1000 * self.trigger.starting_at))
            )
            starts |= {partition: it.offset for partition, it in found.items() if it is not None}
        return starts

    async def lines(self) -> Sequence[str]:
        known = next(iter(self._readers.values())).partitions_for_topic(self._topic) or ()
        if fresh := sorted(set(known) - self._readers.keys()):
            await self._begin(await self._consumer(), fresh)
        return [str(it) for it in sorted(self._readers)]

    async def read(self, line: str, most: int) -> list[Item]:
        from aiokafka import TopicPartition

        partition = int(line)
        at = self._next[partition]
        most = 1 if at < self._singly_until.get(partition, 0) else most
        try:
            got = await self._readers[partition].getmany(
                TopicPartition(self._topic, partition), timeout_ms=POLL_MS, max_records=most
            )
        except Exception:
            self._singly_until[partition] = max(at + most, self._singly_until.get(partition, 0))
            raise
        said = [it for each in got.values() for it in each]
        if said:
            self._next[partition] = said[-1].offset + 1
        return [item_of(it) for it in said]

    def event(self, items: Sequence[Item]) -> bytes:
        """All of them are of one partition."""
        about = {"eventSource": "SelfManagedKafka", "bootstrapServers": self._servers}
        name = f"{self._topic}-{items[0].view['partition']}"
        records = b",".join(item.body for item in items)
        return json.dumps(about).encode()[:-1] + b', "records":{"%b":[%b]}}' % (name.encode(), records)

    async def checkpoint(self, line: str, place: str) -> None:
        partition, after = int(line), int(place.rpartition(":")[2]) + 1
        await self._keep(line, after)
        self._from[partition] = after
        await self._commit(self._readers[partition], {partition: after})

    async def _commit(self, consumer: Any, offsets: Mapping[int, int]) -> None:
        """Raises SourceFailed if the group has members: what is committed is theirs alone."""
        from aiokafka import TopicPartition
        from aiokafka.errors import CommitFailedError

        try:
            async with asyncio.timeout(ANSWER_S):
                await consumer.commit({TopicPartition(self._topic, it): at for it, at in offsets.items()})
        except CommitFailedError as error:
            raise SourceFailed(
                f"the consumer group {self.trigger.group} has other members, which read the same records: "
                "name one that is the trigger's alone"
            ) from error

    async def _keep(self, line: str, after: int) -> None:
        await self._place(line, str(after))
        self._places[line] = str(after)

    def rewind(self, line: str) -> None:
        from aiokafka import TopicPartition

        partition = int(line)
        self._next[partition] = self._from[partition]
        self._readers[partition].seek(TopicPartition(self._topic, partition), self._from[partition])

    async def ended(self, line: str) -> None:
        """A partition never ends."""

    async def lag(self) -> int | None:
        from aiokafka import TopicPartition

        consumer = next(iter(self._readers.values()))
        there = {TopicPartition(self._topic, it): it for it in self._readers}
        ends = await consumer.end_offsets(list(there))
        behind = (int(end) - self._next[there[partition]] for partition, end in ends.items())
        return sum(max(0, it) for it in behind)


def item_of(said: Any) -> Item:
    """Of a record as the library has it. What has no key or no value has none in the event."""
    name = f"{said.topic}-{said.partition}:{said.offset}"
    shape: dict[str, Any] = {
        "topic": said.topic,
        "partition": said.partition,
        "offset": said.offset,
        "timestamp": said.timestamp,
        "timestampType": TIMESTAMPS[said.timestamp_type or 0],
    }
    view = dict(shape)
    for what, value in (("key", said.key), ("value", said.value)):
        if value is not None:
            shape[what] = base64.b64encode(value).decode()
            view[what] = Text(value.decode(errors="replace"))
    shape["headers"] = [{header: list(value or b"")} for header, value in said.headers]
    view["headers"] = {
        header: Text((value or b"").decode(errors="replace")) for header, value in said.headers
    }
    body = json.dumps(shape).encode()
    key = said.key.hex() if said.key else ""
    return Item(Record(name, len(body) + 1, key, said.timestamp / 1000), body, view)


def security(url: str) -> dict[str, Any]:
    """What the library is told of TLS and of who we are. Raises SourceFailed."""
    parts = urlsplit(url)
    tls = parts.scheme == "kafkas"
    context = {"ssl_context": ssl.create_default_context()} if tls else {}
    if parts.username is None:
        return {"security_protocol": "SSL" if tls else "PLAINTEXT", **context}
    [mechanism] = parse_qs(parts.query).get("mechanism", ["PLAIN"])
    if mechanism not in MECHANISMS:
        raise SourceFailed(f"in the URL of the Kafka, `mechanism` is one of {', '.join(MECHANISMS)}")
    return {
        "security_protocol": "SASL_SSL" if tls else "SASL_PLAINTEXT",
        "sasl_mechanism": mechanism,
        "sasl_plain_username": unquote(parts.username),
        "sasl_plain_password": unquote(parts.password or ""),
        **context,
    }
