"""The queue over a real file, a dispatcher that does as the test says, and a clock that the test sets."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from lambent_frontend.calling import Called, Calling
from lambent_frontend.invoker import Invoker
from lambent_frontend.queue.core.verdict import Condition, Policy
from lambent_frontend.queue.destinations import MOST_TURNS, Destinations, Refused, lane_of_record
from lambent_frontend.queue.once import Once
from lambent_frontend.queue.queue import Known, Queue
from lambent_frontend.queue.records import Record
from lambent_frontend.queue.runner import DELIVERIES, Runner
from lambent_frontend.queue.sqlite import SqliteStore
from lambent_frontend.queue.store import Asked
from lambent_frontend.wire import new_request_id
from lambent_proto.errors import (
    InUse,
    InvalidRequest,
    LostWithWorker,
    NotReady,
    PayloadTooLarge,
    QueueFull,
    Throttled,
    UnknownFunction,
    UnknownRequest,
)
from lambent_proto.ids import FunctionName, RequestId
from lambent_proto.v1 import invoke_pb2
from tests.unit.scripted import AnyFunction, ScriptedDispatcher, answer

pytestmark = pytest.mark.timeout(60)

EVENT = invoke_pb2.INVOCATION_TYPE_EVENT
WITHIN_S = 20.0


class Scene:
    """One frontend's queue. `policy` and `targets` are what is configured for every function."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1000.0
        self.policy_ = Policy()
        self.targets_: dict[Condition, tuple[str, ...]] = {}
        self.delivered: list[tuple[str, Record]] = []
        self.destinations: Destinations | None = None
        """What delivers; None: every record is taken, and kept in `delivered`."""
        self.refuses = 0
        """So many deliveries are refused."""
        self.deliveries = 0
        self._tried = asyncio.Event()
        self.functions = Functions()
        self.most_in_lane = 4
        self.hanging: asyncio.Event | None = None
        """Records for a lane with `hangs` in its name wait for it."""
        self.open()

    def open(self) -> None:
        """As the frontend is started."""
        self.dispatcher = ScriptedDispatcher()
        self.store = SqliteStore.open(self.folder, most_bytes=50_000_000, spare_bytes=1)
        invoker = Invoker(self.functions, self.dispatcher, waiting_s=1)
        self.runner = Runner(
            self.store,
            invoker,
            self.functions,
            self,
            self.deliver,
            Counter(),
            now=lambda: self.now,
            most_in_lane=self.most_in_lane,
        )
        self.queue = Queue(
            self.store, invoker, self.runner, now=lambda: self.now, results_s=3600, given_up_s=86_400
        )
        self.calling = Calling(invoker, self.queue, Once(self.store, invoker))
        self.running = asyncio.create_task(self.queue.run())

    async def close(self) -> None:
        self.queue.take_no_more()
        await self.queue.stop(0)
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        await self.store.close()

    def policy(self, asked: Asked) -> Policy:
        return self.policy_

    def targets(self, asked: Asked, condition: Condition) -> tuple[str, ...]:
        return self.targets_.get(condition, ())

    async def deliver(self, lane: str, record: Record) -> None:
        self.deliveries += 1
        self._tried.set()
        if self.hanging is not None and "hangs" in lane:
            await self.hanging.wait()
        if self.destinations is not None:
            await self.destinations.deliver(lane, record)
        if self.refuses:
            self.refuses -= 1
            raise Refused("not now")
        self.delivered.append((lane, record))

    async def tried(self, times: int) -> None:
        """So many deliveries have begun."""
        async with asyncio.timeout(WITHIN_S):
            while self.deliveries < times:
                self._tried.clear()
                await self._tried.wait()

    async def call(self, name: str, payload: bytes = b"{}", key: str = "", kind: int = EVENT) -> Called:
        request = invoke_pb2.InvokeRequest(
            function_name=name,
            payload=payload,
            idempotency_key=key,
            invocation_type=invoke_pb2.InvocationType.ValueType(kind),
        )
        return await self.calling.call(request, new_request_id())

    async def begin(self, name: str, payload: bytes = b"{}", key: str = "") -> RequestId:
        return (await self.call(name, payload, key)).request_id

    async def until(self, name: str, event: RequestId, state: str) -> Known:
        """The call once it has come so far."""
        known: Known | None = None
        try:
            async with asyncio.timeout(WITHIN_S):
                while True:
                    known = await self.queue.get(FunctionName(name), event)
                    now = "running" if known.attempt else known.event.state.value
                    if now == state:
                        return known
        except TimeoutError:
            raise AssertionError(f"it is not {state}: {known}") from None

    async def wait(self, seconds: float) -> None:
        self.now += seconds
        self.runner.wake()

    async def holds(self, payload: bytes) -> None:
        held = self.dispatcher.held
        await self.dispatcher.until(lambda: any(call.payload == payload for call, _ in held.values()))

    async def called(self, times: int) -> None:
        await self.dispatcher.until(lambda: len(self.dispatcher.calls) >= times)


