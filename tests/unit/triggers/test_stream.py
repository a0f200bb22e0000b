"""What the engine of a shard does, step by step."""

from lambent_frontend.triggers.core.batches import Limits
from lambent_frontend.triggers.core.messages import (
    EXHAUSTED,
    OVERSIZED,
    TOO_OLD,
    Batch,
    Call,
    Called,
    Checkpoint,
    Command,
    Discard,
    Outcome,
    Read,
    Record,
    Stop,
    Tallied,
    Tally,
    Tick,
)
from lambent_frontend.triggers.core.stream import BLOCKED_MOST_S, GATHER_S, UNLIMITED, Rules, Shard


def shard(
    records: int = 4,
    window_s: float = 0.0,
    lanes: int = 1,
    retries: int = UNLIMITED,
    max_age_s: float = UNLIMITED,
    bisect: bool = False,
    tallies: tuple[Tally, ...] = (),
) -> Shard:
    return Shard(Rules(Limits(records, window_s), lanes, retries, max_age_s, bisect), tallies)


def read(engine: Shard, ids: str, now: float = 0.0, **facts: object) -> list[Command]:
    given = [Record(it, 10, **facts) for it in ids]  # type: ignore[arg-type]
    return engine.handle(Read(given, now)) + engine.handle(Tick(now, now))


def ended(engine: Shard, number: int, outcome: Outcome, now: float = 0.0, failed: str = "") -> list[Command]:
    return engine.handle(Called(number, outcome, now, now, frozenset(failed)))


def called(commands: list[Command]) -> list[str]:
    return ["".join(it.batch.ids) for it in commands if isinstance(it, Call)]


def test_in_order_and_one_at_a_time() -> None:
    engine = shard()
    assert called(read(engine, "abcdef")) == ["abcd"]
    commands = ended(engine, 1, Outcome.ENDED)
    assert commands == [Call(Batch(2, tuple(Record(it, 10) for it in "ef"))), Checkpoint("d")]


def test_a_failed_batch_comes_again() -> None:
    """After a pause that grows; what is behind it waits."""
    engine = shard()
    read(engine, "abcdef")
    assert ended(engine, 1, Outcome.FAILED, 10.0) == [Tallied((Tally("a", 4, 1, 1, 10.0),))]
    assert engine.next_at == 11.0
    assert called(engine.handle(Tick(11.0, 0))) == ["abcd"]
    assert ended(engine, 2, Outcome.FAILED, 11.0) == [Tallied((Tally("a", 4, 2, 2, 10.0),))]
    assert engine.next_at == 13.0


def test_given_up_after_its_retries() -> None:
    """Two retries are three calls. Then the next batch is called with."""
    engine = shard(retries=2)
    read(engine, "abcdef")
    for number in (1, 2):
        assert [type(it) for it in ended(engine, number, Outcome.FAILED)] == [Tallied]
        engine.handle(Tick(100.0, 0))
    given_up, called_next, checkpoint = ended(engine, 3, Outcome.FAILED, 100.0)
    assert isinstance(given_up, Discard)
    assert ("".join(given_up.batch.ids), given_up.condition, given_up.calls) == ("abcd", EXHAUSTED, 3)
    assert called([called_next]) == ["ef"]
    assert checkpoint == Checkpoint("d")


def test_no_batch_blocks_its_shard_for_ever() -> None:
    """Not even without a limit."""
    engine = shard()
    read(engine, "abcdef")
    ended(engine, 1, Outcome.FAILED, 5.0)
    engine.handle(Tick(BLOCKED_MOST_S, 0))
    commands = ended(engine, 2, Outcome.FAILED, 5.0 + BLOCKED_MOST_S)
    assert [type(it) for it in commands] == [Discard, Call, Checkpoint]


def test_bisecting_finds_the_one_that_fails() -> None:
    """A split uses up no retry: with none allowed the others are called with all the same."""
    engine = shard(bisect=True, retries=0)
    commands = read(engine, "abcd")
    calls, given_up = [], []
    for _ in range(10):
        for call in [it for it in commands if isinstance(it, Call)]:
            ids = "".join(call.batch.ids)
            calls.append(ids)
            commands = ended(engine, call.batch.number, Outcome.FAILED if "c" in ids else Outcome.ENDED)
            given_up += ["".join(it.batch.ids) for it in commands if isinstance(it, Discard)]
    assert calls == ["abcd", "ab", "cd", "c", "d"]
    assert given_up == ["c"]


