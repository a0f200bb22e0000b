"""Keeps a frontend's copy of the queue's stream up to it, message by message, in batches."""

import asyncio
import contextlib
import heapq
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

import structlog

from lambent_chassis import clock
from lambent_frontend.queue.copy import Copy
from lambent_frontend.queue.messages import Arrived
from lambent_frontend.queue.stream import HEARTBEAT_S, PAUSE_S, PREFIX, STREAM, Stream

TOGETHER: Final = 500
"""Messages that the copy takes in one transaction."""
ON_THE_WAY: Final = 4 * TOGETHER
"""Messages that NATS sends ahead of what the copy has taken: they are in memory, about 1 KB each beside
what they carry.
"""
TAKING_S: Final = 10.0
"""Longest wait until what is stored is in the copy."""
GONE_S: Final = 3600.0
"""How long the stream tells what is gone: copies that were away hear of it."""

LOOKS: Final = 3
"""At a stream that has less than the copy, PAUSE_S between them, before it is believed: who leads a cluster
since a moment ago may not have all of it at hand yet."""

_ACKNOWLEDGED: Final = "$JS.ACK."
"""Begins where a message of the stream is acknowledged."""

_log = structlog.get_logger()


class CannotFollow(Exception):
    """What the copy is a copy of is gone: the frontend has to be started again, with a new one."""


class Follower:
    def __init__(self, stream: Stream, copy: Copy) -> None:
        self._stream = stream
        self._copy = copy
        self._sequence = 0
        """Of the last message that the copy has."""
        self.caught_up = asyncio.Event()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._waits = 0
        self._made: datetime | None = None
        self._heard = clock.unix_s()
        """When NATS was: who does not hear of it for long misses what was gone meanwhile."""
        self._again = False
        """The stream is read from its beginning once more."""
        self._set_back = False
        self._lower = 0
        """How often in a row NATS said that it has less than the copy."""
        self._arrived: asyncio.Queue[Any] = asyncio.Queue()
        """Messages that the copy has not; None: the connection was away."""
        self.more: Callable[[str, float], None] = lambda lane, due: None
        """Told of lanes held here that have more to be done, whoever put it there."""
        stream.was_away = lambda: self._arrived.put_nowait(None)

    async def until(self, sequence: int) -> bool:
        """Once the copy has that message, or one after it; False if that takes too long."""
        if self._sequence >= sequence:
            return True
        there: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waits += 1
        heapq.heappush(self._waiting, (sequence, self._waits, there))
        try:
            async with asyncio.timeout(TAKING_S):
                await there
        except TimeoutError:
            return False
        return True

    @property
    def sequence(self) -> int:
        """Of the last message that the copy has."""
        return self._sequence

    def set_back(self) -> None:
        """The stream has lost messages that the copy has, and gives their numbers once more."""
        self._set_back = True
        self._arrived.put_nowait(None)

    async def run(self) -> None:
        """Until it is cancelled. Raises CannotFollow."""
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
        if self._stream.connection.is_closed:
            raise CannotFollow("NATS has refused the connection for good: are its credentials still valid?")
        made, last = await self._stream.made()
        if self._made not in (None, made):
            raise CannotFollow(f"the stream {STREAM} was made anew at {made}: what was queued before is gone")
        self._made = made
        self._lower = self._lower + 1 if last < self._sequence else 0
        if self._set_back or self._lower == LOOKS:
            await self._begin_with_nothing(last)
        elif self._lower:
            raise ConnectionError(f"NATS has {last} messages, the copy {self._sequence}")
        self._begin_again_if_late()
        arrived = self._arrived = asyncio.Queue()
        subscription, empty = await self._stream.follow(self._sequence, ON_THE_WAY, arrived.put)
        try:
            if empty:
                await self._is_caught_up()
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

    async def _begin_with_nothing(self, last: int) -> None:
        """What the copy has is not what the stream has under the same numbers."""
        _log.error(
            "queue_set_back",
            copied=self._sequence,
            stream=last,
            what_to_do="what NATS has lost is lost: set its sync_interval, or have replicas",
        )
        self._set_back, self._lower = False, 0
        await self._copy.emptied()
        self._sequence = 0

    def _begin_again_if_late(self) -> None:
        """What is gone is told for GONE_S; half of it, as clocks differ, and others may be slow to tell."""
        away_s = clock.unix_s() - self._heard
        if away_s > GONE_S / 2 and self._sequence:
            _log.warning("queue_copied_anew", away_s=round(away_s))
            self._sequence, self._again = 0, True
            self._copy.reading += 1

    async def _taken(self, messages: Sequence[Any], expected: int) -> int:
        batch: list[Arrived] = []
        left, last = None, None
        for message in messages:
            if not message.reply.startswith(_ACKNOWLEDGED):  # NATS's own: anybody's may have a status, too
                if message.reply:
                    await self._stream.connection.publish(message.reply)
                continue
            sequence, own, at, pending = _numbers(message.reply)
            if own != expected:
                raise ConnectionError(f"message {expected} is missing")
            expected, left, last = expected + 1, pending, message.reply
            kind, _, rest = message.subject.removeprefix(f"{PREFIX}.").partition(".")
            batch.append(Arrived(sequence, kind, rest, message.data, at / 1e9))
        if batch:
            for lane, due in await self._copy.apply(batch, clock.unix_s()):
                self.more(lane, due)
            self._sequence = batch[-1].sequence
            await self._stream.connection.publish(last)
        if left == 0:
            await self._is_caught_up()
        self._heard = clock.unix_s()
        while self._waiting and self._waiting[0][0] <= self._sequence:
            there = heapq.heappop(self._waiting)[2]
            if not there.done():
                there.set_result(None)
        return expected

    async def _is_caught_up(self) -> None:
        if self._again:
            await self._copy.swept()
            self._again = False
        self.caught_up.set()


def _numbers(reply: str) -> tuple[int, int, int, int]:
    """Of a message: its sequence in the stream and in the consumer, its time in ns, and how many follow.

    In `$JS.ACK.STREAM.CONSUMER.DELIVERED...`; with a domain and an account in between, and one more behind.
    """
    tokens = reply.split(".")
    numbers = tokens[5:9] if len(tokens) == 9 else tokens[7:11]
    sequence, own, at, pending = (int(it) for it in numbers)
    return sequence, own, at, pending