class Functions(AnyFunction):
    def __init__(self) -> None:
        self.off: set[str] = set()
        self.made = "r1"

    def get(self, name: FunctionName) -> Any:
        from dataclasses import replace

        found = super().get(name)
        found = replace(found, made=self.made) if found else None
        return replace(found, concurrency=0) if found and name in self.off else found


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path / "queue")
    yield scene
    await scene.close()


async def test_an_event_is_run_and_its_answer_kept(scene: Scene) -> None:
    event = await scene.begin("echo", b'{"a": 1}')
    known = await scene.until("echo", event, "succeeded")
    assert known.answer == b'{"a": 1}'
    assert [call.request_id for call in scene.dispatcher.calls] == [event]


async def test_a_function_that_fails_is_run_three_times_by_the_clock(scene: Scene) -> None:
    """At once, after a minute, and two minutes after that."""
    event = await scene.begin("failing")
    for waits in (60.0, 120.0):
        known = await scene.until("failing", event, "retrying")
        assert known.event.item.due == scene.now + waits
        calls = len(scene.dispatcher.calls)
        await scene.wait(waits - 0.5)
        assert (await scene.until("failing", event, "retrying")).event.item.due == scene.now + 0.5
        assert len(scene.dispatcher.calls) == calls
        await scene.wait(0.5)
        await scene.called(calls + 1)
    known = await scene.until("failing", event, "dead")
    assert known.event.ending is not None
    assert (known.event.ending.condition, known.event.tally.attempts) == ("RetriesExhausted", 3)
    assert json.loads(known.answer) == {"errorType": "E"}


@pytest.mark.parametrize("error", [Throttled("full"), NotReady("no placement")])
async def test_what_is_throttled_waits_and_uses_no_attempt_up(scene: Scene, error: Exception) -> None:
    """It is asked again after a second, then after two, and others do not wait for it."""
    scene.dispatcher.errors["full"] = error  # type: ignore[assignment]
    event = await scene.begin("full")
    for calls, pause in ((1, 1.0), (2, 2.0), (3, 4.0)):
        await scene.called(calls)
        other = await scene.begin("echo")
        await scene.until("echo", other, "succeeded")
        assert len([it for it in scene.dispatcher.calls if it.definition.name == "full"]) == calls
        await scene.wait(pause)
    del scene.dispatcher.errors["full"]
    await scene.wait(8.0)
    assert (await scene.until("full", event, "succeeded")).event.tally.attempts == 1


async def test_what_was_lost_runs_again(scene: Scene) -> None:
    scene.dispatcher.errors["lost"] = LostWithWorker("the worker is gone")
    event = await scene.begin("lost")
    known = await scene.until("lost", event, "retrying")
    assert (known.event.tally.attempts, known.event.tally.breaks) == (0, 1)
    assert known.event.message == "the worker is gone"
    del scene.dispatcher.errors["lost"]
    await scene.wait(1.0)
    await scene.until("lost", event, "succeeded")


@pytest.mark.parametrize(
    ("prepare", "condition"),
    [
        (lambda scene: scene.functions.off.add("f"), "ZeroReservedConcurrency"),
        (lambda scene: scene.dispatcher.errors.update(f=UnknownFunction("gone")), "FunctionGone"),
    ],
)
async def test_what_cannot_run_is_given_up(
    scene: Scene, prepare: Callable[[Scene], None], condition: str
) -> None:
    prepare(scene)
    known = await scene.until("f", await scene.begin("f"), "dead")
    assert known.event.ending is not None
    assert known.event.ending.condition == condition


