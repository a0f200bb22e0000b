"""Streamed answers between instances and frontends: what is sent on, in which order, to whom."""

from typing import TYPE_CHECKING, cast

import pytest

from lambent_chassis.clock import monotonic_s
from lambent_proto import frames
from lambent_proto.definition import Definition
from lambent_proto.ids import Epoch, FrontendId, FunctionName, InstanceId, LeaseNumber, NodeId, RequestId
from lambent_worker.agent import Agent
from lambent_worker.core import events as on
from lambent_worker.event import Event

if TYPE_CHECKING:
    from lambent_worker.agent import Link
    from lambent_worker.host import InstanceHost

INSTANCE, R = InstanceId("i1"), RequestId("r1")
TIMED_OUT = b'{"errorType":"Sandbox.Timedout"}'
DEFINITION = Definition(
    name=FunctionName("f"), revision="1", runtime="nodejs", handler="a.b", code_sha256="00", code_size=1
)


class Connection:
    """A frontend's. `lanes` says on which lane each frame went out."""

    peer = "127.0.0.1:1"
    peer_names = None

    def __init__(self, agent: Agent, name: str) -> None:
        self.got: list[frames.Frame] = []
        self.lanes: list[str] = []
        self._decoder = frames.Decoder(frames.TO_FRONTEND)
        agent.on_frame(self.link, frames.Hello(name))
        self.got.clear()
        self.lanes.clear()

    @property
    def link(self) -> "Link":
        return cast("Link", self)

    def send(self, message: object) -> None:
        small = isinstance(message, bytes)
        for data in [message] if small else list(cast("list[bytes]", message)):
            self.got += self._decoder.feed(cast("bytes", data))
        self.lanes.append("small" if small else "large")


class Host:
    """Instances that the test plays."""

    def __init__(self) -> None:
        self.delivered: list[Event] = []
        self.told: list[object] = []

    def start(self, instance: InstanceId, definition: Definition, *, provisioned: bool) -> None:
        pass

    def deliver(self, instance: InstanceId, event: Event, *, timeout_s: float, tail: bool) -> None:
        self.delivered.append(event)

    def taken(self, instance: InstanceId, request_id: RequestId, size: int) -> None:
        self.told.append(size)

    def unheard(self, instance: InstanceId, request_id: RequestId) -> None:
        self.told.append("unheard")

    def time_out(self, instance: InstanceId, request_id: RequestId, timeout_s: float) -> tuple[bytes, bytes]:
        return TIMED_OUT, b""


class Scene:
    """A worker whose instance runs a call of the frontend `one`, and another frontend."""

    def __init__(self, window: int) -> None:
        self.agent = Agent(NodeId("n1@1"), 1024)
        self.host = Host()
        self.agent.host = cast("InstanceHost", self.host)
        self.agent.report = lambda report: None
        self.one, self.other = Connection(self.agent, "one"), Connection(self.agent, "other")
        self.agent.feed(on.RegistrationRenewed(monotonic_s() + 1000))
        self.agent.granted(
            DEFINITION,
            on.GrantArrived(Epoch(1), INSTANCE, DEFINITION.key, 128, LeaseNumber(1), FrontendId("one"), 0.0),
        )
        self.agent.ready(INSTANCE, 1.0, 1.0, False)
        event = frames.Event(R, INSTANCE, LeaseNumber(1), 3000, "arn", "", False, b"{}", window)
        self.agent.on_frame(self.one.link, event)
        self.one.got.clear()
        self.one.lanes.clear()


@pytest.fixture
def scene() -> Scene:
    return Scene(frames.WINDOW_BYTES)


def test_parts_and_their_end_go_out_in_their_order(scene: Scene) -> None:
    """On the lane on which small frames of other calls pass them by."""
    scene.agent.begun(INSTANCE, R, "text/plain")
    scene.agent.part(INSTANCE, R, b"one")
    scene.agent.answered(INSTANCE, R, False, b"", b"", 1.0)
    end = frames.Answer(R, False, 1.0, None, b"")
    assert scene.one.got == [frames.Begun(R, "text/plain"), frames.Part(R, b"one"), end]
    assert scene.one.lanes == ["large"] * 3
    assert scene.other.got == []


def test_who_wants_it_whole_has_no_flow() -> None:
    scene = Scene(0)
    assert scene.host.delivered[0].flow is None
    scene.agent.answered(INSTANCE, R, False, b"1", b"", 1.0)
    assert scene.one.lanes == ["small"]


