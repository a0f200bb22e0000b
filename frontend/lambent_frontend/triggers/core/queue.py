"""The engine of a queue: what was read from it, what it is called with, what is given back and what is done.

A queue gives a record out to one reader at a time and gives it out again unless it is done with in time. So
a record that fails goes back and harms no other, and the queue's own rules say when it has failed too often,
or `deliveries` does where the queue has none. From its third delivery on a record is called with alone: its
neighbours may have failed because of it, and shall not go down with it.

Of records with a key, such as those of a message group, one batch is under way at a time. If one fails, those
that wait behind it go back too, so that they come again after it.

What could not be called with stays: it was not tried, and the queue shall not count it as if it had been.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from lambent_frontend.triggers.core.batches import Limits, take
from lambent_frontend.triggers.core.messages import (
    EXHAUSTED,
    MAX_HELD_BYTES,
    OVERSIZED,
    Batch,
    Call,
    Called,
    Command,
    Discard,
    Done,
    Event,
    GiveBack,
    Outcome,
    Read,
    Record,
    Stop,
    Tick,
    pause_s,
)

ALONE_FROM: Final = 3
"""The delivery from which on a record is called with alone."""

FIRST_CONCURRENCY: Final = 5
"""Batches at once of a queue that was idle, Lambda's for SQS."""
MORE_A_SECOND: Final = 5
"""Batches at once that are added while all are in use: Lambda's 300 a minute."""


@dataclass(frozen=True, slots=True)
class Rules:
    limits: Limits
    most_at_once: int
    """Calls at one time."""
    deliveries: int | None
    """After so many a record that fails is given up; None: the queue sees to that."""


@dataclass(slots=True, eq=False)
class _Waiting:
    record: Record
    since: float


@dataclass(slots=True, eq=False)
class _Resting:
    """A batch that could not be called with, and is tried again."""

    batch: Batch
    at: float
    times: int


@dataclass(slots=True, eq=False)
class _UnderWay:
    batch: Batch
    times: int