def test_reported_failures() -> None:
    """The checkpoint is before the lowest; all from there on come again, also those not reported."""
    engine = shard()
    read(engine, "abcd")
    tallied = Tallied((Tally("b", 3, 1, 1, 0.0),))
    assert ended(engine, 1, Outcome.ENDED, failed="cb") == [tallied, Checkpoint("a")]
    assert called(engine.handle(Tick(1.0, 0))) == ["bcd"]


def test_reported_failures_and_bisecting() -> None:
    """The batch is split at the lowest, at once and without using up a retry."""
    engine = shard(bisect=True, retries=0)
    read(engine, "abcd")
    commands = ended(engine, 1, Outcome.ENDED, failed="c")
    assert called(commands) == ["cd"]
    assert called(ended(engine, 2, Outcome.ENDED, failed="c")) == ["c"]


def test_too_old_is_given_up_uncalled() -> None:
    engine = shard(max_age_s=60)
    engine.handle(Read([Record("a", 1, written_at=0.0), Record("b", 1, written_at=50.0)], 0))
    given_up, call, checkpoint = engine.handle(Tick(0.0, 100.0))
    assert isinstance(given_up, Discard)
    assert (given_up.batch.ids, given_up.condition, given_up.calls) == (("a",), TOO_OLD, 0)
    assert called([call]) == ["b"]
    assert checkpoint == Checkpoint("a")


def test_throttles_are_no_attempts() -> None:
    engine = shard(retries=0)
    read(engine, "ab")
    for number, now in ((1, 0.0), (2, 50.0), (3, 150.0)):
        assert ended(engine, number, Outcome.NEVER_RAN, now) == []
        assert called(engine.handle(Tick(now + 60.0, 0))) == ["ab"]


def test_lanes_keep_the_order_of_keys() -> None:
    """Two lanes call at once, and the checkpoint waits for the one behind."""
    engine = shard(records=1, lanes=2)
    keys = {"a": "v", "b": "v", "c": "x", "d": "x"}
    engine.handle(Read([Record(it, 1, key=key) for it, key in keys.items()], 0))
    assert called(engine.handle(Tick(0, 0))) == ["a", "c"]
    assert called(ended(engine, 2, Outcome.ENDED)) == ["d"]
    assert ended(engine, 3, Outcome.ENDED) == []
    assert called(ended(engine, 1, Outcome.ENDED)) == ["b"]
    assert ended(engine, 4, Outcome.ENDED)[-1] == Checkpoint("d")


def test_what_is_not_wanted_is_passed_over() -> None:
    engine = shard()
    assert read(engine, "ab", wanted=False) == [Checkpoint("b")]


def test_too_large_is_split() -> None:
    engine = shard()
    read(engine, "ab")
    assert called(ended(engine, 1, Outcome.TOO_LARGE)) == ["a"]
    commands = ended(engine, 2, Outcome.TOO_LARGE)
    assert isinstance(commands[0], Discard)
    assert commands[0].condition == OVERSIZED


def test_the_window() -> None:
    engine = shard(window_s=2.0)
    assert called(read(engine, "ab", 1.0)) == []
    assert engine.next_at == 3.0
    assert called(read(engine, "cd", 2.0)) == ["abcd"]


def test_stopping() -> None:
    """No call begins any more, and the one under way still moves the checkpoint."""
    engine = shard(records=1)
    read(engine, "ab")
    assert engine.handle(Stop()) == []
    assert engine.wants == 0
    assert not engine.idle
    assert ended(engine, 1, Outcome.ENDED) == [Checkpoint("a")]
    assert engine.idle


