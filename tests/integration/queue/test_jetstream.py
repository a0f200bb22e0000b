"""The queue in JetStream: several frontends, one that is gone, a NATS that is away, and one that is full."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from lambent_frontend.queue.core.lanes import Run
from lambent_frontend.queue.core.verdict import Tally
from lambent_frontend.queue.follower import CannotFollow
from lambent_frontend.queue.jetstream import JetStreamStore
from lambent_frontend.queue.sqlite import CannotOpen
from lambent_frontend.queue.store import Asked, Ending, Key, State
from lambent_frontend.queue.stream import STREAM
from lambent_frontend.wire import new_request_id
from lambent_proto.errors import NotReady, QueueFull
from lambent_proto.ids import FunctionName, RequestId
from tests.brokers import processes
from tests.brokers.aws import free_port
from tests.e2e.load import eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

F = FunctionName("f")
ASKED = Asked(F, "")
DONE = Ending(State.SUCCEEDED, "Success", ended=20.0)
MOST_BYTES = 3_000_000


class Frontends:
    """Opens stores, each that of one frontend, and closes them at the end."""

    def __init__(self, url: str, folder: Path, stack: AsyncExitStack) -> None:
        self.url = url
        self._folder = folder
        self._stack = stack

    async def start(self, name: str) -> JetStreamStore:
        store = await JetStreamStore.open([self.url], self._folder / name, name, most_bytes=MOST_BYTES)
        self._stack.push_async_callback(store.close)
        await store.hold(name)
        return store


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with processes.nats(tmp_path / "nats") as url:
        yield url


@pytest.fixture
async def frontends(url: str, tmp_path: Path) -> AsyncIterator[Frontends]:
    async with AsyncExitStack() as stack:
        yield Frontends(url, tmp_path, stack)


async def put(store: JetStreamStore, payload: bytes = b"{}", key: Key | None = None) -> RequestId:
    event = new_request_id()
    await store.put(event, ASKED, payload, 10.0, key)
    return event


async def known(store: JetStreamStore, event: RequestId, state: State) -> None:
    """Once the frontend knows it as being in that state."""

    async def holds() -> bool:
        found = await store.get(F, event)
        return found is not None and found[0].state is state

    await eventually(holds, "it knows")


async def run_of(store: JetStreamStore, event: RequestId) -> Run:
    """What would be run of it now."""
    found = await store.get(F, event)
    assert found is not None
    return Run(F, found[0].item)


async def test_each_runs_its_own_and_knows_all(frontends: Frontends) -> None:
    one, two = await frontends.start("one"), await frontends.start("two")
    event = await put(one)
    await known(two, event, State.QUEUED)
    assert [lane for lane, _ in await one.lanes()] == [F]
    assert not await two.lanes()
    assert not await two.end(await run_of(two, event), DONE, Tally(10.0, 1), 20.0)


async def test_what_one_cancels_another_does_not_run(frontends: Frontends) -> None:
    one, two = await frontends.start("one"), await frontends.start("two")
    event = await put(one)
    await known(two, event, State.QUEUED)
    before = await two.cancel(F, event, 12.0)
    assert before is not None
    assert before.state is State.QUEUED
    assert not await one.end(await run_of(one, event), DONE, Tally(10.0, 1), 20.0)
    await known(one, event, State.CANCELLED)


async def test_what_one_redrives_its_frontend_hears_of(frontends: Frontends) -> None:
    one, two = await frontends.start("one"), await frontends.start("two")
    heard: list[tuple[str, float]] = []
    event = await put(one)
    dead = Ending(State.DEAD, "RetriesExhausted", failed=True, ended=20.0)
    await one.end(await run_of(one, event), dead, Tally(10.0, 3), 20.0, b"{}")
    await known(two, event, State.DEAD)
    one.tell(lambda lane, due: heard.append((lane, due)))
    await two.redrive(F, event, 30.0)
    await known(one, event, State.QUEUED)
    assert heard == [(F, 30.0)]


async def test_the_queue_of_one_that_is_gone_is_taken_over(frontends: Frontends, tmp_path: Path) -> None:
    """With its events, however long, and those that wait for another attempt; its folder is not needed."""
    one = await frontends.start("one")
    long = b"7" * 1_048_576
    first, second = await put(one, long), await put(one)
    await one.again(await run_of(one, second), 70.0, Tally(10.0, 1), "no")
    await one.close()
    two = await frontends.start("two")
    assert "one" in await two.queues()
    heard: list[tuple[str, float]] = []
    two.tell(lambda lane, due: heard.append((lane, due)))
    await two.hold("one")
    assert heard == [(F, 10.0)]
    items = await two.next(F, 10)
    loaded = await two.load([Run(F, it) for it in items])
    assert {it.id: payload for it, payload, _ in loaded} == {first: long, second: b"{}"}
    assert [it.due for it in items] == [10.0, 70.0]
    assert await two.end(Run(F, items[0]), DONE, Tally(10.0, 1), 20.0, long)
    three = await frontends.start("three")
    found = await three.get(F, first)
    assert found is not None
    assert found[1] == long


async def test_of_two_that_believe_to_have_an_event_one_ends_it(frontends: Frontends) -> None:
    one = await frontends.start("one")
    two = await frontends.start("two")
    event = await put(one)
    await known(two, event, State.QUEUED)
    await two.hold("one")
    run = await run_of(two, event)
    lost = Ending(State.DEAD, "RetriesExhausted", failed=True, ended=20.0)
    ended = await asyncio.gather(
        one.end(run, DONE, Tally(10.0, 1), 20.0, b"1"), two.end(run, lost, Tally(10.0, 3), 20.0, b"2")
    )
    assert sorted(ended) == [False, True]
    state = State.SUCCEEDED if ended[0] else State.DEAD
    await known(one, event, state)
    await known(two, event, state)


async def test_a_key_is_one_for_all_frontends(frontends: Frontends) -> None:
    one, two = await frontends.start("one"), await frontends.start("two")
    events = [new_request_id() for _ in range(20)]
    took = await asyncio.gather(
        *(
            store.put(it, ASKED, b"{}", 10.0, Key("k", b"d", 10.0, 100.0))
            for it, store in zip(events, 10 * [one, two], strict=True)
        )
    )
    assert sum(it.before is None for it in took) == 1
    assert len({it.before.id for it in took if it.before}) == 1
    for store in (one, two):
        await known(store, next(it.before.id for it in took if it.before), State.QUEUED)
        assert len(await store.list(F, None, 0, 100)) == 1


async def test_a_key_s_answer_is_known_however_long(frontends: Frontends) -> None:
    """Longer than what a server takes in one message; and nothing is left of it when the key is forgotten."""
    one, two = await frontends.start("one"), await frontends.start("two")
    key, event, answer = Key("k", b"d", 10.0, 100.0), new_request_id(), b"7" * 1_200_000
    assert await one.reserve(F, key, event) is None
    await one.answered(F, key, answer)

    async def told() -> bool:
        before = await two.reserve(F, key, new_request_id())
        return before is not None and before.answer == answer

    await eventually(told, "the other one knows the answer")
    await one.forget(30.0, 30.0, 100, 101.0)
    await one.forget(30.0, 30.0, 100, 101.0)
    assert (await one.counts()).bytes < 1000


async def test_a_key_whose_event_never_came_has_it_put(frontends: Frontends) -> None:
    """Its frontend was killed after it had kept the key."""
    one, two = await frontends.start("one"), await frontends.start("two")
    key, event = Key("k", b"d", 10.0, 100.0), new_request_id()
    assert await one.reserve(F, key, event) is None
    await one.close()
    taken = await two.put(new_request_id(), ASKED, b"[1]", 11.0, key)
    assert taken.before is not None
    assert taken.before.id == event
    assert await two.get(F, event) is not None


async def test_what_is_forgotten_is_so_everywhere(frontends: Frontends) -> None:
    one, two = await frontends.start("one"), await frontends.start("two")
    event = await put(one, b"1" * 600_000)
    await one.end(await run_of(one, event), DONE, Tally(10.0, 1), 20.0, b"1")
    await known(two, event, State.SUCCEEDED)
    await two.forget(30.0, 30.0, 100, 30.0)
    assert await two.get(F, event) is not None  # it is for its own frontend
    await one.forget(30.0, 30.0, 100, 30.0)

    async def forgotten() -> bool:
        return await two.get(F, event) is None

    await eventually(forgotten, "it is forgotten")
    await one.forget(30.0, 30.0, 100, 30.0)
    assert (await one.counts()).bytes < 1000  # of its pieces nothing is left, and of it that it is gone
    three = await frontends.start("three")
    assert await three.get(F, event) is None


async def test_full_it_refuses_what_is_new_and_ends_what_it_has(frontends: Frontends) -> None:
    store = await frontends.start("one")
    taken = []
    puts = [put(store, b"1" * 50_000) for _ in range(100)]
    for result in await asyncio.gather(*puts, return_exceptions=True):
        if isinstance(result, str):
            taken.append(result)
        else:
            assert isinstance(result, QueueFull), result
            assert "nothing was kept" in result.message
    assert 40 < len(taken) < 61
    for event in taken:
        assert await store.end(await run_of(store, event), DONE, Tally(10.0, 1), 20.0, b"1")
    await put(store, b"1" * 50_000)


async def test_what_was_taken_grows_in_a_full_queue_and_none_is_lost(url: str, tmp_path: Path) -> None:
    """Its end and its next attempt are longer than it was."""
    store = await JetStreamStore.open([url], tmp_path / "one", "one", most_bytes=30_000)
    await store.hold("one")
    taken: list[RequestId] = []
    while len(taken) < 1000:
        try:
            taken.append(await put(store))
        except QueueFull:
            break
    assert 20 < len(taken) < 1000
    for event in taken[::2]:
        assert await store.end(await run_of(store, event), DONE, Tally(10.0, 1), 20.0, b"1" * 500)
    for event in taken[1::2]:
        assert await store.again(await run_of(store, event), 70.0, Tally(10.0, 1), "no" * 100)
    await store.close()
    store = await JetStreamStore.open([url], tmp_path / "one", "one", most_bytes=30_000)
    assert {it.id for it in await store.list(F, None, 0, 1000)} == set(taken)
    await store.close()


async def test_what_is_gone_from_the_stream_is_so_in_the_copy(url: str, frontends: Frontends) -> None:
    """By somebody's hand, or while it was away: nothing waits for it for ever."""
    import nats

    store = await frontends.start("one")
    event, key = await put(store), Key("k", b"d", 10.0, 11.0)
    run = await run_of(store, event)
    await store.reserve(F, key, event)
    client = await nats.connect(url)
    await client.jetstream().purge_stream("lambent-queue")
    await client.close()
    assert not await store.end(run, DONE, Tally(10.0, 1), 20.0)
    assert await store.get(F, event) is None
    assert await store.reserve(F, Key("k", b"d", 20.0, 100.0), event) is None


