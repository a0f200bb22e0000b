"""The queue in JetStream where something is wrong with a message, a copy, a writer, or a frontend."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import nats
import pytest

from lambent_chassis import clock
from lambent_frontend.calling import Called, Calling
from lambent_frontend.invoker import Invoker
from lambent_frontend.queue import follower
from lambent_frontend.queue.core.lanes import Run
from lambent_frontend.queue.core.verdict import Tally
from lambent_frontend.queue.jetstream import JetStreamStore
from lambent_frontend.queue.messages import Arrived, Image
from lambent_frontend.queue.once import Once
from lambent_frontend.queue.queue import Queue
from lambent_frontend.queue.store import Ending, Key, State
from lambent_frontend.queue.stream import PREFIX, STREAM
from lambent_frontend.wire import new_request_id
from lambent_proto.errors import DeadlinePassed, LostWithWorker, NotReady, Throttled
from lambent_proto.ids import RequestId
from lambent_proto.v1 import invoke_pb2
from tests.brokers import processes
from tests.brokers.aws import free_port
from tests.e2e.load import eventually
from tests.integration.queue.test_jetstream import ASKED, DONE, F, Frontends, known, put, run_of
from tests.unit.scripted import AnyFunction, ScriptedDispatcher, answer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

LONG = b"7" * 700_000
LOST = Ending(State.DEAD, "RetriesExhausted", failed=True, ended=20.0)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with processes.nats(tmp_path / "nats") as url:
        yield url


@pytest.fixture
async def frontends(url: str, tmp_path: Path) -> AsyncIterator[Frontends]:
    async with AsyncExitStack() as stack:
        yield Frontends(url, tmp_path, stack)


@pytest.fixture
async def client(url: str) -> AsyncIterator[Any]:
    """Of a stranger to the queue."""
    connection = await nats.connect(url)
    yield connection.jetstream()
    await connection.close()


async def test_what_another_took_is_known_at_once(frontends: Frontends) -> None:
    """Who has a call's id asks whichever frontend, and the copy of that one may not have heard yet."""
    one, other = await frontends.start("one"), await frontends.start("other")
    for _ in range(100):
        assert await other.get(F, await put(one)) is not None
    cancelled = await other.cancel(F, await put(one), 20.0)
    assert cancelled is not None
    assert cancelled.state is State.QUEUED


@pytest.mark.parametrize("event", ["*", ">", "a.b", "", "a b", "0" * 65, str(new_request_id())])
async def test_what_nobody_took_is_unknown(frontends: Frontends, event: str) -> None:
    """An id that is no subject's end is not asked for."""
    store = await frontends.start("one")
    await put(store)
    assert await store.get(F, RequestId(event)) is None


async def used(store: JetStreamStore) -> int:
    return (await store.counts()).bytes


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets all frontends' clocks forward."""
    now = clock.unix_s

    def set_forward(seconds: float) -> None:
        monkeypatch.setattr(clock, "unix_s", lambda: now() + seconds)

    return set_forward


# Messages

IMAGE = Image(
    id=RequestId("e"),
    function=F,
    queue="one",
    lane=F,
    due=1.0,
    size=2,
    received=1.0,
    asked=ASKED.encode(),
    payload=b"{}",
)
UNREADABLE = [
    ("event.e", b"this is not msgpack"),
    ("event.e", b"\xc1"),
    ("event.e", b"\x93\x01\x02\x03"),
    ("event.other", IMAGE.encode()),
    ("event.e", Image(**{**{it: getattr(IMAGE, it) for it in Image.__slots__}, "asked": b"?"}).encode()),
    ("event.e", Image(**{**{it: getattr(IMAGE, it) for it in Image.__slots__}, "state": "lost"}).encode()),
    ("event.e", Image(**{**{it: getattr(IMAGE, it) for it in Image.__slots__}, "number": 2**63}).encode()),
    (
        "event.e",
        Image(**{**{it: getattr(IMAGE, it) for it in Image.__slots__}, "payload": ("none", 2)}).encode(),
    ),
    ("key.k", b"\x90"),
    ("gone.g", b"\x91\x91\x01"),
    ("piece.nothing", b"1"),
    ("piece.e.t.first", b"1"),
    ("unheard-of.x", b"1"),
]


