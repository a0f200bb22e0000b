"""Schedules over a real etcd and real queues, with a clock that the test sets: each time fires once."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import pytest_asyncio
import structlog

from lambent.client import Client
from lambent_chassis.etcd import Compare, Delete, Etcd, Put, TransactionResult
from lambent_frontend.guard import Guard, permit_invocation
from lambent_frontend.invoker import Invoker
from lambent_frontend.queue.core.lanes import Run
from lambent_frontend.queue.core.verdict import Condition, Policy
from lambent_frontend.queue.queue import Known as Queued
from lambent_frontend.queue.queue import Queue
from lambent_frontend.queue.runner import Runner
from lambent_frontend.queue.sqlite import SqliteStore
from lambent_frontend.queue.store import Asked, Event
from lambent_frontend.schedules.clock import LOOK_S, SURELY_OVER_S, TAKEN_OVER_S, Clock
from lambent_frontend.schedules.door import Schedules
from lambent_frontend.schedules.event import request_id_of
from lambent_frontend.schedules.records import Progress
from lambent_proto import keys
from lambent_proto.access import Rule, new_access_key
from lambent_proto.definition import Definition
from lambent_proto.errors import (
    AccessDenied,
    Internal,
    InvalidRequest,
    LambentError,
    ScheduleExists,
    UnknownFunction,
    UnknownSchedule,
)
from lambent_proto.ids import FrontendId, FunctionName, RequestId
from lambent_proto.v1 import schedules_pb2 as pb
from tests.unit.scripted import AnyFunction, Known, ScriptedDispatcher, serving

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

WITHIN_S = 20.0
MADE = 1_700_000_040.0
"""A Tuesday, 2023-11-14 22:14:00 in UTC."""


class Functions(AnyFunction):
    def __init__(self) -> None:
        self.gone: set[str] = set()

    def get(self, name: FunctionName) -> Definition | None:
        return None if name in self.gone else super().get(name)


Meanwhile = Callable[[], Awaitable[object]]


class Interrupted:
    """A real etcd: something happens just before the next change gets there."""

    def __init__(self, etcd: Etcd) -> None:
        self.get, self.follow_prefix = etcd.get, etcd.follow_prefix
        self.meanwhile: Meanwhile | None = None
        self._etcd = etcd

    async def transaction(
        self, compare: Sequence[Compare], success: Sequence[Put | Delete]
    ) -> TransactionResult:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return await self._etcd.transaction(compare, success)


class Gate:
    """A queue that lets no event in while it is shut; something happens while it is asked."""

    def __init__(self, queue: Queue) -> None:
        self.cancel = queue.cancel
        self.meanwhile: Meanwhile | None = None
        self._get = queue.get
        self.open = asyncio.Event()
        self.open.set()
        self._put_once = queue.put_once

    async def get(self, function: FunctionName, event: RequestId) -> Queued:
        found = await self._get(function, event)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return found

    async def put_once(self, function: str, payload: bytes, event: RequestId) -> None:
        await self.open.wait()
        await self._put_once(function, payload, event)


class Frontend:
    """One with a queue and a clock, and a folder that outlives it."""

    def __init__(self, scene: "Scene", name: str) -> None:
        self.scene = scene
        self.name = name
        self.dispatcher = ScriptedDispatcher()
        self.store = SqliteStore.open(scene.folder / name, most_bytes=50_000_000, spare_bytes=1)
        invoker = Invoker(scene.functions, self.dispatcher, waiting_s=1)

        def now() -> float:
            return scene.now

        self.runner = Runner(
            *(self.store, invoker, scene.functions, scene, scene.deliver, Counter()), now=now, most_in_lane=4
        )
        self.queue = Queue(
            self.store, invoker, self.runner, now=now, results_s=1_000_000, given_up_s=1_000_000
        )
        self.gate = Gate(self.queue)
        self.etcd = Interrupted(scene.etcd)
        self.clock = Clock(self.etcd, self.gate, FrontendId(f"{name}.1"), now=now)
        self._tasks = [asyncio.create_task(it.run()) for it in (self.queue, self.clock)]

    async def kill(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.queue.stop(0)
        await self.store.close()
        self.scene.frontends.remove(self)

    def wake(self) -> None:
        self.clock.wake()
        self.runner.wake()

    async def events(self, function: str = "echo") -> list[Event]:
        return list(await self.store.list(FunctionName(function), None, 0, 1000))


class Scene:
    """A fleet's frontends, and the door before their schedules."""

    def __init__(self, etcd: Etcd, folder: Path) -> None:
        self.etcd = etcd
        self.folder = folder
        self.now = MADE
        self.functions = Functions()
        self.frontends: list[Frontend] = []
        self.denied: set[str] = set()
        self._marks = count()
        self.door = Schedules(etcd, self.functions, self._permit, now=lambda: self.now)

    def _permit(self, function: str) -> None:
        if function in self.denied:
            raise AccessDenied(function)

    def policy(self, asked: Asked) -> Policy:
        return Policy()

    def targets(self, asked: Asked, condition: Condition) -> tuple[str, ...]:
        return ()

    async def deliver(self, lane: str, record: object) -> None:
        raise AssertionError("nothing has a destination")

    def start(self, *names: str) -> list[Frontend]:
        started = [Frontend(self, name) for name in names]
        self.frontends += started
        return started

    async def create(self, name: str = "s", function: str = "echo", **given: object) -> pb.Schedule:
        settings = {"function_name": function, "expression": "rate(1 minute)"} | given
        request = pb.CreateScheduleRequest(name=name, settings=pb.ScheduleSettings(**settings))  # type: ignore[arg-type]
        return await self.door.create(request)

    async def update(self, name: str = "s", **given: object) -> pb.Schedule:
        settings = pb.ScheduleSettings(**given)  # type: ignore[arg-type]
        return await self.door.update(pb.UpdateScheduleRequest(name=name, settings=settings))

    async def told(self, name: str = "s") -> pb.Schedule:
        return await self.door.get(pb.GetScheduleRequest(name=name))

    async def progress(self, name: str = "s") -> Progress | None:
        found = await self.etcd.get(keys.fired(name))
        return Progress.decode(found.value) if found else None

    async def until(self, what: str, condition: Callable[[Progress], bool], name: str = "s") -> Progress:
        """The progress once it is so. The frontends look at the clock all the while."""
        progress = None
        try:
            async with asyncio.timeout(WITHIN_S):
                while True:
                    for frontend in self.frontends:
                        frontend.wake()
                    progress = await self.progress(name)
                    if progress is not None and condition(progress):
                        return progress
        except TimeoutError:
            raise AssertionError(f"{what}: {progress}") from None

    async def fired(self, due: float, name: str = "s") -> Progress:
        return await self.until(
            f"{name} has fired for {due - MADE:g}", lambda it: it.due == due and it.queued, name
        )

    async def decided(self, until: float, name: str = "s") -> Progress:
        return await self.until(
            f"{name} is decided until {until - MADE:g}", lambda it: it.decided_until == until, name
        )

    async def over(self, name: str = "s") -> Progress:
        """Its last event has run, and its frontend has looked once more."""
        progress = await self.until(f"{name} is queued", lambda it: it.queued, name)
        of = FunctionName(progress.function.partition(":")[0]), RequestId(progress.request_id)
        async with asyncio.timeout(WITHIN_S):
            while not await self._ended(*of):
                pass
        self.now += LOOK_S
        return await self.until(f"{name} is over", lambda it: not it.running, name)

    async def _ended(self, function: FunctionName, event: RequestId) -> bool:
        found = [await it.store.get(function, event) for it in self.frontends]
        return any(it is not None and it[0].ending is not None for it in found)

    async def watched(self) -> None:
        """Every frontend knows what is in etcd now: no claim on what was before can succeed any more.

        Shown by one more schedule of which each has a look.
        """
        marked = f"mark-{next(self._marks)}"
        await self.create(marked, function="mark", expression="rate(1000 days)")
        async with asyncio.timeout(WITHIN_S):
            while not all(marked in it.clock._view.known for it in self.frontends):
                await self.etcd.get(keys.schedule(marked))

    async def taken(self, function: str = "echo") -> list[RequestId]:
        """The events that all queues together have had."""
        await self.watched()
        return sorted([event.id for it in self.frontends for event in await it.events(function)])