async def test_away_it_refuses_and_loses_nothing(tmp_path: Path) -> None:
    """NATS is killed, and started again with the same folder at the same port."""
    port = free_port()
    async with AsyncExitStack() as stack:
        with processes.nats(tmp_path / "nats", port) as url:
            frontends = Frontends(url, tmp_path, stack)
            store = await frontends.start("one")
            events = [await put(store) for _ in range(100)]
            run = await run_of(store, events[0])
        with pytest.raises(NotReady, match="does not answer"):
            await put(store)
        with pytest.raises(NotReady):
            await store.end(run, DONE, Tally(10.0, 1), 20.0)
        assert await store.get(F, events[0]) is not None
        with processes.nats(tmp_path / "nats", port):

            async def again() -> bool:
                try:
                    return await store.end(run, DONE, Tally(10.0, 1), 20.0, b"1")
                except NotReady:
                    return False

            await eventually(again, "NATS is back")
            await put(store)
            other = await frontends.start("two")
            assert {it.id for it in await other.list(F, None, 0, 1000)} >= set(events)
            assert (await other.list(F, State.SUCCEEDED, 0, 10))[0].id == events[0]


async def test_without_a_server_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(CannotOpen, match=r"127\.0\.0\.1:1 cannot be reached"):
        await JetStreamStore.open(["nats://127.0.0.1:1"], tmp_path, "one", most_bytes=MOST_BYTES)


async def test_a_stream_that_was_made_anew_is_not_followed(frontends: Frontends) -> None:
    """As where NATS lost its disk: its numbers begin again, and nothing would seem to be new."""
    one = await frontends.start("one")
    for _ in range(3):
        await put(one)
    assert await one.stream.connection.jetstream().delete_stream(STREAM)
    await put(await frontends.start("two"))
    with pytest.raises(CannotFollow, match="made anew"):
        await one.run()


async def test_a_connection_that_nats_ended_for_good(frontends: Frontends) -> None:
    store = await frontends.start("one")
    await store.stream.connection.close()
    with pytest.raises(CannotFollow, match="for good"):
        await store.run()
