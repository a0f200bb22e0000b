"""Which call runs next, and when one has to give up: a row for every preference, refusal and late event."""

import pytest

from lambent_frontend.core import events as on
from lambent_frontend.core.commands import Command, Demand, Outcome
from lambent_frontend.core.dispatcher import Dispatcher
from lambent_frontend.core.throttles import FLEET, RESERVED, reason
from tests.unit.frontend.dispatcher_rows import (
    CONNECTED,
    DELETED,
    V,
    abandoned,
    answered,
    arrived,
    decide,
    dispatch,
    finish,
    given,
    ready,
    refused,
    release,
    starting,
)

OFF = "function 'f' is switched off: its concurrency is 0"
FULL = "the line of function 'f' is full: 2 calls wait"
IN_VAIN = "no instance of function 'f' became free in 1.0 s"
NO_PLACEMENT = "; placement cannot be reached, so nothing new can be started"
LIMIT = on.UnmetTold(V, "limit_reached", "all 4 instances exist", 0.0)


@pytest.mark.parametrize(
    ("history", "last", "expected"),
    [
        pytest.param(
            [given("i1"), on.VersionDefined(V, 0)],
            arrived("r1"),
            [finish("r1", Outcome.THROTTLED, OFF, throttle=RESERVED, refusal="switched_off")],
            id="1: a function that is switched off throttles at once, whatever is idle",
        ),
        pytest.param(
            [on.VersionDefined(V, 0), on.VersionDefined(V, None), given("i1")],
            arrived("r1"),
            [dispatch("i1", "r1")],
            id="1: a function that is switched on again serves",
        ),
        pytest.param(
            [on.VersionRemoved(V, 0.0)],
            arrived("r1"),
            [finish("r1", Outcome.REMOVED, DELETED)],
            id="a deleted function's call ends as removed",
        ),
        pytest.param(
            [given("i1"), given("i2", 2)],
            arrived("r1"),
            [dispatch("i2", "r1", 2)],
            id="3: of two idle leases the newer one is taken",
        ),
        pytest.param(
            [
                given("i1"),
                given("i2", 2),
                arrived("r1"),
                arrived("r2"),
                answered("i2", "r1", 1.0),
                answered("i1", "r2", 2.0),
            ],
            arrived("r3", 3.0),
            [dispatch("i1", "r3", reason="idle_lease")],
            id="3: of two used leases the one used last is taken",
        ),
        pytest.param(
            [arrived("r1"), arrived("r2")],
            arrived("r3"),
            [finish("r3", Outcome.THROTTLED, FULL, refusal="line_full")],
            id="4: a full line throttles",
        ),
        pytest.param(
            [arrived("r1"), arrived("r2"), LIMIT],
            arrived("r3"),
            [
                finish(
                    "r3",
                    Outcome.THROTTLED,
                    f"{FULL}; all 4 instances exist",
                    refusal="line_full",
                    waited_for="limit_reached",
                    throttle=RESERVED,
                )
            ],
            id="4: a full line says what placement lacks",
        ),
        pytest.param(
            [arrived("r1"), arrived("r2"), LIMIT, on.UnmetTold(V, "", "", 0.0)],
            arrived("r3"),
            [finish("r3", Outcome.THROTTLED, FULL, refusal="line_full")],
            id="4: a reason that is over is not given",
        ),
        pytest.param(
            [arrived("r1"), arrived("r2"), LIMIT, on.PlacementLost()],
            arrived("r3"),
            [
                finish(
                    "r3",
                    Outcome.THROTTLED,
                    FULL + NO_PLACEMENT,
                    refusal="line_full",
                    waited_for="placement_away",
                )
            ],
            id="4: a full line says that placement is away",
        ),
        pytest.param([], arrived("r1"), [Demand(V, 1, 0.0)], id="5: nothing idle, so it waits and asks"),
        pytest.param(
            [arrived("r1")],
            arrived("r2", 0.5),
            [Demand(V, 2, 0.5)],
            id="5: a second one that waits asks for two in all, with the age of the first",
        ),
        pytest.param(
            [starting("i1")], arrived("r1"), [], id="5: one that waits for a start under way asks for no more"
        ),
        pytest.param(
            [on.PlacementLost()], arrived("r1"), [], id="5: with placement away it waits and asks nobody"
        ),
        pytest.param(
            [arrived("r1"), arrived("r2", 0.5)],
            given("i1", at=1.0),
            [dispatch("i1", "r1", waited_s=1.0)],
            id="5: a warm instance goes to the call that waits longest",
        ),
        pytest.param(
            [arrived("r1"), LIMIT],
            given("i1", at=1.0),
            [dispatch("i1", "r1", waited_s=1.0, waited_for="limit_reached")],
            id="5: a call that waited says for what",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), arrived("r2", 0.5), arrived("r3", 0.6)],
            answered("i1", "r1", 1.0),
            [
                finish("r1", Outcome.ANSWERED),
                dispatch("i1", "r2", reason="idle_lease", waited_s=0.5),
            ],
            id="5: an instance that becomes free takes the call that waits longest",
        ),
        pytest.param(
            [arrived("r1"), starting("i1")],
            ready("i1", at=0.5),
            [dispatch("i1", "r1", cold=True, reason="no_instance", waited_s=0.5)],
            id="5: a new instance takes the call that waited for it, and that is a cold start",
        ),
        pytest.param(
            [arrived("r1"), starting("i2", 2), given("i1", at=0.2)],
            ready("i2", 2),
            [],
            id="5: a new instance that comes too late finds nobody waiting",
        ),
    ],
)
def test_an_arriving_call(history: list[on.Event], last: on.Event, expected: list[Command]) -> None:
    """A call takes the first way of the numbered ones that is open."""
    assert decide(history, last) == expected