@pytest_asyncio.fixture(loop_scope="module")
async def scene(etcd: Etcd, tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(etcd, tmp_path)
    yield scene
    for frontend in list(scene.frontends):
        await frontend.kill()


# Once


async def test_each_time_fires_once_however_many_frontends_there_are(scene: Scene) -> None:
    """All clocks show each time at the same moment; the ids are the same wherever they are made."""
    scene.start("a", "b", "c")
    await scene.create()
    times = [MADE + 60 * n for n in range(1, 9)]
    for due in times:
        scene.now = due + 1
        await scene.fired(due)
    assert await scene.taken() == sorted(request_id_of("s", due) for due in times)


async def test_nothing_is_fired_before_its_time(scene: Scene) -> None:
    scene.start("a")
    await scene.create()
    await scene.create("sooner", expression="at(2023-11-14T22:14:30)")
    scene.now = MADE + 59
    await scene.fired(MADE + 30, "sooner")
    assert await scene.taken() == [request_id_of("sooner", MADE + 30)]


async def test_a_jitter_puts_each_time_off(scene: Scene) -> None:
    scene.start("a")
    await scene.create(jitter_s=50.0)
    await scene.create("plain")
    scene.now = MADE + 60.3
    await scene.fired(MADE + 60, "plain")
    assert await scene.progress() is None
    scene.now = MADE + 110.3
    progress = await scene.fired(MADE + 60)
    assert progress.fired_at > MADE + 60


async def test_schedules_are_shared_out(scene: Scene) -> None:
    """Each frontend waits a part of a second of its own, another one for each schedule."""
    frontends = scene.start("a", "b")
    firsts = set()
    for n in range(8):
        await scene.create(f"s{n}", expression="at(2023-11-14T22:15:00)")
    await scene.watched()
    parts = [[it.clock._own_of(f"s{n}").part_s for it in frontends] for n in range(8)]
    for n in sorted(range(8), key=lambda n: sum(parts[n])):
        await scene.update(f"s{n}", expression=f"at(2023-11-14T22:{20 + n}:00)", enabled=True)
    for n, (a, b) in enumerate(parts):
        scene.now = MADE + 60 * (6 + n) + (a + b) / 2
        first = (await scene.fired(MADE + 60 * (6 + n), f"s{n}")).frontend
        assert first == ("a.1" if a < b else "b.1")
        firsts.add(first)
    assert len(firsts) == 2


# What becomes of it


async def test_what_the_function_gets_and_what_is_told_of_it(scene: Scene) -> None:
    (frontend,) = scene.start("a")
    made = await scene.create()
    assert (made.next_due.seconds, made.HasField("last_due")) == (MADE + 60, False)
    scene.now = MADE + 75
    await scene.fired(MADE + 60)
    await scene.over()
    (call,) = frontend.dispatcher.calls
    assert json.loads(call.payload) == {
        "version": "0",
        "id": call.request_id,
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "000000000000",
        "time": "2023-11-14T22:15:00Z",
        "region": "us-east-1",
        "resources": ["arn:aws:events:us-east-1:000000000000:rule/s"],
        "detail": {},
    }
    told = await scene.told()
    assert (told.last_due.seconds, told.last_fired.seconds) == (MADE + 60, MADE + 75)
    assert (told.last_outcome, told.last_frontend) == ("succeeded", "a.1")
    assert told.last_request_id == call.request_id
    assert told.next_due.seconds == MADE + 120


async def test_an_event_of_ones_own_and_a_qualifier(scene: Scene) -> None:
    (frontend,) = scene.start("a")
    await scene.create(function="echo:live", event=b'{"a": [1]}')
    scene.now = MADE + 61
    await scene.fired(MADE + 60)
    await scene.over()
    (call,) = frontend.dispatcher.calls
    assert (call.payload, call.definition.version) == (b'{"a": [1]}', "7")


async def test_a_function_that_is_gone_is_told_once_and_harms_no_other(scene: Scene) -> None:
    scene.start("a")
    await scene.create(function="leaves")
    await scene.create("other")
    scene.functions.gone.add("leaves")
    with structlog.testing.capture_logs() as logs:
        for due in (MADE + 60, MADE + 120):
            scene.now = due + 1
            progress = await scene.fired(due)
            await scene.fired(due, "other")
            assert not progress.running
    assert [it["schedule"] for it in logs if it["event"] == "schedule_cannot_fire"] == ["s"]
    assert "there is no function 'leaves'" in (await scene.told()).last_outcome
    scene.functions.gone.clear()
    scene.now = MADE + 181
    await scene.fired(MADE + 180)
    assert (await scene.over()).outcome == "succeeded"


async def test_what_cannot_be_read_is_told_and_harms_no_other(scene: Scene) -> None:
    await scene.create()
    await scene.create("broken")
    await scene.create("lost")
    await scene.etcd.put(keys.schedule("broken"), b"\xc1")
    await scene.etcd.put(keys.fired("lost"), b"\x81\xaddecided_until\xa1x")
    with structlog.testing.capture_logs() as logs:
        scene.start("a")
        scene.now = MADE + 61
        await scene.fired(MADE + 60)
        assert len(await scene.taken()) == 1
    told = [(it["event"], it["schedule"]) for it in logs if it["event"].endswith("unreadable")]
    assert sorted(told) == [("schedule_progress_unreadable", "lost"), ("schedule_unreadable", "broken")]
    listed = await scene.door.list(pb.ListSchedulesRequest())
    assert [it.name for it in listed.schedules if "mark" not in it.name] == ["lost", "s"]
    with pytest.raises(Internal, match="make it again"):
        await scene.told("broken")
    for name in ("broken", "lost"):
        await scene.door.delete(pb.DeleteScheduleRequest(name=name))
        await scene.create(name)
    scene.now = MADE + 125
    for name in ("broken", "lost"):
        await scene.fired(MADE + 121, name)


# A frontend that dies


async def test_a_claim_that_is_not_in_a_queue_is_taken_over_under_the_same_id(scene: Scene) -> None:
    (first,) = scene.start("a")
    first.gate.open.clear()
    await scene.create()
    scene.now = MADE + 61
    claimed = await scene.until("it is claimed", lambda it: not it.queued)
    assert (await scene.told()).last_outcome == "claimed"
    await first.kill()
    (second,) = scene.start("b")
    await scene.create("other", expression="at(2023-11-14T22:15:05)")
    await scene.watched()  # it is counted from when the claim was seen
    scene.now += TAKEN_OVER_S - 1
    await scene.fired(MADE + 65, "other")
    assert await scene.progress() == claimed
    scene.now += 1.5
    progress = await scene.fired(MADE + 60)
    assert (progress.request_id, progress.frontend) == (claimed.request_id, "b.1")
    assert claimed.request_id in [it.id for it in await second.events()]
    assert claimed.request_id == request_id_of("s", MADE + 60)


async def test_an_event_that_was_in_the_queue_already_is_not_put_there_twice(scene: Scene) -> None:
    """Its frontend died before it could say so, and is back first."""
    (first,) = scene.start("a")
    await scene.create()
    scene.now = MADE + 61
    done = await scene.over()
    await first.kill()
    before = replace(done, queued=False, running=True, outcome="")
    await scene.etcd.put(keys.fired("s"), before.encode())
    (again,) = scene.start("a")
    await scene.watched()
    await scene.watched()  # it is counted from when the claim was seen
    scene.now += TAKEN_OVER_S + 1
    await scene.over()
    assert [it.id for it in await again.events()] == [done.request_id]
    assert again.dispatcher.calls == []


async def test_a_frontend_that_was_away_hears_what_became_of_its_event(scene: Scene) -> None:
    (first,) = scene.start("a")
    await scene.create(function="held", overlap="forbid")
    scene.now = MADE + 61
    await scene.fired(MADE + 60)
    await first.dispatcher.until(lambda: len(first.dispatcher.held) == 1)
    await first.kill()
    again, _ = scene.start("a", "b")
    await again.dispatcher.until(lambda: len(again.dispatcher.held) == 1)
    scene.now = MADE + 121
    assert (await scene.decided(MADE + 120)).left_out == "overlaps"
    again.dispatcher.end()
    assert (await scene.over()).outcome == "succeeded"
    scene.now = MADE + 181
    await scene.fired(MADE + 180)


async def test_a_frontend_that_stops_leaves_it_to_the_others(scene: Scene) -> None:
    first, _ = scene.start("a", "b")
    await scene.create()
    first.clock.take_no_more()
    for due in (MADE + 60, MADE + 120):
        scene.now = due + 1
        assert (await scene.fired(due)).frontend == "b.1"


# Missed times


@pytest.mark.parametrize(
    ("misfire", "fired"), [("skip", []), ("once", [60]), ("all", [60 * n for n in range(1, 11)])]
)
async def test_a_long_absence(scene: Scene, misfire: str, fired: list[int]) -> None:
    """Nobody was there for ten minutes and a half; then nine times are missed, and the tenth is in time."""
    await scene.create(misfire=misfire)
    scene.start("a", "b")
    scene.now = MADE + 630
    await scene.fired(MADE + 600)
    expected = {request_id_of("s", MADE + due) for due in {*fired, 600}}
    assert set(await scene.taken()) == expected
    assert len(await scene.taken()) == len(expected)


# Overlap


async def test_forbid(scene: Scene) -> None:
    """Whichever frontend has the event of the time before."""
    frontends = scene.start("a", "b")
    await scene.create(function="held", overlap="forbid")
    scene.now = MADE + 61
    first = await scene.fired(MADE + 60)
    (holder,) = [it for it in frontends if f"{it.name}.1" == first.frontend]
    await holder.dispatcher.until(lambda: len(holder.dispatcher.held) == 1)
    scene.now = MADE + 121
    left = await scene.decided(MADE + 120)
    assert (left.left_out, left.request_id, left.running) == ("overlaps", first.request_id, True)
    holder.dispatcher.end()
    await scene.over()
    scene.now = MADE + 181
    assert (await scene.fired(MADE + 180)).left_out == ""


async def test_what_nobody_answers_for_does_not_forbid_for_ever(scene: Scene) -> None:
    """The frontend that had it is gone, and its disk with it."""
    (first,) = scene.start("a")
    await scene.create(function="held", overlap="forbid", misfire="skip")
    scene.now = MADE + 61
    await scene.fired(MADE + 60)
    await first.kill()
    scene.start("b")
    scene.now = MADE + 121
    assert (await scene.decided(MADE + 120)).left_out == "overlaps"
    late = MADE + 60 * (SURELY_OVER_S // 60 + 3)
    scene.now = late + 1
    await scene.fired(late)


async def test_replace_cancels_what_still_runs_elsewhere(scene: Scene) -> None:
    (first,) = scene.start("a")
    await scene.create(function="held", overlap="replace")
    scene.now = MADE + 61
    before = await scene.fired(MADE + 60)
    await first.dispatcher.until(lambda: len(first.dispatcher.held) == 1)
    first.gate.open.clear()  # so that another has the next
    scene.now = MADE + 121
    await scene.until("it is claimed", lambda it: not it.queued)
    scene.start("b")
    await scene.watched()
    await scene.watched()  # it is counted from when the claim was seen
    scene.now += TAKEN_OVER_S + 1
    first.gate.open.set()
    after = await scene.fired(MADE + 120)
    assert [it[1] for it in after.replaced] == [before.request_id]
    await first.dispatcher.until(lambda: before.request_id in first.dispatcher.abandoned)
    states = {it.id: it.state.value for it in await first.events("held")}
    assert states[RequestId(before.request_id)] == "cancelled"


async def test_replace_cancels_what_a_frontend_had_that_was_away_for_several_times(scene: Scene) -> None:
    """Also where the event that took its place has given way itself."""
    (first,) = scene.start("a")
    await scene.create(function="held", overlap="replace")
    scene.now = MADE + 61
    before = await scene.fired(MADE + 60)
    await first.dispatcher.until(lambda: len(first.dispatcher.held) == 1)
    await first.kill()
    (second,) = scene.start("b")
    for due in (MADE + 120, MADE + 180, MADE + 240):
        scene.now = due + 1
        last = await scene.fired(due)
        began = partial(second.dispatcher.held.__contains__, RequestId(last.request_id))
        await second.dispatcher.until(began)
    assert [it[0] for it in last.replaced] == ["a", "b"]
    (first,) = scene.start("a")
    async with asyncio.timeout(WITHIN_S):
        while {it.state.value for it in await first.events("held")} != {"cancelled"}:
            first.wake()
    states = Counter(it.state.value for it in await second.events("held"))
    assert states == {"cancelled": 2, "queued": 1}
    assert [it.id for it in await first.events("held")] == [before.request_id]


async def test_allow_runs_beside(scene: Scene) -> None:
    (frontend,) = scene.start("a")
    await scene.create(function="held")
    for due in (MADE + 60, MADE + 120):
        scene.now = due + 1
        await scene.fired(due)
    await frontend.dispatcher.until(lambda: len(frontend.dispatcher.held) == 2)


# Changes


async def test_disabled_and_enabled(scene: Scene) -> None:
    """Nothing is made up for: the times count from when it was enabled."""
    scene.start("a", "b")
    await scene.create()
    await scene.create("beat")
    scene.now = MADE + 61
    await scene.fired(MADE + 60)
    assert not (await scene.update(enabled=False)).HasField("next_due")
    for due in (MADE + 120, MADE + 180):
        scene.now = due + 1
        await scene.fired(due, "beat")
    assert (await scene.update(enabled=True)).next_due.seconds == MADE + 241
    scene.now = MADE + 242
    await scene.fired(MADE + 241)
    assert [it for it in await scene.taken() if it == request_id_of("s", MADE + 120)] == []


async def test_other_times_while_it_waits(scene: Scene) -> None:
    scene.start("a")
    await scene.create(expression="rate(1 day)")
    await scene.watched()
    scene.now = MADE + 10
    await scene.update(expression="rate(1 minute)", event=b"1")
    scene.now = MADE + 71
    await scene.fired(MADE + 70)
    await scene.update(event=b"2")  # leaves its times as they are
    scene.now = MADE + 131
    await scene.fired(MADE + 130)
    events = await scene.frontends[0].events()
    loaded = await scene.frontends[0].store.load([Run(it.asked.function, it.item) for it in events])
    assert {payload for _, payload, _ in loaded} <= {b"1", b"2"}
    assert len(events) == 2


async def test_deleted_while_it_waits(scene: Scene) -> None:
    """Its progress goes with it; one that is made anew has a past of its own."""
    scene.start("a")
    await scene.create()
    await scene.create("beat")
    scene.now = MADE + 61
    await scene.fired(MADE + 60)
    await scene.over()
    await scene.door.delete(pb.DeleteScheduleRequest(name="s"))
    assert await scene.progress() is None
    scene.now = MADE + 121
    await scene.fired(MADE + 120, "beat")
    await scene.watched()
    assert await scene.progress() is None
    await scene.create()
    scene.now = MADE + 182
    await scene.fired(MADE + 181)


async def test_deleted_as_it_fires(scene: Scene) -> None:
    """Nothing comes of a claim on a schedule that is not there any more."""
    (frontend,) = scene.start("a")
    await scene.create()
    await scene.watched()
    gone = asyncio.Event()

    async def delete() -> None:
        await scene.door.delete(pb.DeleteScheduleRequest(name="s"))
        gone.set()

    frontend.etcd.meanwhile = delete
    scene.now = MADE + 61
    frontend.wake()
    async with asyncio.timeout(WITHIN_S):
        await gone.wait()
    await scene.create("beat", expression="at(2023-11-14T22:16:00)")
    scene.now = MADE + 121
    await scene.fired(MADE + 120, "beat")
    assert await scene.progress() is None
    assert await scene.taken() == [request_id_of("beat", MADE + 120)]


async def test_what_is_heard_while_the_queue_is_asked_stays(scene: Scene) -> None:
    """Another frontend fires meanwhile: the outcome of the time before comes too late, and is let go."""
    (frontend,) = scene.start("a")
    await scene.create()
    scene.now = MADE + 61
    first = await scene.fired(MADE + 60)
    later = replace(first, decided_until=MADE + 120, due=MADE + 120, request_id="r2", frontend="b.1")
    heard = asyncio.Event()

    async def fired_elsewhere() -> None:
        revision = await scene.etcd.put(keys.fired("s"), later.encode())
        while frontend.clock._view.known["s"].progress_revision < revision:
            await scene.etcd.get(keys.fired("s"))
        heard.set()

    frontend.gate.meanwhile = fired_elsewhere
    scene.now += LOOK_S
    frontend.wake()
    async with asyncio.timeout(WITHIN_S):
        await heard.wait()
    await scene.create("beat", expression="at(2023-11-14T22:15:30)")
    scene.now = MADE + 91
    await scene.fired(MADE + 90, "beat")
    assert await scene.progress() == later


# The door


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "a b"}, "no name of a schedule"),
        ({"name": ""}, "no name of a schedule"),
        ({"expression": "every day"}, "it takes rate"),
        ({"expression": "rate(0 minutes)"}, "it takes rate"),
        ({"expression": "x" * 300}, "256 characters"),
        ({"expression": "cron(61 * * * ? *)"}, "cron"),
        ({"expression": "cron(0 0 30 2 ? *)"}, "never comes"),
        ({"expression": "at(2020-01-01T00:00:00)"}, "never comes"),
        ({"expression": "rate(9999999 days)"}, "never comes"),  # in a year that no answer can show
        ({"time_zone": "Mars/Olympus"}, "no time zone"),
        ({"event": b"{"}, "no JSON"),
        ({"event": b'"' + b"a" * 300_000 + b'"'}, "the limit is 262,144"),
        ({"overlap": "queue"}, "allow, forbid, replace"),
        ({"misfire": "twice"}, "skip, once, all"),
        ({"jitter_s": -1.0}, "jitter_s"),
        ({"jitter_s": float("nan")}, "jitter_s"),
        ({"function": "unknown"}, "no such function"),
        ({"function": "echo:beta"}, "no version or alias 'beta'"),
    ],
)
async def test_bad_input_changes_nothing(scene: Scene, given: dict[str, object], said: str) -> None:
    with pytest.raises((InvalidRequest, UnknownFunction), match=said):
        await scene.create(**given)  # type: ignore[arg-type]
    await scene.create("there")
    before = await scene.etcd.get(keys.schedule("there"))
    changes = {"function_name" if name == "function" else name: value for name, value in given.items()}
    if "name" not in given:
        with pytest.raises((InvalidRequest, UnknownFunction), match=said):
            await scene.update("there", **changes)
    assert await scene.etcd.get(keys.schedule("there")) == before
    assert len((await scene.etcd.get_prefix(keys.SCHEDULES)).items) == 1