def test_what_is_taken_goes_to_the_instance(scene: Scene) -> None:
    """As long as the call runs, and from nobody but who asked for it."""
    scene.agent.on_frame(scene.other.link, frames.Taken(R, 7))
    scene.agent.on_frame(scene.other.link, frames.Unheard(R))
    scene.agent.on_frame(scene.one.link, frames.Taken(R, 5))
    scene.agent.on_frame(scene.one.link, frames.Unheard(R))
    assert scene.host.told == [5, "unheard"]
    scene.agent.answered(INSTANCE, R, False, b"", b"", 1.0)
    scene.agent.on_frame(scene.one.link, frames.Taken(R, 5))
    assert scene.host.told == [5, "unheard"]


class Stranger(Connection):
    """One that has not said who it is."""

    def __init__(self) -> None:
        self.got, self.lanes = [], []


def test_an_event_of_nobody_is_refused_and_takes_no_answer(scene: Scene) -> None:
    """It is that peer's fault, which costs it its connection, and the worker nothing."""
    stranger = Stranger()
    same = frames.Event(R, INSTANCE, LeaseNumber(1), 3000, "arn", "", False, b"{}")
    with pytest.raises(frames.BadFrame, match="before its sender has said who it is"):
        scene.agent.on_frame(stranger.link, same)
    scene.agent.answered(INSTANCE, R, False, b"1", b"", 1.0)
    assert scene.one.got == [frames.Answer(R, False, 1.0, None, b"1")]


def test_a_frontend_that_is_lost_in_the_middle(scene: Scene) -> None:
    """Its call goes on, and what it writes is nobody's; the instance takes another frontend's next."""
    scene.agent.begun(INSTANCE, R, "text/plain")
    scene.agent.on_lost(scene.one.link, None)
    scene.agent.on_lost(scene.other.link, None)
    assert scene.host.told == ["unheard"]
    scene.agent.part(INSTANCE, R, b"late")
    scene.agent.answered(INSTANCE, R, False, b"", b"", 1.0)
    third = Connection(scene.agent, "third")
    second = frames.Event(RequestId("r2"), INSTANCE, LeaseNumber(2), 3000, "arn", "", False, b"{}")
    scene.agent.on_frame(third.link, second)
    assert [it.request_id for it in scene.host.delivered] == [R, "r2"]


def test_a_call_whose_time_is_over_in_the_middle(scene: Scene) -> None:
    """The error is its end, behind the parts."""
    scene.agent.begun(INSTANCE, R, "text/plain")
    scene.agent.part(INSTANCE, R, b"one")
    scene.agent.feed(on.Tick(monotonic_s() + 4))
    assert scene.one.lanes == ["large"] * 3
    assert scene.one.got[-1] == frames.Answer(R, True, 3000.0, None, TIMED_OUT)


def test_an_event_that_is_sent_again_while_its_first_run_goes_on() -> None:
    """As out of a queue, once its frontend has lost the worker, or was started anew: each run answers to who
    asked for it, and the first one's to nobody."""
    scene, again = Scene(0), InstanceId("i2")
    scene.agent.on_lost(scene.one.link, None)
    grant = on.GrantArrived(Epoch(1), again, DEFINITION.key, 128, LeaseNumber(1), FrontendId("other"), 0.0)
    scene.agent.granted(DEFINITION, grant)
    scene.agent.ready(again, 1.0, 1.0, False)
    scene.other.got.clear()
    scene.agent.on_frame(
        scene.other.link, frames.Event(R, again, LeaseNumber(1), 3000, "arn", "", False, b"{}")
    )
    scene.agent.answered(INSTANCE, R, False, b"first", b"", 1.0)
    assert scene.other.got == []
    scene.agent.answered(again, R, False, b"second", b"", 1.0)
    assert scene.other.got == [frames.Answer(R, False, 1.0, None, b"second")]


def test_an_event_that_is_sent_again_to_where_it_runs_is_refused_there() -> None:
    """And its answer, when it comes, is nobody's."""
    scene = Scene(0)
    scene.agent.on_lost(scene.one.link, None)
    back = Connection(scene.agent, "one")
    back_again = frames.Event(R, INSTANCE, LeaseNumber(1), 3000, "arn", "", False, b"{}")
    scene.agent.on_frame(back.link, back_again)
    assert back.got == [frames.Refused(R, "busy")]
    scene.agent.answered(INSTANCE, R, False, b"late", b"", 1.0)
    assert len(back.got) == 1
