"""What a worker obeys, takes and refuses: a row for every refusal, order, time-out and late event."""

import pytest

from lambent_proto.ids import Epoch, FrontendId, InstanceId, LeaseNumber, RequestId, VersionKey
from lambent_worker.core import commands as do
from lambent_worker.core import events as on
from lambent_worker.core.agent import FENCE_MARGIN_S, FENCED, Agent, State
from lambent_worker.core.events import Refusal

I1, I2 = InstanceId("i1"), InstanceId("i2")
V = VersionKey("f:$LATEST:1")
F, G = FrontendId("f1"), FrontendId("f2")
R1, R2 = RequestId("r1"), RequestId("r2")
TTL_S = 10.0
RENEWED = on.RegistrationRenewed(TTL_S)
TOO_LATE = TTL_S - FENCE_MARGIN_S
NOT_RENEWED = "its lease in etcd could not be renewed in time"


def granted(
    instance: InstanceId = I1,
    number: int = 1,
    at: float = 0.0,
    *,
    memory_mb: int = 256,
    epoch: int = 1,
    frontend: FrontendId | None = F,
) -> on.GrantArrived:
    return on.GrantArrived(Epoch(epoch), instance, V, memory_mb, LeaseNumber(number), frontend, at)


def ready(instance: InstanceId = I1) -> on.InstanceReady:
    return on.InstanceReady(instance, 3.0, 5.0)


def event(
    request: RequestId = R1, number: int = 1, at: float = 1.0, *, frontend: FrontendId = F
) -> on.EventArrived:
    return on.EventArrived(frontend, request, I1, LeaseNumber(number), 3.0, at)


def fence(number: int = 2, *, epoch: int = 1, instance: InstanceId = I1) -> on.FenceArrived:
    return on.FenceArrived(Epoch(epoch), instance, LeaseNumber(number))


def evict(number: int = 2, *, epoch: int = 1, instance: InstanceId = I1) -> on.EvictArrived:
    return on.EvictArrived(Epoch(epoch), instance, LeaseNumber(number), "keep_alive")


def answered(request: RequestId = R1) -> on.Answered:
    return on.Answered(I1, request)


def exited(reason: str = on.ExitReason.KILLED, error: bytes = b"") -> on.InstanceExited:
    return on.InstanceExited(I1, reason, error)


def refuse(reason: Refusal, request: RequestId = R1, frontend: FrontendId = F) -> do.Refuse:
    return do.Refuse(frontend, request, reason)


def gone(reason: str, error: bytes = b"", instance: InstanceId = I1) -> do.ReportGone:
    return do.ReportGone(instance, reason, error)


def freed(number: int, *, busy: bool = False) -> do.ReportFreed:
    return do.ReportFreed(I1, LeaseNumber(number), busy)


STOP, LEAVING = on.StopAsked(), do.ReportLeaving()
IDLE: list[on.Event] = [RENEWED, granted(), ready()]
BUSY: list[on.Event] = [*IDLE, event()]
TIMED_OUT: list[do.Command] = [do.TimeOut(F, R1, I1, 3.0)]


def decide(history: list[on.Event], last: on.Event) -> list[do.Command]:
    agent = Agent(memory_mb=512)
    for earlier in history:
        agent.handle(earlier)
    return agent.handle(last)


@pytest.mark.parametrize(
    ("history", "last", "expected"),
    [
        pytest.param(IDLE, event(), [do.Deliver(I1, R1)], id="the holder of the lease is served"),
        pytest.param(
            IDLE,
            event(number=2, frontend=G),
            [do.Deliver(I1, R1)],
            id="the holder of a newer lease is served, before placement has said so",
        ),
        pytest.param(
            [*IDLE, event(number=2, frontend=G), on.Answered(I1, R1)],
            event(R2, number=1),
            [refuse(Refusal.STALE, R2)],
            id="once a newer lease has been seen the older one is stale",
        ),
        pytest.param(
            IDLE,
            event(frontend=G),
            [refuse(Refusal.STALE, frontend=G)],
            id="a lease number in another frontend's hand is stale",
        ),
        pytest.param(
            [*IDLE, fence(2)], event(number=1), [refuse(Refusal.STALE)], id="a fenced lease is stale"
        ),
        pytest.param(
            [*IDLE, fence(2)],
            event(number=2),
            [refuse(Refusal.STALE)],
            id="the number of a fence is nobody's lease",
        ),
        pytest.param(BUSY, event(R2), [refuse(Refusal.BUSY, R2)], id="one event at a time"),
        pytest.param([granted()], event(), [refuse(Refusal.BUSY)], id="no event before it is ready"),
        pytest.param(
            [*IDLE, evict()], event(number=3), [refuse(Refusal.GONE)], id="no event once it is stopping"
        ),
        pytest.param([], event(), [refuse(Refusal.GONE)], id="an unknown instance is gone"),
        pytest.param([*IDLE, exited()], event(), [refuse(Refusal.GONE)], id="one that exited is gone"),
        pytest.param(
            IDLE,
            event(at=TOO_LATE),
            [refuse(Refusal.FENCED)],
            id="an event read after a pause, before the tick, is refused",
        ),
        pytest.param(
            IDLE,
            event(at=TOO_LATE - 0.01),
            [do.Deliver(I1, R1)],
            id="an event just before the margin is served",
        ),
        pytest.param(
            [*IDLE, on.RegistrationLost("revoked")],
            event(),
            [refuse(Refusal.FENCED)],
            id="a fenced worker takes nothing",
        ),
    ],
)
def test_an_event(history: list[on.Event], last: on.Event, expected: list[do.Command]) -> None:
    """An event reaches the runtime or is refused with the reason, never both and never neither."""
    assert decide(history, last) == expected


