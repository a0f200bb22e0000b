"""What the engine of a queue does, step by step."""

from collections.abc import Sequence

from lambent_frontend.triggers.core.batches import Limits
from lambent_frontend.triggers.core.messages import (
    EXHAUSTED,
    MAX_BATCH_BYTES,
    MAX_HELD_BYTES,
    OVERSIZED,
    Call,
    Called,
    Command,
    Discard,
    Done,
    GiveBack,
    Outcome,
    Read,
    Record,
    Stop,
    Tick,
)
from lambent_frontend.triggers.core.queue import FIRST_CONCURRENCY, Queue, Rules


def queue(
    records: int = 3,
    window_s: float = 0.0,
    most_at_once: int = 10,
    deliveries: int | None = None,
) -> Queue:
    return Queue(Rules(Limits(records, window_s), most_at_once, deliveries))


def records(ids: str, **facts: object) -> list[Record]:
    return [Record(it, 10, **facts) for it in ids]  # type: ignore[arg-type]


def read(engine: Queue, given: Sequence[Record], now: float = 0.0) -> list[Command]:
    return engine.handle(Read(given, now)) + engine.handle(Tick(now, now))


def called(commands: list[Command]) -> list[str]:
    return ["".join(it.batch.ids) for it in commands if isinstance(it, Call)]


def test_batches_close_on_their_number() -> None:
    """Three at a time; what is left goes at once where there is no window."""
    assert called(read(queue(), records("abcdefg"))) == ["abc", "def", "g"]


def test_batches_close_on_their_window() -> None:
    """Counted from the first record of the batch."""
    engine = queue(window_s=5.0)
    assert called(read(engine, records("ab"), 1.0)) == []
    assert engine.next_at == 6.0
    assert called(engine.handle(Tick(5.9, 0))) == []
    assert called(engine.handle(Tick(6.0, 0))) == ["ab"]


