"""Whatever fails in whatever order, the engines of triggers lose no record and keep the order of each key."""

import random
from collections import Counter
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lambent_frontend.triggers.core import queue, stream
from lambent_frontend.triggers.core.batches import Limits
from lambent_frontend.triggers.core.messages import (
    EXHAUSTED,
    MAX_BATCH_BYTES,
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
    Record,
    Stop,
    Tallied,
    Tick,
)

KEYS: Final = ("", "k", "l", "m")
SIZES: Final = (1, MAX_BATCH_BYTES // 2)
outcomes = st.sampled_from(list(Outcome))


class _Calls(RuleBasedStateMachine):
    """What is known of the records and calls of either engine."""

    engine: queue.Queue | stream.Shard
    limits: Limits
    most_at_once: int
    ending: Batch
    """Of the call that is told of next."""

    def begin(self) -> None:
        self.now = 0.0
        self.facts: dict[str, Record] = {}
        """Of every record that there ever was, in the source's order."""
        self.finished: set[str] = set()
        self.given_up: set[str] = set()
        self.under_way: dict[int, Batch] = {}

    def send(self, event: Read | Called | Tick | Stop) -> None:
        for command in self.engine.handle(event):
            self.seen(command)

    def seen(self, command: Command) -> None:
        match command:
            case Call(batch):
                self.call(batch)
            case Discard(batch):
                assert not self.given_up & set(batch.ids), "given up twice"
                self.given_up |= set(batch.ids)
                self.finish(batch.ids)
            case _:
                raise AssertionError(command)

    def call(self, batch: Batch) -> None:
        assert batch.records, "a call with nothing"
        assert len(batch.records) <= self.limits.records
        assert len(batch.records) == 1 or sum(it.size for it in batch.records) <= MAX_BATCH_BYTES
        elsewhere = {name for it in self.under_way.values() for name in it.ids}
        assert not elsewhere & set(batch.ids), "one record in two calls"
        assert not self.finished & set(batch.ids), "called with after it was done"
        order = list(self.facts)
        for record in batch.records:
            assert record.wanted
            for earlier in order[: order.index(record.id)]:
                same = record.key and self.facts[earlier].key == record.key and self.facts[earlier].wanted
                assert not same or earlier in self.finished | set(batch.ids), "not in the order of its key"
        for key in {it.key for it in batch.records} - {""}:
            ids = [it.id for it in batch.records if it.key == key]
            assert ids == sorted(ids, key=order.index), "not in the order of its key within the batch"
        self.under_way[batch.number] = batch
        assert len(self.under_way) <= self.most_at_once

    def finish(self, ids: tuple[str, ...]) -> None:
        assert not self.finished & set(ids), "done twice"
        self.finished |= set(ids)

    @precondition(lambda self: self.under_way)
    @rule(pick=st.randoms(use_true_random=False), outcome=outcomes, seconds=st.sampled_from([0.0, 1.0]))
    def a_call_ends(self, pick: "object", outcome: Outcome, seconds: float) -> None:
        self.now += seconds
        number = pick.choice(sorted(self.under_way))  # type: ignore[attr-defined]
        batch = self.ending = self.under_way.pop(number)
        failed = frozenset(it for it in batch.ids if pick.random() < 0.3)  # type: ignore[attr-defined]
        failed = failed if outcome is Outcome.ENDED else frozenset()
        self.send(Called(number, outcome, self.now, self.now, failed))

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.send(Tick(self.now, self.now))

    def record(self, key: str, size: int, wanted: bool) -> Record:
        name = f"r{len(self.facts)}"
        self.facts[name] = Record(name, size, key, self.now, 1, wanted)
        return self.facts[name]

    def all_succeed(self) -> None:
        """From now on, and for as long as it takes."""
        for _ in range(20 * len(self.facts) + 20):
            self.now += 200.0
            self.deliver()
            self.send(Tick(self.now, self.now))
            for number in list(self.under_way):
                self.ending = self.under_way.pop(number)
                self.send(Called(number, Outcome.ENDED, self.now, self.now))
        assert self.finished == set(self.facts), "lost"

    def deliver(self) -> None:
        """What the source still has."""


class QueueMachine(_Calls):
    """With a queue that gives out again what comes back, each key in its order, as a FIFO queue does."""

    @initialize(
        records=st.integers(1, 3),
        window_s=st.sampled_from([0.0, 2.0]),
        most=st.integers(1, 6),
        deliveries=st.sampled_from([None, 4]),
    )
    def setup(self, records: int, window_s: float, most: int, deliveries: int | None) -> None:
        self.begin()
        self.limits = Limits(records, window_s)
        self.most_at_once = most
        self.engine = queue.Queue(queue.Rules(self.limits, most, deliveries))
        self.there: list[str] = []
        """In the queue, for anybody to have, in its order."""
        self.out: set[str] = set()
        self.stopped = False

    def seen(self, command: Command) -> None:
        match command:
            case Done(ids):
                self.finish(ids)
            case GiveBack(ids, pause_s):
                assert pause_s is None or pause_s >= 0
                assert set(ids) <= self.out, "given back twice"
                self.out -= set(ids)
                self.there = sorted([*self.there, *ids], key=list(self.facts).index)
            case _:
                super().seen(command)

    def call(self, batch: Batch) -> None:
        assert set(batch.ids) <= self.out
        assert not self.stopped
        super().call(batch)

    def finish(self, ids: tuple[str, ...]) -> None:
        assert set(ids) <= self.out
        self.out -= set(ids)
        super().finish(ids)

    @rule(key=st.sampled_from(KEYS), size=st.sampled_from(SIZES), wanted=st.booleans())
    def one_is_sent(self, key: str, size: int, wanted: bool) -> None:
        self.there.append(self.record(key, size, wanted or bool(key)).id)

    @rule()
    def deliver(self) -> None:
        blocked = {self.facts[it].key for it in self.out}
        names = [it for it in self.there if not self.facts[it].key or self.facts[it].key not in blocked]
        names = names[: self.engine.wants]
        again = []
        for name in names:
            self.there.remove(name)
            self.out.add(name)
            again.append(self.facts[name])
            known = self.facts[name]
            self.facts[name] = Record(
                name, known.size, known.key, known.written_at, known.deliveries + 1, known.wanted
            )
        self.send(Read(again, self.now))

    @rule()
    def it_stops(self) -> None:
        self.send(Stop())
        self.stopped = True
        waiting = {name for it in self.under_way.values() for name in it.ids}
        assert self.out == waiting, "kept although it stops"

    @invariant()
    def nothing_is_lost(self) -> None:
        """Each is in the queue, in our hands, or done with."""
        if hasattr(self, "there"):
            assert sorted([*self.there, *self.out, *self.finished]) == sorted(self.facts)

    def teardown(self) -> None:
        if hasattr(self, "there"):
            if self.stopped:
                self.stopped = False
                for batch in list(self.under_way):
                    del self.under_way[batch]
                    self.send(Called(batch, Outcome.FAILED, self.now, self.now))
                assert isinstance(self.engine, queue.Queue)
                assert self.engine.idle
                self.engine = queue.Queue(self.engine.rules)
            self.all_succeed()


class ShardMachine(_Calls):
    @initialize(
        records=st.integers(1, 3),
        window_s=st.sampled_from([0.0, 2.0]),
        lanes=st.integers(1, 3),
        retries=st.sampled_from([stream.UNLIMITED, 0, 2]),
        max_age_s=st.sampled_from([stream.UNLIMITED, 200.0]),
        bisect=st.booleans(),
    )
    def setup(
        self, records: int, window_s: float, lanes: int, retries: int, max_age_s: float, bisect: bool
    ) -> None:
        self.begin()
        self.limits = Limits(records, window_s)
        self.most_at_once = lanes
        self.engine = stream.Shard(stream.Rules(self.limits, lanes, retries, max_age_s, bisect))
        self.retries = retries
        self.checkpoint = 0
        """How many are behind it."""

    def seen(self, command: Command) -> None:
        match command:
            case Checkpoint(id):
                behind = list(self.facts).index(id) + 1
                assert behind > self.checkpoint, "a checkpoint went back"
                self.checkpoint = behind
            case Tallied(tallies):
                assert tallies
            case Discard(_, condition, calls):
                allowed = condition != EXHAUSTED or self.retries != stream.UNLIMITED or calls > 1
                assert allowed, "given up too early"
                super().seen(command)
            case _:
                super().seen(command)

    @rule(key=st.sampled_from(KEYS), size=st.sampled_from(SIZES), wanted=st.booleans())
    def one_is_written(self, key: str, size: int, wanted: bool) -> None:
        if self.engine.wants:
            record = self.record(key, size, wanted)
            if not wanted:
                self.finished.add(record.id)
            self.send(Read([record], self.now))

    def a_call_ends_with(self, batch: Batch, outcome: Outcome, failed: frozenset[str]) -> None:
        """What succeeded is what no checkpoint may be behind."""
        if outcome is Outcome.ENDED:
            ids = list(batch.ids)
            lowest = min((ids.index(it) for it in failed), default=len(ids))
            self.finished |= set(ids[:lowest])

    def send(self, event: Read | Called | Tick | Stop) -> None:
        if isinstance(event, Called):
            self.a_call_ends_with(self.ending, event.outcome, event.failed)
        super().send(event)

    @rule()
    def another_takes_over(self) -> None:
        """With what was told of how often what failed; it reads all behind the checkpoint again."""
        assert isinstance(self.engine, stream.Shard)
        self.engine = stream.Shard(self.engine.rules, self.engine.tallies)
        self.under_way.clear()
        again = list(self.facts)[self.checkpoint :]
        self.finished = set(list(self.facts)[: self.checkpoint])
        self.given_up &= self.finished
        self.finished |= {name for name in again if not self.facts[name].wanted}
        for name in again:
            self.send(Read([self.facts[name]], self.now))

    @invariant()
    def the_checkpoint_passes_nothing(self) -> None:
        if hasattr(self, "checkpoint"):
            assert set(list(self.facts)[: self.checkpoint]) <= self.finished

    def teardown(self) -> None:
        if hasattr(self, "checkpoint"):
            self.all_succeed()
            assert self.checkpoint == len(self.facts)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), lanes=st.integers(1, 3), retries=st.integers(0, 3), bisect=st.booleans())
