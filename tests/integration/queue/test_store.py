"""What a store of the queue must do: the same for each that there is."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from lambent_frontend.queue.core.lanes import Run
from lambent_frontend.queue.core.verdict import Tally
from lambent_frontend.queue.jetstream import JetStreamStore
from lambent_frontend.queue.sqlite import SqliteStore
from lambent_frontend.queue.store import Asked, Ending, Key, State, Store
from lambent_frontend.wire import new_request_id
from lambent_proto.ids import FunctionName, RequestId
from tests.brokers import processes

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

F, G = FunctionName("f"), FunctionName("g")
Open = Callable[[], Awaitable[Store]]

DONE = Ending(State.SUCCEEDED, "Success", version="$LATEST", running_ms=1.5, ended=20.0)
LOST = Ending(State.DEAD, "RetriesExhausted", failed=True, version="7", ended=20.0)


async def sqlite(folder: Path) -> Store:
    return SqliteStore.open(folder, most_bytes=100_000_000, spare_bytes=1)


@pytest.fixture(params=["sqlite", "jetstream"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the store, each time the same one."""
    if request.param == "sqlite":
        yield lambda: sqlite(tmp_path / "queue")
        return
    with processes.nats(tmp_path / "nats") as url:

        async def jetstream() -> Store:
            store = await JetStreamStore.open([url], tmp_path / "copy", "here", most_bytes=100_000_000)
            await store.hold("here")
            return store

        yield jetstream


@pytest.fixture
async def store(opened: Open) -> AsyncIterator[Store]:
    store = await opened()
    yield store
    await store.close()


async def put(
    store: Store, function: FunctionName = F, payload: bytes = b"{}", now: float = 10.0
) -> RequestId:
    event = new_request_id()
    await store.put(event, Asked(function, "live", tenant="t"), payload, now, None)
    return event


async def run_of(store: Store, event: RequestId, lane: str = F) -> Run:
    """What would be run of it now."""
    found = await store.get(F, event)
    assert found is not None
    return Run(lane, found[0].item)


def key(text: str = "k", digest: bytes = b"d", now: float = 10.0) -> Key:
    return Key(text, digest, now, now + 100)


async def test_what_was_taken_is_there_after_the_store_is_opened_anew(opened: Open) -> None:
    store = await opened()
    event = await put(store, payload=b'{"a": 1}')
    await store.close()
    store = await opened()
    assert list(await store.lanes()) == [(F, 10.0)]
    (item,) = await store.next(F, 10)
    ((loaded, payload, answer),) = await store.load([Run(F, item)])
    assert (loaded.id, payload, answer) == (event, b'{"a": 1}', b"")
    assert loaded.asked == Asked(F, "live", tenant="t")
    assert (loaded.state, loaded.tally, item.size) == (State.QUEUED, Tally(10.0), 8)
    await store.close()


async def test_a_lane_s_events_come_by_due_time_and_then_in_their_order(store: Store) -> None:
    late = await put(store, now=30.0)
    first, second = await put(store, now=10.0), await put(store, now=10.0)
    await put(store, G, now=5.0)
    runs = [Run(F, it) for it in await store.next(F, 10)]
    loaded = {it.item.number: it.id for it, _, _ in await store.load(runs)}
    assert [loaded[it.item.number] for it in runs] == [first, second, late]
    assert len(await store.next(F, 2)) == 2
    assert sorted(await store.lanes()) == [(F, 10.0), (G, 5.0)]


async def test_what_failed_waits_until_it_is_due_again(store: Store) -> None:
    event = await put(store)
    run = await run_of(store, event)
    assert await store.again(run, 70.0, Tally(10.0, 1, 2), "it said no")
    found = await store.get(F, event)
    assert found is not None
    assert (found[0].state, found[0].tally, found[0].message) == (
        State.RETRYING,
        Tally(10.0, 1, 2),
        "it said no",
    )
    assert [it.due for it in await store.next(F, 10)] == [70.0]


async def test_what_has_ended_leaves_its_lane_and_keeps_its_answer(store: Store) -> None:
    event = await put(store)
    run = await run_of(store, event)
    assert await store.end(run, DONE, Tally(10.0, 1), 20.0, b'"done"')
    assert not await store.next(F, 10)
    assert not await store.lanes()
    assert not await store.load([run])
    found = await store.get(F, event)
    assert found is not None
    assert (found[0].state, found[0].ending, found[1]) == (State.SUCCEEDED, DONE, b'"done"')
    assert not await store.end(run, LOST, Tally(10.0, 1), 20.0)
    assert not await store.again(run, 70.0, Tally(10.0, 1), "")