@pytest.mark.parametrize(
    ("history", "last", "expected"),
    [
        pytest.param(BUSY, answered(), [do.Answer(F, R1, I1)], id="an answer goes to who asked"),
        pytest.param([*BUSY, answered()], event(R2), [do.Deliver(I1, R2)], id="then the next event may come"),
        pytest.param([*BUSY, answered()], answered(), [], id="a second answer is dropped"),
        pytest.param(BUSY, answered(R2), [], id="an answer to another event is dropped"),
        pytest.param([], answered(), [], id="an answer from an unknown instance is dropped"),
        pytest.param(BUSY, on.Tick(3.99), [], id="an event may take its whole timeout"),
        pytest.param(BUSY, on.Tick(4.0), TIMED_OUT, id="then it is answered, and its runtime ended"),
        pytest.param([*BUSY, on.Tick(4.0)], on.Tick(4.1), [], id="it times out once"),
        pytest.param([*BUSY, on.Tick(4.0)], answered(), [], id="an answer after the timeout is dropped"),
        pytest.param(
            [*BUSY, on.Tick(4.0)],
            event(R2, at=4.1),
            [do.Deliver(I1, R2)],
            id="an instance whose event has timed out takes the next one",
        ),
        pytest.param(IDLE, on.Tick(7.0), [], id="an idle instance times out never"),
        pytest.param(
            [*IDLE, on.RegistrationRenewed(100.0), event(at=1.0), answered(), event(R2, at=50.0)],
            on.Tick(52.0),
            [],
            id="each event has a timeout of its own",
        ),
        pytest.param(
            BUSY,
            exited(on.ExitReason.KILLED),
            [do.Lose(F, R1, I1, "killed"), gone("killed")],
            id="of an instance that goes without an answer the frontend is told that there is none",
        ),
        pytest.param(
            [*BUSY, on.RegistrationLost("gone")],
            exited(on.ExitReason.KILLED),
            [do.Lose(F, R1, I1, FENCED), gone(FENCED), do.Retire("gone")],
            id="also when the worker has killed it for want of a lease",
        ),
        pytest.param(
            [*BUSY, answered()],
            exited(on.ExitReason.CRASHED),
            [gone("crashed")],
            id="not of one that had answered",
        ),
    ],
)
def test_an_answer(history: list[on.Event], last: on.Event, expected: list[do.Command]) -> None:
    """An event is answered once: by its runtime, or by its timeout."""
    assert decide(history, last) == expected


