"""The frontend's driver over workers that the test plays: what is told and remembered of a call."""

import pytest

from lambent_chassis.clock import monotonic_s
from lambent_frontend.calls import Answer, Begun, Call, Candidate, Counted
from lambent_frontend.core import events as on
from lambent_frontend.core.call import Priority
from lambent_frontend.driver import Driver
from lambent_frontend.recorder import Ended
from lambent_proto import frames
from lambent_proto.definition import Definition
from lambent_proto.errors import DeadlinePassed, LambentError, LostWithWorker, Throttled
from lambent_proto.ids import FunctionName, InstanceId, NodeId, RequestId
from tests.unit.frontend.dispatcher_rows import N1, given, ready, starting, voided

R = RequestId("r-1")
DEFINITION = Definition(
    name=FunctionName("f"), revision="1", runtime="python3.11", handler="a.b", code_sha256="00", code_size=1
)


class Workers:
    def __init__(self) -> None:
        self.levels = {N1: "namespaces"}
        self.streaming = {N1}
        self.tracing = {N1}
        self.sent: list[RequestId] = []
        self.windows: list[int] = []
        self.traces: list[str] = []
        self.flows: list[frames.Taken | frames.Unheard] = []

    def send(self, node: NodeId, event: frames.Event) -> None:
        self.sent.append(event.request_id)
        self.windows.append(event.window)
        self.traces.append(event.trace)

    def flow(self, node: NodeId, frame: frames.Taken | frames.Unheard) -> None:
        self.flows.append(frame)

    def unlink(self, node: NodeId) -> None:
        del self.levels[node]


def attached(max_waiting: int = 1, rate_per_concurrency: float = 0.0) -> tuple[Driver, Workers]:
    """With one idle instance of the function on N1."""
    driver = Driver(
        max_waiting=max_waiting,
        max_waiting_bytes=1000,
        rate_per_concurrency=rate_per_concurrency,
        linger_s=0.1,
    )
    workers = Workers()
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


async def test_a_call_whose_start_failed_is_explained_with_the_node_and_its_time() -> None:
    """It was never sent, and is no run; but somebody has to find the log of the start."""
    driver, workers = attached()
    answers: list[Answer | LambentError] = []
    driver.submit(Call(R, DEFINITION, b"{}", False, "", 10.0), lambda answer: None)
    failing = RequestId("r-2")
    driver.submit(Call(failing, DEFINITION, b"{}", False, "", 10.0), answers.append)
    driver.feed(starting("i-2"))
    driver.voided(voided("i-2", error=b'{"errorType":"ImportError"}'))
    (answer,) = answers
    assert isinstance(answer, Answer)
    assert (answer.failed, answer.start, answer.reason) == (True, "cold", "init_failed")
    assert (answer.node, answer.instance, answer.isolation) == ("n1", "i-2", "namespaces")
    assert answer.waiting_ms > 0
    explained = driver.explain(failing)
    assert explained is not None
    assert (explained.outcome, explained.node, explained.instance) == ("function_error", "n1", "i-2")
    assert (explained.waiting_ms, explained.running_ms) == (answer.waiting_ms, 0)
    assert workers.sent == [R]


async def test_waiting_calls_go_by_priority_and_by_tenant() -> None:
    """The core is told both: behind a busy instance a high one goes first, then the tenants take turns."""
    driver, workers = attached(max_waiting=9)
    driver.submit(Call(R, DEFINITION, b"{}", False, "", 10.0), lambda answer: None)
    waiting = [
        ("a-1", Priority.NORMAL, "a"),
        ("a-2", Priority.NORMAL, "a"),
        ("b-1", Priority.NORMAL, "b"),
        ("high", Priority.HIGH, "a"),
    ]
    for request, priority, tenant in waiting:
        call = Call(RequestId(request), DEFINITION, b"{}", False, "", 10.0, "", priority, tenant)
        driver.submit(call, lambda answer: None)
    for _ in waiting:
        driver.answered(frames.Answer(workers.sent[-1], False, 1.5, None, b"1"))
    assert workers.sent == [R, "high", "a-1", "b-1", "a-2"]


async def test_a_call_takes_room_for_its_event_and_its_client_context() -> None:
    """600 and 400 bytes have just room in a frontend of 1,000 bytes; of one byte more there is none."""
    driver, _ = attached(max_waiting=9)
    driver.submit(Call(R, DEFINITION, b"{}", False, "", 10.0), lambda answer: None)
    answers: list[Answer | LambentError] = []
    driver.submit(Call(RequestId("r-2"), DEFINITION, bytes(601), False, "c" * 400, 10.0), answers.append)
    (refused,) = answers
    assert isinstance(refused, Throttled)
    assert "no room in the line of function 'f' for 1,001 bytes" in refused.message
    driver.submit(Call(RequestId("r-3"), DEFINITION, bytes(600), False, "c" * 400, 10.0), answers.append)
    assert len(answers) == 1