@pytest.mark.parametrize(
    ("history", "last", "expected"),
    [
        pytest.param(
            [given("i1"), arrived("r1")],
            answered("i1", "r1"),
            [finish("r1", Outcome.ANSWERED)],
            id="an answer is the outcome",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), answered("i1", "r1")],
            answered("i1", "r1"),
            [],
            id="a second answer has no effect",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), answered("i1", "r1"), arrived("r2")],
            answered("i1", "r1"),
            [],
            id="a second answer does not end the next call",
        ),
        pytest.param([], answered("i1", "r1"), [], id="an answer from an unknown instance has no effect"),
        pytest.param(
            [starting("i1"), ready("i1", at=1.0)],
            arrived("r1", 2.0),
            [dispatch("i1", "r1", reason="no_instance")],
            id="a call that came after the start did not wait for it: warm",
        ),
        pytest.param(
            [arrived("r1"), starting("i1"), ready("i1"), answered("i1", "r1", 2.0)],
            arrived("r2", 3.0),
            [dispatch("i1", "r2", reason="idle_lease")],
            id="the second call on a new instance is warm",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), arrived("r2", 0.1)],
            refused("i1", "r1"),
            [release(("i1", 1), sure=False)],
            id="a refused call gives the lease back unsure, and placement knows the demand already",
        ),
        pytest.param(
            [given("i1"), arrived("r1")],
            refused("i1", "r1"),
            [release(("i1", 1), sure=False), Demand(V, 1, 1.0)],
            id="a refused call asks for another instance",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), arrived("r2", 0.1), refused("i1", "r1")],
            given("i2", 2, 2.0),
            [dispatch("i2", "r1", 2, waited_s=2.0, waited_for="stale_lease")],
            id="a refused call goes back to the head of its line",
        ),
        pytest.param(
            [
                given("i1"),
                given("i2", 2),
                arrived("r1"),
                arrived("r2", 0.1),
                refused("i2", "r1"),
                refused("i1", "r2"),
            ],
            given("i3", 3, 2.0),
            [dispatch("i3", "r1", 3, waited_s=2.0, waited_for="stale_lease")],
            id="two refused calls keep their order",
        ),
        pytest.param(
            [given("i1"), given("i2", 2), arrived("r1")],
            refused("i2", "r1", reason="gone"),
            [
                release(("i2", 2), sure=False),
                dispatch("i1", "r1", waited_s=1.0, waited_for="gone"),
            ],
            id="a refused call takes another idle instance at once",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), refused("i1", "r1")],
            refused("i1", "r1"),
            [],
            id="a second refusal has no effect",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), answered("i1", "r1")],
            refused("i1", "r1"),
            [],
            id="a refusal after the answer has no effect",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), abandoned("r1")],
            refused("i1", "r1"),
            [release(("i1", 1), sure=False)],
            id="a refused call that nobody waits for is not sent again",
        ),
    ],
)
def test_an_answer_or_refusal(history: list[on.Event], last: on.Event, expected: list[Command]) -> None:
    """An event is sent again only when the worker proves that the runtime never took it."""
    assert decide(history, last) == expected


