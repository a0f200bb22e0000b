"""Workers and frontends that come and go, and what a new leader makes of their reports."""

import pytest

from lambent_placement.core import events as on
from lambent_placement.core.commands import Command, Fence, GiveLease, Reason, TellReady, Unmet, VoidLease
from lambent_proto.ids import FrontendId, InstanceId, LeaseNumber, NodeId
from tests.unit.placement.scheduler_rows import (
    FENCED,
    HELD,
    N1,
    N2,
    TAKEN,
    UNUSED,
    F,
    G,
    V,
    W,
    all_exist,
    attached,
    decide,
    defined,
    demanded,
    evict,
    fence,
    fleet,
    gone,
    idle,
    instance,
    link,
    number,
    ready,
    recalled,
    released,
    report,
    reported,
    started,
    told_ready,
    unmet,
    void,
    warm,
)

LATE = unmet(G, Unmet.LIMIT, all_exist(1))
EXPIRED = "its worker's registration ended"


@pytest.mark.parametrize(
    ("history", "last", "expected"),
    [
        pytest.param(
            [*HELD, on.FrontendDetached(F, 1.0), on.NodeDisconnected(N2, 1.0)],
            demanded(G, 1, 2.0),
            [LATE],
            id="what runs on a disconnected node counts, and is not fenced",
        ),
        pytest.param(
            [*HELD, on.FrontendDetached(F, 1.0), on.NodeDisconnected(N2, 1.0), demanded(G, 1, 2.0)],
            on.NodeExpired(N2, 3.0),
            started(2, N1, G),
            id="until its key is gone",
        ),
        pytest.param(
            UNUSED,
            on.NodeExpired(N2, 3.0),
            [],
            id="nothing is gone yet while the worker of a key that is gone still talks",
        ),
        pytest.param(
            [*UNUSED, on.NodeExpired(N2, 3.0)],
            on.NodeDisconnected(N2, 3.1),
            [void(1, EXPIRED, node_lost=True)],
            id="once it stops talking the leases there are void for good",
        ),
        pytest.param(
            [*UNUSED, on.NodeDisconnected(N2, 3.0)],
            on.NodeExpired(N2, 3.1),
            [void(1, EXPIRED, node_lost=True)],
            id="the same the other way round",
        ),
        pytest.param(
            [*UNUSED, on.NodeExpired(N2, 3.0)],
            on.Tick(12.9),
            [],
            id="a worker that talks on is waited for",
        ),
        pytest.param(
            [*UNUSED, on.NodeExpired(N2, 3.0)],
            on.Tick(13.0),
            [void(1, EXPIRED, node_lost=True)],
            id="but not for ever",
        ),
        pytest.param(
            [*UNUSED, on.NodeExpired(N2, 3.0), demanded(G, 1, 3.1)],
            recalled(F, at=3.11),
            [LATE],
            id="meanwhile what it runs counts",
        ),
        pytest.param(
            [*HELD, on.NodeDisconnected(N2, 3.0), on.NodeExpired(N2, 3.0)],
            on.NodeExpired(N2, 3.1),
            [],
            id="it goes once",
        ),
        pytest.param(
            [*fleet(), on.NodeExpired(N2, 1.0), on.NodeRegistered(N2, 1024)],
            demanded(F, 1),
            started(1, N1),
            id="a late word of its registration does not bring it back",
        ),
        pytest.param(
            [*fleet(), on.NodeExpired(N2, 1.0), reported(N2)],
            demanded(F, 1),
            started(1, N1),
            id="nor does a late report",
        ),
        pytest.param([*fleet()], on.NodeDisconnected(NodeId("n9@1"), 1.0), [], id="an unknown node"),
        pytest.param(
            [*fleet(), demanded(F, 1)],
            reported(N2),
            [void(1, "the grant was lost"), *started(2, N2)],
            id="a grant that its worker never got is lost",
        ),
        pytest.param(
            [*fleet(), demanded(F, 1)],
            reported(N2, report(instance(1), "idle", number(1))),
            [told_ready(1)],
            id="a report that says it is ready counts as the word that was lost",
        ),
        pytest.param(
            HELD, reported(N2, report(instance(1), "busy", number(1))), [], id="a report of what is known"
        ),
        pytest.param(
            UNUSED,
            reported(N2, report(instance(1), "stopping", number(1))),
            [void(1, "the worker is stopping it")],
            id="a report that it is stopping voids its lease",
        ),
        pytest.param(
            [*fleet(), *idle(1)],
            reported(N2, report(instance(1), "busy", number(1))),
            [fence(1, 2)],
            id="one that should be idle and is busy is fenced",
        ),
        pytest.param(
            FENCED,
            reported(N2, report(instance(1), "busy", number(1))),
            [fence(1, 2)],
            id="a fence that its worker has not seen is said again",
        ),
        pytest.param(
            [*FENCED, demanded(G, 1)],
            reported(N2, report(instance(1), "idle", number(2), None)),
            [warm(1, 3, N2, G)],
            id="a fence that it has seen is answered by the report",
        ),
        pytest.param(
            [*FENCED, demanded(G, 1)],
            reported(N2, report(instance(1), "busy", number(2), None)),
            [LATE],
            id="a fenced one still busy counts",
        ),
        pytest.param(
            [*fleet(), *idle(1), on.Tick(601.0)],
            reported(N2, report(instance(1), "idle", number(1))),
            [evict(1, 2, "keep_alive")],
            id="an evict is said again",
        ),
        pytest.param(
            [*fleet(), *idle(1), on.NodeDisconnected(N2, 2.0), on.Tick(601.0)],
            reported(N2, report(instance(1), "idle", number(1))),
            [evict(1, 2, "keep_alive")],
            id="an evict decided meanwhile is said",
        ),
        pytest.param(
            [*HELD, on.FrontendDetached(F, 1.0)], on.Tick(5.9), [], id="a frontend that is gone may come back"
        ),
        pytest.param(
            [*HELD, on.FrontendDetached(F, 1.0)],
            on.Tick(6.0),
            [fence(1, 2)],
            id="after a while its leases are taken back in any case",
        ),
    ],
)
def test_nodes_and_orphans(history: list[on.Event], last: on.Event, expected: list[Command]) -> None:
    """An instance counts until its worker says it is gone, or its worker's key is."""
    assert decide(history, last) == expected