@pytest.mark.parametrize("missing", ["function_name", "expression"])
async def test_what_a_schedule_takes(scene: Scene, missing: str) -> None:
    settings = pb.ScheduleSettings(function_name="echo", expression="rate(1 day)")
    settings.ClearField(missing)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match=missing):
        await scene.door.create(pb.CreateScheduleRequest(name="s", settings=settings))


async def test_what_is_over_can_still_be_disabled_and_changed(scene: Scene) -> None:
    await scene.create(expression="at(2023-11-14T22:15:00)")
    scene.now = MADE + 3600
    await scene.update(event=b"3")
    assert not (await scene.update(enabled=False)).settings.enabled
    with pytest.raises(InvalidRequest, match="is over already"):
        await scene.update(enabled=True)


async def test_a_name_is_given_once_and_no_change_is_lost(scene: Scene) -> None:
    made = await asyncio.gather(*(scene.create() for _ in range(4)), return_exceptions=True)
    assert [type(it) for it in made].count(ScheduleExists) == 3
    await asyncio.gather(scene.update(event=b"1"), scene.update(jitter_s=2.0), scene.update(misfire="all"))
    settings = (await scene.told()).settings
    assert (settings.event, settings.jitter_s, settings.misfire) == (b"1", 2.0, "all")


async def test_one_that_is_not_there(scene: Scene) -> None:
    for asked in (
        scene.told("nobody"),
        scene.update("nobody", enabled=True),
        scene.door.delete(pb.DeleteScheduleRequest(name="nobody")),
    ):
        with pytest.raises(UnknownSchedule):
            await asked


