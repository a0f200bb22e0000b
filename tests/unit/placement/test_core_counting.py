"""How placement keeps count: leases given back, workers and frontends that come and go, a new leader."""

import pytest

from lambent_placement.core import events as on
from lambent_placement.core.commands import (
    Command,
    Fence,
    GiveLease,
    Reason,
    Recall,
    TellReady,
    Unmet,
    VoidLease,
)
from lambent_placement.core.scheduler import Scheduler
from lambent_proto.ids import Epoch, InstanceId, LeaseNumber
from tests.unit.placement.scheduler_rows import (
    N1,
    N2,
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
    freed,
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
    unmet,
    void,
    warm,
)

HELD: list[on.Event] = [*fleet(1), demanded(F, 1), ready(1)]
"""F holds the only instance of f there may be, on N2."""
FENCED: list[on.Event] = [*HELD, demanded(F, 0), released(F, 1, sure=False)]
REMOVED = on.FunctionRemoved(on.FunctionName("f"), 2.0)


def told_ready(serial: int, starting_ms: float = 0.0, init_ms: float = 0.0) -> TellReady:
    return TellReady(F, instance(serial), number(serial), starting_ms, init_ms)


@pytest.mark.parametrize(
    ("history", "last", "expected"),
    [
        pytest.param(
            [*fleet(), demanded(F, 1)], ready(1), [told_ready(1, 3.0, 5.0)], id="ready: its holder hears it"
        ),
        pytest.param(HELD, ready(1), [], id="ready twice"),
        pytest.param(HELD, ready(9), [], id="ready of an unknown one"),
        pytest.param(HELD, gone(1), [void(1, "crashed"), *started(2, N2)], id="gone: its holder hears it"),
        pytest.param([*HELD, gone(1)], gone(1), [], id="gone twice"),
        pytest.param(HELD, released(F, 1, sure=False), [fence(1, 2)], id="an unsure release is fenced"),
        pytest.param(FENCED, freed(1, 2), [], id="a fenced one that is free is warm"),
        pytest.param([*FENCED, freed(1, 2)], demanded(G, 1, 2.0), [warm(1, 3, N2, G)], id="and given"),
        pytest.param(
            [*FENCED, freed(1, 2, busy=True)],
            demanded(G, 1, 2.0),
            [unmet(G, Unmet.LIMIT, all_exist(1))],
            id="a fenced one that is busy counts",
        ),
        pytest.param(
            [*FENCED, freed(1, 2, busy=True), demanded(G, 1, 2.0)],
            freed(1, 2, at=3.0),
            [warm(1, 3, N2, G), unmet(G, Unmet.NONE)],
            id="and is given once its event has ended",
        ),
        pytest.param(FENCED, freed(1, 1), [], id="the answer to another fence has no effect"),
        pytest.param([*HELD, freed(1, 1)], demanded(G, 1), [Recall(F, V, 1)], id="nor has one unasked for"),
        pytest.param([*HELD, demanded(F, 0)], released(G, 1), [], id="who does not hold it gives nothing back"),
        pytest.param(
            [*HELD, demanded(F, 0), released(F, 1), demanded(G, 1, 1.5)],
            released(F, 1, at=2.0),
            [],
            id="a lease given back twice is not the next holder's",
        ),
        pytest.param(
            [*HELD, demanded(F, 0), released(F, 1), demanded(G, 1, 1.5)],
            recalled(F, 1, at=2.0),
            [],
            id="nor in a late answer to a recall",
        ),
        pytest.param(HELD, link(F, N2, up=False), [fence(1, 2)], id="a broken link takes its leases there"),
        pytest.param(HELD, link(F, N1, up=False), [], id="and no others"),
        pytest.param(HELD, link(G, N2, up=False), [], id="and nobody else's"),
        pytest.param(
            HELD, on.GrantRefused(instance(9), "no memory", 1.0), [], id="the refusal of an unknown grant"
        ),
    ],
)
def test_an_instance(history: list[on.Event], last: on.Event, expected: list[Command]) -> None:
    """An instance is given on only once it is certain that nothing of its last holder's runs there."""
    assert decide(history, last) == expected


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
            [*HELD, demanded(F, 0)],
            on.NodeExpired(N2, 3.0),
            [void(1, EXPIRED, node_lost=True)],
            id="a key that is gone voids the leases there for good",
        ),
        pytest.param([*HELD, on.NodeExpired(N2, 3.0)], on.NodeExpired(N2, 3.1), [], id="it goes once"),
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
        pytest.param([*fleet()], on.NodeDisconnected(on.NodeId("n9@1"), 1.0), [], id="an unknown node"),
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
            HELD,
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
        pytest.param(HELD, attached(F), [fence(1, 2)], id="what a frontend does not claim it does not hold"),
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


@pytest.mark.parametrize(
    ("history", "last", "expected"),
    [
        pytest.param([*fleet(), *idle(1)], on.Tick(600.9), [], id="an idle one is kept"),
        pytest.param(
            [*fleet(), *idle(1, 2)], on.Tick(601.0), [evict(1, 3, "keep_alive")], id="for the keep-alive"
        ),
        pytest.param(HELD, on.Tick(5000.0), [], id="a leased one is kept"),
        pytest.param(
            [*fleet(), *idle(1, 2), demanded(G, 2, 3.0)],
            defined(4, W),
            [],
            id="what is leased ends its work when its version is replaced",
        ),
        pytest.param(
            [*fleet(), *idle(1)], defined(4, W), [evict(1, 2, "other_version")], id="what is idle goes"
        ),
        pytest.param(
            [*HELD, demanded(F, 0), defined(4, W)],
            released(F, 1),
            [evict(1, 2, "other_version")],
            id="what comes back later goes then",
        ),
        pytest.param(
            [*FENCED, defined(4, W)], freed(1, 2), [evict(1, 3, "other_version")], id="after its fence"
        ),
        pytest.param(
            [*fleet(), *idle(1)],
            REMOVED,
            [evict(1, 2, "other_version")],
            id="the same when its function is removed",
        ),
        pytest.param(
            [*fleet(), *idle(1, 2)],
            defined(1, at=3.0),
            [evict(1, 3, "limit_lowered")],
            id="under a lowered limit the least recently used goes",
        ),
        pytest.param(
            [*fleet(), demanded(F, 2), ready(1), ready(2), demanded(F, 0), defined(1)],
            released(F, 1),
            [evict(1, 3, "limit_lowered")],
            id="what comes back above a lowered limit goes then",
        ),
        pytest.param([*fleet(), *idle(1)], defined(4), [], id="the same definition again"),
        pytest.param([*fleet(), *idle(1), REMOVED], REMOVED, [], id="removed twice"),
    ],
)
def test_what_is_of_no_use(history: list[on.Event], last: on.Event, expected: list[Command]) -> None:
    """Idle instances go when they have been idle for long, are of an old version, or are too many."""
    assert decide(history, last) == expected


def test_the_numbers_of_leases_only_grow() -> None:
    """A worker can tell the newer of two leases by its number alone."""
    scheduler = Scheduler(Epoch(1))
    numbers: list[int] = []
    for event in [*fleet(), *idle(1, 2), demanded(G, 2, 3.0), link(G, N1, up=False), on.NodeExpired(N2, 4.0)]:
        numbers += [c.number for c in scheduler.handle(event) if isinstance(c, GiveLease | Fence)]
    assert len(numbers) == 5
    assert numbers == sorted(set(numbers))
