"""The queue in a stream of NATS JetStream: one for all frontends.

Each event is the last message on a subject of its own, all of it: a change is that message anew, which is
stored only if nobody else has changed it meanwhile. Reads are answered by a copy (copy.py) that follows.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Final, Self

from lambent_chassis import clock
from lambent_frontend.calls import Counted
from lambent_frontend.queue.copy import FORGET_AT_ONCE, Copy
from lambent_frontend.queue.core.lanes import Item, Run
from lambent_frontend.queue.core.verdict import Tally
from lambent_frontend.queue.follower import GONE_S, Follower
from lambent_frontend.queue.messages import (
    EVENT,
    GONE,
    KEY,
    PIECE,
    Gone,
    Image,
    KeyImage,
    Pieces,
    encode_gone,
    token_of,
)
from lambent_frontend.queue.room import Room
from lambent_frontend.queue.sqlite import CannotOpen
from lambent_frontend.queue.store import GIVEN_UP, Asked, Counts, Ending, Event, Kept, Key, State, Taken
from lambent_frontend.queue.stream import Changed, Login, Stream
from lambent_proto.errors import NotReady
from lambent_proto.ids import FunctionName, RequestId

PIECE_BYTES: Final = 256 * 1024
"""What is longer is cut: a server takes messages of 1 MB, unless it is told otherwise."""
REMEMBERED_BYTES: Final = 16 * 1024
MOST_REMEMBERED: Final = 2000
"""Events that run, no larger than that, are not read again to be ended: 32 MB at most."""
MOST_IN_A_NOTE: Final = 2000
"""Messages that one tells to be gone: in 200 KB at most."""

_ID: Final = re.compile(r"[0-9A-Za-z-]{1,64}")
"""What may be a call's id, and so the end of a subject."""

UNREADABLE: Final = Counted("attempt", "unreadable")