@pytest.mark.parametrize(("subject", "body"), UNREADABLE)
async def test_what_cannot_be_read_is_set_aside(
    frontends: Frontends, client: Any, subject: str, body: bytes
) -> None:
    """It is counted, stays in the stream, and its neighbours go on: here, and at one that starts over it."""
    one = await frontends.start("one")
    before = await put(one)
    sequence = (await client.publish(f"{PREFIX}.{subject}", body)).seq
    after = await put(one)
    for store in (one, await frontends.start("two")):
        await known(store, before, State.QUEUED)
        await known(store, after, State.QUEUED)
        assert store.unreadable == 1
        assert (await store.counts()).by_state == {"queued": 2, "unreadable": 1}
    for event in (before, after):
        assert await one.end(await run_of(one, event), DONE, Tally(10.0, 1), 20.0)
    assert (await client.get_msg(STREAM, sequence)).data == body


async def test_a_message_that_looks_like_one_of_nats_itself_holds_nothing_up(
    frontends: Frontends, client: Any
) -> None:
    """Whoever wrote it: it is a message as any other, and none of ours."""
    one = await frontends.start("one")
    await client.publish(f"{PREFIX}.event.e", b"?", headers={"Status": "100", "Description": "Idle"})
    event = await put(one)
    for store in (one, await frontends.start("two")):
        await known(store, event, State.QUEUED)
        assert store.unreadable == 1


async def test_an_event_of_which_the_last_message_cannot_be_read_does_not_run(
    frontends: Frontends, client: Any
) -> None:
    """Until somebody has written one that can be read."""
    one = await frontends.start("one")
    told: list[int] = []
    one.tell(lambda lane, due: None, told.append)
    event, run = await put(one), None
    run = await run_of(one, event)
    (good,) = [await client.get_last_msg(STREAM, f"{PREFIX}.event.{event}")]
    await client.publish(f"{PREFIX}.event.{event}", b"spoilt")

    async def aside() -> bool:
        return one.unreadable == 1

    await eventually(aside, "it is set aside")
    assert told == [0, 1]
    assert not await one.lanes()
    assert not await one.end(run, DONE, Tally(10.0, 1), 20.0)
    await client.publish(f"{PREFIX}.event.{event}", good.data)
    await known(one, event, State.QUEUED)
    assert await one.end(await run_of(one, event), DONE, Tally(10.0, 1), 20.0)


async def test_a_key_that_cannot_be_read_is_taken_by_who_needs_it(frontends: Frontends, client: Any) -> None:
    one = await frontends.start("one")
    key = Key("k", b"d", 10.0, 100.0)
    assert await one.reserve(F, key, new_request_id()) is None
    subject = (await client.get_last_msg(STREAM, f"{PREFIX}.key.>")).subject
    await client.publish(subject, b"spoilt")
    assert await (await frontends.start("two")).reserve(F, key, new_request_id()) is None


# Writers


async def test_two_holders_answers_are_not_mixed(frontends: Frontends) -> None:
    """Of one event, longer than a message: one end counts, with its own answer, whoever starts later."""
    one, two = await frontends.start("one"), await frontends.start("two")
    event = await put(one)
    await known(two, event, State.QUEUED)
    await two.hold("one")
    run = await run_of(two, event)
    ended = await asyncio.gather(
        one.end(run, DONE, Tally(10.0, 1), 20.0, b"1" * 700_000),
        two.end(run, LOST, Tally(10.0, 3), 20.0, b"2" * 700_000),
    )
    assert sorted(ended) == [False, True]
    found = await (await frontends.start("three")).get(F, event)
    assert found is not None
    assert found[1] == (b"1" if ended[0] else b"2") * 700_000


async def test_a_late_holder_changes_nothing_that_the_next_one_has_done(frontends: Frontends) -> None:
    """The record that is on its way stays on its way, with the answer that it tells."""
    one, two = await frontends.start("one"), await frontends.start("two")
    event = await put(one)
    await known(two, event, State.QUEUED)
    late = await run_of(one, event)
    ((loaded, _, _),) = await one.load([late])
    await two.hold("one")
    ending = Ending(State.DEAD, "RetriesExhausted", (">there",), failed=True, ended=20.0)
    assert await two.end(late, ending, Tally(10.0, 3), 20.0, b'"theirs"')
    assert not await one.end(late, DONE, loaded.tally, 30.0, b'"mine"')
    assert not await one.again(late, 80.0, Tally(10.0, 1), "mine")
    assert [lane for lane, _ in await two.lanes()] == [">there"]
    ((there, _, said),) = await two.load([Run(">there", (await run_of(two, event)).item)])
    assert (there.ending, said) == (ending, b'"theirs"')