async def test_a_record_goes_to_one_destination_after_the_other(store: Store) -> None:
    """And keeps event and answer for them."""
    event = await put(store, payload=b"[1]")
    run = await run_of(store, event)
    ending = Ending(State.DEAD, "RetriesExhausted", (">one", "!two"), failed=True, ended=20.0)
    await store.end(run, ending, Tally(10.0, 3), 20.0, b'{"errorType": "E"}')
    assert list(await store.lanes()) == [(">one", 20.0)]
    delivery = await run_of(store, event, ">one")
    ((loaded, payload, answer),) = await store.load([delivery])
    assert (payload, answer, loaded.state) == (b"[1]", b'{"errorType": "E"}', State.DELIVERING)
    assert await store.end(delivery, ending.without_first_target(), Tally(10.0, 3), 25.0)
    assert list(await store.lanes()) == [("!two", 25.0)]
    delivery = await run_of(store, event, "!two")
    over = ending.without_first_target().without_first_target()
    assert await store.end(delivery, over, Tally(10.0, 3), 26.0)
    found = await store.get(F, event)
    assert found is not None
    assert (found[0].state, found[1]) == (State.DEAD, b'{"errorType": "E"}')


async def test_who_is_late_changes_nothing(store: Store) -> None:
    """What was run is told, and its event has gone on since: another frontend has run it, or it was sent for
    by hand. Neither its next attempt nor its record on the way is touched.
    """
    event = await put(store)
    late = await run_of(store, event)
    assert await store.again(late, 70.0, Tally(10.0, 1), "no")
    assert not await store.load([late])
    assert not await store.end(late, DONE, Tally(10.0, 1), 20.0, b"1")
    assert not await store.again(late, 80.0, Tally(10.0, 5), "late")
    second = await run_of(store, event)
    ((loaded, _, _),) = await store.load([second])
    assert (loaded.tally, loaded.item.due, loaded.message) == (Tally(10.0, 1), 70.0, "no")
    ending = Ending(State.DEAD, "RetriesExhausted", (">one",), failed=True, ended=75.0)
    assert await store.end(second, ending, Tally(10.0, 2), 75.0, b'"theirs"')
    for run in (late, second):
        assert not await store.end(run, DONE, Tally(10.0, 1), 20.0, b'"mine"')
        assert not await store.again(run, 80.0, Tally(10.0, 5), "late")
    ((loaded, _, answer),) = await store.load([await run_of(store, event, ">one")])
    assert (loaded.state, loaded.ending, answer) == (State.DELIVERING, ending, b'"theirs"')


async def test_what_is_cancelled_never_runs(store: Store) -> None:
    event = await put(store)
    run = await run_of(store, event)
    before = await store.cancel(F, event, 12.0)
    assert before is not None
    assert before.state is State.QUEUED
    assert list(await store.next(F, 10)) == []
    assert not await store.end(run, DONE, Tally(10.0, 1), 20.0)
    again = await store.cancel(F, event, 13.0)
    assert again is not None
    assert again.state is State.CANCELLED


async def test_what_was_given_up_can_be_run_again(store: Store) -> None:
    """As if it had just come, with its event."""
    event = await put(store, payload=b"[7]")
    run = await run_of(store, event)
    untouched = await store.redrive(F, event, 30.0)
    assert untouched is not None
    assert untouched.state is State.QUEUED
    await store.end(run, LOST, Tally(10.0, 3), 20.0, b"{}")
    before = await store.redrive(F, event, 30.0)
    assert before is not None
    assert before.state is State.DEAD
    ((loaded, payload, answer),) = await store.load([await run_of(store, event)])
    assert (loaded.state, loaded.tally, loaded.ending) == (State.QUEUED, Tally(30.0), None)
    assert (payload, answer, loaded.item.due) == (b"[7]", b"", 30.0)


async def test_calls_are_known_by_their_function_too(store: Store) -> None:
    event = await put(store)
    assert await store.get(G, event) is None
    assert await store.cancel(G, event, 1.0) is None
    assert await store.redrive(G, event, 1.0) is None
    assert await store.get(F, new_request_id()) is None


