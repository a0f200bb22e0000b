"""Which call may wait: a row for every numbered step of `admission` and every condition of `estimate`."""

from typing import Final

import pytest

from lambent_frontend.core import events as on
from lambent_frontend.core.call import Priority
from lambent_frontend.core.commands import Command, Demand, Finish, Outcome
from lambent_frontend.core.estimate import SETTLED_S
from lambent_frontend.core.line import RUNS
from lambent_frontend.core.throttles import FLEET, RESERVED
from lambent_proto.ids import VersionKey
from tests.unit.frontend.dispatcher_rows import (
    V,
    answered,
    arrived,
    decide,
    dispatch,
    finish,
    given,
    refused,
)

G: Final = VersionKey("g:$LATEST:1")
FULL: Final = "the line of function 'f' is full: 2 calls wait"
TAKEN: Final = FULL + ", and one that goes before this one has come"


def no_room(size: int, like: int, free: int) -> str:
    return (
        f"no room in the line of function 'f' for {size} bytes: {like} bytes of this tenant and class wait "
        f"there, and {free} of the 1,000 of this frontend are free"
    )


@pytest.mark.parametrize(
    ("history", "last", "expected"),
    [
        pytest.param(
            [arrived("r1", size=500)],
            arrived("r2", size=1),
            [finish("r2", Outcome.THROTTLED, no_room(1, 500, 500), refusal="no_room")],
            id="1: who waits alone takes half",
        ),
        pytest.param(
            [arrived("r1", size=499)],
            arrived("r2", size=1),
            [Demand(V, 2, 0.0)],
            id="1: and not less than half",
        ),
        pytest.param(
            [arrived("r1", size=500, version=G)],
            arrived("r2", size=500),
            [Demand(V, 1, 0.0)],
            id="1: a function takes what another one leaves",
        ),
        pytest.param(
            [arrived("r1", size=500, tenant="a")],
            arrived("r2", size=500, tenant="b"),
            [Demand(V, 2, 0.0)],
            id="1: a tenant takes what another one leaves",
        ),
        pytest.param(
            [arrived("r1", size=500, priority=Priority.LOW)],
            arrived("r2", size=500),
            [Demand(V, 2, 0.0)],
            id="1: a class takes what another one leaves",
        ),
        pytest.param(
            [arrived("r1", size=500, version=G)],
            arrived("r2", size=501),
            [finish("r2", Outcome.THROTTLED, no_room(501, 0, 500), refusal="no_room")],
            id="1: never more than there is",
        ),
        pytest.param(
            [arrived("r1", size=500), given("i1", at=0.0)],
            arrived("r2", size=600),
            [Demand(V, 2, 0.0)],
            id="1: what runs takes no room",
        ),
        pytest.param(
            [given("i1")],
            arrived("r1", size=5000),
            [dispatch("i1", "r1")],
            id="1: what does not wait needs no room",
        ),
        pytest.param(
            [given("i1"), arrived("r1", size=600), arrived("r2", size=300), refused("i1", "r1")],
            arrived("r3", 1.0, size=1, version=G),
            [Demand(G, 1, 0.0)],
            id="1: one that never ran finds room whatever there is, and the next one what is left",
        ),
        pytest.param(
            [arrived("r1"), arrived("r2")],
            arrived("r3"),
            [finish("r3", Outcome.THROTTLED, FULL, refusal="line_full")],
            id="3: a full line throttles the newcomer of one tenant and class",
        ),
        pytest.param(
            [arrived("r1"), arrived("r2", priority=Priority.LOW)],
            arrived("r3"),
            [finish("r2", Outcome.THROTTLED, TAKEN, refusal="line_full")],
            id="3: or one that has less right to wait",
        ),
        pytest.param(
            [arrived("r1", tenant="a"), arrived("r2", tenant="a")],
            arrived("r3", tenant="b"),
            [finish("r2", Outcome.THROTTLED, TAKEN, refusal="line_full")],
            id="3: the greedy tenant's call",
        ),
        pytest.param(
            [arrived("r1"), arrived("r2", priority=Priority.LOW), arrived("r3")],
            given("i1", at=1.0),
            [dispatch("i1", "r1", waited_s=1.0)],
            id="4: who took a place waits for its turn like the others",
        ),
        pytest.param(
            [arrived("r1"), arrived("r2", 0.5, priority=Priority.HIGH)],
            given("i1", at=1.0),
            [dispatch("i1", "r2", waited_s=0.5)],
            id="4: an instance takes the call whose turn it is",
        ),
    ],
)
def test_who_may_wait(history: list[on.Event], last: on.Event, expected: list[Command]) -> None:
    """A call takes the first step of the numbered ones that is not open to it as its answer."""
    assert decide(history, last) == expected


def seen(runs: int = RUNS, seconds: float = 1.0, before: float = 0.0) -> list[on.Event]:
    """One instance, and calls of so many seconds one after the other; the last answer is at second 0."""
    at = -before - runs * seconds
    events: list[on.Event] = [given("i1", at=at), arrived("w0", at, deadline=900)]
    for n in range(1, runs + 1):
        events += [arrived(f"w{n}", at, deadline=900.0), answered("i1", f"w{n - 1}", at := at + seconds)]
    return events