def test_batches_close_on_their_size() -> None:
    """Six megabytes, and a single record whatever it has."""
    half = [Record(it, MAX_BATCH_BYTES // 2) for it in "abc"]
    assert called(read(queue(window_s=9.0), half)) == ["ab"]
    assert called(read(queue(window_s=9.0), [Record("a", 2 * MAX_BATCH_BYTES)])) == ["a"]


def test_what_is_not_wanted_is_done_with() -> None:
    engine = queue()
    assert read(engine, [*records("ab", wanted=False), *records("c")])[0] == Done(("a", "b"))
    assert engine.handle(Called(1, Outcome.ENDED, 0, 0)) == [Done(("c",))]
    assert engine.idle


def test_failures_go_back() -> None:
    """All of the batch, or those that were reported; later each time."""
    engine = queue()
    read(engine, [*records("ab"), *records("c", deliveries=2)])
    commands = engine.handle(Called(1, Outcome.FAILED, 0, 0))
    assert commands == [GiveBack(("a", "b"), 1.0), GiveBack(("c",), 2.0)]
    read(engine, records("abc"))
    commands = engine.handle(Called(2, Outcome.ENDED, 0, 0, frozenset("b")))
    assert commands == [Done(("a", "c")), GiveBack(("b",), 1.0)]


def test_given_up_after_its_deliveries() -> None:
    engine = queue(deliveries=4)
    read(engine, records("a", deliveries=4))
    [given_up] = engine.handle(Called(1, Outcome.FAILED, 0, 0))
    assert isinstance(given_up, Discard)
    assert (given_up.batch.ids, given_up.condition, given_up.calls) == (("a",), EXHAUSTED, 4)
    assert engine.idle


def test_from_the_third_delivery_on_alone() -> None:
    """So that a neighbour of one that always fails is called without it."""
    assert called(read(queue(), records("abc", deliveries=3))) == ["a", "b", "c"]
    assert called(read(queue(), [*records("ab", deliveries=3), *records("cd")])) == ["a", "b", "cd"]


def test_one_batch_of_a_key_at_a_time() -> None:
    engine = queue()
    first = read(engine, [*records("abcd", key="k"), *records("e", key="l")])
    assert called(first) == ["abc", "e"]
    assert called(engine.handle(Called(1, Outcome.ENDED, 0, 0))) == ["d"]


def test_what_waits_behind_a_failure_goes_back_too() -> None:
    """So that it comes again after it."""
    engine = queue()
    read(engine, [*records("abcd", key="k"), *records("e", key="l")])
    commands = engine.handle(Called(1, Outcome.ENDED, 0, 0, frozenset("c")))
    assert commands == [Done(("a", "b")), GiveBack(("c",), 1.0), GiveBack(("d",), None)]


def test_no_more_at_once_than_allowed() -> None:
    """Five at first, five more a second while all are in use, up to the trigger's own maximum."""
    engine = queue(records=1, most_at_once=12)
    assert engine.wants == FIRST_CONCURRENCY
    assert len(called(read(engine, records("abcdefghijklmnopq"), 0.0))) == 5
    assert engine.wants == 0
    assert len(called(engine.handle(Tick(0.9, 0)))) == 0
    assert len(called(engine.handle(Tick(1.0, 0)))) == 5
    assert len(called(engine.handle(Tick(2.0, 0)))) == 2
    assert len(called(engine.handle(Tick(9.0, 0)))) == 0


def test_short_calls_are_allowed_more_at_once_too() -> None:
    """Each ends long before the second is over, and what takes its place is read only then."""
    engine = queue(records=1, most_at_once=12)
    under_way = read(engine, records("abcde"), 0.0)
    for tenth in range(1, 31):
        now = tenth / 10
        ended, under_way = under_way[:-1], under_way[-1:]  # one is longer, so that it is never idle
        for command in ended:
            assert isinstance(command, Call)
            engine.handle(Called(command.batch.number, Outcome.ENDED, now, 0))
        under_way += read(engine, records("x" * engine.wants), now)
    assert engine.allowed == 12


def test_throttled_is_tried_again() -> None:
    """After a pause, with half of the calls at once, and it counts as no failure."""
    engine = queue(records=1)
    read(engine, records("abcde"))
    assert engine.handle(Called(1, Outcome.NEVER_RAN, 10.0, 0)) == []
    assert engine.allowed == 2
    for number in (2, 3, 4, 5):
        engine.handle(Called(number, Outcome.ENDED, 10.5, 0))
    assert engine.next_at == 11.0
    assert called(engine.handle(Tick(11.0, 0))) == ["a"]
    assert engine.handle(Called(1, Outcome.NEVER_RAN, 12.0, 0)) == []
    assert engine.next_at == 14.0


def test_what_could_not_be_called_with_stays() -> None:
    """However long it takes: the queue shall not count it as given out once more."""
    engine = queue(records=1, most_at_once=1)
    read(engine, records("ab"))
    for now in range(0, 10_000, 100):
        assert engine.handle(Called(1, Outcome.NEVER_RAN, now, 0)) == []
        assert called(engine.handle(Tick(now + 60.0, 0))) == ["a"]


def test_too_large_is_split() -> None:
    """Down to the one record that no event can hold."""
    engine = queue()
    read(engine, records("abc"))
    assert called(engine.handle(Called(1, Outcome.TOO_LARGE, 0, 0))) == ["a", "bc"]
    [given_up] = engine.handle(Called(2, Outcome.TOO_LARGE, 0, 0))
    assert isinstance(given_up, Discard)
    assert given_up.condition == OVERSIZED


def test_stopping() -> None:
    """What waits goes back at once; what runs is heard of."""
    engine = queue(records=1, most_at_once=1)
    read(engine, records("ab"))
    assert engine.handle(Stop()) == [GiveBack(("b",), 0.0)]
    assert engine.wants == 0
    assert engine.handle(Read(records("c"), 0)) == [GiveBack(("c",), 0.0)]
    assert not engine.idle
    assert engine.handle(Called(1, Outcome.ENDED, 0, 0)) == [Done(("a",))]
    assert engine.idle


def test_nothing_is_read_while_too_much_is_held() -> None:
    engine = queue()
    read(engine, [Record("a", MAX_HELD_BYTES + 1)])
    assert engine.wants == 0
    engine.handle(Called(1, Outcome.ENDED, 0, 0))
    assert engine.wants > 0


def test_halves_of_one_key_go_one_after_the_other() -> None:
    engine = queue()
    read(engine, records("ab", key="k"))
    assert called(engine.handle(Called(1, Outcome.TOO_LARGE, 0, 0))) == ["a"]
    assert called(engine.handle(Called(2, Outcome.ENDED, 0, 0))) == ["b"]


def test_nobody_looks_again_while_all_calls_are_in_use() -> None:
    """What waits is begun when one of them ends; a time that has passed is nothing to wait for."""
    engine = queue(records=1, most_at_once=1)
    assert called(read(engine, records("ab"), 5.0)) == ["a"]
    assert engine.next_at is None
    assert called(engine.handle(Called(1, Outcome.ENDED, 9.0, 0))) == ["b"]


def test_nobody_looks_again_while_what_waits_has_its_key_in_use() -> None:
    """But for what waits for its window beside it."""
    engine = queue(records=2, window_s=1.0)
    assert called(read(engine, records("abc", key="k"), 5.0)) == ["ab"]
    read(engine, records("d", key="l"), 5.5)
    assert engine.next_at == 6.0
    assert called(engine.handle(Tick(6.0, 0))) == []
    assert engine.next_at == 6.5
    assert called(engine.handle(Tick(6.5, 0))) == ["d"]
    assert engine.next_at is None
