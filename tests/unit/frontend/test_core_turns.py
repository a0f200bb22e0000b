"""Whose turn it is, and who gives way: a row for every numbered preference of `turns`."""

from typing import Final

import pytest

from lambent_frontend.core.call import Call, Priority
from lambent_frontend.core.turns import PATIENCE, Turns
from lambent_proto.ids import RequestId
from tests.unit.frontend.dispatcher_rows import V

HIGH: Final = Priority.HIGH
NORMAL: Final = Priority.NORMAL
LOW: Final = Priority.LOW


def call(
    name: str, priority: Priority = NORMAL, tenant: str = "", *, at: float = 0.0, again: bool = False
) -> Call:
    return Call(RequestId(name), V, 10.0, at, priority, tenant, 1, had_turn=again)


def many(name: str, number: int, priority: Priority = NORMAL, tenant: str = "") -> list[Call]:
    return [call(f"{name}{n}", priority, tenant) for n in range(1, number + 1)]


def waiting(*calls: Call) -> Turns:
    turns = Turns()
    for each in calls:
        turns.join(each)
    return turns


def served(turns: Turns, number: int) -> str:
    return " ".join(turns.next().request for _ in range(number))


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        pytest.param(
            [call("h", HIGH), call("n", at=1.0, again=True)],
            "n h",
            id="1: one that was sent and never ran goes before a higher class",
        ),
        pytest.param(
            [call("n2", at=2.0, again=True), call("n1", at=1.0, again=True)],
            "n1 n2",
            id="1: of two that never ran the older one",
        ),
        pytest.param(
            [call("n"), *many("h", 10, HIGH)],
            "h1 h2 h3 h4 h5 h6 h7 h8 n h9 h10",
            id="2: a class that was passed over eight times has the next turn",
        ),
        pytest.param(
            [call("l", LOW), call("n"), *many("h", 9, HIGH)],
            "h1 h2 h3 h4 h5 h6 h7 h8 n l h9",
            id="2: of two classes passed over as often the higher one, then the other",
        ),
        pytest.param(
            [*many("n", 2), *many("h", 17, HIGH)],
            "h1 h2 h3 h4 h5 h6 h7 h8 n1 h9 h10 h11 h12 h13 h14 h15 h16 n2 h17",
            id="2: after its turn it is counted anew",
        ),
        pytest.param(
            [call("l", LOW), call("n"), call("h", HIGH)], "h n l", id="3: the highest class goes first"
        ),
        pytest.param(
            [*many("a", 3, tenant="a"), *many("b", 2, tenant="b"), call("c", tenant="c")],
            "a1 b1 c a2 b2 a3",
            id="4: tenants take turns, however many calls one has",
        ),
        pytest.param(
            [*many("a", 2, tenant="a"), *many("b", 2, HIGH, "b"), call("x", HIGH, "a")],
            "b1 x b2 a1 a2",
            id="4: each class has turns of its own",
        ),
        pytest.param(many("n", 3), "n1 n2 n3", id="5: the oldest of a tenant goes first"),
    ],
)
def test_whose_turn_it_is(calls: list[Call], expected: str) -> None:
    """Classes, then tenants, then age; nobody waits for ever behind others."""
    assert served(waiting(*calls), len(calls)) == expected


def test_a_tenant_that_joins_comes_last() -> None:
    """It does not push in before those that wait for their turn already."""
    turns = waiting(*many("a", 2, tenant="a"), *many("b", 2, tenant="b"))
    assert served(turns, 1) == "a1"
    turns.join(call("c", tenant="c"))
    assert served(turns, 4) == "b1 a2 c b2"


def test_a_class_is_passed_over_only_while_it_waits() -> None:
    """What was counted for calls that left does not help the next one."""
    low = call("l", LOW)
    turns = waiting(low, *many("h", 20, HIGH))
    served(turns, PATIENCE)
    turns.leave(low)
    turns.join(call("late", LOW))
    assert served(turns, 9) == "h9 h10 h11 h12 h13 h14 h15 h16 late"


@pytest.mark.parametrize(
    ("calls", "newcomer", "expected"),
    [
        pytest.param([], call("new"), "new", id="where nobody waits it is the newcomer"),
        pytest.param([call("l", LOW)], call("new"), "l", id="6: one of a lower class gives way"),
        pytest.param([call("h", HIGH)], call("new"), "new", id="6: the newcomer of a lower class gives way"),
        pytest.param(
            [call("l", LOW), *many("n", 3, tenant="a")],
            call("new", HIGH),
            "l",
            id="6: the lowest class gives way, not the one with most calls",
        ),
        pytest.param(
            [*many("a", 3, tenant="a"), call("b", tenant="b")],
            call("new", tenant="b"),
            "a3",
            id="7 and 8: the newest call of the tenant that has most",
        ),
        pytest.param(
            [*many("a", 2, tenant="a"), call("b", tenant="b")],
            call("new", tenant="b"),
            "new",
            id="7: with the newcomer its tenant has as many: it gives way",
        ),
        pytest.param(
            [*many("a", 3, tenant="a"), call("b", tenant="b")],
            call("new", tenant="a"),
            "new",
            id="7: the newcomer's tenant has most: it gives way",
        ),
        pytest.param(
            [call("h", HIGH, "a"), *many("a", 2, tenant="a"), *many("b", 3, HIGH, "b")],
            call("new", tenant="c"),
            "a2",
            id="7: only calls of that class count",
        ),
        pytest.param(
            [call("l", LOW, again=True)],
            call("new", HIGH),
            "new",
            id="one that has had its turn does not give way",
        ),
    ],
)
def test_who_gives_way(calls: list[Call], newcomer: Call, expected: str) -> None:
    """The lowest class, in it the greediest tenant, of that its newest call; the newcomer counts as well."""
    assert waiting(*calls).gives_way(newcomer).request == expected


@pytest.mark.parametrize(
    ("calls", "newcomer", "expected"),
    [
        pytest.param(many("n", 2), call("new"), "n1 n2", id="its own tenant's"),
        pytest.param(
            [*many("a", 3, tenant="a"), call("b", tenant="b")],
            call("new", tenant="b"),
            "a1 b",
            id="of other tenants as many as of its own",
        ),
        pytest.param(
            many("a", 3, tenant="a"),
            call("new", tenant="b"),
            "",
            id="perhaps nobody, where its tenant has none",
        ),
        pytest.param(
            [call("n"), *many("h", 10, HIGH), call("l", LOW)],
            call("new"),
            "h1 h2 h3 h4 h5 h6 h7 h8 n",
            id="of higher classes those that its own class lets pass; no lower one",
        ),
        pytest.param([call("x", LOW, again=True)], call("new", HIGH), "x", id="those that had their turn"),
    ],
)
def test_who_is_ahead_for_certain(calls: list[Call], newcomer: Call, expected: str) -> None:
    """Those that have their turn before a newcomer even if nobody else came; never one too many."""
    assert " ".join(c.request for c in waiting(*calls).ahead(newcomer)) == expected
