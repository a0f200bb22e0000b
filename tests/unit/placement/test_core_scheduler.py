"""How a demand is served: a row for every numbered preference, every reason why not, and who comes first."""

import pytest

from lambent_placement.core import events as on
from lambent_placement.core.commands import Command, Reason, Unmet
from lambent_proto.ids import FrontendId, FunctionName
from tests.unit.placement.scheduler_rows import (
    N1,
    N2,
    N3,
    NODE,
    NODE_20,
    OTHER,
    PYTHON,
    F,
    G,
    H,
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
    node,
    ready,
    recall,
    recalled,
    released,
    started,
    unmet,
    void,
    warm,
)

FAILED = "the last {} starts of 'f' failed"
HELD_BY_F: list[on.Event] = [demanded(F, 1), ready(1)]
UNUSED: list[on.Event] = [*HELD_BY_F, demanded(F, 0)]
NARROW: list[on.Event] = [
    defined(4),
    defined(4, OTHER),
    *node(N1, 512),
    attached(F, links=(N1,)),
    attached(G, links=(N1,)),
]
"""Two functions, and one node that takes two instances."""


@pytest.mark.parametrize(
    ("history", "last", "expected"),
    [
        pytest.param(
            [*fleet(), *idle(1, 2)],
            demanded(G, 1, 3.0),
            [warm(2, 3, N1, G)],
            id="1: the idle instance that was used last, whoever used it",
        ),
        pytest.param(
            [*fleet(), *idle(1, 2), link(G, N1, up=False)],
            demanded(G, 1, 3.0),
            [warm(1, 3, N2, G)],
            id="1: of those in reach",
        ),
        pytest.param(
            [*fleet(), *idle(1, 2)],
            demanded(G, 2, 3.0),
            [warm(2, 3, N1, G), warm(1, 4, N2, G)],
            id="1: as many as are wanted",
        ),
        pytest.param(
            [*fleet(), *HELD_BY_F, on.FrontendDetached(F, 1.0), demanded(G, 1, 2.0)],
            demanded(G, 1, 2.1),
            [],
            id="2: a fenced instance is on its way, so nothing is started",
        ),
        pytest.param(
            [*fleet(), *UNUSED, demanded(G, 1, 2.0)],
            demanded(G, 1, 2.1),
            [],
            id="2: a recalled lease is on its way, so nothing is started or asked again",
        ),
        pytest.param(
            [*NARROW, *idle(1, 2), demanded(G, 1, 3.0, version=OTHER)],
            demanded(G, 1, 3.1, version=OTHER),
            [],
            id="2: room is being made, so nothing more is evicted",
        ),
        pytest.param(
            [*fleet(), *HELD_BY_F, on.FrontendDetached(F, 1.0)],
            demanded(G, 1, 1.0),
            [fence(1, 2)],
            id="3: what a frontend that is gone held is fenced",
        ),
        pytest.param(
            [*fleet(), *HELD_BY_F, on.FrontendDetached(F, 1.0), demanded(G, 1, 1.0)],
            freed(1, 2),
            [warm(1, 3, N2, G)],
            id="3: then given",
        ),
        pytest.param(
            [*fleet(), *HELD_BY_F, on.FrontendDetached(F, 1.0), demanded(G, 1, 1.0)],
            freed(1, 2, busy=True),
            started(3, N1, G, reason=Reason.ALL_BUSY),
            id="3: if it is busy another one is started",
        ),
        pytest.param(
            [*fleet(), *UNUSED],
            demanded(G, 1, 1.0),
            [recall(F, 1)],
            id="4: what another frontend holds and does not use is recalled before anything is started",
        ),
        pytest.param(
            [*fleet(), *UNUSED, demanded(G, 1, 1.0)],
            recalled(F, 1),
            [warm(1, 2, N2, G), recall(F, 0)],
            id="4: then given, and the recall is over",
        ),
        pytest.param(
            [*fleet(), *HELD_BY_F, demanded(G, 1, 1.0)],
            recalled(F),
            [*started(2, N1, G, reason=Reason.ALL_BUSY), recall(F, 0)],
            id="4: if it was in use after all, another one is started",
        ),
        pytest.param(fleet(), demanded(F, 1), started(1, N2), id="5: below the limit one is started"),
        pytest.param(
            [*fleet(), demanded(F, 1)],
            demanded(F, 2),
            started(2, N1, reason=Reason.ALL_BUSY),
            id="5: on the node with most free memory",
        ),
        pytest.param(
            [*fleet(), link(F, N2, up=False)],
            demanded(F, 1),
            started(1, N1),
            id="5: of those in the frontend's reach",
        ),
        pytest.param(
            [defined(4, runtime=NODE_20), *node(N1, 512, PYTHON, NODE, NODE_20), *node(N2), attached(F)],
            demanded(F, 1),
            started(1, N1),
            id="5: of those with its runtime",
        ),
        pytest.param(
            [defined(4, runtime=NODE), *node(N1, 512, PYTHON, NODE, NODE_20), *node(N2), attached(F)],
            demanded(F, 1),
            started(1, N1),
            id="5: by the name of a family, where one of that family is the newest",
        ),
        pytest.param(
            [defined(4), *node(N1, 512, PYTHON), *node(N2, 1024, "python3.12"), attached(F)],
            demanded(F, 1),
            started(1, N1),
            id="5: another minor version of it will not do",
        ),
        pytest.param(
            [*fleet(), on.NodeDisconnected(N2, 0.5)],
            demanded(F, 1),
            started(1, N1),
            id="5: of those in placement's reach",
        ),
        pytest.param(
            [*fleet(1), *idle(1), link(G, N2, up=False)],
            demanded(G, 1, 3.0),
            [evict(1, 2, "gives_way")],
            id="6: at the limit an idle one out of reach gives way",
        ),
        pytest.param(
            [*fleet(1), *idle(1), link(G, N2, up=False), demanded(G, 1, 3.0)],
            gone(1, "gives_way", at=3.1),
            started(3, N1, G),
            id="6: and once it is gone another one is started",
        ),
        pytest.param(
            [*NARROW, *idle(1, 2)],
            demanded(G, 1, 3.0, version=OTHER),
            [evict(1, 3, "memory", N1)],
            id="7: without free memory the least recently used idle one is evicted",
        ),
        pytest.param(
            [*NARROW, *idle(1, 2), demanded(G, 1, 3.0, version=OTHER)],
            gone(1, "memory", at=3.1),
            started(4, N1, G, version=OTHER),
            id="7: and once it is gone the new one is started",
        ),
        pytest.param(
            [*fleet(1), demanded(F, 1), ready(1), demanded(F, 2, 5.0)],
            demanded(G, 1, 6.0, waited_s=3.0),
            [unmet(G, Unmet.LIMIT, all_exist(1)), recall(F, 1)],
            id="8: with all in use one is recalled from whose callers have waited less",
        ),
        pytest.param(
            [*fleet(1), demanded(F, 1), ready(1), demanded(F, 2, 5.0)],
            demanded(G, 1, 6.0, waited_s=1.04),
            [unmet(G, Unmet.LIMIT, all_exist(1))],
            id="8: not if they have waited about as long",
        ),
        pytest.param(
            [*fleet(), demanded(F, 4), *[ready(s) for s in (1, 2, 3, 4)], demanded(F, 8, 5.0)],
            demanded(G, 4, 6.0, waited_s=3.0),
            [unmet(G, Unmet.LIMIT, all_exist(4)), recall(F, 3)],
            id="8: half of the difference, and one",
        ),
    ],
)
def test_a_demand(history: list[on.Event], last: on.Event, expected: list[Command]) -> None:
    """A demand is met in the first way of the numbered ones that is open."""
    assert decide(history, last) == expected


