"""Which objects are called with: each state of each once, whatever is overwritten, deleted, or read anew."""

import random
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambent_frontend.triggers.core import objects
from lambent_frontend.triggers.core.objects import Failures, Object, Objects


def some(key: str, state: str = "1") -> Object:
    return Object(key, state, 1, 0.0, "e")


def look(seen: Objects, there: Iterable[Object], now: float) -> list[Object]:
    listing = seen.listing()
    for each in there:
        listing.add(each)
    return seen.seen(listing, now)


def kept_by(first: Objects, into: dict[int, str]) -> Objects:
    """Another reader, with what the first one kept."""
    into.update(first.to_keep())
    second = Objects(first.settle_s)
    second.load(into)
    return second


def test_each_is_given_out_once() -> None:
    seen = Objects()
    assert look(seen, [some("a"), some("b")], 0.0) == [some("a"), some("b")]
    assert look(seen, [some("a"), some("b"), some("c")], 1.0) == [some("c")]
    seen.done(some("a"))
    assert look(seen, [some("a"), some("b")], 2.0) == []


def test_one_that_was_overwritten_is_another() -> None:
    """Also while the one before is in hand."""
    seen = Objects()
    look(seen, [some("a")], 0.0)
    assert look(seen, [some("a", "2")], 1.0) == [some("a", "2")]
    seen.done(some("a"))
    seen.done(some("a", "2"))
    assert look(seen, [some("a", "2")], 2.0) == []
    assert look(seen, [some("a", "1")], 3.0) == [some("a", "1")]


def test_one_that_went_and_comes_again_is_new() -> None:
    seen = Objects()
    look(seen, [some("a")], 0.0)
    seen.done(some("a"))
    look(seen, [], 1.0)
    assert look(seen, [some("a")], 2.0) == [some("a")]


def test_what_still_grows_waits() -> None:
    """Until it has been the same for long enough."""
    seen = Objects(settle_s=2.0)
    assert look(seen, [some("a", "1")], 0.0) == []
    assert look(seen, [some("a", "2")], 1.5) == []
    assert seen.settling == 1
    assert look(seen, [some("a", "2")], 3.0) == []
    assert look(seen, [some("a", "2")], 3.5) == [some("a", "2")]
    assert seen.settling == 0


def test_the_next_reader_goes_on() -> None:
    """With what was done with; what was in hand comes again."""
    seen, kept = Objects(), dict[int, str]()
    look(seen, [some("a"), some("b")], 0.0)
    seen.done(some("a"))
    assert look(kept_by(seen, kept), [some("a"), some("b")], 1.0) == [some("b")]
    assert seen.to_keep() == {}


def test_what_is_kept_is_bounded() -> None:
    """By what is there, however much has come and gone; and one mark more changes one segment."""
    seen, kept, at = Objects(), dict[int, str](), 0.0
    for n in range(60):
        there = [some(f"{n}-{m}") for m in range(500)]
        for each in look(seen, there, at):
            seen.done(each)
        kept.update(seen.to_keep())
    marks = sum(map(len, kept.values())) / objects.MARK
    assert marks <= 2 * 500 + objects.SPARE + 500
    assert len(kept) <= 5
    [one] = look(seen, [*there, some("more")], at)
    seen.done(one)
    [segment] = seen.to_keep().values()
    assert len(segment) <= objects.SEGMENT * objects.MARK


def test_a_reader_that_dies_while_it_keeps_many_segments_leaves_all_marks() -> None:
    """Also where marks of nothing are taken out of all segments: what is there is not called with again."""
    many, few = [some(str(n)) for n in range(10_000)], [some(str(n)) for n in range(0, 10_000, 4)]
    seen = Objects()
    for each in look(seen, many, 0.0):
        seen.done(each)
    kept = seen.to_keep()
    look(seen, few, 1.0)
    changed = seen.to_keep()
    assert sum(map(len, changed.values())) == len(few) * objects.MARK
    for number, marks in changed.items():
        kept[number] = marks
        other = Objects()
        other.load(kept)
        assert look(other, few, 2.0) == []


def test_what_is_done_with_while_it_is_listed() -> None:
    """It is not given out again, whether it was found before or after that."""
    seen = Objects()
    first, second = look(seen, [some("a"), some("b")], 0.0)
    listing = seen.listing()
    seen.done(first)
    for each in (some("a"), some("b"), some("c")):
        listing.add(each)
    seen.done(second)
    assert seen.seen(listing, 1.0) == [some("c")]
    assert look(seen, [some("a"), some("b"), some("c")], 2.0) == []


def test_a_listing_holds_whole_what_may_be_new_alone() -> None:
    """Of a hundred thousand known ones nothing but their marks."""
    seen = Objects()
    for each in look(seen, [some("a"), some("b")], 0.0):
        seen.done(each)
    listing = seen.listing()
    for each in (some("a"), some("b"), some("c")):
        listing.add(each)
    assert (len(listing.marks), listing.fresh) == (3, [some("c")])


def test_failures_are_kept_in_parts_and_go_with_their_objects() -> None:
    failures = Failures()
    failures.failed("a1", 1)
    failures.failed("a1", 2)
    failures.failed("b1", 1)
    kept = failures.to_keep()
    assert kept == {"a": {"a1": 2}, "b": {"b1": 1}}
    assert failures.to_keep() == {}
    other = Failures()
    other.load(kept)
    assert (other.of("a1"), other.of("b1"), other.of("c1")) == (2, 1, 0)
    other.forget("b1")
    other.only({"b1"})
    assert (other.of("a1"), other.of("b1")) == (0, 0)
    other.failed("a2", 1)
    assert other.to_keep() == {"a": {"a2": 1}}


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60), readers=st.booleans())
def test_nothing_is_left_out_and_nothing_comes_twice(seed: int, steps: int, *, readers: bool) -> None:
    """Objects are made, overwritten and deleted, and readers take over from each other."""
    dice = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects, "SEGMENT", 3)
        patch.setattr(objects, "SPARE", 2)
        there: dict[str, int] = {}
        seen, kept, calls = Objects(), dict[int, str](), list[Object]()
        in_hand: list[Object] = []
        last = 0
        for _ in range(steps):
            match dice.randrange(5):
                case 0 | 1:
                    last += 1
                    there[f"k{dice.randrange(12)}"] = last
                case 2 if there:
                    del there[dice.choice(sorted(there))]
                case 3:
                    in_hand += look(seen, [some(key, str(state)) for key, state in there.items()], 0.0)
                case 4 if in_hand:
                    each = in_hand.pop(dice.randrange(len(in_hand)))
                    calls.append(each)
                    seen.done(each)
            if readers and dice.randrange(8) == 0:
                seen, in_hand = kept_by(seen, kept), []
        for _ in range(2):
            in_hand += look(seen, [some(key, str(state)) for key, state in there.items()], 0.0)
            while in_hand:
                calls.append(in_hand.pop())
                seen.done(calls[-1])
        assert {(key, str(state)) for key, state in there.items()} <= {(it.key, it.state) for it in calls}
        assert len(calls) == len({(it.key, it.state) for it in calls})