@pytest.mark.parametrize(
    ("history", "last", "expected"),
    [
        pytest.param([RENEWED], granted(), [do.Start(I1, V)], id="a grant starts an instance"),
        pytest.param([RENEWED, granted()], granted(), [], id="a grant that comes twice starts one"),
        pytest.param(
            [RENEWED, granted()],
            granted(I2, 2, memory_mb=257),
            [do.ReportRefused(I2, "257 MB asked, 256 MB free")],
            id="a grant beyond the memory is refused with the numbers",
        ),
        pytest.param(
            [RENEWED, granted()], granted(I2, 2), [do.Start(I2, V)], id="all of the memory may be used"
        ),
        pytest.param(
            [RENEWED, granted(), exited(on.ExitReason.SPAWN_FAILED)],
            granted(I2, 2, memory_mb=512),
            [do.Start(I2, V)],
            id="the memory of one that is gone is free again",
        ),
        pytest.param(
            [*IDLE, evict()],
            granted(I2, 3, memory_mb=512),
            [do.ReportRefused(I2, "512 MB asked, 256 MB free")],
            id="the memory of one that is stopping is not free yet",
        ),
        pytest.param(
            [RENEWED],
            granted(at=TOO_LATE),
            [do.ReportRefused(I1, "the worker is fenced")],
            id="a grant read after a pause, before the tick, is refused",
        ),
        pytest.param(
            [RENEWED, on.RegistrationLost("revoked")],
            granted(),
            [do.ReportRefused(I1, "the worker is fenced")],
            id="a fenced worker starts nothing",
        ),
        pytest.param([RENEWED, on.LeaderFollowed(Epoch(2))], granted(), [], id="an older leader's grant"),
        pytest.param(
            [RENEWED, on.LeaderFollowed(Epoch(2)), on.LeaderFollowed(Epoch(1))],
            granted(),
            [],
            id="an older leader's grant, after a late word of that leader",
        ),
        pytest.param(
            [RENEWED, granted(epoch=2)], granted(I2), [], id="an older leader's grant, after a newer one's"
        ),
        pytest.param([*IDLE, on.LeaderFollowed(Epoch(2))], fence(), [], id="an older leader's fence"),
        pytest.param([*IDLE, on.LeaderFollowed(Epoch(2))], evict(), [], id="an older leader's evict"),
        pytest.param(
            [RENEWED, granted()],
            ready(),
            [do.Announce(F, I1, LeaseNumber(1), 3.0, 5.0), do.ReportReady(I1, 3.0, 5.0)],
            id="ready: the holder and placement hear it",
        ),
        pytest.param(
            [RENEWED, granted(frontend=None)],
            ready(),
            [do.ReportReady(I1, 3.0, 5.0)],
            id="ready for nobody: placement hears it",
        ),
        pytest.param(
            [RENEWED, granted(), fence()],
            ready(),
            [do.ReportReady(I1, 3.0, 5.0)],
            id="ready after its holder was fenced: placement alone hears it",
        ),
        pytest.param(IDLE, ready(), [], id="ready twice"),
        pytest.param(BUSY, ready(), [], id="ready twice does not make a busy one idle"),
        pytest.param([RENEWED, granted(), evict()], ready(), [], id="ready while it is stopping"),
        pytest.param([], ready(), [], id="ready of an unknown one"),
        pytest.param(
            [RENEWED, granted()],
            exited(on.ExitReason.INIT_ERROR, b"{}"),
            [gone("init_error", b"{}")],
            id="a failed initialisation is reported with its error",
        ),
        pytest.param([*IDLE, exited()], exited(), [], id="an exit counts once"),
    ],
)
def test_a_grant(history: list[on.Event], last: on.Event, expected: list[do.Command]) -> None:
    """Nothing starts without a grant of the newest leader, memory for it, and time left."""
    assert decide(history, last) == expected


@pytest.mark.parametrize(
    ("history", "last", "expected"),
    [
        pytest.param(IDLE, fence(), [freed(2)], id="fence an idle one: free at once"),
        pytest.param(BUSY, fence(), [freed(2, busy=True)], id="fence a busy one: not yet"),
        pytest.param(
            [*BUSY, fence()], answered(), [do.Answer(F, R1, I1), freed(2)], id="it is free after its event"
        ),
        pytest.param(
            [*BUSY, fence(), answered(), event(R2, 3, frontend=G)],
            on.Answered(I1, R2),
            [do.Answer(G, R2, I1)],
            id="a fence is answered once",
        ),
        pytest.param([*IDLE, fence()], fence(), [freed(2)], id="a fence said again is answered again"),
        pytest.param([*IDLE, fence(3)], fence(2), [], id="an older fence has no effect"),
        pytest.param([RENEWED, granted()], fence(), [freed(2)], id="fence a starting one: free"),
        pytest.param([RENEWED], fence(), [gone("unknown")], id="fence an unknown one: it is gone"),
        pytest.param([*IDLE, evict()], fence(3), [], id="fence one that is stopping: its exit answers"),
        pytest.param(IDLE, evict(), [do.Kill(I1, "keep_alive")], id="evict an idle one: killed at once"),
        pytest.param(
            [RENEWED, granted()], evict(), [do.Kill(I1, "keep_alive")], id="evict a starting one: killed"
        ),
        pytest.param(BUSY, evict(), [], id="evict a busy one: it may end its event"),
        pytest.param(
            [*BUSY, evict()],
            answered(),
            [do.Answer(F, R1, I1), do.Kill(I1, "keep_alive")],
            id="evict a busy one: killed after its event",
        ),
        pytest.param(
            [*BUSY, evict()],
            on.Tick(4.0),
            [*TIMED_OUT, do.Kill(I1, "keep_alive")],
            id="evict a busy one: its event may still time out",
        ),
        pytest.param([*IDLE, evict()], evict(), [], id="an evict said again has no effect"),
        pytest.param([*IDLE, fence(3)], evict(2), [], id="an older evict has no effect"),
        pytest.param([RENEWED], evict(), [gone("unknown")], id="evict an unknown one: it is gone"),
        pytest.param([*IDLE, evict()], exited(), [gone("keep_alive")], id="its exit says why"),
        pytest.param(
            [*IDLE, evict()],
            exited(on.ExitReason.CRASHED),
            [gone("crashed")],
            id="one that crashed on its way out says so",
        ),
    ],
)
def test_a_fence_or_an_evict(history: list[on.Event], last: on.Event, expected: list[do.Command]) -> None:
    """What placement takes back is free once nothing runs there; a running event is never cut short."""
    assert decide(history, last) == expected