def waits(number: int, deadline: float = 100.0) -> list[on.Event]:
    return [arrived(f"q{n}", deadline=deadline) for n in range(number)]


def unmet(reason: str, at: float) -> on.UnmetTold:
    return on.UnmetTold(V, reason, "no more", at)


def limit(instances: int) -> list[on.Event]:
    return [on.VersionDefined(V, instances), unmet("limit_reached", -1.0)]


WAITS: Final = {
    RESERVED: "limit_reached",
    FLEET: "fleet_limit_reached",
    "": "no_memory",
}


def late(ahead: int, instances: int, turn_s: float, throttle: str) -> Command:
    detail = (
        f"its deadline cannot be met: {ahead} calls of function 'f' are ahead of it, and each takes 1.00 s "
        f"on one of {instances} instances: its turn would come in {turn_s} s, its deadline is in 2.0 s"
        "; no more"
    )
    return finish(
        "new",
        Outcome.THROTTLED,
        detail,
        throttle=throttle,
        refusal="deadline_out_of_reach",
        waited_for=WAITS[throttle],
    )


SOON: Final = arrived("new", deadline=2.0)
LATE: Final = late(5, 1, 5.0, RESERVED)


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        pytest.param([*seen(), *limit(1), *waits(5)], LATE, id="at the limit, and too many ahead"),
        pytest.param(
            [*seen(), *limit(2), *waits(9)],
            late(9, 2, 4.5, RESERVED),
            id="1: all instances of the limit count, though another frontend holds some",
        ),
        pytest.param([*seen(), *limit(2), *waits(8)], None, id="1: and they serve as many more"),
        pytest.param(
            [*seen(), unmet("fleet_limit_reached", -SETTLED_S), *waits(5)],
            late(5, 1, 5.0, FLEET),
            id="1: at the fleet's limit, once the function's part has settled",
        ),
        pytest.param(
            [*seen(), unmet("no_memory", -SETTLED_S), *waits(5)],
            late(5, 1, 5.0, ""),
            id="1: without memory",
        ),
        pytest.param(
            [*seen(), unmet("fleet_limit_reached", 0.1 - SETTLED_S), *waits(5)],
            None,
            id="1: before it has settled it waits",
        ),
        pytest.param(
            [*seen(seconds=6.0), unmet("fleet_limit_reached", -SETTLED_S), *waits(5)],
            None,
            id="1: before a call's time has passed it waits",
        ),
        pytest.param(
            [
                *seen(),
                unmet("fleet_limit_reached", -9.0),
                arrived("b", -1.0),
                given("i2", 2, at=-1.0),
                *waits(9),
            ],
            None,
            id="1: one more instance has just come, so more may",
        ),
        pytest.param(
            [*seen(), unmet("no_memory", -9.0), unmet("fleet_limit_reached", -1.0), *waits(5)],
            late(5, 1, 5.0, FLEET),
            id="1: another reason is no news",
        ),
        pytest.param(
            [*seen(), unmet("no_memory", -9.0), unmet("", -2.0), unmet("no_memory", -1.0), *waits(5)],
            None,
            id="1: a reason that was over begins anew",
        ),
        pytest.param(
            [*seen(), unmet("start_rate", -9.0), *waits(5)], None, id="1: an instance may still be started"
        ),
        pytest.param(
            [*seen(), *limit(1), *waits(5), on.PlacementLost()],
            None,
            id="1: with placement away nobody can tell",
        ),
        pytest.param([*seen(RUNS - 1), *limit(1), *waits(5)], None, id="2: too few calls have been seen"),
        pytest.param(
            [*seen(), *limit(1), *waits(4)], None, id="3: at twice the speed its turn would come in time"
        ),
        pytest.param(
            [*seen(), *waits(9, deadline=1.0), *limit(1)],
            None,
            id="3: those that will be gone before their turn do not count",
        ),
    ],
)
def test_a_deadline_that_cannot_be_met(history: list[on.Event], expected: Command | None) -> None:
    """A call is refused at once only if it had no chance; whenever that is not certain it waits."""
    said = decide(history, SOON, max_waiting=100)
    refusals = [command for command in said if not isinstance(command, Demand)]
    assert refusals == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("newcomer", "refused_at_once"),
    [
        pytest.param(SOON, True, id="3: of the tenant and class that fill the line"),
        pytest.param(
            arrived("new", deadline=2.0, tenant="b"), False, id="3: of a tenant that has none there"
        ),
        pytest.param(
            arrived("new", deadline=2.0, priority=Priority.HIGH), False, id="3: of a class that goes before"
        ),
        pytest.param(arrived("new", deadline=9.0), False, id="3: with time enough"),
    ],
)
def test_who_is_ahead_depends_on_who_asks(newcomer: on.Event, refused_at_once: bool) -> None:
    """The greedy tenant's call is refused where another tenant's waits for its turn."""
    said = decide([*seen(), *limit(1), *waits(5)], newcomer, max_waiting=100)
    assert any(isinstance(command, Finish) for command in said) is refused_at_once