@pytest.mark.parametrize("fresh", [False, True])
async def test_pieces_of_what_was_never_written_are_removed(
    frontends: Frontends, later: Any, fresh: bool
) -> None:
    """After an hour, as their event may yet come; what is in pieces and came stays whole."""
    one = await frontends.start("one")
    event = await put(one, LONG)
    before = await used(one)
    await one._in_pieces(new_request_id(), LONG)
    sweeping = await frontends.start("two") if fresh else one
    await sweeping.follower.until(await one.stream.publish("piece.x.y.0", b"1"))
    await sweeping.forget(0.0, 0.0, 100, 30.0)
    assert await used(one) > before + len(LONG)
    later(3700.0)
    await sweeping.forget(0.0, 0.0, 100, 30.0)
    assert await used(one) < before + 1000
    three = await frontends.start("three")
    ((_, payload, _),) = await one.load([await run_of(one, event)])
    assert payload == LONG
    assert (await three.counts()).by_state == {"queued": 1}


async def test_pieces_of_what_cannot_be_read_stay(frontends: Frontends, client: Any, later: Any) -> None:
    """A frontend of the release that wrote it shall find all of it."""
    one = await frontends.start("one")
    event = new_request_id()
    await one._in_pieces(event, LONG)
    sequence = (await client.publish(f"{PREFIX}.event.{event}", b"of a later release")).seq
    await one.follower.until(sequence)
    later(3700.0)
    await one.forget(0.0, 0.0, 100, 30.0)
    assert await used(one) > len(LONG)


async def test_an_answer_that_another_took_the_place_of_is_removed(frontends: Frontends) -> None:
    one = await frontends.start("one")
    event = await put(one)
    await one.end(await run_of(one, event), LOST, Tally(10.0, 3), 20.0, LONG)
    await one.redrive(F, event, 30.0)
    await one.forget(0.0, 0.0, 100, 30.0)
    assert await used(one) < 2000
    await one.end(await run_of(one, event), LOST, Tally(30.0, 3), 40.0, LONG)
    found = await (await frontends.start("two")).get(F, event)
    assert found is not None
    assert found[1] == LONG


@pytest.mark.parametrize("which", [0, 1, 2])
async def test_to_forget_goes_on_where_it_was_cut_off(frontends: Frontends, client: Any, which: int) -> None:
    """Some were deleted, and the copies not told: the first of the stream, one in its middle, the last."""
    one = await frontends.start("one")
    events = [await put(one) for _ in range(3)]
    for event in events:
        await one.end(await run_of(one, event), DONE, Tally(10.0, 1), 20.0)
    sequences = [(await client.get_last_msg(STREAM, f"{PREFIX}.event.{it}")).seq for it in events]
    assert await client.delete_msg(STREAM, sequences[which])
    await one.forget(30.0, 30.0, 100, 30.0)
    assert not (await one.counts()).by_state
    assert await used(one) < 500


# Copies


