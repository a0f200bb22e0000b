"""One line of a source under way: its reader, its engine, the calls, and what is told to the source.

What the engine orders is carried out in order, and only while the trigger is ours: `held` says so, and
raises when it is not. A source that fails ends the line with what it raised; records that were under way
come again. Where a line of a stream cannot be read, its calls under way are waited for first.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from lambent_chassis.clock import monotonic_s, unix_s
from lambent_frontend.triggers.calls import Ended
from lambent_frontend.triggers.core.messages import (
    Batch,
    Call,
    Called,
    Checkpoint,
    Command,
    Discard,
    Done,
    GiveBack,
    Outcome,
    Read,
    Stop,
    Tallied,
    Tally,
    Tick,
)
from lambent_frontend.triggers.core.pattern import Pattern, wanted
from lambent_frontend.triggers.core.queue import Queue
from lambent_frontend.triggers.core.stream import Shard
from lambent_frontend.triggers.sources.base import Item, LineEnded, QueueSource, SourceFailed, StreamSource

SHORTEST_S: Final = 0.02
"""Between two looks at the clock."""
WRITE_EVERY_S: Final = 1.0
"""Places, and tallies, of one line."""
MOST_BEHIND: Final = 1000
"""Orders that were not carried out yet: as long as there are more, as where a destination hangs, no records
are read."""

Caller = Callable[[Batch, bytes], Awaitable[Ended]]
GivenUp = Callable[[Discard, Sequence[Item], Ended | None], Awaitable[None]]
"""Tells whoever is to be told. Never raises."""
Keep = Callable[[tuple[Tally, ...]], Awaitable[None]]
"""For whoever reads the line next."""


class Line:
    def __init__(
        self,
        source: QueueSource | StreamSource,
        name: str,
        engine: Queue | Shard,
        filters: Sequence[Pattern],
        *,
        call: Caller,
        given_up: GivenUp,
        held: Callable[[], None],
        keep: Keep | None = None,
    ) -> None:
        """`keep` is what a stream's needs."""
        self.name = name
        self.done = 0
        """Records that were done with, filtered ones included."""
        self.reads = False
        """It was read from, and that has not failed."""
        self._source = source
        self._engine = engine
        self._filters = filters
        self._call = call
        self._given_up = given_up
        self._held = held
        self._keep = keep
        self._items: OrderedDict[str, Item] = OrderedDict()
        """What is in hand; of a stream in its order."""
        self._orders: asyncio.Queue[tuple[Command, Ended | None]] = asyncio.Queue()
        self._behind = 0
        self._changed = asyncio.Event()
        self._stopping = False
        self._ended = False
        self._failure: Exception | None = None
        """Of a stream's read."""
        self._written_at: dict[type[Command], float] = {}

    async def run(self) -> None:
        """Returns once it was stopped and all that was under way is over, or once the line has ended."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            carrying_out = tasks.create_task(self._carry_out())
            await self._read()
            while not self._over:
                await self._wait()
            await self._orders.join()
            if self._failure is not None:
                raise self._failure
            if self._ended and not self._items and isinstance(self._source, StreamSource):
                self._held()
                await self._source.ended(self.name)
            carrying_out.cancel()

    def stop(self) -> None:
        """No call begins any more."""
        self._stopping = True
        self._feed(Stop())

    @property
    def _over(self) -> bool:
        return self._engine.idle if self._stopping else not self._items

    # In

    async def _read(self) -> None:
        """What was being read when the line was stopped is taken too, and goes back."""
        reading: asyncio.Task[list[Item]] | None = None
        try:
            while not (self._stopping or self._ended):
                if reading is None and self._behind <= MOST_BEHIND and (most := self._engine.wants):
                    reading = asyncio.create_task(self._source.read(self.name, most))
                    reading.add_done_callback(lambda _: self._changed.set())
                await self._wait()
                if reading is not None and reading.done():
                    self._take(reading)
                    reading = None
            if reading is not None:
                await asyncio.wait([reading])
                self._take(reading)
        finally:
            if reading is not None:
                reading.cancel()

    def _take(self, reading: "asyncio.Task[list[Item]]") -> None:
        try:
            items = reading.result()
        except LineEnded:
            self._ended = True
            return
        except Exception as error:
            if isinstance(error, SourceFailed) or not isinstance(self._source, StreamSource):
                raise
            self._failure = error
            self.stop()
            return
        self.reads = True
        fresh = []
        for item in items:
            if item.record.id not in self._items:  # or it was given out twice, and is in hand
                self._items[item.record.id] = item
                fresh.append(replace(item.record, wanted=wanted(self._filters, item.view)))
        self._feed(Read(fresh, monotonic_s()))
        self._tick()

    async def _wait(self) -> None:
        """Until something happens, or the engine wants to know the time."""
        now, at = monotonic_s(), self._engine.next_at
        pause_s = None if at is None or self._stopping else max(at - now, SHORTEST_S)
        try:
            async with asyncio.timeout(pause_s):
                await self._changed.wait()
        except TimeoutError:
            self._tick()
        self._changed.clear()

    def _tick(self) -> None:
        self._feed(Tick(monotonic_s(), unix_s()))

    def _feed(self, event: Read | Called | Tick | Stop, ended: Ended | None = None) -> None:
        for command in self._engine.handle(event):
            if isinstance(command, Call):
                self._tasks.create_task(self._called(command.batch))
            else:
                self._orders.put_nowait((command, ended))
                self._behind += 1
        self._changed.set()

    async def _called(self, batch: Batch) -> None:
        items = [self._items[record] for record in batch.ids]
        ended = await self._call(batch, self._source.event(items))
        called = Called(batch.number, ended.outcome, monotonic_s(), unix_s(), ended.failed)
        self._feed(called, ended if ended.outcome is not Outcome.NEVER_RAN else None)

    # Out

    async def _carry_out(self) -> None:
        while True:
            orders = [await self._orders.get()]
            while not self._orders.empty():
                orders.append(self._orders.get_nowait())
            for command, ended in _merged(orders):
                self._held()
                await self._carry_out_one(command, ended)
            for _ in orders:
                self._orders.task_done()
            self._behind -= len(orders)
            self._changed.set()

    async def _carry_out_one(self, command: Command, ended: Ended | None) -> None:
        match command:
            case Checkpoint(place):
                await self._check_point(place)
            case Tallied(tallies):
                assert self._keep is not None
                await self._not_too_often(Tallied)
                await self._keep(tallies)
            case Discard(batch):
                items = [self._items[record] for record in batch.ids]
                if isinstance(self._source, QueueSource):
                    self._behind += 1
                    self._tasks.create_task(self._give_up(self._source, command, items, ended))
                else:  # the checkpoint comes after it
                    await self._given_up(command, items, ended)
            case Done(ids):
                assert isinstance(self._source, QueueSource)
                await self._source.done(ids)
                self._forget(ids)
            case GiveBack(ids, pause_s):
                assert isinstance(self._source, QueueSource)
                self._forget(ids, done=0)  # first: they may be given out again before we hear that they went
                await self._source.give_back(ids, pause_s)
            case Call():
                pass

    async def _give_up(
        self, source: QueueSource, discard: Discard, items: Sequence[Item], ended: Ended | None
    ) -> None:
        """Beside all else: what a queue is told of others shall not wait for a destination that hangs."""
        await self._given_up(discard, items, ended)
        self._held()
        self._forget(discard.batch.ids)
        await source.give_up(discard.batch.ids)
        self._behind -= 1
        self._changed.set()

    async def _check_point(self, place: str) -> None:
        assert isinstance(self._source, StreamSource)
        await self._not_too_often(Checkpoint)
        await self._source.checkpoint(self.name, place)
        while self._items:
            first, _ = self._items.popitem(last=False)
            self.done += 1
            if first == place:
                break

    async def _not_too_often(self, what: type[Command]) -> None:
        pause_s = self._written_at.get(what, 0.0) + WRITE_EVERY_S - monotonic_s()
        if pause_s > 0 and not self._stopping:
            await asyncio.sleep(pause_s)
            self._held()
        self._written_at[what] = monotonic_s()

    def _forget(self, ids: Sequence[str], done: int = 1) -> None:
        for each in ids:
            self._items.pop(each, None)
            self.done += done


def _merged(orders: Sequence[tuple[Command, Ended | None]]) -> list[tuple[Command, Ended | None]]:
    """What says the same of several records, in one; of several checkpoints or tallies in a row the last."""
    merged: list[tuple[Command, Ended | None]] = []
    for command, ended in orders:
        before = merged[-1][0] if merged else None
        match before, command:
            case Done(first), Done(second):
                merged[-1] = Done(first + second), ended
            case GiveBack(first, pause_s), GiveBack(second, same) if pause_s == same:
                merged[-1] = GiveBack(first + second, pause_s), ended
            case (Checkpoint(), Checkpoint()) | (Tallied(), Tallied()):
                merged[-1] = command, ended
            case _:
                merged.append((command, ended))
    return merged
