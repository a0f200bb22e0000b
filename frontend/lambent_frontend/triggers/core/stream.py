"""The engine of one shard of a stream, or of one partition: calls in order, and how far all is done with.

A stream keeps its records, and a reader says how far it is. So a batch that fails is called with again until
it succeeds, is too old, or has failed as often as the trigger allows; what comes behind it waits. With
`bisect` it is split in two first, which uses up no retry: what fails in the end is one record. A shard's
records are shared out over `lanes` by their keys; each lane has one call under way, so that the order of a
key's records is kept. The checkpoint never passes a record that is not done with.

No batch blocks its shard for ever: where the trigger sets no limit, BLOCKED_MOST_S does. How often what fails
has failed is told, so that the next reader of the shard counts on and splits no more than is left to split.
"""

import zlib
from collections import deque
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from typing import Final

from lambent_frontend.triggers.core.batches import Limits, take
from lambent_frontend.triggers.core.messages import (
    EXHAUSTED,
    MAX_HELD_BYTES,
    OVERSIZED,
    TOO_OLD,
    Batch,
    Call,
    Called,
    Checkpoint,
    Command,
    Discard,
    Event,
    Outcome,
    Read,
    Record,
    Stop,
    Tallied,
    Tally,
    Tick,
    pause_s,
)

BLOCKED_MOST_S: Final = 86_400.0
"""After so long since its first failure a batch is given up even where retries are not limited: Kinesis's
own streams keep a record for as long unless they are told otherwise."""

GATHER_S: Final = 5.0
"""How long records that failed together before are waited for: the source has them all, unless it has
forgotten some."""

UNLIMITED: Final = -1


@dataclass(frozen=True, slots=True)
class Rules:
    limits: Limits
    lanes: int = 1
    """ParallelizationFactor."""
    retries: int = UNLIMITED
    """MaximumRetryAttempts."""
    max_age_s: float = UNLIMITED
    """MaximumRecordAgeInSeconds."""
    bisect: bool = False
    """BisectBatchOnFunctionError."""


@dataclass(frozen=True, slots=True)
class _Work:
    """Records that were called with already, or shall be next; in order."""

    records: tuple[Record, ...]
    attempts: int = 0
    """Calls that failed, splits not counted."""
    calls: int = 0
    """All of them."""
    rests: int = 0
    """How often it could not be called with since."""
    failing_since: float | None = None
    """Unix seconds."""


@dataclass(slots=True, eq=False)
class _Lane:
    waiting: deque[tuple[Record, float]] = field(default_factory=deque)
    """With the time it was read."""
    again: list[_Work] = field(default_factory=list)
    """Before all that waits; the next one is the last."""
    under_way: tuple[int, _Work] | None = None
    rests_until: float = 0.0