async def test_what_waited_too_long_is_given_up_without_a_run(scene: Scene) -> None:
    scene.policy_ = Policy(most_age_s=100)
    scene.dispatcher.errors["full"] = Throttled("full")
    event = await scene.begin("full")
    await scene.called(1)
    await scene.wait(101.0)
    known = await scene.until("full", event, "dead")
    assert known.event.ending is not None
    assert known.event.ending.condition == "EventAgeExceeded"
    assert len(scene.dispatcher.calls) == 1


async def test_one_function_s_queue_does_not_hold_up_another(scene: Scene) -> None:
    """Of a function that never answers four run, and the rest of the world goes on."""
    for n in range(50):
        await scene.begin("held", b"%d" % n)
    await scene.dispatcher.until(lambda: len(scene.dispatcher.held) == 4)
    for _ in range(20):
        await scene.until("echo", await scene.begin("echo"), "succeeded")
    assert len(scene.dispatcher.held) == 4


async def test_all_go_on_after_the_frontend_s_end(scene: Scene) -> None:
    """What ran and what waited: what ran is run once more."""
    events = [await scene.begin("held", b"%d" % n) for n in range(10)]
    await scene.dispatcher.until(lambda: len(scene.dispatcher.held) == 4)
    await scene.close()
    scene.open()
    for n, event in enumerate(events):
        await scene.holds(b"%d" % n)
        scene.dispatcher.release(b"%d" % n)
        await scene.until("held", event, "succeeded")


async def test_what_is_cancelled_is_not_heard_of_again(scene: Scene) -> None:
    """Whether it waits or runs; the lane is free for the next."""
    events = [await scene.begin("held", b"%d" % n) for n in range(5)]
    await scene.dispatcher.until(lambda: len(scene.dispatcher.held) == 4)
    for event in (events[4], events[0]):
        await scene.queue.cancel(FunctionName("held"), event)
        await scene.until("held", event, "cancelled")
    assert scene.dispatcher.abandoned == [events[0]]
    await scene.begin("held", b"5")
    await scene.holds(b"5")
    scene.dispatcher.release(b"1")
    await scene.until("held", events[1], "succeeded")
    with pytest.raises(InUse, match="is over, succeeded"):
        await scene.queue.cancel(FunctionName("held"), events[1])
    with pytest.raises(UnknownRequest):
        await scene.queue.cancel(FunctionName("held"), new_request_id())


async def test_what_was_given_up_runs_again_when_asked(scene: Scene) -> None:
    scene.policy_ = Policy(retries=0)
    event = await scene.begin("failing")
    await scene.until("failing", event, "dead")
    scene.policy_ = Policy()
    await scene.queue.redrive(FunctionName("failing"), event)
    assert (await scene.until("failing", event, "retrying")).event.tally.attempts == 1
    with pytest.raises(InUse, match="retrying"):
        await scene.queue.redrive(FunctionName("failing"), event)


async def test_a_record_is_sent_until_it_is_taken(scene: Scene) -> None:
    """One destination after the other; then the call has failed, and is not dead."""
    scene.policy_ = Policy(retries=0)
    scene.targets_ = {Condition.RETRIES_EXHAUSTED: (">https://one", "!https://two")}
    scene.refuses = 1
    event = await scene.begin("failing", b"[1]")
    await scene.until("failing", event, "delivering")
    await scene.tried(1)
    await scene.wait(1.0)
    await scene.until("failing", event, "failed")
    (one, record), (two, letter) = scene.delivered
    assert (one, two) == (">https://one", "!https://two")
    assert json.loads(record.body)["requestContext"]["condition"] == "RetriesExhausted"
    assert (letter.body, letter.attributes["ErrorCode"]) == (b"[1]", "200")


async def test_a_record_that_nobody_takes_is_given_up(scene: Scene) -> None:
    scene.policy_ = Policy(retries=0)
    scene.targets_ = {Condition.RETRIES_EXHAUSTED: (">https://one",)}
    scene.refuses = 1000
    event = await scene.begin("failing")
    for tried in range(12):
        await scene.tried(tried + 1)
        if tried < 11:
            await _delivered_again(scene, event, tried + 1)
            await scene.wait(300.0)
    known = await scene.until("failing", event, "dead")
    assert known.event.ending is not None
    assert "not now" in known.event.ending.message
    assert scene.refuses == 1000 - 12


