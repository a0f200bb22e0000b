"""The queue in a stream of NATS JetStream: one for all frontends.

Each event is the last message on a subject of its own, all of it: a change is that message anew, which is
stored only if nobody else has changed it meanwhile. Reads are answered by a copy (copy.py) that follows.
"""

import asyncio
import contextlib
import heapq
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

import structlog

from lambent_chassis import clock
from lambent_frontend.queue.copy import (
    EVENT,
    FORGET_AT_ONCE,
    KEY,
    PIECE,
    Arrived,
    Copy,
    Image,
    KeyImage,
    token_of,
)
from lambent_frontend.queue.core.lanes import Item
from lambent_frontend.queue.core.verdict import Tally
from lambent_frontend.queue.room import Room
from lambent_frontend.queue.sqlite import CannotOpen
from lambent_frontend.queue.store import GIVEN_UP, Asked, Counts, Ending, Event, Kept, Key, State, Taken
from lambent_proto.errors import NotReady, QueueFull
from lambent_proto.ids import FunctionName, RequestId

STREAM: Final = "lambent-queue"
PREFIX: Final = "lambent.queue"
PIECE_BYTES: Final = 256 * 1024
"""What is longer is cut: a server takes messages of 1 MB, unless it is told otherwise."""
ANSWER_S: Final = 5.0
"""Longest wait for NATS."""
CONNECT_S: Final = 10.0
"""Longest wait for it at the start."""
GONE_S: Final = 3600.0
"""How long it is left in the stream that something is gone: copies that were away hear of it."""
HEARTBEAT_S: Final = 5.0
PAUSE_S: Final = 0.5
TOGETHER: Final = 500
"""Messages that the copy takes in one transaction."""
TAKING_S: Final = 10.0
"""Longest wait until what is stored is in the copy."""

_EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
_WRONG: Final = 10071
_FULL: Final = (10023, 10047, 10077)
"""JetStream's codes: no resources, no room on its disk, no room in the stream."""

_log = structlog.get_logger()


class CannotFollow(Exception):
    """What the copy is a copy of is gone: the frontend has to be started again, with a new one."""


class _Changed(Exception):
    """Somebody else changed it; the argument is the sequence of that."""