@dataclass(slots=True, eq=False)
class Shard:
    rules: Rules
    tallies: tuple[Tally, ...] = ()
    """Those that were told last."""
    _before: dict[str, Tally] = field(init=False)
    """What the reader before told of and is not read yet, by the first record's id."""
    _together: dict[str, Tally] = field(default_factory=dict)
    """The same of what is read, and waits."""
    _lanes: list[_Lane] = field(init=False)
    _open: deque[str] = field(default_factory=deque)
    """In the stream's order, those behind the checkpoint."""
    _done: set[str] = field(default_factory=set)
    """Of those."""
    _bytes: int = 0
    _last: int = 0
    _records: int = 0
    """That were read."""
    _stopped: bool = False

    def __post_init__(self) -> None:
        self._before = {it.first: it for it in self.tallies}
        self._lanes = [_Lane() for _ in range(self.rules.lanes)]

    @property
    def wants(self) -> int:
        """How many more records may be read."""
        if self._stopped or self._bytes > MAX_HELD_BYTES:
            return 0
        return max(0, self._most_open - len(self._open))

    @property
    def _most_open(self) -> int:
        return 2 * self.rules.limits.records * self.rules.lanes

    @property
    def idle(self) -> bool:
        """Nothing is under way."""
        return all(lane.under_way is None for lane in self._lanes)

    @property
    def next_at(self) -> float | None:
        """When a Tick is due at the latest; None: not before something else happens."""
        times = []
        for lane in self._lanes:
            if lane.under_way is None and (lane.again or lane.waiting):
                due = 0.0 if lane.again else lane.waiting[0][1] + self._patience_s(lane)
                times.append(max(due, lane.rests_until))
        return min(times, default=None)

    def handle(self, event: Event) -> list[Command]:
        match event:
            case Read(records, now):
                commands: list[Command] = []
                for record in records:
                    self._read(record, now)
            case Called(number, outcome, now, unix, failed):
                lane = next(it for it in self._lanes if it.under_way and it.under_way[0] == number)
                commands = self._called(lane, outcome, failed, now, unix) + self._tallied()
                commands += self._form(lane, now, unix)
            case Tick(now, unix):
                commands = [command for lane in self._lanes for command in self._form(lane, now, unix)]
            case Stop():
                self._stopped = True
                commands = []
        return commands + self._checkpoint()

    def _read(self, record: Record, now: float) -> None:
        self._open.append(record.id)
        self._records += 1
        if self._records > self._most_open:  # all that was open when they were told has been read
            self._before.clear()
        if tally := self._before.pop(record.id, None) if record.wanted else None:
            self._together[record.id] = tally
        if record.wanted:
            lane = self._lanes[zlib.crc32(record.key.encode()) % len(self._lanes)]
            lane.waiting.append((record, now))
            self._bytes += record.size
        else:
            self._done.add(record.id)

    # Calls begin

    def _form(self, lane: _Lane, now: float, unix: float) -> list[Command]:
        commands: list[Command] = []
        while not self._stopped and lane.under_way is None and now >= lane.rests_until:
            work = lane.again.pop() if lane.again else self._fresh(lane, now)
            if work is None:
                break
            work, old = self._young(work, unix)
            if old:
                commands.append(self._discard(old, TOO_OLD))
            if work.records:
                self._last += 1
                lane.under_way = self._last, work
                commands.append(Call(Batch(self._last, work.records, work.attempts)))
        return commands

    def _fresh(self, lane: _Lane, now: float) -> _Work | None:
        if not lane.waiting:
            return None
        tally = self._together.get(lane.waiting[0][0].id)
        count = tally.records if tally else self._until_tally(lane)
        taken = take((record for record, _ in islice(lane.waiting, count)), self.rules.limits)
        whole = count <= len(lane.waiting) if tally else len(taken.records) < len(lane.waiting) or taken.full
        if not (whole or now >= lane.waiting[0][1] + self._patience_s(lane)):
            return None
        for _ in taken.records:
            lane.waiting.popleft()
        return self._as_before(lane, tally, taken.records) if tally else _Work(taken.records)

    def _until_tally(self, lane: _Lane) -> int:
        """How many wait before the first of those that go together."""
        if not self._together:
            return len(lane.waiting)
        return sum(1 for _ in takewhile(lambda it: it[0].id not in self._together, lane.waiting))

    def _patience_s(self, lane: _Lane) -> float:
        """How long the first that waits does so for others."""
        return GATHER_S if lane.waiting[0][0].id in self._together else self.rules.limits.window_s

    def _as_before(self, lane: _Lane, tally: Tally, records: tuple[Record, ...]) -> _Work:
        """Those that are too many by now, as the trigger was changed, come next."""
        del self._together[tally.first]
        if lane.waiting and len(records) < tally.records:
            first = lane.waiting[0][0].id
            rest = replace(tally, first=first, records=tally.records - len(records))
            self._together.setdefault(first, rest)
        return _Work(records, tally.attempts, tally.calls, failing_since=tally.since)

    def _young(self, work: _Work, unix: float) -> tuple[_Work, _Work | None]:
        """What may still be called with, and what is too old for it."""
        most = self.rules.max_age_s
        if most == UNLIMITED:
            return work, None
        old = tuple(it for it in work.records if unix - it.written_at > most)
        if not old:
            return work, None
        young = tuple(it for it in work.records if unix - it.written_at <= most)
        return replace(work, records=young), replace(work, records=old)

    # Calls end

    def _called(
        self, lane: _Lane, outcome: Outcome, failed: frozenset[str], now: float, unix: float
    ) -> list[Command]:
        assert lane.under_way is not None
        work = lane.under_way[1]
        lane.under_way = None
        match outcome:
            case Outcome.NEVER_RAN:
                rests = work.rests + 1
                lane.again.append(replace(work, rests=rests))
                lane.rests_until = now + pause_s(rests)
                return []
            case Outcome.TOO_LARGE if len(work.records) > 1:
                self._split(lane, work, len(work.records) // 2)
                return []
            case Outcome.TOO_LARGE:
                return [self._discard(work, OVERSIZED)]
            case Outcome.FAILED:
                return self._failed(lane, work, 0, now, unix)
            case Outcome.ENDED:
                places = [at for at, record in enumerate(work.records) if record.id in failed]
                if places:
                    return self._failed(lane, work, places[0], now, unix)
                self._finish(work.records)
                return []

    def _failed(self, lane: _Lane, work: _Work, lowest: int, now: float, unix: float) -> list[Command]:
        """Those before the lowest that failed are done with; from there on it is called with again."""
        self._finish(work.records[:lowest])
        since = unix if work.failing_since is None else work.failing_since
        calls = work.calls + 1
        left = replace(work, records=work.records[lowest:], calls=calls, rests=0, failing_since=since)
        if self.rules.bisect and lowest:
            lane.again.append(left)
            return []
        if self.rules.bisect and len(left.records) > 1:
            self._split(lane, left, len(left.records) // 2)
            return []
        left = replace(left, attempts=work.attempts + 1)
        limited = self.rules.retries != UNLIMITED
        if (limited and left.attempts > self.rules.retries) or unix >= since + BLOCKED_MOST_S:
            return [self._discard(left, EXHAUSTED)]
        lane.again.append(left)
        lane.rests_until = now + pause_s(left.attempts)
        return []

    def _split(self, lane: _Lane, work: _Work, middle: int) -> None:
        lane.again.append(replace(work, records=work.records[middle:]))
        lane.again.append(replace(work, records=work.records[:middle]))

    def _discard(self, work: _Work, condition: str) -> Discard:
        self._finish(work.records)
        self._last += 1
        return Discard(Batch(self._last, work.records, work.attempts), condition, work.calls)

    def _finish(self, records: tuple[Record, ...]) -> None:
        self._done.update(record.id for record in records)
        self._bytes -= sum(record.size for record in records)

    def _tallied(self) -> list[Command]:
        """If there are others than were told last. That some are no more is not: a place says so soon."""
        works = [work for lane in self._lanes for work in (*reversed(lane.again), *_of(lane)) if work.calls]
        failed = tuple(
            Tally(it.records[0].id, len(it.records), it.attempts, it.calls, it.failing_since or 0.0)
            for it in works
        )
        tallies = (*failed, *self._together.values(), *self._before.values())
        if set(tallies) <= set(self.tallies):
            return []
        self.tallies = tallies
        return [Tallied(tallies)]

    def _checkpoint(self) -> list[Command]:
        last = ""
        while self._open and self._open[0] in self._done:
            last = self._open.popleft()
            self._done.remove(last)
        return [Checkpoint(last)] if last else []


def _of(lane: _Lane) -> tuple[_Work, ...]:
    return (lane.under_way[1],) if lane.under_way else ()
