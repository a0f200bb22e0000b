"""How placement keeps count of one instance, and when one is of no use any more."""

import pytest

from lambent_placement.core import events as on
from lambent_placement.core.commands import Command, Fence, GiveLease, Recall, Unmet
from lambent_placement.core.scheduler import Scheduler
from lambent_proto.ids import Epoch, FunctionName
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
    ready,
    recalled,
    released,
    started,
    told_ready,
    unmet,
    void,
    warm,
)

REMOVED = on.FunctionRemoved(FunctionName("f"), 2.0)


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
        pytest.param(
            UNUSED, released(F, 1, sure=False), [TAKEN, fence(1, 2)], id="an unsure release is fenced"
        ),
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
        pytest.param(
            [*FENCED, demanded(G, 1)], freed(1, 1), [], id="the answer to another fence has no effect"
        ),
        pytest.param([*HELD, freed(1, 1)], demanded(G, 1), [Recall(F, V, 1)], id="nor has one unasked for"),
        pytest.param(UNUSED, released(G, 1), [], id="who does not hold it gives nothing back"),
        pytest.param(
            [*UNUSED, released(F, 1), demanded(G, 1, 1.5)],
            released(F, 1, at=2.0),
            [],
            id="a lease given back twice is not the next holder's",
        ),
        pytest.param(
            [*UNUSED, released(F, 1), demanded(G, 1, 1.5)],
            recalled(F, 1, at=2.0),
            [],
            id="nor in a late answer to a recall",
        ),
        pytest.param(
            UNUSED, link(F, N2, up=False), [TAKEN, fence(1, 2)], id="a broken link takes its leases there"
        ),
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
            [*UNUSED, defined(4, W)],
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
            [*fleet(), demanded(F, 2), ready(1), ready(2), demanded(F, 0)],
            defined(1),
            [TAKEN, fence(1, 3)],
            id="above a lowered limit one in use is fenced",
        ),
        pytest.param(
            [*fleet(), demanded(F, 2), ready(1), ready(2), demanded(F, 0), defined(1)],
            defined(1),
            [],
            id="and only one, however often that is said",
        ),
        pytest.param(
            [*fleet(), demanded(F, 2), ready(1), ready(2), demanded(F, 0), defined(1)],
            freed(1, 3),
            [evict(1, 4, "limit_lowered")],
            id="and goes when its event has ended",
        ),
        pytest.param(
            [
                *fleet(),
                demanded(F, 1),
                demanded(F, 0),
                released(F, 1, sure=False),
                freed(1, 2),
                defined(4, W),
            ],
            ready(1),
            [evict(1, 3, "other_version")],
            id="one that nobody holds, when it is ready at last",
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