KILL_ALL = [do.Kill(I1, "worker_fenced")]
LOST = on.RegistrationLost("it is being stopped")


@pytest.mark.parametrize(
    ("history", "last", "expected"),
    [
        pytest.param(IDLE, on.Tick(TOO_LATE - 0.01), [], id="up to the margin all is well"),
        pytest.param(IDLE, on.Tick(TOO_LATE), KILL_ALL, id="at the margin all is killed"),
        pytest.param(
            [*IDLE, on.RegistrationRenewed(20.0)], on.Tick(TOO_LATE), [], id="a renewal moves the margin"
        ),
        pytest.param(
            [RENEWED, granted(), ready(), event(at=TOO_LATE - 1.0)],
            on.Tick(TOO_LATE),
            KILL_ALL,
            id="at the margin a running event is killed too, and not answered",
        ),
        pytest.param(IDLE, LOST, KILL_ALL, id="a lost registration kills all"),
        pytest.param(
            [*IDLE, evict()], on.Tick(TOO_LATE), [], id="what is stopping already is not killed again"
        ),
        pytest.param([*IDLE, on.Tick(TOO_LATE)], on.Tick(9.0), [], id="it is fenced once"),
        pytest.param([*IDLE, on.Tick(TOO_LATE)], LOST, [], id="it is fenced once, whatever the reason"),
        pytest.param(
            [*IDLE, on.Tick(TOO_LATE), on.RegistrationRenewed(20.0)],
            granted(I2, 2, at=9.0),
            [do.ReportRefused(I2, "the worker is fenced")],
            id="a renewal that comes too late does not bring it back",
        ),
        pytest.param([RENEWED], STOP, [LEAVING, do.SayBye()], id="an empty worker leaves at once"),
        pytest.param(IDLE, STOP, [LEAVING], id="one with instances asks for them to be moved away"),
        pytest.param([*IDLE, STOP], STOP, [], id="it is told to stop once"),
        pytest.param([*IDLE, STOP], event(), [do.Deliver(I1, R1)], id="it serves on meanwhile"),
        pytest.param(
            [*BUSY, STOP, evict()],
            answered(),
            [do.Answer(F, R1, I1), do.Kill(I1, "keep_alive")],
            id="what runs is finished",
        ),
        pytest.param(
            [*IDLE, STOP, evict()],
            exited(),
            [gone("keep_alive"), do.SayBye()],
            id="when the last one has gone it says goodbye",
        ),
        pytest.param(
            [*IDLE, STOP, evict(), exited()],
            event(),
            [refuse(Refusal.GONE)],
            id="what was sent before that was heard comes back",
        ),
        pytest.param(
            [*IDLE, STOP],
            granted(I2),
            [do.ReportRefused(I2, "the worker is about to end")],
            id="it starts nothing any more",
        ),
        pytest.param([RENEWED], LOST, [do.Retire("it is being stopped")], id="an empty worker retires"),
        pytest.param(
            [*IDLE, LOST],
            exited(),
            [gone("worker_fenced"), do.Retire("it is being stopped")],
            id="others retire when the last instance is reaped",
        ),
        pytest.param(
            [*IDLE, granted(I2, 2), LOST], exited(), [gone("worker_fenced")], id="not before the last"
        ),
        pytest.param([RENEWED, LOST], LOST, [], id="it retires once"),
        pytest.param([*IDLE, on.Tick(TOO_LATE), exited()], on.Tick(9.0), [], id="retired, it stays so"),
        pytest.param(
            [RENEWED],
            on.Tick(TOO_LATE),
            [do.Retire(NOT_RENEWED)],
            id="a worker that is late says why it retires",
        ),
    ],
)
def test_the_end_of_a_registration(
    history: list[on.Event], last: on.Event, expected: list[do.Command]
) -> None:
    """A worker kills all it has before etcd drops its key, takes no more work, and retires when empty."""
    assert decide(history, last) == expected


def test_an_event_refused_changes_nothing() -> None:
    """A frame with an old number neither takes the lease over nor stops the event that runs."""
    agent = Agent(memory_mb=512)
    for earlier in [*BUSY, event(R2, 1, frontend=G), event(R2, 9, frontend=G)]:
        agent.handle(earlier)
    instance = agent.instances[I1]
    assert (instance.state, instance.request, instance.frontend) == (State.BUSY, R1, F)
    assert instance.number == 1