X, OLD = InstanceId("0-7"), LeaseNumber(7)
BEFORE: list[on.Event] = [defined(1), on.NodeRegistered(N1, 1024)]
"""A new leader knows the function and that a worker exists; X ran there under the leader before it."""
CONFIRMED = TellReady(F, X, OLD, 0.0, 0.0)
HELD_THERE = reported(N1, report(X, "idle", OLD))
FREE_THERE = reported(N1, report(X, "idle", LeaseNumber(6), None))


@pytest.mark.parametrize(
    ("history", "last", "expected"),
    [
        pytest.param([*BEFORE, HELD_THERE], attached(F, (X, OLD)), [CONFIRMED], id="confirmed"),
        pytest.param(
            [*BEFORE, attached(F, (X, OLD))], HELD_THERE, [CONFIRMED], id="confirmed, the frontend first"
        ),
        pytest.param([*BEFORE, FREE_THERE], attached(F, (X, OLD)), [CONFIRMED], id="adopted: not used yet"),
        pytest.param(
            [*BEFORE, attached(F, (X, OLD))], FREE_THERE, [CONFIRMED], id="adopted, the frontend first"
        ),
        pytest.param(
            [*BEFORE, reported(N1, report(X, "starting", OLD))],
            attached(F, (X, OLD)),
            [],
            id="one that is starting is ready later",
        ),
        pytest.param(
            [*BEFORE, reported(N1, report(X, "idle", LeaseNumber(9), G)), attached(G)],
            attached(F, (X, OLD)),
            [VoidLease(F, X, OLD, "superseded", node_lost=False)],
            id="superseded by a newer lease",
        ),
        pytest.param(
            [*BEFORE, reported(N1, report(X, "stopping", OLD))],
            attached(F, (X, OLD)),
            [VoidLease(F, X, OLD, "superseded", node_lost=False)],
            id="superseded: it is stopping",
        ),
        pytest.param([*BEFORE], attached(F, (X, OLD)), [], id="not void while a worker has not reported"),
        pytest.param(
            [*BEFORE, on.NodeRegistered(N2, 1024), attached(F, (X, OLD))],
            reported(N1),
            [],
            id="not void while one of two has not reported",
        ),
        pytest.param(
            [*BEFORE, attached(F, (X, OLD))],
            reported(N1),
            [VoidLease(F, X, OLD, "gone", node_lost=False)],
            id="void once all have reported",
        ),
        pytest.param(
            [*BEFORE, attached(F, (X, OLD))],
            on.NodeExpired(N1, 1.0),
            [VoidLease(F, X, OLD, "gone", node_lost=False)],
            id="void once the last that has not is gone",
        ),
        pytest.param(
            UNUSED, attached(F), [TAKEN, fence(1, 2)], id="what a frontend does not claim it does not hold"
        ),
        pytest.param(
            HELD, attached(F, (instance(1), number(1))), [told_ready(1)], id="what it claims it keeps"
        ),
        pytest.param(
            [*BEFORE, HELD_THERE, attached(G)],
            demanded(G, 1, 1.9),
            [unmet(G, Unmet.LIMIT, all_exist(1))],
            id="a holder that has not attached yet is waited for",
        ),
        pytest.param(
            [*BEFORE, HELD_THERE, attached(G), demanded(G, 1, 1.9)],
            on.Tick(2.0),
            [Fence(N1, X, number(1))],
            id="but not for long if others wait",
        ),
        pytest.param(
            [*BEFORE, attached(G)],
            reported(N1, report(X, "busy", OLD, G)),
            [Fence(N1, X, number(1))],
            id="one that runs an event for a frontend that does not claim it is fenced",
        ),
        pytest.param(
            [*BEFORE, attached(G), reported(N1, report(X, "idle", OLD, G))],
            demanded(G, 1, 1.0),
            [GiveLease(G, X, number(1), N1, V, False, Reason.MOST_RECENTLY_USED)],
            id="one that is idle and not claimed is warm",
        ),
    ],
)
def test_a_new_leader(history: list[on.Event], last: on.Event, expected: list[Command]) -> None:
    """Leases of an earlier leader's go on where frontend and worker agree, and end where they do not."""
    assert decide(history, last) == expected