@pytest.mark.parametrize(
    ("history", "last", "expected"),
    [
        pytest.param(
            [*fleet(1), *UNUSED, demanded(H, 1, 1.0, 0.1), demanded(G, 1, 1.0, 0.5)],
            released(F, 1),
            [warm(1, 2, N2, G)],
            id="the frontend whose oldest call has waited longest comes first",
        ),
        pytest.param(
            [*fleet(1), *UNUSED, demanded(G, 1, 1.0, 0.5), demanded(H, 1, 1.0, 0.1)],
            released(F, 1),
            [warm(1, 2, N2, G)],
            id="whoever asked first",
        ),
        pytest.param(
            [*fleet(1), *UNUSED, demanded(G, 1, 1.0, 0.5), demanded(H, 1, 1.0), demanded(G, 0, 1.0)],
            released(F, 1),
            [warm(1, 2, N2, H), recall(F, 0), unmet(G, Unmet.NONE), unmet(H, Unmet.NONE)],
            id="one that wants nothing any more gets nothing",
        ),
        pytest.param(
            [*fleet(1), *UNUSED, demanded(G, 1, 1.0, 0.5), demanded(H, 1), on.FrontendDetached(G, 1.0)],
            released(F, 1),
            [warm(1, 2, N2, H), recall(F, 0), unmet(H, Unmet.NONE)],
            id="one that is gone gets nothing",
        ),
        pytest.param(
            [*fleet(), demanded(F, 1)], demanded(F, 1, 1.0), [], id="a demand said twice starts one"
        ),
        pytest.param(
            [*fleet(), on.FrontendDetached(F, 0.5)], demanded(F, 1), [], id="a late demand has no effect"
        ),
        pytest.param(fleet(), demanded(FrontendId("f9"), 1), [], id="nor has one of a stranger"),
        pytest.param(
            fleet(), attached(F, wanted=1), started(1, N2), id="what is wanted when it attaches is served"
        ),
    ],
)
def test_who_comes_first(history: list[on.Event], last: on.Event, expected: list[Command]) -> None:
    """Oldest call first over all frontends, as far as placement can know."""
    assert decide(history, last) == expected


