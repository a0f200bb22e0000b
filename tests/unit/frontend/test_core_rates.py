"""How often a function may be called: a row for every numbered rule of `rates`, at ten a second and unit."""

from itertools import count
from typing import Final

import pytest

from lambent_frontend.core import events as on
from lambent_frontend.core.commands import Finish, Outcome
from lambent_frontend.core.dispatcher import Dispatcher
from lambent_frontend.core.throttles import FLEET_RATE, RESERVED, RESERVED_RATE
from lambent_proto.ids import VersionKey
from tests.unit.frontend.dispatcher_rows import CONNECTED, V, W, arrived, finish, given

G: Final = VersionKey("g:$LATEST:1")
ONE: Final = on.VersionDefined(V, 1)
"""It reserves one, so it may have ten calls a second."""

_names = count()


def calls(*times: float, version: VersionKey = V) -> list[on.Event]:
    return [arrived(f"c{next(_names)}", at, version=version, deadline=100.0) for at in times]


def ten(at: float = 0.0) -> list[on.Event]:
    return calls(*[at] * 10)


def too_often(detail: str, throttle: str) -> Finish:
    return finish(
        "new",
        Outcome.THROTTLED,
        f"function 'f' is called more than {detail}",
        throttle=throttle,
        refusal="rate",
    )


def refused(history: list[on.Event], last: list[on.Event], rate: float = 10.0) -> list[bool]:
    dispatcher = Dispatcher(rate_per_concurrency=rate)
    for event in [*CONNECTED, *history]:
        dispatcher.handle(event)
    return [any(isinstance(said, Finish) for said in dispatcher.handle(event)) for event in last]


@pytest.mark.parametrize(
    ("history", "last", "expected"),
    [
        pytest.param([ONE], ten() + calls(0.0, 0.0), [False] * 10 + [True] * 2, id="1: ten for each unit"),
        pytest.param([on.VersionDefined(V, 2), *ten(), *ten()], calls(0.0), [True], id="1: twenty for two"),
        pytest.param([on.VersionDefined(V, 2), *ten()], calls(0.0), [False], id="1: and not fewer"),
        pytest.param(
            [on.ConcurrencySet(1), on.VersionDefined(V, None), *ten()],
            calls(0.0),
            [True],
            id="1: without a reservation the fleet's concurrency counts",
        ),
        pytest.param(
            [on.ConcurrencySet(2), on.VersionDefined(V, None), *ten()],
            calls(0.0),
            [False],
            id="1: all of it",
        ),
        pytest.param(
            [on.ConcurrencySet(2), ONE, *ten()], calls(0.0), [True], id="1: with one that alone counts"
        ),
        pytest.param(
            [ONE, on.VersionDefined(G, 1), *ten()],
            calls(0.0, version=G),
            [False],
            id="1: another function has its own",
        ),
        pytest.param(
            [ONE, *ten(), on.VersionReplaced(V, W, 1, 0.0)],
            calls(0.0, version=W),
            [True],
            id="1: a new version of the function has not",
        ),
        pytest.param(
            [ONE, *ten(), on.VersionRemoved(V, 0.0), on.VersionDefined(W, 1)],
            calls(0.0, version=W),
            [False],
            id="1: a new function of that name has",
        ),
        pytest.param(
            [ONE, on.FrontendsCounted(2)],
            calls(*[0.0] * 6),
            [False] * 5 + [True],
            id="2: half for one of two",
        ),
        pytest.param(
            [ONE, on.FrontendsCounted(2), *ten()],
            calls(0.125, 0.25),
            [True, False],
            id="2: which comes half as fast",
        ),
        pytest.param(
            [ONE, on.FrontendsCounted(2), on.FrontendsCounted(1), *ten()[:9]],
            calls(0.0),
            [False],
            id="2: all of it again when the other one is gone",
        ),
        pytest.param(
            [ONE, *ten()],
            calls(0.0625, 0.125),
            [True, False],
            id="3: one more in a tenth of a second",
        ),
        pytest.param(
            [ONE, *ten()],
            calls(0.0625, 0.125, 0.1875, 0.25),
            [True, False, True, False],
            id="3: parts of one are kept, whatever is refused meanwhile",
        ),
        pytest.param([ONE, *ten()], [*ten(60.0), *calls(60.0)], [False] * 10 + [True], id="3: a second's"),
        pytest.param(
            [ONE, on.FrontendsCounted(40)],
            calls(0.0, 3.0, 4.0, 100.0, 100.0),
            [False, True, False, False, True],
            id="3: but one at least",
        ),
    ],
)
def test_how_often(history: list[on.Event], last: list[on.Event], expected: list[bool]) -> None:
    """Which of the last calls are refused: those above the rate, and no others."""
    assert refused(history, last) == expected


def test_without_a_rate_there_is_no_limit() -> None:
    """As it is unless an operator sets one."""
    assert not any(refused([ONE], calls(*[0.0] * 500), rate=0.0))


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        pytest.param(
            [ONE, *ten()],
            too_often("10 times a second: 10 are allowed for each of its concurrency of 1", RESERVED_RATE),
            id="2: above the rate of its reservation",
        ),
        pytest.param(
            [on.ConcurrencySet(1), on.FrontendsCounted(4), on.VersionDefined(V, None), *ten()],
            too_often(
                "2.5 times a second: 10 are allowed for each of its concurrency of 1, of which each of "
                "4 frontends has its part",
                FLEET_RATE,
            ),
            id="2: above that of the fleet, here a quarter of it",
        ),
        pytest.param(
            [ONE, *ten(), *(given(f"i{n}") for n in range(11))],
            too_often("10 times a second: 10 are allowed for each of its concurrency of 1", RESERVED_RATE),
            id="2: though an instance is idle",
        ),
        pytest.param(
            [ONE, *ten(), on.VersionDefined(V, 0)],
            finish(
                "new",
                Outcome.THROTTLED,
                "function 'f' is switched off: its concurrency is 0",
                throttle=RESERVED,
                refusal="switched_off",
            ),
            id="1: a function that is switched off says that",
        ),
    ],
)
def test_what_a_call_above_the_rate_is_told(history: list[on.Event], expected: Finish) -> None:
    """At once, how often is allowed and why, with Lambda's name of the reason."""
    dispatcher = Dispatcher(rate_per_concurrency=10.0)
    for event in [*CONNECTED, *history]:
        dispatcher.handle(event)
    assert dispatcher.handle(arrived("new")) == [expected]


def test_a_version_that_is_deleted_leaves_its_function_what_it_had() -> None:
    """Neither is its bucket filled, nor is it said to be gone."""
    dispatcher, seven = Dispatcher(rate_per_concurrency=10.0), VersionKey("f:7:1")
    for event in [*CONNECTED, on.VersionDefined(V, 1), on.VersionDefined(seven, 1), *ten()]:
        dispatcher.handle(event)
    assert [it for it in dispatcher.handle(on.VersionRemoved(seven, 0.0)) if isinstance(it, Finish)] == []
    late = dispatcher.handle(arrived("late", 0.0, version=seven))
    assert late == [finish("late", Outcome.REMOVED, "version 7 of function 'f' was deleted")]
    (refused,) = dispatcher.handle(arrived("new", 0.0))
    assert isinstance(refused, Finish)
    assert refused.refusal == "rate"