async def test_few_records_wait_at_one_time_for_a_destination_that_hangs(scene: Scene) -> None:
    """However many events may run at one time: those of others have places still."""
    await scene.close()
    scene.most_in_lane = 3 * DELIVERIES
    scene.open()
    scene.hanging = asyncio.Event()
    scene.targets_ = {Condition.SUCCESS: (">https://hangs",)}
    events = [await scene.begin("echo") for _ in range(3 * DELIVERIES)]
    for event in events:
        await scene.until("echo", event, "delivering")
    scene.targets_ = {Condition.SUCCESS: (">https://other",)}
    await scene.until("echo", await scene.begin("echo"), "succeeded")
    assert scene.deliveries == DELIVERIES + 1
    scene.hanging.set()
    for event in events:
        await scene.until("echo", event, "succeeded")


async def _delivered_again(scene: Scene, event: RequestId, failures: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while True:
            ending = (await scene.queue.get(FunctionName("failing"), event)).event.ending
            if ending and ending.deliveries == failures:
                return


async def test_what_is_not_taken(scene: Scene) -> None:
    with pytest.raises(PayloadTooLarge, match="1048577 byte"):
        await scene.begin("echo", b"1" * 1_048_577)
    with pytest.raises(UnknownFunction):
        await scene.begin("unknown")
    with pytest.raises(InvalidRequest, match="idempotency key"):
        await scene.begin("echo", key="k" * 257)
    events = [scene.begin("held", b"1" * 1_048_576) for _ in range(60)]
    refused = [it for it in await asyncio.gather(*events, return_exceptions=True) if not isinstance(it, str)]
    assert 10 < len(refused) < 20
    assert all(isinstance(it, QueueFull) for it in refused)
    assert all(call.definition.name == "held" for call in scene.dispatcher.calls)


async def test_a_repeated_event_is_the_first_one(scene: Scene) -> None:
    first = await scene.begin("echo", b"1", key="k")
    assert await scene.begin("echo", b"1", key="k") == first
    with pytest.raises(InvalidRequest, match="came with another call"):
        await scene.begin("echo", b"2", key="k")
    assert await scene.begin("other", b"2", key="k") != first
    scene.now += 3601
    assert await scene.begin("echo", b"1", key="k") != first


async def test_a_repeated_call_waits_for_the_first_one_s_answer(scene: Scene) -> None:
    """Also if the first caller has gone away; and it is kept for those that come later, over a restart."""
    calls = [asyncio.create_task(scene.call("held", b"1", key="k", kind=0)) for _ in range(3)]
    await scene.dispatcher.until(lambda: len(scene.dispatcher.held) == 1)
    calls[0].cancel()
    await asyncio.gather(calls[0], return_exceptions=True)
    scene.dispatcher.release(b"1")
    answers = await asyncio.gather(*calls[1:])
    assert [it.answer.payload for it in answers if it.answer] == [b"1", b"1"]
    await scene.close()
    scene.open()
    later = await scene.call("held", b"1", key="k", kind=0)
    assert later.answer == answers[0].answer
    assert later.request_id == answers[0].request_id
    assert scene.dispatcher.calls == []


async def test_a_call_that_never_ran_leaves_its_key_free(scene: Scene) -> None:
    scene.dispatcher.errors["full"] = Throttled("full")
    with pytest.raises(Throttled):
        await scene.call("full", key="k", kind=0)
    del scene.dispatcher.errors["full"]
    done = await scene.call("full", key="k", kind=0)
    assert done.answer == answer(b"{}")


async def test_of_a_call_that_may_have_run_its_key_says_so(scene: Scene) -> None:
    """Whether it failed so, or its frontend died under it."""
    scene.dispatcher.errors["lost"] = LostWithWorker("gone")
    for _ in range(2):
        with pytest.raises(LostWithWorker, match="gone"):
            await scene.call("lost", key="k", kind=0)
    assert len(scene.dispatcher.calls) == 1
    cut_off = asyncio.create_task(scene.call("held", key="k", kind=0))
    await scene.dispatcher.until(lambda: len(scene.dispatcher.held) == 1)
    await scene.close()
    cut_off.cancel()
    await asyncio.gather(cut_off, return_exceptions=True)
    scene.open()
    with pytest.raises(LostWithWorker, match="was under way when its frontend ended"):
        await scene.call("held", key="k", kind=0)


async def _left_once(scene: Scene, method: str, call: Coroutine[Any, Any, Any]) -> None:
    """Whoever makes this call goes away when the store has done this, and before he hears of it."""
    work, done = getattr(scene.store, method), asyncio.Event()

    async def unheard(*args: Any) -> Any:
        told = await work(*args)
        done.set()
        await asyncio.sleep(0)  # where a cancelled caller hears of it
        return told

    setattr(scene.store, method, unheard)
    task = asyncio.create_task(call)
    async with asyncio.timeout(WITHIN_S):
        await done.wait()
    setattr(scene.store, method, work)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_event_whose_caller_left_too_soon_is_run(scene: Scene) -> None:
    """Its key may have been taken with it: who sends it again is told that it is taken."""
    await _left_once(scene, "put", scene.begin("echo", b"1", key="k"))
    again = await scene.begin("echo", b"1", key="k")
    assert (await scene.until("echo", again, "succeeded")).answer == b"1"


async def test_what_is_run_again_is_though_its_caller_left_too_soon(scene: Scene) -> None:
    scene.policy_ = Policy(retries=0)
    event = await scene.begin("failing")
    await scene.until("failing", event, "dead")
    await _left_once(scene, "redrive", scene.queue.redrive(FunctionName("failing"), event))
    await scene.called(2)


async def test_a_key_whose_caller_left_too_soon_stands_for_a_call_that_runs(scene: Scene) -> None:
    await _left_once(scene, "reserve", scene.call("echo", b"1", key="k", kind=0))
    again = await scene.call("echo", b"1", key="k", kind=0)
    assert again.answer == answer(b"1")
    assert len(scene.dispatcher.calls) == 1


async def test_a_key_that_is_free_again_is_for_who_takes_it_next(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However close behind the one before, which never ran."""
    scene.dispatcher.errors["held"] = Throttled("full")
    free, reserve = scene.store.answered, scene.store.reserve
    asked: list[RequestId] = []

    async def reserved(*args: Any) -> Any:
        known = await reserve(*args)
        asked.append(args[2])
        return known

    async def taken_at_once(*args: Any) -> None:
        await free(*args)
        monkeypatch.setattr(scene.store, "answered", free)
        del scene.dispatcher.errors["held"]
        calls.append(asyncio.create_task(scene.call("held", b"1", key="k", kind=0)))
        await scene.holds(b"1")

    calls: list[asyncio.Task[Called]] = []
    monkeypatch.setattr(scene.store, "answered", taken_at_once)
    monkeypatch.setattr(scene.store, "reserve", reserved)
    with pytest.raises(Throttled):
        await scene.call("held", b"1", key="k", kind=0)
    later = asyncio.create_task(scene.call("held", b"1", key="k", kind=0))
    async with asyncio.timeout(WITHIN_S):
        while len(asked) < 3:
            await scene.queue.counts()
    scene.dispatcher.release(b"1")
    first, second = await asyncio.gather(*calls, later)
    assert first.answer == second.answer == answer(b"1")
    assert len(scene.dispatcher.calls) == 2


async def test_a_function_that_is_its_own_destination_does_not_go_round_for_ever(scene: Scene) -> None:
    """The last event of the row is dead, and says why; it is not tried again."""
    scene.destinations = Destinations({}, [], {})
    scene.destinations.put_record = scene.queue.put_record
    scene.policy_ = Policy(retries=0)
    itself = lane_of_record("arn:aws:lambda:us-east-1:000000000000:function:failing")
    scene.targets_[Condition.RETRIES_EXHAUSTED] = (itself,)
    first = await scene.begin("failing")
    await scene.called(MOST_TURNS)
    last = scene.dispatcher.calls[-1].request_id
    ending = (await scene.until("failing", last, "dead")).event.ending
    assert ending is not None
    assert "16th in a row" in ending.message
    assert (await scene.until("failing", first, "failed")).event.asked.turn == 0
    assert len(scene.dispatcher.calls) == scene.deliveries == MOST_TURNS


async def test_a_key_is_of_one_function_and_not_of_the_next_of_its_name(scene: Scene) -> None:
    """A new function does not get the old one's answer, nor hears that the key came with another call."""
    before = await scene.call("echo", b"1", key="k", kind=0)
    scene.functions.made = "r2"
    after = await scene.call("echo", b"2", key="k", kind=0)
    assert after.answer is not None
    assert (after.answer.payload, after.request_id != before.request_id) == (b"2", True)
    with pytest.raises(InvalidRequest, match="idempotency key 'k' came"):
        await scene.call("echo", b"3", key="k", kind=0)