class Stalled:
    """A copy that takes nothing until it is let go."""

    def __init__(self, store: JetStreamStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = asyncio.Event()
        self._apply = store._copy.apply
        monkeypatch.setattr(store._copy, "apply", self.apply)
        monkeypatch.setattr(follower, "TAKING_S", 0.2)

    async def apply(self, batch: Sequence[Arrived], now: float) -> Sequence[tuple[str, float]]:
        await self.go.wait()
        return await self._apply(batch, now)


async def test_where_the_copy_is_behind_what_is_stored_is_taken(
    frontends: Frontends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller is told so, and the event runs once the copy has heard of it."""
    one = await frontends.start("one")
    heard: list[tuple[str, float]] = []
    one.tell(lambda lane, due: heard.append((lane, due)))
    stalled = Stalled(one, monkeypatch)
    event, keyed = await put(one), await put(one, key=Key("k", b"d", 10.0, 100.0))
    assert not heard
    other = await frontends.start("other")
    for it in (event, keyed):
        await known(other, it, State.QUEUED)
    stalled.go.set()
    for it in (event, keyed):
        await known(one, it, State.QUEUED)
    assert heard == [(F, 10.0)] * 2


async def test_where_the_copy_is_behind_an_end_is_not_over_before_it_knows(
    frontends: Frontends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would run what its copy has as waiting still."""
    one = await frontends.start("one")
    run = await run_of(one, await put(one))
    stalled = Stalled(one, monkeypatch)
    with pytest.raises(NotReady, match="behind"):
        await one.end(run, DONE, Tally(10.0, 1), 20.0)
    stalled.go.set()

    async def over() -> bool:
        return not await one.lanes()

    await eventually(over, "it is over")
    assert not await one.end(run, DONE, Tally(10.0, 1), 20.0)


async def test_who_was_away_for_long_makes_the_copy_anew(
    frontends: Frontends, client: Any, later: Any
) -> None:
    """What is gone meanwhile, and is told no longer, is gone here too; all the rest is known all along."""
    one, two = await frontends.start("one"), await frontends.start("two")
    key = Key("k", b"d", 10.0, 100.0)
    kept, long, gone = await put(one), await put(one, LONG, key), await put(one)
    await known(two, gone, State.QUEUED)
    there = await client.get_last_msg(STREAM, f"{PREFIX}.event.{gone}")
    await client.delete_msg(STREAM, there.seq)
    two.follower._arrived.put_nowait(None)
    await known(two, await put(one), State.QUEUED)
    assert await two.get(F, gone) is not None  # nobody has told
    later(2000.0)
    two.follower._arrived.put_nowait(None)

    async def forgotten() -> bool:
        for it in (kept, long):
            assert await two.get(F, it) is not None
        return await two.get(F, gone) is None

    await eventually(forgotten, "it is gone from the copy")
    before = await two.reserve(F, key, new_request_id())
    assert before is not None
    assert before.id == long
    await two.hold("one")
    assert len(await two.next(F, 10)) == 3


@pytest.mark.parametrize("others", [0, 10])
async def test_a_stream_that_was_set_back_is_copied_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    """As where the only server lost its power: it gives numbers once more, and what comes then is run. Also
    where others have put more meanwhile than was lost."""
    folder, port = tmp_path / "nats", free_port()
    async with AsyncExitStack() as stack:
        with processes.nats(folder, port) as url:
            frontends = Frontends(url, tmp_path, stack)
            one = await frontends.start("one")
            kept, changed = await put(one), await put(one)
        shutil.copytree(folder, tmp_path / "before")
        with processes.nats(folder, port):
            lost = [await taken(one) for _ in range(5)]
            assert await one.again(await run_of(one, changed), 30.0, Tally(10.0, 1), "")
            copied = one.follower.sequence
        shutil.rmtree(folder)
        shutil.move(tmp_path / "before", folder)
        look, made = asyncio.Event(), one.stream.made

        async def at_last() -> Any:
            await look.wait()
            return await made()

        monkeypatch.setattr(one.stream, "made", at_last)
        with processes.nats(folder, port):
            two = await frontends.start("two")
            if not others:
                look.set()
                await eventually(lambda: one.follower.sequence < copied, "it is copied anew")
            new = await taken(one)
            for _ in range(others):
                await put(two)
            look.set()

            async def in_line() -> bool:
                return {it[0].id for it in await one.load(await runs(one))} == {kept, changed, new}

            await eventually(in_line, "what the stream has is run")
            assert [await one.get(F, it) for it in lost] == [None] * 5
            assert await one.end(await run_of(one, changed), DONE, Tally(10.0, 1), 20.0)


async def test_a_stream_that_has_less_for_a_moment_was_not_set_back(
    frontends: Frontends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a cluster whose leader is new: nothing of the copy is thrown away."""
    one, two = await frontends.start("one"), await frontends.start("two")
    event, made, said = await put(one), two.stream.made, [1, 0]
    await known(two, event, State.QUEUED)

    async def less() -> Any:
        since, last = await made()
        return since, (said.pop() if said else last)

    async def emptied() -> None:
        thrown_away.append(event)

    thrown_away: list[RequestId] = []
    monkeypatch.setattr(two.stream, "made", less)
    monkeypatch.setattr(two._copy, "emptied", emptied)
    await put(one)
    await two.follower.until(2)
    two.follower._arrived.put_nowait(None)
    await eventually(lambda: not said, "it has looked")
    await known(two, await put(one), State.QUEUED)
    assert not thrown_away


async def taken(store: JetStreamStore) -> RequestId:
    """Of a new event, once NATS is there."""
    events: list[RequestId] = []

    async def put_one() -> bool:
        try:
            events.append(await put(store))
        except NotReady:
            return False
        return True

    await eventually(put_one, "NATS is back")
    return events[0]


async def runs(store: JetStreamStore) -> list[Run]:
    return [Run(F, it) for it in await store.next(F, 100)]


# Frontends


async def test_a_frontend_runs_its_queue_once_it_holds_it(frontends: Frontends, tmp_path: Path) -> None:
    """Not before: another one may have it."""
    store = await JetStreamStore.open([frontends.url], tmp_path / "x", "x", most_bytes=10**6)
    heard: list[tuple[str, float]] = []
    store.tell(lambda lane, due: heard.append((lane, due)))
    event = await put(store)
    run = await run_of(store, event)
    assert (list(await store.lanes()), heard) == ([], [])
    assert not await store.end(run, DONE, Tally(10.0, 1), 20.0)
    await store.hold("x")
    assert heard == [(F, 10.0)]
    assert await store.end(run, DONE, Tally(10.0, 1), 20.0)
    await store.close()


async def test_a_key_outlives_its_event(frontends: Frontends, later: Any) -> None:
    """Which is forgotten as the queue is full of results: it is not run a second time, hours later, wherever
    its key is sent."""
    one = await frontends.start("one")
    key = Key("k", b"d", 10.0, 100_000.0)
    event = await put(one, key=key)
    await one.end(await run_of(one, event), DONE, Tally(10.0, 1), 20.0)
    await one.forget(0.0, 0.0, 0, 30.0)
    assert await one.get(F, event) is None
    later(4000.0)
    await one.forget(0.0, 0.0, 0, 30.0)
    for store in (one, await frontends.start("two")):
        taken = await store.put(new_request_id(), ASKED, b"{}", 50_000.0, key)
        assert taken.before is not None
        assert (taken.number, taken.before.id) == (0, event)
        assert not (await store.counts()).by_state
    await one.forget(0.0, 0.0, 0, 200_000.0)
    later(8000.0)
    await one.forget(0.0, 0.0, 0, 200_000.0)
    assert await used(one) < 300


class Caller:
    """A frontend's synchronous calls, over a dispatcher that holds what is for `held`; no queue is run."""

    def __init__(self, store: JetStreamStore, there: set[str]) -> None:
        self.dispatcher = ScriptedDispatcher()
        self._invoker = Invoker(AnyFunction(), self.dispatcher, waiting_s=1)
        queue = Queue(
            store,
            self._invoker,
            None,  # type: ignore[arg-type]
            now=lambda: 10.0,
            results_s=1000,
            given_up_s=1000,
        )

        self._calling = Calling(self._invoker, queue, Once(store, self._invoker, there.__contains__))

    def begin(self, deadline_s: float = 30.0) -> "asyncio.Task[Called]":
        request = invoke_pb2.InvokeRequest(function_name="held", payload=b"1", idempotency_key="k")
        return asyncio.create_task(self._calling.call(request, new_request_id(), deadline_s))

    async def holds(self) -> None:
        await self.dispatcher.until(lambda: bool(self.dispatcher.held))


async def test_a_call_with_a_key_waits_for_the_one_at_another_frontend(frontends: Frontends) -> None:
    one, two = await frontends.start("one"), await frontends.start("two")
    first, second = Caller(one, {"one", "two"}), Caller(two, {"one", "two"})
    begun = first.begin()
    await first.holds()
    waiting = second.begin()
    with pytest.raises(DeadlinePassed, match="still runs"):
        await second.begin(deadline_s=0.5)
    first.dispatcher.release(b"1")
    told = await waiting
    assert told.answer == (await begun).answer == answer(b"1")
    assert told.request_id == (await begun).request_id
    assert not second.dispatcher.calls


async def test_a_call_whose_first_one_never_ran_elsewhere_is_made_here(frontends: Frontends) -> None:
    one, two = await frontends.start("one"), await frontends.start("two")
    first, second = Caller(one, {"one", "two"}), Caller(two, {"one", "two"})
    begun = first.begin()
    await first.holds()
    waiting = second.begin()
    ((call, done),) = first.dispatcher.held.values()
    done(Throttled("full", call.request_id))
    with pytest.raises(Throttled):
        await begun
    await second.holds()
    second.dispatcher.release(b"1")
    assert (await waiting).answer == answer(b"1")


async def test_a_call_whose_first_one_s_frontend_died_is_told(
    frontends: Frontends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once that is certain."""
    monkeypatch.setattr("lambent_frontend.queue.once.GONE_S", 0.5)
    one, two = await frontends.start("one"), await frontends.start("two")
    there = {"one", "two"}
    first, second = Caller(one, there), Caller(two, there)
    begun = first.begin()
    await first.holds()
    waiting = second.begin()
    there.remove("one")
    with pytest.raises(LostWithWorker, match="its frontend ended"):
        await waiting
    first.dispatcher.release(b"1")
    await begun