async def test_lists_come_in_pages(scene: Scene) -> None:
    for n in range(5):
        await scene.create(f"s{n}")
    names, request = [], pb.ListSchedulesRequest(max_items=2)
    while True:
        page = await scene.door.list(request)
        names.append([it.name for it in page.schedules])
        if not page.next_marker:
            break
        request.marker = page.next_marker
    assert names == [["s0", "s1"], ["s2", "s3"], ["s4"]]


async def test_who_may_not_invoke_the_function_makes_and_changes_none(scene: Scene) -> None:
    """Asked for as it is known then: an update may leave the function as it is."""
    await scene.create()
    scene.denied.add("echo")
    with pytest.raises(AccessDenied):
        await scene.create("other")
    with pytest.raises(AccessDenied):
        await scene.update(event=b"1")
    with pytest.raises(AccessDenied):
        await scene.update("s", function_name="echo")


async def test_keys_over_grpc(scene: Scene) -> None:
    """The key's rules are asked for, each refusal is told, and each change leaves a line."""
    rules = "CreateSchedule,UpdateSchedule,GetSchedule,DeleteSchedule@schedule:mine-*", "InvokeFunction@echo"
    one = new_access_key(map(Rule.parse, rules), "tests", 0.0)
    door = Schedules(scene.etcd, scene.functions, permit_invocation, now=lambda: scene.now)
    settings = pb.ScheduleSettings(function_name="echo", expression="rate(1 day)")
    other = pb.ScheduleSettings(function_name="held", expression="rate(1 day)")
    with structlog.testing.capture_logs() as logs:
        async with (
            serving(ScriptedDispatcher(), schedules=door, guard=Guard(Known(one))) as address,
            Client(address, access_key=one.token) as client,
            Client(address) as stranger,
        ):
            schedules = client.schedules
            assert (await schedules.create("mine-1", settings)).settings.overlap == "allow"
            for refused in (
                schedules.create("yours", settings),
                schedules.create("mine-2", other),
                schedules.update("mine-1", other),
                schedules.ls(),
                stranger.schedules.get("mine-1"),
                stranger.schedules.ls(),
                stranger.schedules.delete("mine-1"),
            ):
                with pytest.raises(LambentError, match=r"may not|asks who calls"):
                    await refused
            assert (await schedules.get("mine-1")).settings.function_name == "echo"
            await schedules.update("mine-1", pb.ScheduleSettings(enabled=False))
            await schedules.delete("mine-1")
    assert (await scene.etcd.get_prefix(keys.SCHEDULES)).items == []
    lines = [(it["action"], it["resource"], it["outcome"]) for it in logs if it["event"] == "audit"]
    assert lines == [
        ("CreateSchedule", "schedule:mine-1", "done"),
        ("CreateSchedule", "schedule:yours", "failed"),
        ("CreateSchedule", "schedule:mine-2", "failed"),
        ("UpdateSchedule", "schedule:mine-1", "failed"),
        ("DeleteSchedule", "schedule:mine-1", "failed"),
        ("UpdateSchedule", "schedule:mine-1", "done"),
        ("DeleteSchedule", "schedule:mine-1", "done"),
    ]