def test_who_is_not_known_changes_nothing() -> None:
    """What a frontend says that never attached, or is forgotten, neither breaks nor changes anything."""
    stranger = FrontendId("stranger")
    for said in (recalled(stranger, 1), released(stranger, 1), link(stranger, N1, up=False)):
        assert decide([*fleet(), said], demanded(F, 1)) == started(1, N2)
    assert decide(fleet(), demanded(stranger, 1)) == []


def test_a_new_version_starts_at_once_after_failed_starts() -> None:
    """What kept the old version from starting need not keep the new one."""
    history = [*fleet(), demanded(F, 1), gone(1, "spawn_failed"), defined(4, W, at=1.0)]
    wish = on.Demanded(F, on.Wish(W, 1, 0.0), 1.0)
    assert decide(history, wish) == started(2, N2, version=W)


def test_who_does_not_answer_a_recall_holds_nobody_up() -> None:
    """A stopped frontend keeps what it holds; others start their own once it has had time to answer."""
    history = [*fleet(), demanded(F, 1), ready(1), demanded(G, 1, 1.0)]
    assert decide(history, on.Tick(1.1)) == []
    assert decide(history, on.Tick(1.3)) == started(2, N1, G, reason=Reason.ALL_BUSY)


def test_who_does_not_answer_a_fence_holds_nobody_up() -> None:
    """The same with a stopped worker: what it was asked to free is no longer counted on."""
    history = [*fleet(), demanded(F, 1), ready(1), on.FrontendDetached(F, 1.0), demanded(G, 1, 1.0)]
    assert decide(history, on.Tick(1.1)) == []
    assert decide(history, on.Tick(1.3)) == started(3, N1, G, reason=Reason.ALL_BUSY)


def test_a_grant_whose_worker_is_out_of_reach_starves_nobody() -> None:
    """It counts, for it may have arrived; but its caller is served elsewhere."""
    history = [*fleet(2), demanded(F, 1)]
    last = on.NodeDisconnected(N2, 1.0)
    assert decide(history, last) == [void(1, "fenced"), *started(3, N1, reason=Reason.ALL_BUSY)]
    assert decide([*history, last], demanded(F, 2, 2.0)) == [unmet(F, Unmet.LIMIT, all_exist(2))]
