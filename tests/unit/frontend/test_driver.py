"""The frontend's driver over workers that the test plays: what is told and remembered of a call."""

from lambent_chassis.clock import monotonic_s
from lambent_frontend.calls import Answer, Call, Candidate
from lambent_frontend.core import events as on
from lambent_frontend.driver import Driver
from lambent_frontend.recorder import Ended
from lambent_proto import frames
from lambent_proto.definition import Definition
from lambent_proto.errors import LambentError
from lambent_proto.ids import FunctionName, InstanceId, NodeId, RequestId
from tests.unit.frontend.dispatcher_rows import N1, given, ready, starting

R = RequestId("r-1")
DEFINITION = Definition(
    name=FunctionName("f"), revision="1", runtime="python3.11", handler="a.b", code_sha256="00", code_size=1
)


class Workers:
    def __init__(self) -> None:
        self.levels = {N1: "namespaces"}
        self.sent: list[RequestId] = []

    def send(self, node: NodeId, event: frames.Event) -> None:
        self.sent.append(event.request_id)

    def unlink(self, node: NodeId) -> None:
        del self.levels[node]


def attached() -> tuple[Driver, Workers]:
    """With one idle instance of the function on N1."""
    driver, workers = Driver(max_waiting=1, linger_s=0.1), Workers()
    driver.workers = workers
    driver.to_placement = lambda command: None
    driver.feed(on.PlacementAttached(0.0))
    driver.feed(on.LinkUp(N1))
    driver.function_changed(DEFINITION.name, None, DEFINITION)
    driver.feed(given("i-1", node=N1, version=DEFINITION.key))
    return driver, workers


async def test_an_answer_says_how_its_instance_was_isolated() -> None:
    """The level is that of the node when the event went there; later the node may be gone."""
    driver, workers = attached()
    answers: list[Answer | LambentError] = []
    driver.submit(Call(R, DEFINITION, b"{}", False, "", 10.0), answers.append)
    assert workers.sent == [R]
    del workers.levels[N1]
    driver.answered(frames.Answer(R, False, 1.5, None, b"1"))
    (answer,) = answers
    assert isinstance(answer, Answer)
    assert (answer.node, answer.isolation) == ("n1", "namespaces")
    explained = driver.explain(R)
    assert explained is not None
    assert (explained.outcome, explained.isolation) == ("succeeded", "namespaces")


async def test_a_call_that_was_never_sent_has_no_level() -> None:
    """Nothing ran, so nothing is said of where."""
    driver, workers = attached()
    driver.submit(Call(R, DEFINITION, b"{}", False, "", 10.0), lambda answer: None)
    waiting = RequestId("r-2")
    driver.submit(Call(waiting, DEFINITION, b"{}", False, "", 10.0), lambda answer: None)
    driver.abandon(waiting)
    assert workers.sent == [R]
    explained = driver.explain(waiting)
    assert explained is not None
    assert (explained.outcome, explained.isolation) == ("cancelled", "")


async def test_a_cold_start_is_explained_with_the_nodes_that_were_compared() -> None:
    """Those of the instance that was started for it; a warm call was not placed by anybody."""
    driver, _ = attached()
    compared = [Candidate(N1, 0.5, 0, 0, False, 0.5)]
    first, second = RequestId("r-2"), RequestId("r-3")
    driver.submit(Call(R, DEFINITION, b"{}", False, "", 10.0), lambda answer: None)
    driver.submit(Call(first, DEFINITION, b"{}", False, "", 10.0), lambda answer: None)
    driver.chosen(InstanceId("i-2"), compared)
    driver.feed(starting("i-2"))
    driver.feed(ready("i-2", at=monotonic_s()))
    driver.answered(frames.Answer(first, False, 1.5, None, b"1"))
    driver.submit(Call(second, DEFINITION, b"{}", False, "", 10.0), lambda answer: None)
    driver.answered(frames.Answer(second, False, 1.5, None, b"1"))
    cold, warm = driver.explain(first), driver.explain(second)
    assert cold is not None
    assert warm is not None
    assert (cold.instance, cold.start, list(cold.candidates)) == ("i-2", "cold", compared)
    assert (warm.instance, warm.start, list(warm.candidates)) == ("i-2", "warm", [])


def recorded() -> tuple[Driver, list[tuple[str, str, float | None]]]:
    """An attached driver, and of each call that is over its start, outcome and running time."""
    driver, _ = attached()
    over: list[tuple[str, str, float | None]] = []

    def note(it: Ended) -> None:
        over.append((it.start, it.outcome, it.running_ms))

    driver.record = note
    return driver, over


def call(request: RequestId, deadline_s: float = 10.0) -> Call:
    return Call(request, DEFINITION, b"{}", False, "", deadline_s)


async def test_a_call_is_recorded_when_it_is_over() -> None:
    """With what its instance was, and how long it ran."""
    driver, over = recorded()
    driver.submit(call(R), lambda answer: None)
    assert over == []
    driver.answered(frames.Answer(R, True, 1.5, None, b"1"))
    assert over == [("warm", "function_error", 1.5)]


async def test_a_call_that_is_given_up_while_it_runs_is_recorded_once_it_ends() -> None:
    """Its instance is taken until then, and a simulation must know for how long."""
    driver, over = recorded()
    driver.submit(call(R), lambda answer: None)
    driver.abandon(R)
    assert over == []
    driver.answered(frames.Answer(R, False, 7.5, None, b"1"))
    assert over == [("warm", "cancelled", 7.5)]


async def test_a_call_that_never_ran_is_recorded_so() -> None:
    """Throttled, since the line is full, or given up in it."""
    driver, over = recorded()
    waiting = RequestId("r-2")
    driver.submit(call(R), lambda answer: None)
    driver.submit(call(waiting), lambda answer: None)
    driver.submit(call(RequestId("r-3")), lambda answer: None)
    driver.abandon(waiting)
    assert over == [("", "throttled", None), ("", "cancelled", None)]


async def test_calls_that_are_lost_are_recorded_once() -> None:
    """One whose caller waits, and one that nobody hears of any more."""
    for given_up, outcome in ((False, "lost"), (True, "cancelled")):
        driver, over = recorded()
        driver.submit(call(R), lambda answer: None)
        if given_up:
            driver.abandon(R)
        driver.link_down(N1)
        driver.answered(frames.Answer(R, False, 7.5, None, b"1"))
        assert over == [("warm", outcome, None)]