NO_MEMORY = "no worker with the runtime python3.11 has 256 MB free or held by idle instances"
NO_RUNTIME = "no worker of the fleet has the runtime nodejs20.x"
COUNTING = "a worker has not reported yet what runs there"
NOT_KNOWN = "placement does not know this version (yet)"


@pytest.mark.parametrize(
    ("history", "last", "expected"),
    [
        pytest.param(
            [*fleet(1), demanded(F, 1)],
            demanded(F, 2),
            [unmet(F, Unmet.LIMIT, all_exist(1))],
            id="at the limit, with the numbers",
        ),
        pytest.param(
            [*fleet(1), demanded(F, 1), demanded(F, 2)], demanded(F, 3), [], id="the same reason is told once"
        ),
        pytest.param(
            [*fleet(0), demanded(F, 1), defined(1)],
            on.Tick(1.0),
            [unmet(F, Unmet.NONE)],
            id="when it is over that is told too",
        ),
        pytest.param(
            [*fleet(), attached(F, links=())],
            demanded(F, 1),
            [unmet(F, Unmet.NO_NODE, "no worker with the runtime python3.11 is connected")],
            id="no worker in reach",
        ),
        pytest.param(
            [*fleet(), attached(F, links=()), demanded(F, 1)],
            link(F, N1, up=True),
            started(1, N1),
            id="a new link is used at once",
        ),
        pytest.param(
            [defined(), *node(N1, 128), attached(F)],
            demanded(F, 1),
            [unmet(F, Unmet.MEMORY, NO_MEMORY)],
            id="no memory",
        ),
        pytest.param(
            [defined(runtime=NODE_20), *node(N1, 1024, PYTHON), *node(N2), attached(F)],
            demanded(F, 1),
            [unmet(F, Unmet.NO_RUNTIME, NO_RUNTIME)],
            id="no node with the runtime, by its name; one that names none takes Python alone",
        ),
        pytest.param(
            [
                defined(1),
                *node(N1, 1024, PYTHON),
                attached(F, links=(N1,)),
                *idle(1),
                defined(1, W, runtime=NODE_20),
            ],
            demanded(F, 1, version=W),
            [unmet(F, Unmet.NO_RUNTIME, NO_RUNTIME, W)],
            id="no node with the runtime, which is said before the limit is",
        ),
        pytest.param(
            [defined(runtime=NODE_20), *node(N1), attached(F), demanded(F, 1), *node(N2, 1024, NODE_20)[:1]],
            node(N2, 1024, NODE_20)[1],
            started(1, N2),
            id="a new node with the runtime is used at once",
        ),
        pytest.param(
            [
                defined(runtime=NODE_20),
                *node(N1),
                *node(N2, 1024, NODE_20),
                on.NodeDisconnected(N2, 0.5),
                attached(F),
            ],
            demanded(F, 1),
            [unmet(F, Unmet.NO_NODE, "no worker with the runtime nodejs20.x is connected")],
            id="the one node with the runtime out of reach",
        ),
        pytest.param(
            [defined(runtime=NODE_20), attached(F)],
            demanded(F, 1),
            [unmet(F, Unmet.NO_NODE, "no worker with the runtime nodejs20.x is connected")],
            id="no workers at all",
        ),
        pytest.param(
            [defined(), *node(N1, 128), attached(F), demanded(F, 1), on.NodeRegistered(N2, 1024)],
            on.NodeReported(N2, 1024, [], 1.0),
            started(1, N2),
            id="a new node is used at once",
        ),
        pytest.param(
            fleet(), demanded(F, 1, version=W), [unmet(F, Unmet.UNKNOWN, NOT_KNOWN, W)], id="unknown version"
        ),
        pytest.param(
            [*fleet(), on.FunctionRemoved(FunctionName("f"), 0.0)],
            demanded(F, 1),
            [unmet(F, Unmet.UNKNOWN, NOT_KNOWN)],
            id="a removed function",
        ),
        pytest.param(
            [*fleet(), demanded(F, 1, version=W)],
            defined(4, W),
            started(1, N2, version=W),
            id="a version is served as soon as it is known",
        ),
        pytest.param(
            [*fleet(), on.NodeRegistered(N3, 1024)],
            demanded(F, 1),
            [unmet(F, Unmet.COUNTING, COUNTING)],
            id="a worker that has not reported may run as many as it can hold",
        ),
        pytest.param(
            [*fleet(9), on.NodeRegistered(N3, 1024)],
            demanded(F, 2),
            [*started(1, N2), unmet(F, Unmet.COUNTING, COUNTING)],
            id="up to that number it may be started",
        ),
        pytest.param(
            [*fleet(), on.NodeRegistered(N3, 1024), demanded(F, 1)],
            on.NodeReported(N3, 1024, [], 1.0),
            started(1, N2),
            id="once it has reported the demand is met",
        ),
        pytest.param(
            [*fleet(), on.NodeRegistered(N3, 1024), demanded(F, 1)],
            on.NodeExpired(N3, 1.0),
            started(1, N2),
            id="or once its key is gone",
        ),
        pytest.param(
            [*fleet(), demanded(F, 1)],
            gone(1, "spawn_failed", at=1.0),
            [void(1, "spawn_failed"), unmet(F, Unmet.STARTS_FAIL, FAILED.format(1))],
            id="a start that failed is not repeated at once",
        ),
        pytest.param(
            [*fleet(), demanded(F, 1), gone(1, "spawn_failed", at=1.0)],
            on.Tick(1.1),
            started(2, N2),
            id="but after a moment",
        ),
        pytest.param(
            [*fleet(), demanded(F, 1), gone(1, at=1.0), on.Tick(1.1), gone(2, at=2.0)],
            on.Tick(2.19),
            [],
            id="after a second failure the moment is longer",
        ),
        pytest.param(
            [*fleet(), demanded(F, 1), gone(1, at=1.0), on.Tick(1.1), gone(2, at=2.0)],
            on.Tick(2.2),
            started(3, N2),
            id="twice as long",
        ),
        pytest.param(
            [*fleet(), demanded(F, 1), gone(1, at=1.0), on.Tick(1.1), ready(2), gone(2, at=2.0)],
            on.Tick(2.01),
            [],
            id="an instance that had been ready is replaced without a pause",
        ),
        pytest.param(
            [*fleet(), demanded(F, 1)],
            gone(1, "init_error", b"{}"),
            [void(1, "init_error", error=b"{}"), *started(2, N2)],
            id="the function's own failure is told to its caller, and the next start does not wait",
        ),
        pytest.param(
            [*fleet(), demanded(F, 1)],
            on.GrantRefused(instance(1), "no memory", 1.0),
            [void(1, "no memory"), *started(2, N1)],
            id="a node that refused gets no other grant for the moment",
        ),
        pytest.param(
            [*fleet(), demanded(F, 1), on.GrantRefused(instance(1), "no memory", 1.0), demanded(F, 2)],
            demanded(F, 3, 1.5),
            started(4, N2, reason=Reason.ALL_BUSY),
            id="later it does",
        ),
    ],
)
def test_a_demand_that_cannot_be_met(
    history: list[on.Event], last: on.Event, expected: list[Command]
) -> None:
    """Why not is told once, with whose fault it is; when that changes the demand is met at once."""
    assert decide(history, last) == expected


def test_a_function_without_a_limit_has_the_fleets() -> None:
    """A limit that nobody set is not unlimited."""
    commands = decide([defined(), *node(N1, 1_000_000), attached(F)], demanded(F, 1001))
    assert sum(isinstance(c, type(started(1, N1)[0])) for c in commands) == 1000
    why = "1000 instances run that share the fleet's concurrency of 1000"
    assert commands[-1] == unmet(F, Unmet.FLEET_LIMIT, why)


def test_the_first_reason_of_a_version() -> None:
    """What is started anew for another version says so."""
    history = [*fleet(), demanded(F, 1), ready(1), defined(4, W)]
    assert decide(history, demanded(F, 1, version=W)) == started(
        2, N1, version=W, reason=Reason.OTHER_VERSION
    )
    assert decide([*fleet(), *idle(1), link(G, N2, up=False)], demanded(G, 1, 2.0)) == started(
        2, N1, G, version=V, reason=Reason.OUT_OF_REACH
    )