async def test_priority_and_tenant_are_explained() -> None:
    """Of a call that ran, and of one that was never sent."""
    driver, _ = attached()
    never = RequestId("r-2")
    for request, priority, tenant in ((R, Priority.HIGH, "a"), (never, Priority.LOW, "b")):
        call = Call(request, DEFINITION, b"{}", False, "", 10.0, "", priority, tenant)
        driver.submit(call, lambda answer: None)
    driver.abandon(never)
    driver.answered(frames.Answer(R, False, 1.5, None, b"1"))
    told = [driver.explain(request) for request in (R, never)]
    assert [(it.outcome, it.priority, it.tenant) for it in told if it] == [
        ("succeeded", Priority.HIGH, "a"),
        ("cancelled", Priority.LOW, "b"),
    ]


async def test_a_call_above_the_rate_is_throttled_by_lambda_s_name() -> None:
    """The core is told the fleet's concurrency and the number of frontends, and the caller the reason."""
    driver, workers = attached(rate_per_concurrency=0.001)
    driver.concurrency_set(8000)
    driver.frontends_counted(4)
    answers: list[Answer | LambentError] = []
    for n in range(3):
        call = Call(RequestId(f"r-{n}"), DEFINITION, b"{}", False, "", 10.0)
        driver.submit(call, answers.append)
        if n < 2:
            driver.answered(frames.Answer(call.request_id, False, 1.5, None, b"1"))
    assert len(workers.sent) == 2
    refused = answers[-1]
    assert isinstance(refused, Throttled)
    assert refused.throttle_reason == "FunctionInvocationRateLimitExceeded"
    assert "more than 2 times a second" in refused.message
    assert "each of 4 frontends" in refused.message


async def test_reasons_are_counted() -> None:
    """Of starts, waits, refusals and outcomes, each with its reason; what was refused explains itself."""
    driver, workers = attached(max_waiting=1)
    for n in range(3):
        driver.submit(Call(RequestId(f"r-{n}"), DEFINITION, b"{}", False, "", 10.0), lambda answer: None)
    driver.feed(on.UnmetTold(DEFINITION.key, "limit_reached", "no more", 0.0))
    for _ in range(2):
        driver.answered(frames.Answer(workers.sent[-1], False, 1.5, None, b"1"))
    assert driver.counts == {
        Counted("outcome", "succeeded"): 2,
        Counted("outcome", "throttled"): 1,
        Counted("warm", "most_recently_used"): 1,
        Counted("warm", "idle_lease"): 1,
        Counted("waited", "limit_reached"): 1,
        Counted("refused", "line_full"): 1,
    }
    refused = driver.explain(RequestId("r-2"))
    assert refused is not None
    assert (refused.outcome, refused.start, refused.reason) == ("throttled", "", "line_full")


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


async def test_a_caller_hears_at_once_that_the_instance_is_gone() -> None:
    """It may have run, so it is not sent again; one that gave up hears nothing."""
    driver, workers = attached()
    answers: list[Answer | LambentError] = []
    driver.submit(Call(R, DEFINITION, b"{}", False, "", 900.0), answers.append)
    driver.lost(frames.Lost(R, "killed"))
    driver.lost(frames.Lost(R, "killed"))
    (lost,) = answers
    assert isinstance(lost, LostWithWorker)
    assert lost.message == "its instance is gone (killed)"
    assert workers.sent == [R]
    assert driver.counts == {Counted("outcome", "lost"): 1, Counted("warm", "most_recently_used"): 1}


class Heard:
    """Who takes an answer in parts."""

    def __init__(self) -> None:
        self.types: list[str] = []
        self.parts: list[bytes] = []

    def began(self, begun: Begun) -> None:
        self.types.append(begun.content_type)
        assert (begun.how.node, begun.how.isolation) == ("n1", "namespaces")

    def part(self, data: bytes) -> None:
        self.parts.append(data)


