"""Calls with a sticky key: which of the idle instances takes them, and what placement is told of it."""

from typing import Final

import pytest

from lambent_frontend.core import commands as do
from lambent_frontend.core import events as on
from lambent_frontend.core.books import UNTOLD
from lambent_frontend.core.dispatcher import Dispatcher
from lambent_proto.ids import InstanceId, VersionKey
from tests.unit.frontend.dispatcher_rows import (
    CONNECTED,
    N1,
    N2,
    V,
    answered,
    arrived,
    decide,
    dispatch,
    given,
    recalled,
    release,
)

OTHER: Final = VersionKey("g:$LATEST:1")

THREE: Final[list[on.Event]] = [given("a"), given("b", node=N2), given("c")]
"""Idle ones, the last one taken first."""

SERVED: Final[list[on.Event]] = [*THREE, arrived("r1", sticky=7)]
"""The third one, on N1, has the key's call."""

SERVED_LONG_AGO: Final[list[on.Event]] = [
    *SERVED,
    arrived("r2"),
    answered("c", "r1"),
    answered("b", "r2", 2.0),
]
"""The second one was used last."""


@pytest.mark.parametrize(
    ("history", "last", "expected"),
    [
        pytest.param(THREE, arrived("r1", sticky=7), [dispatch("c", "r1")], id="a new key: as without one"),
        pytest.param(
            SERVED_LONG_AGO,
            arrived("r3", 3.0, sticky=7),
            [dispatch("c", "r3", reason="sticky_instance")],
            id="the instance that served it last",
        ),
        pytest.param(
            [
                given("a"),
                given("c"),
                arrived("r1", sticky=7),
                arrived("r2"),
                answered("c", "r1"),
                answered("a", "r2", 2.0),
            ],
            arrived("r3", 3.0, sticky=7),
            [dispatch("c", "r3", reason="sticky_instance")],
            id="rather than one on its node that was used later",
        ),
        pytest.param(
            [*THREE, given("d"), arrived("r1", sticky=7)],
            arrived("r2", sticky=7),
            [dispatch("c", "r2", reason="sticky_node")],
            id="of those on its node the most recently used",
        ),
        pytest.param(
            SERVED,
            arrived("r2", sticky=7),
            [dispatch("a", "r2", reason="sticky_node")],
            id="while that is busy one on its node",
        ),
        pytest.param(
            [*SERVED, arrived("r2", sticky=7), answered("c", "r1"), answered("a", "r2", 2.0), arrived("r3")],
            arrived("r4", 3.0, sticky=7),
            [dispatch("c", "r4", reason="sticky_node")],
            id="the last one counts, and not the first",
        ),
        pytest.param(
            [*SERVED, arrived("r2")],
            arrived("r3", sticky=7),
            [dispatch("a", "r3", reason="sticky_node")],
            id="one on its node, used longer ago than others or not",
        ),
        pytest.param(
            [given("b", node=N2), given("c"), arrived("r1", sticky=7)],
            arrived("r2", sticky=7),
            [dispatch("b", "r2", node=N2)],
            id="none is waited for: another one's call is served where there is an idle one",
        ),
        pytest.param(
            SERVED_LONG_AGO,
            arrived("r3", 3.0, sticky=8),
            [dispatch("b", "r3", node=N2, reason="idle_lease")],
            id="another key",
        ),
        pytest.param(
            [*SERVED, given("d", version=OTHER), given("e", node=N2, version=OTHER)],
            arrived("r2", version=OTHER, sticky=7),
            [dispatch("e", "r2", node=N2)],
            id="another function's key of the same name",
        ),
        pytest.param(
            SERVED_LONG_AGO,
            arrived("r3", 3.0),
            [dispatch("b", "r3", node=N2, reason="idle_lease")],
            id="no key",
        ),
        pytest.param(
            [], arrived("r1", sticky=7), [do.Demand(V, 1, 0.0, (7,))], id="placement is told the key"
        ),
        pytest.param(
            [arrived("r1", sticky=7), arrived("r2")],
            on.PlacementAttached(0.0),
            [do.Attach([], [do.Demand(V, 2, 0.0, (7,))], [N1, N2])],
            id="and so is the next one that leads",
        ),
        pytest.param(
            [given("a", reason="sticky_node")],
            arrived("r1"),
            [dispatch("a", "r1")],
            id="given for a key, taken by a call without one",
        ),
        pytest.param(
            [*SERVED, answered("c", "r1")],
            recalled(3),
            [
                do.TellServed([(InstanceId("c"), 7)]),
                do.AnswerRecall(V, release(("a", 1), ("b", 1), ("c", 1)).leases),
            ],
            id="what served a key is told before it is given back",
        ),
    ],
)
def test_who_takes_it(history: list[on.Event], last: on.Event, expected: list[do.Command]) -> None:
    """Not looking at what the idle ones were given for before."""
    assert decide(history, last, max_waiting=4) == expected


def test_what_was_served_is_told_once() -> None:
    """With the next tick, the last of a key alone; not while nobody leads."""
    core = Dispatcher(max_waiting=4, linger_s=5.0)
    for event in [*CONNECTED, *SERVED, arrived("r2", sticky=7), arrived("r3", sticky=8)]:
        core.handle(event)
    core.handle(on.PlacementLost())
    assert core.handle(on.Tick(1.0)) == []
    core.handle(on.PlacementAttached(1.0))
    told = core.handle(on.Tick(1.1))
    assert do.TellServed([(InstanceId("a"), 7), (InstanceId("b"), 8)]) in told
    assert not any(isinstance(it, do.TellServed) for it in core.handle(on.Tick(1.2)))


def test_what_is_told_later_is_bounded() -> None:
    """While nobody leads the oldest keys are forgotten."""
    core = Dispatcher(max_waiting=4, linger_s=5.0)
    for event in [*CONNECTED, given("a"), on.PlacementLost()]:
        core.handle(event)
    for key in range(1, UNTOLD + 3):
        core.handle(arrived(f"r{key}", sticky=key))
        core.handle(answered("a", f"r{key}"))
    assert len(core.books.untold) == UNTOLD
    assert [key for _, key in core.books.untold][:2] == [3, 4]