@pytest.mark.parametrize(
    ("history", "last", "expected"),
    [
        pytest.param(
            [arrived("r1"), abandoned("r1")],
            given("i1", at=2.0),
            [],
            id="a call abandoned while it waits never runs",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), abandoned("r1")],
            arrived("r2", 1.0),
            [Demand(V, 2, 0.0)],
            id="a call abandoned while it runs keeps its instance busy",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), abandoned("r1"), arrived("r2", 1.0)],
            answered("i1", "r1", 2.0),
            [dispatch("i1", "r2", reason="idle_lease", waited_s=1.0)],
            id="a call abandoned while it runs gets no outcome and frees its instance",
        ),
        pytest.param([arrived("r1"), abandoned("r1")], abandoned("r1"), [], id="abandoned twice"),
        pytest.param(
            [arrived("r1", deadline=1.0), abandoned("r1", 0.5)],
            on.Tick(1.0),
            [Demand(V, 0, 0.0)],
            id="an abandoned call has no deadline, and its demand is taken back",
        ),
        pytest.param(
            [arrived("r1", deadline=1.0)],
            on.Tick(0.09),
            [],
            id="a call that waits is not asked for again within the refresh",
        ),
        pytest.param(
            [arrived("r1", deadline=1.0)],
            on.Tick(0.99),
            [Demand(V, 1, 0.99)],
            id="a call that waits on is heard of again, with its age",
        ),
        pytest.param(
            [arrived("r1"), arrived("r2"), abandoned("r2", 0.02)],
            on.Tick(0.05),
            [],
            id="while calls wait it is the peak since the last tick that counts",
        ),
        pytest.param(
            [arrived("r1"), arrived("r2"), abandoned("r2", 0.02), on.Tick(0.05)],
            on.Tick(0.06),
            [Demand(V, 1, 0.06)],
            id="the peak before the last tick does not",
        ),
        pytest.param(
            [arrived("r1", deadline=1.0)],
            on.Tick(1.0),
            [finish("r1", Outcome.THROTTLED, IN_VAIN, refusal="waited_in_vain"), Demand(V, 0, 0.0)],
            id="a call that waits until its deadline is throttled, and not wanted any more",
        ),
        pytest.param(
            [arrived("r1", deadline=1.0), LIMIT],
            on.Tick(1.0),
            [
                finish(
                    "r1",
                    Outcome.THROTTLED,
                    f"{IN_VAIN}; all 4 instances exist",
                    refusal="waited_in_vain",
                    waited_for="limit_reached",
                    throttle=RESERVED,
                ),
                Demand(V, 0, 0.0),
            ],
            id="a call throttled at its deadline says what placement lacked",
        ),
        pytest.param(
            [arrived("r1", deadline=1.0), on.PlacementLost()],
            on.Tick(1.0),
            [
                finish(
                    "r1",
                    Outcome.THROTTLED,
                    IN_VAIN + NO_PLACEMENT,
                    refusal="waited_in_vain",
                    waited_for="placement_away",
                )
            ],
            id="a call throttled at its deadline says that placement was away",
        ),
        pytest.param(
            [given("i1"), arrived("r1", deadline=1.0)],
            on.Tick(1.49),
            [],
            id="a running call is kept past its deadline: the function's own timeout is a better answer",
        ),
        pytest.param(
            [given("i1"), arrived("r1", deadline=1.0)],
            on.Tick(1.5),
            [finish("r1", Outcome.DEADLINE, "no answer by the deadline, 1.5 s after the call arrived")],
            id="a running call ends after the grace",
        ),
        pytest.param(
            [given("i1"), arrived("r1", deadline=1.0), on.Tick(1.5)],
            answered("i1", "r1", 2.0),
            [],
            id="an answer after the outcome has no effect on the call",
        ),
        pytest.param(
            [given("i1"), arrived("r1", deadline=1.0), on.Tick(1.5), answered("i1", "r1", 2.0)],
            arrived("r2", 2.0),
            [dispatch("i1", "r2", reason="idle_lease")],
            id="an answer after the outcome frees the instance",
        ),
    ],
)
def test_giving_up(history: list[on.Event], last: on.Event, expected: list[Command]) -> None:
    """A call ends once: at its deadline if it waits, a grace later if it runs, never if it was abandoned."""
    assert decide(history, last) == expected


def test_a_frontend_without_a_line_still_serves_what_is_idle() -> None:
    """The line's length limits those that wait, not those that run."""
    assert decide([given("i1")], arrived("r1"), max_waiting=0) == [dispatch("i1", "r1")]


def test_waiting_calls_end_only_once() -> None:
    """After each call had its outcome, ticks say nothing more and nothing is kept."""
    dispatcher = Dispatcher()
    for event in [*CONNECTED, arrived("r1", deadline=1.0), on.Tick(1.0)]:
        dispatcher.handle(event)
    assert dispatcher.handle(on.Tick(20.0)) == []
    assert not dispatcher.books.calls


@pytest.mark.parametrize(
    ("limit", "unmet", "expected"),
    [
        (0, "", RESERVED),
        (4, "limit_reached", RESERVED),
        (None, "fleet_limit_reached", FLEET),
        (None, "start_rate", FLEET),
        (None, "no_memory", ""),
        (4, "", ""),
    ],
)
def test_throttles_have_lambdas_names(limit: int | None, unmet: str, expected: str) -> None:
    """Where Lambda has one: it knows no fleet without memory."""
    assert reason(limit, unmet) == expected