class JetStreamStore:
    """`queue` is the name under which this frontend puts what it takes; it runs those that it is told to
    `hold`.
    """

    def __init__(self, stream: Stream, copy: Copy, queue: str, most_bytes: int) -> None:
        self.stream = stream
        self.follower = Follower(stream, copy)
        self._room = Room(most_bytes)
        self._copy = copy
        self._queue = queue
        self._loaded: dict[int, Image] = {}
        self._reserved: dict[str, KeyImage] = {}
        """Keys of synchronous calls that are under way here."""
        self._following: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        servers: Sequence[str],
        folder: Path,
        queue: str,
        *,
        most_bytes: int,
        replicas: int = 1,
        login: Login = Login(),  # noqa: B008 - it does not change
    ) -> Self:
        """Returns once the copy in `folder` is whole. Raises CannotOpen."""
        stream = await Stream.open(servers, queue, login, replicas)
        copy = None
        try:
            copy = Copy.fresh(folder)
            store = cls(stream, copy, queue, most_bytes)
            store._following = asyncio.create_task(store.follower.run())
            caught_up = asyncio.create_task(store.follower.caught_up.wait())
            await asyncio.wait([caught_up, store._following], return_when=asyncio.FIRST_COMPLETED)
            if store._following.done():
                caught_up.cancel()
                store._following.result()
        except BaseException as error:
            await stream.connection.close()
            if copy is not None:
                await copy.close()
            if isinstance(error, Exception) and not isinstance(error, CannotOpen):
                raise CannotOpen(f"the queue's stream at NATS cannot be copied: {error!r}") from error
            raise
        return store

    @property
    def commits(self) -> int:
        """Of the copy, so far."""
        return self._copy.commits

    @property
    def unreadable(self) -> int:
        """Messages of the stream that are set aside."""
        return self._copy.unreadable

    def tell(
        self, more: Callable[[str, float], None], unreadable: Callable[[int], None] = lambda number: None
    ) -> None:
        """Of lanes held here that have more to be done, whoever put it there; of messages that are set aside,
        how many.
        """
        self.follower.more = more
        self._copy.aside = unreadable
        unreadable(self._copy.unreadable)

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
            self.follower.more(lane, due)

    async def give_up(self, queue: str) -> None:
        await self._copy.hold(queue, here=False)

    # A store

    async def put(self, event: RequestId, asked: Asked, payload: bytes, now: float, key: Key | None) -> Taken:
        """It is taken once the stream has it, also where the copy here is behind and does not know it yet."""
        before = await self._kept(asked.function, key, event) if key else None
        if key is None or isinstance(before, KeyImage):
            before = None
        elif before is not None:
            if not await self._never_came(before, asked.function, key):
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
        async with self._room.taking(len(payload), self.stream.used):
            image.payload = await self._in_pieces(event, payload)
            try:
                number = await self._store(f"{EVENT}.{event}", image.encode(), 0)
            except Changed:
                return Taken(0, before)
        await self.follower.until(number)
        return Taken(number, before)

    async def _never_came(self, known: Kept, function: FunctionName, key: Key) -> bool:
        """The event of a key, as its frontend died in between: then it comes now.

        One that is forgotten is not in the stream either: before it went its key had that written down.
        """
        if known.digest != key.digest or known.answer is not None:
            return False
        if await self.stream.last(f"{EVENT}.{known.id}") is not None:
            return False
        there = await self.stream.last(f"{KEY}.{token_of(function, key)}")
        return there is not None and not KeyImage.decode(there[1], there[0]).came

    async def lanes(self) -> Sequence[tuple[str, float]]:
        return await self._copy.lanes()

    async def next(self, lane: str, most: int) -> Sequence[Item]:
        return await self._copy.next(lane, most)

    async def load(self, runs: Sequence[Run]) -> Sequence[tuple[Event, bytes, bytes]]:
        loaded = await self._copy.loaded(runs)
        for image, payload, answer in loaded:
            if len(payload) + len(answer) <= REMEMBERED_BYTES:
                self._loaded[image.number] = image
        while len(self._loaded) > MOST_REMEMBERED:
            del self._loaded[next(iter(self._loaded))]
        return [(image.event(), payload, answer) for image, payload, answer in loaded]

    async def again(self, run: Run, due: float, tally: Tally, message: str) -> bool:
        def change(it: Image) -> Image | None:
            if not self._is_of(it, run):
                return None
            return replace(
                it,
                state=State.RETRYING.value,
                due=due,
                attempts=tally.attempts,
                breaks=tally.breaks,
                message=message,
            )

        return (await self._change(run.item.number, change))[1]

    async def end(
        self, run: Run, ending: Ending, tally: Tally, due: float, answer: bytes | None = None
    ) -> bool:
        left = ending.targets
        state = State.DELIVERING if left else ending.state

        def change(it: Image) -> Image | None:
            if not self._is_of(it, run):
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
                payload=b"" if state is State.SUCCEEDED else it.payload,
            )

        return (await self._change(run.item.number, change, answer))[1]

    def _is_of(self, it: Image, run: Run) -> bool:
        """Whether the event still waits for what was run: nobody else has run it meanwhile."""
        return it.queue in self._copy.held and (it.lane, it.due) == (run.lane, run.item.due)

    async def cancel(self, function: FunctionName, event: RequestId, now: float) -> Event | None:
        def change(it: Image) -> Image | None:
            if it.state not in (State.QUEUED.value, State.RETRYING.value):
                return None
            return replace(it, state=State.CANCELLED.value, lane=None, ended=now, payload=b"")

        return await self._changed_by_hand(function, event, change)

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
                answer=b"",
            )

        return await self._changed_by_hand(function, event, change)

    async def get(self, function: FunctionName, event: RequestId) -> tuple[Event, bytes] | None:
        found = await self._copy.get(function, event)
        if found is None and await self._hears_of(event):
            found = await self._copy.get(function, event)
        return found

    async def list(
        self, function: FunctionName, state: State | None, after: int, most: int
    ) -> Sequence[Event]:
        return await self._copy.list(function, state, after, most)

    async def reserve(self, function: FunctionName, key: Key, event: RequestId) -> Kept | None:
        found = await self._kept(function, key, event)
        if isinstance(found, Kept):
            return found
        self._reserved[token_of(function, key)] = found
        return None

    async def _kept(self, function: FunctionName, key: Key, event: RequestId) -> Kept | KeyImage:
        """What the key stands for already, or what it stands for from now on."""
        digest = token_of(function, key)
        image = KeyImage(function, key.text, event, key.digest, key.until, self._queue)
        known = await self._copy.key(digest)
        while known is None or known.until < key.now:
            version = known.version if known else 0
            try:
                async with self._room.taking(0, self.stream.used):
                    sequence = await self._store(f"{KEY}.{digest}", image.encode(), version)
            except Changed as changed:
                await self._heard(changed, Gone(KEY, digest, version))
                known = await self._copy.key(digest)
                if known is None and changed.sequence:  # it cannot be read
                    known = image._replace(until=0.0, version=changed.sequence)
            else:
                await self.follower.until(sequence)
                return image._replace(version=sequence)
        assert not isinstance(known.answer, Pieces)  # it is whole in the copy
        at = "" if known.frontend == self._queue else known.frontend
        return Kept(RequestId(known.id), known.digest, known.answer, at)

    async def answered(self, function: FunctionName, key: Key, answer: bytes | None) -> None:
        digest = token_of(function, key)
        known = self._reserved.pop(digest, None) or await self._copy.key(digest)
        if known is None:
            return
        if answer is None:
            await self._remove([Gone(KEY, digest, known.version)])
            return
        body = known._replace(answer=await self._in_pieces(digest, answer)).encode()
        with contextlib.suppress(Changed):
            await self.follower.until(await self._store(f"{KEY}.{digest}", body, known.version))

    async def forget(self, ended_before: float, given_up_before: float, most_ended: int, now: float) -> bool:
        if await self.stream.used() > self._room.most_bytes // 2:
            ended_before = now
        events = await self._copy.forgettable(ended_before, given_up_before, most_ended, now)
        keys = await self._copy.old_keys(now)
        pieces = await self._copy.left_pieces(clock.unix_s() - GONE_S)
        notes = await self._copy.old_notes(clock.unix_s() - GONE_S)
        await asyncio.gather(*(self._came(*it) for it in events.keys))
        await self._remove([*events.gone, *keys, *pieces])
        await asyncio.gather(*(self.stream.delete(it) for it in notes))
        await self._copy.drop_notes(notes)
        return max(events.events, len(keys), len(pieces), len(notes)) >= FORGET_AT_ONCE

    async def _came(self, digest: str, key: KeyImage) -> None:
        """A key outlives its event: who asks with it shall not have the event made anew."""
        with contextlib.suppress(Changed):
            await self._store(f"{KEY}.{digest}", key._replace(came=True).encode(), key.version)

    async def _remove(self, gone: Sequence[Gone]) -> None:
        """First from the stream and then, with one message, from all copies.

        What is removed when this frontend dies in between is removed once more by who looks next.
        """
        for start in range(0, len(gone), MOST_IN_A_NOTE):
            some = gone[start : start + MOST_IN_A_NOTE]
            await asyncio.gather(*(self.stream.delete(it.version) for it in some))
            await self.follower.until(await self.stream.publish(f"{GONE}.{token_hex(8)}", encode_gone(some)))

    async def counts(self) -> Counts:
        known = await self._copy.counts()
        aside = {"unreadable": self.unreadable} if self.unreadable else {}
        return Counts(
            {**known.by_state, **aside}, await self.stream.used(), self._room.most_bytes, known.oldest
        )

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await self.stream.connection.close()
        await self._copy.close()

    # Changes

    async def _hears_of(self, event: RequestId) -> bool:
        """Whether another frontend has taken the call a moment ago: the copy has it then."""
        if _ID.fullmatch(event) is None:
            return False
        last = await self.stream.last(f"{EVENT}.{event}")
        return last is not None and await self.follower.until(last[0])

    async def _changed_by_hand(
        self, function: FunctionName, event: RequestId, change: Callable[[Image], Image | None]
    ) -> Event | None:
        if await self.get(function, event) is None:
            return None
        before = (await self._change(event, change))[0]
        return before.event() if before else None

    async def _change(
        self, of: int | str, change: Callable[[Image], Image | None], answer: bytes | None = None
    ) -> tuple[Image | None, bool]:
        """The event before, and whether it was changed. Raises QueueFull and NotReady."""
        image = self._loaded.pop(of, None) if isinstance(of, int) else None
        said: bytes | Pieces | None = None
        while image is not None or (image := await self._copy.image(of)) is not None:
            changed = change(image)
            if changed is None:
                return image, False
            if answer is not None:
                said = await self._in_pieces(image.id, answer) if said is None else said
                changed.answer = said
            try:
                sequence = await self._store(f"{EVENT}.{image.id}", changed.encode(), image.version)
            except Changed as conflict:
                await self._heard(conflict, Gone(EVENT, image.id, image.version))
                image = None
                continue
            if not await self.follower.until(sequence):
                raise NotReady(
                    "it is done, but this frontend's copy of NATS is behind and does not know it yet"
                )
            return image, True
        return None, False

    async def _heard(self, changed: Changed, had: Gone) -> None:
        """The copy, which has `had`, knows of what somebody else has changed. Raises NotReady."""
        if changed.sequence == 0 and had.version:  # gone from the stream: by hand, or long ago
            await self._copy.gone(had)
        elif changed.sequence < had.version:
            self.follower.set_back()
            raise NotReady("the queue's stream at NATS was set back, and nothing was changed: send it again")
        elif not await self.follower.until(changed.sequence):
            raise NotReady(
                "this frontend's copy of NATS is behind, and nothing was changed: send it again later"
            )

    async def _in_pieces(self, of: str, value: bytes) -> bytes | Pieces:
        """What the message of an event or a key has of it; what is long goes ahead."""
        if len(value) <= PIECE_BYTES:
            return value
        starts, token = range(0, len(value), PIECE_BYTES), token_hex(8)
        for place, start in enumerate(starts):
            piece = value[start : start + PIECE_BYTES]
            await self.stream.publish(f"{PIECE}.{of}.{token}.{place}", piece)
        return Pieces(token, len(starts))

    async def _store(self, subject: str, body: bytes, version: int) -> int:
        """Its sequence, once the stream has it. Raises Changed, QueueFull and NotReady."""
        copied = self.follower.sequence
        try:
            sequence = await self.stream.publish(subject, body, version)
            if sequence <= copied:
                self.follower.set_back()
            return sequence
        except Changed as changed:
            if changed.sequence > version:
                there = await self.stream.last(subject)
                if there == (changed.sequence, body):  # the answer to an earlier try was lost
                    return changed.sequence
            raise