class JetStreamStore:
    """`queue` is the name under which this frontend puts what it takes."""

    def __init__(self, connection: Any, copy: Copy, queue: str, most_bytes: int) -> None:
        self._connection = connection
        self._room = Room(most_bytes)
        self._stream = connection.jetstream(timeout=ANSWER_S)
        self._copy = copy
        self._queue = queue
        copy.held.add(queue)
        self._sequence = 0
        """Of the last message that the copy has."""
        self._caught_up = asyncio.Event()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._waits = 0
        self._following: asyncio.Task[None] | None = None
        self._made: datetime | None = None
        """When the stream was: another one's numbers say nothing of this one's messages."""
        self._arrived: asyncio.Queue[Any] = asyncio.Queue()
        """Messages that the copy has not; None: the connection was away."""
        self.more: Callable[[str, float], None] = lambda lane, due: None
        """Told of lanes held here that have more to be done, whoever put it there."""

    @classmethod
    async def open(
        cls,
        servers: Sequence[str],
        folder: Path,
        queue: str,
        *,
        most_bytes: int,
        replicas: int = 1,
        credentials: Path | None = None,
        user: str = "",
        password: str = "",
    ) -> Self:
        """Returns once the copy in `folder` is whole. Raises CannotOpen."""
        try:
            import nats
            from nats.js.api import DiscardPolicy, StorageType, StreamConfig
        except ImportError:
            raise CannotOpen("nats-py is not installed: install lambent[nats]") from None
        stores: list[Self] = []

        async def back() -> None:
            for it in stores:
                with contextlib.suppress(asyncio.QueueFull):  # then there is something to be heard anyway
                    it._arrived.put_nowait(None)

        try:
            async with asyncio.timeout(CONNECT_S):
                connection = await nats.connect(
                    list(servers),
                    name=f"lambent {queue}",
                    user_credentials=str(credentials) if credentials else None,
                    user=user or None,
                    password=password or None,
                    connect_timeout=int(ANSWER_S),
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=PAUSE_S,
                    pending_size=64 * 1024 * 1024,
                    error_cb=_heard,
                    reconnected_cb=back,
                )
        except Exception as error:
            raise CannotOpen(f"the queue's NATS {_shown(servers)} cannot be reached: {error!r}") from error
        copy = None
        try:
            wanted = StreamConfig(
                name=STREAM,
                subjects=[f"{PREFIX}.>"],
                max_msgs_per_subject=1,
                max_bytes=-1,  # room.py says why
                discard=DiscardPolicy.NEW,
                storage=StorageType.FILE,
                num_replicas=replicas,
                duplicate_window=0.1,
            )
            await _settled(connection.jetstream(timeout=ANSWER_S), wanted)
            copy = Copy.fresh(folder)
            store = cls(connection, copy, queue, most_bytes)
            stores.append(store)
            store._following = asyncio.create_task(store._follow())
            await store._caught_up.wait()
        except BaseException as error:
            await connection.close()
            if copy is not None:
                await copy.close()
            if isinstance(error, Exception) and not isinstance(error, CannotOpen):
                raise CannotOpen(f"the queue's stream at NATS cannot be opened: {error!r}") from error
            raise
        return store

    @property
    def commits(self) -> int:
        """Of the copy, so far."""
        return self._copy.commits

    async def run(self) -> None:
        """Until it is closed. Raises CannotFollow."""
        assert self._following is not None
        await asyncio.shield(self._following)

    # Whose queues are run here

    async def queues(self) -> Sequence[str]:
        return await self._copy.queues()

    async def hold(self, queue: str) -> None:
        await self._copy.hold(queue, here=True)
        for lane, due in await self._copy.lanes():
            self.more(lane, due)

    async def give_up(self, queue: str) -> None:
        await self._copy.hold(queue, here=False)

    # A store

    async def put(self, event: RequestId, asked: Asked, payload: bytes, now: float, key: Key | None) -> Taken:
        before = await self.reserve(asked.function, key, event) if key else None
        if before is not None and key is not None:
            if not await self._lost(before, key):
                return Taken(0, before)
            event = before.id
        image = Image(
            id=event,
            function=asked.function,
            queue=self._queue,
            lane=asked.function,
            due=now,
            size=len(payload),
            received=now,
            asked=asked.encode(),
        )
        async with self._room.taking(len(payload), self._used):
            image.payload = await self._pieces(event, "payload", payload)
            try:
                number = await self._write(f"{EVENT}.{event}", image.encode(), 0)
            except _Changed:
                number = 0
        return Taken(number, before)

    async def _lost(self, known: Kept, key: Key) -> bool:
        """Whether the key's event never came, as its frontend died in between: then it comes now."""
        if known.digest != key.digest or known.answer is not None:
            return False
        try:
            await self._stream.get_last_msg(STREAM, f"{PREFIX}.{EVENT}.{known.id}")
        except Exception as error:
            if type(error).__name__ == "NotFoundError":
                return True
            raise self._away(error) from error
        return False

    async def lanes(self) -> Sequence[tuple[str, float]]:
        return await self._copy.lanes()

    async def next(self, lane: str, most: int) -> Sequence[Item]:
        return await self._copy.next(lane, most)

    async def load(self, numbers: Sequence[int]) -> Sequence[tuple[Event, bytes, bytes]]:
        return await self._copy.load(numbers)

    async def again(self, number: int, due: float, tally: Tally, message: str) -> bool:
        def change(it: Image) -> Image | None:
            if it.lane is None or it.queue not in self._copy.held:
                return None
            return replace(
                it,
                state=State.RETRYING.value,
                due=due,
                attempts=tally.attempts,
                breaks=tally.breaks,
                message=message,
            )

        return (await self._change(number, change))[1]

    async def end(
        self, number: int, ending: Ending, tally: Tally, due: float, answer: bytes | None = None
    ) -> bool:
        left = ending.targets
        state = State.DELIVERING if left else ending.state

        def change(it: Image) -> Image | None:
            if it.lane is None or it.queue not in self._copy.held:
                return None
            return replace(
                it,
                state=state.value,
                lane=left[0] if left else None,
                due=due,
                attempts=tally.attempts,
                breaks=tally.breaks,
                ending=ending.encode(),
                ended=None if left else ending.ended,
                size=it.size + len(answer or b""),
                message="",
            )

        return (await self._change(number, change, answer, keeps_payload=state is not State.SUCCEEDED))[1]

    async def cancel(self, function: FunctionName, event: RequestId, now: float) -> Event | None:
        def change(it: Image) -> Image | None:
            if it.state not in (State.QUEUED.value, State.RETRYING.value):
                return None
            return replace(it, state=State.CANCELLED.value, lane=None, ended=now)

        return await self._changed_by_hand(function, event, change, keeps_payload=False)

    async def redrive(self, function: FunctionName, event: RequestId, now: float) -> Event | None:
        def change(it: Image) -> Image | None:
            if State(it.state) not in GIVEN_UP:
                return None
            return replace(
                it,
                state=State.QUEUED.value,
                lane=it.function,
                due=now,
                received=now,
                ending=None,
                attempts=0,
                breaks=0,
                ended=None,
                message="",
            )

        return await self._changed_by_hand(function, event, change, answer=b"")

    async def get(self, function: FunctionName, event: RequestId) -> tuple[Event, bytes] | None:
        return await self._copy.get(function, event)

    async def list(
        self, function: FunctionName, state: State | None, after: int, most: int
    ) -> Sequence[Event]:
        return await self._copy.list(function, state, after, most)

    async def reserve(self, function: FunctionName, key: Key, event: RequestId) -> Kept | None:
        digest = token_of(function, key)
        image = KeyImage(function, key.text, event, key.digest, key.until)
        while True:
            known = await self._copy.key(digest)
            if known is not None and known.until >= key.now:
                assert not isinstance(known.answer, int)  # it is whole in the copy
                return Kept(RequestId(known.id), known.digest, known.answer)
            version = known.version if known else 0
            try:
                async with self._room.taking(0, self._used):
                    await self._write(f"{KEY}.{digest}", image.encode(), version)
            except _Changed as changed:
                if await self._free_again(digest, changed, image):
                    return None
            else:
                return None

    async def _free_again(self, digest: str, changed: _Changed, image: KeyImage) -> bool:
        """A key that was freed has its last message still: that it is gone."""
        await self._until(changed.args[0])
        if await self._copy.key(digest) is not None:
            return False
        with contextlib.suppress(_Changed):
            await self._write(f"{KEY}.{digest}", image.encode(), changed.args[0])
            return True
        return False

    async def answered(self, function: FunctionName, key: Key, answer: bytes | None) -> None:
        digest = token_of(function, key)
        known = await self._copy.key(digest)
        if known is not None:
            body = b""
            if answer is not None:
                body = known._replace(answer=await self._pieces(digest, "answer", answer)).encode()
            with contextlib.suppress(_Changed):
                await self._write(f"{KEY}.{digest}", body, known.version)

    async def forget(self, ended_before: float, given_up_before: float, most_ended: int, now: float) -> bool:
        if await self._used() > self._room.most_bytes // 2:
            ended_before = now
        events = await self._copy.forgettable(ended_before, given_up_before, most_ended)
        keys = await self._copy.old_keys(now)
        gone = await self._copy.gone(clock.unix_s() - GONE_S)
        work = [self._forgotten(f"{EVENT}.{it}", version) for it, version in events]
        work += [self._forgotten(f"{KEY}.{it}", version) for it, version in keys]
        work += [self._deleted(it, version) for it, version in gone]
        await asyncio.gather(*work)
        return max(len(events), len(keys), len(gone)) >= FORGET_AT_ONCE

    async def _forgotten(self, subject: str, version: int) -> None:
        with contextlib.suppress(_Changed):
            await self._write(subject, b"", version)

    async def _deleted(self, subject: str, version: int) -> None:
        """By its sequence: a purge of subjects has consumers that are behind miss messages of others."""
        from nats.js.errors import APIError

        try:
            await self._stream.delete_msg(STREAM, version)
        except APIError:  # another frontend has done it
            pass
        except Exception as error:
            raise self._away(error) from error
        await self._copy.deleted(subject)

    async def counts(self) -> Counts:
        known = await self._copy.counts()
        return Counts(known.by_state, await self._used(), self._room.most_bytes)

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await self._connection.close()
        await self._copy.close()

    # Changes

    async def _changed_by_hand(
        self,
        function: FunctionName,
        event: RequestId,
        change: Callable[[Image], Image | None],
        answer: bytes | None = None,
        *,
        keeps_payload: bool = True,
    ) -> Event | None:
        if await self._copy.get(function, event) is None:
            return None
        before, _ = await self._change(event, change, answer, keeps_payload=keeps_payload)
        return before

    async def _change(
        self,
        of: int | str,
        change: Callable[[Image], Image | None],
        answer: bytes | None = None,
        *,
        keeps_payload: bool = True,
    ) -> tuple[Event | None, bool]:
        """The event before, and whether it was changed."""
        while True:
            found = await self._copy.image(of)
            if found is None:
                return None, False
            image, payload, kept = found
            event = _event(image)
            changed = change(image)
            if changed is None:
                return event, False
            kept_payload = payload if keeps_payload else b""
            changed.payload = await self._pieces(image.id, "payload", kept_payload, again=True)
            said = kept if answer is None else answer
            changed.answer = await self._pieces(image.id, "answer", said, again=answer is None)
            try:
                await self._write(f"{EVENT}.{image.id}", changed.encode(), image.version)
            except _Changed as conflict:
                await self._until(conflict.args[0])
            else:
                return event, True

    async def _pieces(self, of: str, what: str, value: bytes, *, again: bool = False) -> bytes | int:
        """What the event's or key's message has of it; `again`: its pieces are there."""
        if len(value) <= PIECE_BYTES:
            return value
        starts = range(0, len(value), PIECE_BYTES)
        for place, start in enumerate(starts if not again else ()):
            piece = value[start : start + PIECE_BYTES]
            await self._publish(f"{PIECE}.{of}.{what}.{place}", piece, {})
        return len(starts)

    async def _write(self, subject: str, body: bytes, version: int) -> int:
        """Its sequence, once it is stored and in the copy. Raises _Changed, QueueFull and NotReady."""
        try:
            sequence = await self._publish(subject, body, {_EXPECTED: str(version)})
        except _Changed as changed:
            if changed.args[0] < version:  # what the copy has is gone from the stream: by hand, or long ago
                kind, _, rest = subject.partition(".")
                await self._copy.apply([Arrived(version, kind, rest, b"")], clock.unix_s())
                raise
            if not await self._ours(subject, body, changed.args[0]):
                raise
            sequence = changed.args[0]
        await self._until(sequence)
        return sequence

    async def _ours(self, subject: str, body: bytes, sequence: int) -> bool:
        """Whether what is there is what was to be written: the answer to an earlier try was lost."""
        if not body:
            return False
        try:
            there = await self._stream.get_last_msg(STREAM, f"{PREFIX}.{subject}")
        except Exception as error:
            raise self._away(error) from error
        return bool(there.seq == sequence and there.data == body)

    async def _publish(self, subject: str, body: bytes, headers: dict[str, str]) -> int:
        if not self._connection.is_connected:
            raise self._away("it is not connected")
        from nats.js.errors import APIError

        try:
            stored = await self._stream.publish(f"{PREFIX}.{subject}", body, headers=headers or None)
        except APIError as error:
            if error.err_code == _WRONG:
                raise _Changed(int(str(error.description).rpartition(" ")[2])) from None
            if error.err_code in _FULL:
                raise QueueFull(
                    f"the queue of events at NATS is full ({error.description}), and nothing was kept: send "
                    "it again later, make room on its disk, or raise the frontends' `queue_mb`"
                ) from None
            raise self._away(error) from error
        except Exception as error:
            raise self._away(error) from error
        return int(stored.seq)

    async def _asked(self, work: Any) -> Any:
        try:
            return await work
        except Exception as error:
            raise self._away(error) from error

    async def _used(self) -> int:
        """Bytes of the stream."""
        if not self._connection.is_connected:
            raise self._away("it is not connected")
        return int((await self._asked(self._stream.stream_info(STREAM))).state.bytes)

    def _away(self, why: object) -> NotReady:
        said = str(why) or type(why).__name__
        return NotReady(f"the queue's NATS does not answer ({said}): send it again, with an idempotency key")

    # The copy follows

    async def _until(self, sequence: int) -> None:
        """Until the copy has that message, or one after it. Raises NotReady."""
        if self._sequence >= sequence:
            return
        there: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waits += 1
        heapq.heappush(self._waiting, (sequence, self._waits, there))
        try:
            async with asyncio.timeout(TAKING_S):
                await there
        except TimeoutError:
            raise NotReady("the queue's copy of NATS is behind: what was asked may have been done") from None

    async def _follow(self) -> None:
        while True:
            try:
                await self._followed()
            except CannotFollow:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again from where it was
                _log.warning("queue_not_followed", reason=repr(error))
            await asyncio.sleep(PAUSE_S)

    async def _followed(self) -> None:
        """From the next message on, until one is missing or NATS is silent."""
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

        if self._connection.is_closed:
            raise CannotFollow("NATS has refused the connection for good: are its credentials still valid?")
        made = (await self._stream.stream_info(STREAM)).created
        if self._made not in (None, made):
            raise CannotFollow(f"the stream {STREAM} was made anew at {made}: what was queued before is gone")
        self._made = made
        arrived = self._arrived = asyncio.Queue(4 * TOGETHER)
        inbox = self._connection.new_inbox()
        subscription = await self._connection.subscribe(inbox, cb=arrived.put)
        try:
            config = ConsumerConfig(
                deliver_subject=inbox,
                ack_policy=AckPolicy.NONE,
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=self._sequence + 1,
                idle_heartbeat=HEARTBEAT_S,
                flow_control=True,
                max_deliver=1,
            )
            consumer = await self._stream.add_consumer(STREAM, config)
            if not consumer.num_pending and not consumer.delivered.consumer_seq:
                self._caught_up.set()
            expected = 1
            while True:
                async with asyncio.timeout(3 * HEARTBEAT_S):
                    messages = [await arrived.get()]
                while len(messages) < TOGETHER and not arrived.empty():
                    messages.append(arrived.get_nowait())
                if any(it is None for it in messages):
                    raise ConnectionError("NATS was away")
                expected = await self._taken(messages, expected)
        finally:
            with contextlib.suppress(Exception):
                await subscription.unsubscribe()

    async def _taken(self, messages: Sequence[Any], expected: int) -> int:
        batch: list[Arrived] = []
        left = None
        for message in messages:
            if message.headers and message.headers.get("Status"):
                if message.reply:
                    await self._connection.publish(message.reply)
                continue
            *_, sequence, own, _, pending = message.reply.split(".")
            if int(own) != expected:
                raise ConnectionError(f"message {expected} is missing")
            expected, left = expected + 1, int(pending)
            kind, _, rest = message.subject.removeprefix(f"{PREFIX}.").partition(".")
            batch.append(Arrived(int(sequence), kind, rest, message.data))
        if batch:
            for lane, due in await self._copy.apply(batch, clock.unix_s()):
                self.more(lane, due)
            self._sequence = batch[-1].sequence
        if left == 0:
            self._caught_up.set()
        while self._waiting and self._waiting[0][0] <= self._sequence:
            there = heapq.heappop(self._waiting)[2]
            if not there.done():
                there.set_result(None)
        return expected


async def _settled(stream: Any, wanted: Any) -> None:
    """The stream is there, as it is configured now."""
    from nats.js.errors import NotFoundError

    try:
        await stream.stream_info(STREAM)
    except NotFoundError:
        await stream.add_stream(wanted)
    else:
        await stream.update_stream(wanted)


async def _heard(error: Exception) -> None:
    _log.warning("queue_nats", reason=repr(error))


def _shown(servers: Sequence[str]) -> str:
    """Without what is before an @."""
    return ", ".join(it.rpartition("@")[2].rpartition("//")[2] for it in servers)


def _event(it: Image) -> Event:
    return Event(
        Item(it.number, it.due, it.size),
        it.id,
        Asked.decode(it.function, it.asked),
        State(it.state),
        Tally(it.received, it.attempts, it.breaks),
        Ending.decode(it.ending) if it.ending else None,
        it.message,
    )