def test_poison_fails_no_oftener_however_often_its_shard_changes_hands(
    seed: int, lanes: int, retries: int, *, bisect: bool
) -> None:
    """Than its retries say, and splits of its batch, until it is given up: after each call that has ended
    another may take over."""
    dice = random.Random(seed)
    rules = stream.Rules(Limits(dice.randint(1, 8), 0.0), lanes, retries, bisect=bisect)
    records = [Record(f"r{n}", 1, dice.choice(KEYS)) for n in range(rules.limits.records * 2 * lanes)]
    poison = {it.id for it in records if dice.random() < 0.2}
    failures: Counter[str] = Counter()
    engine, done, now = stream.Shard(rules), 0, 0.0
    under_way: list[Batch] = []
    most = 0
    commands = engine.handle(Read(records, now))
    while done < len(records):
        for command in commands:
            match command:
                case Call(batch):
                    under_way.append(batch)
                case Discard(batch):  # with several lanes it is read again if the place is not behind it yet
                    for name in batch.ids:
                        most = max(most, failures.pop(name))
                case Checkpoint(place):
                    done = [it.id for it in records].index(place) + 1
                case _:
                    pass
        if dice.random() < 0.4:
            engine, under_way = stream.Shard(rules, engine.tallies), []
            commands = engine.handle(Read(records[done:], now))
        elif under_way:
            batch = under_way.pop(dice.randrange(len(under_way)))
            failed = not poison.isdisjoint(batch.ids)
            failures.update(batch.ids if failed else ())
            outcome = Outcome.FAILED if failed else Outcome.ENDED
            commands = engine.handle(Called(batch.number, outcome, now, now))
            continue
        else:
            commands = []
        now += 100.0
        commands += engine.handle(Tick(now, now))
    splits = rules.limits.records.bit_length() if bisect else 0
    assert most <= retries + 1 + splits


TestQueue = QueueMachine.TestCase
TestShard = ShardMachine.TestCase
TestQueue.settings = TestShard.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