def test_the_next_reader_counts_on() -> None:
    """A batch that failed is formed anew as it was, and given up after as many calls as if none had died."""
    tallies: tuple[Tally, ...] = ()
    for number in range(3):
        engine = shard(retries=2, tallies=tallies)
        assert called(read(engine, "abcdef")) == ["abcd"]
        first, *_ = ended(engine, 1, Outcome.FAILED, float(number))
        tallies = engine.tallies
        assert tallies[0].since == 0.0
    assert isinstance(first, Discard)
    assert (first.batch.ids, first.condition, first.calls) == (tuple("abcd"), EXHAUSTED, 3)


def test_a_day_is_a_day_however_often_it_changes_hands() -> None:
    engine = shard(tallies=(Tally("a", 4, 9, 9, 100.0),))
    read(engine, "abcd")
    [given_up, _] = ended(engine, 1, Outcome.FAILED, 100.0 + BLOCKED_MOST_S)
    assert isinstance(given_up, Discard)


def test_the_next_reader_splits_on() -> None:
    """With what was split already; what was done with before is called with by itself."""
    engine = shard(bisect=True, retries=0)
    read(engine, "abcd")
    ended(engine, 1, Outcome.FAILED)
    ended(engine, 2, Outcome.ENDED)
    ended(engine, 3, Outcome.FAILED)
    assert [(it.first, it.records) for it in engine.tallies] == [("c", 1), ("d", 1)]
    again = shard(bisect=True, retries=0, tallies=engine.tallies)
    assert called(read(again, "abcdef")) == ["ab"]
    assert called(ended(again, 1, Outcome.ENDED)) == ["c"]
    given_up, call_next, checkpoint = ended(again, 2, Outcome.FAILED)
    assert isinstance(given_up, Discard)
    assert given_up.batch.ids == ("c",)
    assert (called([call_next]), checkpoint) == (["d"], Checkpoint("c"))


def test_those_that_failed_together_are_waited_for_a_while() -> None:
    """The source may give them out in parts, and may have forgotten some."""
    engine = shard(tallies=(Tally("a", 3, 1, 1, 0.0),))
    assert called(read(engine, "a", 1.0)) == []
    assert engine.next_at == 1.0 + GATHER_S
    assert called(read(engine, "bcd", 2.0)) == ["abc"]
    engine = shard(tallies=(Tally("a", 3, 1, 1, 0.0),))
    read(engine, "ab", 1.0)
    assert called(engine.handle(Tick(1.0 + GATHER_S, 0.0))) == ["ab"]


def test_a_tally_of_what_is_no_more_is_dropped() -> None:
    """And one of what no filter takes any more. Whatever is there is called with."""
    engine = shard(tallies=(Tally("?", 3, 7, 7, 0.0), Tally("b", 1, 7, 7, 0.0)))
    read(engine, "abcdefgh", wanted=False)
    assert called(read(engine, "ijkl")) == ["ijkl"]
    ended(engine, 1, Outcome.FAILED)
    assert engine.tallies == (Tally("i", 4, 1, 1, 0.0),)


def test_a_smaller_batch_than_the_reader_before_had() -> None:
    """The rest of those that failed comes next, with the same count."""
    engine = shard(records=2, retries=1, tallies=(Tally("a", 4, 1, 1, 0.0),))
    assert called(read(engine, "abcd")) == ["ab"]
    commands = ended(engine, 1, Outcome.FAILED)
    assert isinstance(commands[0], Discard)
    assert called(commands) == ["cd"]
    [number] = [it.batch.number for it in commands if isinstance(it, Call)]
    assert isinstance(ended(engine, number, Outcome.FAILED)[0], Discard)


def test_lanes_count_for_themselves() -> None:
    """What failed in one is called with together, whatever of the other stands between."""
    engine = shard(records=2, lanes=2)
    keys = {"a": "v", "c": "x", "b": "v", "d": "x"}
    engine.handle(Read([Record(it, 1, key=key) for it, key in keys.items()], 0))
    assert called(engine.handle(Tick(0, 0))) == ["ab", "cd"]
    ended(engine, 1, Outcome.FAILED)
    again = shard(records=2, lanes=2, tallies=engine.tallies)
    again.handle(Read([Record(it, 1, key=key) for it, key in keys.items()], 0))
    commands = again.handle(Tick(0, 0))
    assert [it.batch.attempts for it in commands if isinstance(it, Call)] == [1, 0]