@dataclass(slots=True, eq=False)
class Queue:
    rules: Rules
    allowed: int = FIRST_CONCURRENCY
    """Calls at one time, for now."""
    _waiting: deque[_Waiting] = field(default_factory=deque)
    _under_way: dict[int, _UnderWay] = field(default_factory=dict)
    _resting: list[_Resting] = field(default_factory=list)
    _bytes: int = 0
    _last: int = 0
    _raised_at: float = 0.0
    _was_full: bool = False
    """All calls that are allowed were in use at some time since then: short calls leave gaps."""
    _looked_at: float = -math.inf
    """When all was begun that could be: what was due by then waits for another to end."""
    _stopped: bool = False

    @property
    def wants(self) -> int:
        """How many more records may be read."""
        if self._stopped or self._bytes > MAX_HELD_BYTES:
            return 0
        free = max(0, self._most - len(self._under_way) - len(self._resting))
        return max(0, self.rules.limits.records * free - len(self._waiting))

    @property
    def idle(self) -> bool:
        return not (self._waiting or self._under_way or self._resting)

    @property
    def next_at(self) -> float | None:
        """When a Tick is due at the latest; None: not before something else happens."""
        times = [it.at for it in self._resting if it.at > self._looked_at]
        window_s = self.rules.limits.window_s
        dues = (it.since + window_s for it in self._waiting)
        times += islice((due for due in dues if due > self._looked_at), 1)
        if len(self._under_way) >= self._most < self.rules.most_at_once:
            times.append(self._raised_at + 1.0)
        return min(times, default=None)

    def handle(self, event: Event) -> list[Command]:
        match event:
            case Read(records, now):
                return self._read(records, now)
            case Called(number, outcome, now, _, failed):
                return [*self._called(self._under_way.pop(number), outcome, failed, now), *self._form(now)]
            case Tick(now):
                return self._form(now)
            case Stop():
                return self._stop()

    @property
    def _most(self) -> int:
        return min(self.allowed, self.rules.most_at_once)

    def _read(self, records: Sequence[Record], now: float) -> list[Command]:
        unwanted: list[str] = []
        refused: list[str] = []
        for record in records:
            if not record.wanted:
                unwanted.append(record.id)
            elif self._stopped:
                refused.append(record.id)
            else:
                self._waiting.append(_Waiting(record, now))
                self._bytes += record.size
        commands: list[Command] = [Done(tuple(unwanted))] if unwanted else []
        return [*commands, GiveBack(tuple(refused), 0.0)] if refused else commands

    # Calls begin

    def _form(self, now: float) -> list[Command]:
        if self._stopped:
            return []
        self._adjust(now)
        commands: list[Command] = [Call(batch) for batch in self._rested(now)]
        while len(self._under_way) + len(self._resting) < self._most and (batch := self._next(now)):
            commands.append(Call(batch))
        self._was_full |= len(self._under_way) >= self.allowed
        self._looked_at = now
        return commands

    def _rested(self, now: float) -> list[Batch]:
        """Begins those that have rested, of each key the oldest first: what was split shares its keys."""
        begun = []
        busy = _keys([it.batch for it in self._under_way.values()])
        for resting in sorted(self._resting, key=lambda it: it.batch.number):
            if len(self._under_way) >= self._most:
                break
            keys = _keys([resting.batch])
            if resting.at <= now and not keys & busy:
                self._resting.remove(resting)
                self._under_way[resting.batch.number] = _UnderWay(resting.batch, resting.times)
                begun.append(resting.batch)
            busy |= keys
        return begun

    def _adjust(self, now: float) -> None:
        if self.idle:
            self.allowed, self._was_full = FIRST_CONCURRENCY, False
        elif now >= self._raised_at + 1.0:
            if self._was_full:
                self.allowed = max(self.allowed, min(self.allowed + MORE_A_SECOND, self.rules.most_at_once))
            self._raised_at, self._was_full = now, False

    def _next(self, now: float) -> Batch | None:
        ready = list(self._ready())
        if not ready:
            return None
        first = ready[0]
        if first.record.deliveries >= ALONE_FROM:
            return self._begin([first])
        together = [it for it in ready if it.record.deliveries < ALONE_FROM]
        taken = take((it.record for it in together), self.rules.limits)
        if not (taken.full or now >= first.since + self.rules.limits.window_s):
            return None
        return self._begin(together[: len(taken.records)])

    def _ready(self) -> Iterator[_Waiting]:
        """Those that wait for nothing but company: the first of each key's, unless it is under way; enough
        for one batch.

        Behind one that goes alone none of its key is ready.
        """
        busy = _keys([it.batch for it in self._under_way.values()] + [it.batch for it in self._resting])
        company = 0
        for waiting in self._waiting:
            key = waiting.record.key
            if key and key in busy:
                continue
            if waiting.record.deliveries >= ALONE_FROM:
                busy.add(key)
            else:
                company += 1
            yield waiting
            if company > self.rules.limits.records:
                return

    def _begin(self, taken: list[_Waiting]) -> Batch:
        self._last += 1
        size = self._bytes
        batch = Batch(self._last, tuple(self._take_out(taken)))
        self._bytes = size
        self._under_way[batch.number] = _UnderWay(batch, 0)
        return batch

    def _take_out(self, taken: list[_Waiting]) -> list[Record]:
        gone = set(map(id, taken))
        self._waiting = deque(it for it in self._waiting if id(it) not in gone)
        self._bytes -= sum(it.record.size for it in taken)
        return [it.record for it in taken]

    # Calls end

    def _called(
        self, ended: _UnderWay, outcome: Outcome, failed: frozenset[str], now: float
    ) -> list[Command]:
        batch = ended.batch
        match outcome:
            case Outcome.NEVER_RAN:
                return self._rest(ended, now)
            case Outcome.TOO_LARGE:
                return self._split(ended, now)
            case Outcome.FAILED:
                failed = frozenset(batch.ids)
            case Outcome.ENDED:
                pass
        self._freed(batch)
        done = tuple(it.id for it in batch.records if it.id not in failed)
        commands: list[Command] = [Done(done)] if done else []
        wrong = [it for it in batch.records if it.id in failed]
        return commands + self._give_back(wrong)

    def _give_back(self, wrong: list[Record]) -> list[Command]:
        commands: list[Command] = []
        pauses: dict[float, list[str]] = {}
        keys = set()
        for record in wrong:
            if self.rules.deliveries is not None and record.deliveries >= self.rules.deliveries:
                self._last += 1
                commands.append(Discard(Batch(self._last, (record,)), EXHAUSTED, record.deliveries))
            else:
                pauses.setdefault(pause_s(record.deliveries), []).append(record.id)
                keys.add(record.key)
        commands += [GiveBack(tuple(ids), pause) for pause, ids in pauses.items()]
        keys.discard("")
        behind = [it for it in self._waiting if it.record.key in keys] if keys else []
        if behind:
            commands.append(GiveBack(tuple(it.id for it in self._take_out(behind)), None))
        return commands

    def _rest(self, ended: _UnderWay, now: float) -> list[Command]:
        if self._stopped:
            return [GiveBack(tuple(self._freed(ended.batch)), 0.0)]
        self.allowed = max(1, self.allowed // 2)
        self._raised_at, self._was_full = now, False
        times = ended.times + 1
        self._resting.append(_Resting(ended.batch, now + pause_s(times), times))
        return []

    def _split(self, ended: _UnderWay, now: float) -> list[Command]:
        records = ended.batch.records
        if len(records) == 1:
            self._freed(ended.batch)
            return [Discard(ended.batch, OVERSIZED, 0)]
        middle = len(records) // 2
        for part in (records[:middle], records[middle:]):
            self._last += 1
            self._resting.append(_Resting(Batch(self._last, part), now, ended.times))
        return self._stop() if self._stopped else []

    def _freed(self, batch: Batch) -> list[str]:
        self._bytes -= sum(it.size for it in batch.records)
        return list(batch.ids)

    def _stop(self) -> list[Command]:
        self._stopped = True
        ids = [it.id for it in self._take_out(list(self._waiting))]
        for resting in self._resting:
            ids += self._freed(resting.batch)
        self._resting.clear()
        return [GiveBack(tuple(ids), 0.0)] if ids else []


def _keys(batches: Sequence[Batch]) -> set[str]:
    return {record.key for batch in batches for record in batch.records if record.key}
