"""A worker that is told to stop: it ends when every frontend has let go of it, and not before."""

from typing import TYPE_CHECKING, cast

from lambent_proto import frames
from lambent_proto.ids import InstanceId, LeaseNumber, NodeId, RequestId
from lambent_worker.agent import Agent
from lambent_worker.core.commands import ReportLeaving

if TYPE_CHECKING:
    from lambent_worker.agent import Link, Report

NODE = NodeId("n1@1")


class Connection:
    """A frontend's."""

    peer = "127.0.0.1:1"
    peer_names = None

    def __init__(self, agent: Agent) -> None:
        self.got: list[frames.Frame] = []
        self._decoder = frames.Decoder(frames.TO_FRONTEND)
        agent.on_frame(self.link, frames.Hello("f1"))

    @property
    def link(self) -> "Link":
        return cast("Link", self)

    def send(self, message: object) -> None:
        assert isinstance(message, bytes)
        self.got += self._decoder.feed(message)


class Empty:
    """A worker without instances."""

    def __init__(self) -> None:
        self.agent = Agent(NODE, 1024)
        self.said: list[Report] = []
        self.ended: list[str] = []
        self.agent.report = self.said.append
        self.agent.retire = self.ended.append


def test_it_says_goodbye_and_waits_until_the_frontend_has_closed_the_connection() -> None:
    worker = Empty()
    frontend = Connection(worker.agent)
    worker.agent.leave()
    assert worker.said == [ReportLeaving()]
    assert frontend.got == [frames.Hello(NODE), frames.Bye()]
    assert worker.ended == []
    worker.agent.on_lost(frontend.link, None)
    assert len(worker.ended) == 1


def test_an_event_that_was_under_way_comes_back() -> None:
    """So it is sent elsewhere, and not lost with the worker."""
    worker = Empty()
    frontend = Connection(worker.agent)
    worker.agent.leave()
    late = frames.Event(RequestId("r1"), InstanceId("i1"), LeaseNumber(1), 3000, "arn", "", False, b"{}")
    worker.agent.on_frame(frontend.link, late)
    assert frontend.got[-1] == frames.Refused(RequestId("r1"), "gone")


def test_a_frontend_that_comes_late_hears_it_too() -> None:
    worker = Empty()
    Connection(worker.agent)
    worker.agent.leave()
    assert Connection(worker.agent).got == [frames.Hello(NODE), frames.Bye()]


def test_without_frontends_it_ends_at_once() -> None:
    """Nobody waits for what it runs: so Ctrl-C of `lambent up` is quick."""
    worker = Empty()
    worker.agent.leave()
    assert len(worker.ended) == 1