async def test_lists_go_on_where_they_ended(store: Store) -> None:
    events = [await put(store) for _ in range(5)]
    await put(store, G)
    await store.cancel(F, events[1], 11.0)
    first = await store.list(F, None, 0, 3)
    assert [it.id for it in first] == events[:3]
    assert [it.id for it in await store.list(F, None, first[-1].item.number, 3)] == events[3:]
    assert [it.id for it in await store.list(F, State.CANCELLED, 0, 3)] == [events[1]]


async def test_a_key_stands_for_one_call(store: Store) -> None:
    first, second = new_request_id(), new_request_id()
    taken = await store.put(first, Asked(F, ""), b"{}", 10.0, key())
    assert taken.before is None
    again = await store.put(second, Asked(F, ""), b"{}", 11.0, key())
    assert again.before is not None
    assert (again.before.id, again.before.digest) == (first, b"d")
    assert await store.get(F, second) is None
    assert (await store.put(second, Asked(G, ""), b"{}", 11.0, key())).before is None


async def test_of_calls_at_one_time_with_one_key_one_is_taken(store: Store) -> None:
    events = [new_request_id() for _ in range(20)]
    took = await asyncio.gather(*(store.put(it, Asked(F, ""), b"{}", 10.0, key()) for it in events))
    assert sum(it.before is None for it in took) == 1
    assert len(await store.next(F, 100)) == 1


async def test_a_key_is_forgotten_after_its_time(store: Store) -> None:
    await store.put(new_request_id(), Asked(F, ""), b"{}", 10.0, key(now=10.0))
    assert (await store.put(new_request_id(), Asked(F, ""), b"{}", 111.0, key(now=111.0))).before is None


async def test_a_synchronous_call_s_answer_is_kept_by_its_key(store: Store) -> None:
    event = new_request_id()
    assert await store.reserve(F, key(), event) is None
    known = await store.reserve(F, key(), new_request_id())
    assert known is not None
    assert (known.id, known.answer) == (event, None)
    await store.answered(F, key(), b"42")
    known = await store.reserve(F, key(), new_request_id())
    assert known is not None
    assert known.answer == b"42"
    await store.answered(F, key(), None)
    assert await store.reserve(F, key(), event) is None


async def test_what_is_old_is_forgotten(store: Store) -> None:
    """What was given up later than what went well; what is under way never."""
    done, lost, waiting = await put(store), await put(store), await put(store)
    await store.end(await run_of(store, done), DONE, Tally(10.0, 1), 20.0, b"1")
    await store.end(await run_of(store, lost), LOST, Tally(10.0, 3), 20.0, b"1")
    await store.forget(19.0, 19.0, 100, 25.0)
    assert await store.get(F, done) is not None
    await store.forget(21.0, 19.0, 100, 25.0)
    assert await store.get(F, done) is None
    assert await store.get(F, lost) is not None
    await store.forget(21.0, 21.0, 100, 25.0)
    assert await store.get(F, lost) is None
    assert await store.get(F, waiting) is not None


async def test_no_more_results_are_kept_than_may(store: Store) -> None:
    """The oldest go first."""
    events = [await put(store) for _ in range(5)]
    for at, event in enumerate(events):
        ending = Ending(State.SUCCEEDED, "Success", ended=20.0 + at)
        await store.end(await run_of(store, event), ending, Tally(10.0, 1), 20.0, b"1")
    await store.forget(0.0, 0.0, 2, 30.0)
    assert [it.id for it in await store.list(F, None, 0, 10)] == events[3:]


async def test_many_at_one_time(store: Store) -> None:
    """Each is taken once, and all are counted."""
    await asyncio.gather(*(put(store) for _ in range(1000)))
    assert len(await store.next(F, 2000)) == 1000
    assert (await store.counts()).by_state == {"queued": 1000}


async def test_what_is_there_is_counted_over_all_functions(store: Store) -> None:
    """By state alone."""
    event = [await put(store, function) for function in (F, F, G, F)][-1]
    assert await store.cancel(F, event, 20.0) is not None
    assert (await store.counts()).by_state == {"queued": 3, "cancelled": 1}


async def test_the_age_of_the_oldest_that_has_not_ended(store: Store) -> None:
    """What has ended is no older one."""
    assert (await store.counts()).oldest is None
    first = await put(store, now=5.0)
    await put(store, now=7.0)
    assert (await store.counts()).oldest == 5.0
    assert await store.cancel(F, first, 20.0) is not None
    assert (await store.counts()).oldest == 7.0