async def test_a_trace_goes_to_workers_that_take_one() -> None:
    """A worker of an older release would end the connection over it."""
    driver, workers = attached()
    given = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
    driver.submit(Call(R, DEFINITION, b"{}", False, "", 10.0, given_trace=given), lambda _: None)
    driver.answered(frames.Answer(R, False, 1.5, None, b""))
    driver.submit(Call(R, DEFINITION, b"{}", False, "", 10.0), lambda _: None)
    driver.answered(frames.Answer(R, False, 1.5, None, b""))
    workers.tracing.clear()
    driver.submit(Call(R, DEFINITION, b"{}", False, "", 10.0, given_trace=given), lambda _: None)
    assert workers.traces == [given, "", ""]


def streaming() -> tuple[Driver, Workers, Heard, list[Answer | LambentError]]:
    """A call whose answer has begun."""
    driver, workers = attached()
    heard, outcomes = Heard(), list[Answer | LambentError]()
    driver.submit(Call(R, DEFINITION, b"{}", False, "", 10.0, parts=heard), outcomes.append)
    driver.begun(frames.Begun(R, "text/plain"))
    driver.part(frames.Part(R, b"one"))
    assert (workers.windows, heard.types, heard.parts) == ([frames.WINDOW_BYTES], ["text/plain"], [b"one"])
    return driver, workers, heard, outcomes


async def test_a_streamed_answer_ends_with_its_answer() -> None:
    driver, workers, heard, outcomes = streaming()
    driver.taken(R, 3)
    driver.part(frames.Part(R, b"two"))
    assert outcomes == []
    driver.answered(frames.Answer(R, False, 1.5, None, b""))
    (answer,) = outcomes
    assert isinstance(answer, Answer)
    assert (answer.failed, answer.payload, heard.parts) == (False, b"", [b"one", b"two"])
    assert workers.flows == [frames.Taken(R, 3)]
    driver.taken(R, 3)  # late
    assert workers.flows == [frames.Taken(R, 3)]


async def test_a_caller_that_leaves_a_streamed_answer() -> None:
    """Its worker is told, what is on its way is nobody's, and the instance is free with the call's end."""
    driver, workers, heard, _ = streaming()
    driver.abandon(R)
    assert workers.flows == [frames.Unheard(R)]
    driver.part(frames.Part(R, b"late"))
    assert heard.parts == [b"one"]
    second = RequestId("r-2")
    driver.submit(Call(second, DEFINITION, b"{}", False, "", 10.0), lambda answer: None)
    assert workers.sent == [R]
    driver.answered(frames.Answer(R, False, 1.5, None, b""))
    assert workers.sent == [R, second]
    explained = driver.explain(R)
    assert explained is not None
    assert explained.outcome == "cancelled"


async def test_a_streamed_answer_whose_time_is_over() -> None:
    """The caller hears that its deadline passed, and the worker that nobody listens."""
    driver, workers, _, outcomes = streaming()
    driver.feed(on.Tick(monotonic_s() + 11.0))
    (outcome,) = outcomes
    assert isinstance(outcome, DeadlinePassed)
    assert workers.flows == [frames.Unheard(R)]


async def test_a_streamed_answer_whose_worker_is_lost() -> None:
    driver, _, heard, outcomes = streaming()
    driver.link_down(N1)
    (outcome,) = outcomes
    assert isinstance(outcome, LostWithWorker)
    driver.part(frames.Part(R, b"late"))
    assert heard.parts == [b"one"]


async def test_a_worker_of_an_older_release_answers_whole() -> None:
    """It is sent no window, and nothing else that it would not understand."""
    driver, workers = attached()
    workers.streaming.clear()
    heard, outcomes = Heard(), list[Answer | LambentError]()
    driver.submit(Call(R, DEFINITION, b"{}", False, "", 10.0, parts=heard), outcomes.append)
    assert workers.windows == [0]
    driver.abandon(R)
    assert workers.flows == []


async def test_who_wants_an_answer_whole_asks_for_no_window() -> None:
    driver, workers = attached()
    driver.submit(Call(R, DEFINITION, b"{}", False, "", 10.0), lambda answer: None)
    assert workers.windows == [0]


async def test_a_worker_that_sends_more_than_it_may_is_refused() -> None:
    """Its frontend's memory is not its to fill."""
    driver, _, _, _ = streaming()
    full = frames.Part(R, bytes(frames.PIECE_BYTES))
    driver.part(full)
    with pytest.raises(frames.BadFrame, match="no window"):
        driver.part(full)


async def test_a_part_of_what_was_not_begun_is_refused() -> None:
    driver, _ = attached()
    driver.submit(Call(R, DEFINITION, b"{}", False, "", 10.0, parts=Heard()), lambda answer: None)
    with pytest.raises(frames.BadFrame, match="no window"):
        driver.part(frames.Part(R, b"one"))
