"""A shadow beside a live scheduler: what it hears, what its world answers, what is counted, event by event.

Whole traces are in `test_shadow_traces`, hostile fleets in `tests/simulation/test_shadow.py`.
"""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from lambent_placement.core import commands as do
from lambent_placement.core import events as on
from lambent_placement.core import invariants
from lambent_placement.core.scheduler import Scheduler
from lambent_placement.core.shadow import Shadow, noted, shadow_epoch
from lambent_placement.core.shadow_demand import PATIENCE_S
from lambent_placement.core.shadow_workers import STOP_S
from lambent_placement.core.tally import Tally
from lambent_proto.ids import Epoch, FrontendId, InstanceId, VersionKey
from tests.unit.placement.scheduler_rows import (
    N1,
    N2,
    OTHER,
    F,
    G,
    H,
    V,
    attached,
    defined,
    demanded,
    fleet,
    gone,
    idle,
    instance,
    node,
    number,
    ready,
    recalled,
    released,
    report,
    reported,
)

Policy = tuple[str, float]


class Beside:
    """A live scheduler and a shadow of it, which hear the same; the shadow's books are checked each time."""

    def __init__(self, live: Policy = ("fixed", 600.0), other: Policy | None = None) -> None:
        keep, keep_alive_s = other or live
        self.live = Scheduler(Epoch(1), keep=live[0], keep_alive_s=live[1])
        self.own = Scheduler(shadow_epoch(Epoch(1)), keep=keep, keep_alive_s=keep_alive_s)
        self.shadow = Shadow(self.own)

    def hear(self, events: Iterable[on.Event]) -> "Beside":
        for event in events:
            commands = self.live.handle(event)
            self.shadow.see(noted(event, commands, self.live.books))
            invariants.check(self.own.books)
        return self

    @property
    def there(self) -> list[tuple[str, bool]]:
        """The states of the shadow's instances, and whether each is ready."""
        return [(it.state.value, it.ready) for it in self.own.books.instances.values()]

    @property
    def starts(self) -> tuple[int, int]:
        return self.shadow.live.starts.total(), self.shadow.own.starts.total()


# The workers of the shadow

STARTING: list[on.Event] = [*fleet(), demanded(F, 1)]


def test_a_start_is_ready_when_the_live_one_is() -> None:
    both = Beside().hear([*STARTING, on.Tick(7.0)])
    assert both.there == [("leased", False)]
    assert both.hear([ready(1, 9.0)]).there == [("leased", True)]


def test_a_start_fails_when_the_live_one_does() -> None:
    """And nothing is started for a caller who has heard of it."""
    both = Beside().hear([*STARTING, demanded(F, 0), gone(1, "init", b"{}")])
    assert (both.there, both.starts) == ([], (1, 1))


def test_a_start_that_fails_is_made_again_as_often() -> None:
    """Each of these fails, and the caller who waits does not know."""
    both = Beside().hear([*STARTING, *(gone(serial, "init", b"{}", serial) for serial in (1, 2, 3))])
    assert (both.there, both.starts) == ([("leased", False)], (4, 4))


def test_a_grant_that_is_refused() -> None:
    """The next one goes elsewhere, as the live one does."""
    both = Beside().hear([*STARTING, on.GrantRefused(instance(1), "memory", 0.1)])
    nodes = [[it.node for it in books.instances.values()] for books in (both.live.books, both.own.books)]
    assert nodes == [[N1], [N1]]


TWO: list[on.Event] = [*fleet(), demanded(F, 2), ready(1), ready(2)]
"""On a node each, the first one on N2."""


def nodes_of(state: str, both: Beside) -> list[list[str]]:
    """Where what is in this state is, in the live fleet and here."""
    alike = both.live.books, both.own.books
    return [[it.node for it in books.instances.values() if it.state.value == state] for books in alike]


@pytest.mark.parametrize("serial", [1, 2])
def test_which_of_several_comes_back(serial: int) -> None:
    """The twin of the live one, whose memory is on the same node."""
    both = Beside().hear([*TWO, demanded(F, 1, 1.0), released(F, serial, at=1.0)])
    live, own = nodes_of("idle", both)
    assert live == own == [N2 if serial == 1 else N1]


@pytest.mark.parametrize("serial", [1, 2])
def test_which_of_several_ends(serial: int) -> None:
    both = Beside().hear([*TWO, demanded(F, 1, 1.0), gone(serial)])
    live, own = nodes_of("leased", both)
    assert live == own == [N1 if serial == 1 else N2]


def test_what_is_given_back_before_placement_has_heard_that_it_is_ready() -> None:
    """The frontend has heard it from the worker."""
    both = Beside().hear([*STARTING, demanded(F, 0, 0.4), released(F, 1, at=0.4)])
    assert both.there == [("idle", False)]
    assert both.hear([ready(1)]).there == [("idle", True)]


def test_what_both_stop_is_gone_in_both_at_once() -> None:
    both = Beside(live=("fixed", 1.0)).hear([*fleet(), *idle(1), on.Tick(3.0), on.Tick(3.0 + 2 * STOP_S)])
    assert both.there == [("stopping", True)]
    assert both.hear([gone(1, at=3.2)]).there == []


def test_what_both_stop_on_a_node_that_is_lost() -> None:
    """The shadow's is on another node, and nobody says that the live one is gone."""
    both = Beside(live=("fixed", 1.0))
    both.own.books.pack = True
    both.hear([*TWO, demanded(F, 0, 1.0), released(F, 1), released(F, 2), on.Tick(3.0)])
    assert nodes_of("stopping", both) == [[N2, N1], [N1, N1]]
    both.hear([on.NodeDisconnected(N2, 3.1), on.NodeExpired(N2, 3.1), on.Tick(3.1 + STOP_S)])
    assert both.there == [("stopping", True)]
    assert not both.shadow.workers.stopped - both.own.books.instances.keys()


def test_what_runs_in_a_fenced_instance_runs_on_here() -> None:
    """A lowered limit: it goes after its event, in both."""
    both = Beside().hear([*fleet(2), demanded(F, 2), ready(1), ready(2), defined(1, at=1.0)])
    [fenced] = [it for it in both.live.books.instances.values() if it.state.value == "fencing"]
    answer = on.InstanceFreed(fenced.id, fenced.number, True, 1.1)
    assert ("fencing", True) in both.hear([answer, on.Tick(2.0)]).there
    both.hear([replace(answer, busy=False, at=2.1)])
    assert sorted(both.there) == [("leased", True), ("stopping", True)]
    live, own = nodes_of("stopping", both)
    assert live == own


NOT_KEPT: list[on.Event] = [*fleet(), *idle(1), on.Tick(2.0), on.Tick(2.1), on.Tick(2.2)]
"""At 1 s an instance idled, started within 0.5 s. A shadow that keeps nothing has stopped it by now."""


def test_a_start_that_the_live_fleet_does_not_make_takes_as_long_as_its_last() -> None:
    both = Beside(other=("fixed", 0.0)).hear(NOT_KEPT)
    assert both.there == []
    both.hear([demanded(F, 1, 10.0), on.Tick(10.45)])
    assert (both.there, both.starts) == ([("leased", False)], (1, 2))
    assert both.hear([on.Tick(10.55)]).there == [("leased", True)]


def test_what_is_stopped_takes_its_memory_until_it_is_gone() -> None:
    both = Beside(other=("fixed", 0.0)).hear([*fleet(), *idle(1), on.Tick(2.0)])
    assert both.there == [("stopping", True)]
    assert both.hear([on.Tick(2.0 + STOP_S / 2)]).there == [("stopping", True)]
    assert both.hear([on.Tick(2.0 + STOP_S)]).there == []


def test_what_a_frontend_uses_ends_as_it_does_in_the_live_fleet() -> None:
    both = Beside().hear([*STARTING, ready(1), gone(1)])
    assert (both.there, both.starts) == ([("leased", False)], (2, 2))


def test_what_idles_and_ends_in_the_live_fleet_stays() -> None:
    """Nobody knows of whom it would be one."""
    both = Beside().hear([*fleet(), *idle(1), gone(1, at=3.0)])
    assert both.there == [("idle", True)]


def test_a_fence_is_answered_at_once() -> None:
    """The instance is the next one's, whatever ran there."""
    both = Beside().hear([*STARTING, ready(1), released(F, 1, sure=False), demanded(G, 1, 1.1)])
    assert both.there == [("leased", True)]


# Instances of earlier leaders

OLD = InstanceId("0-1")
LEFT: list[on.Event] = [
    defined(),
    on.NodeRegistered(N1, 1024),
    reported(N1, report(OLD, "idle", number(0), None)),
    attached(F),
]


def test_it_begins_with_what_earlier_leaders_left() -> None:
    both = Beside().hear([*LEFT, demanded(F, 1)])
    assert both.there == [("leased", True)]
    assert both.starts == (0, 0)
    assert both.shadow.own.warm == both.shadow.live.warm == {"most_recently_used": 1}


def test_an_old_instance_that_was_still_starting() -> None:
    both = Beside().hear([*LEFT[:2], reported(N1, report(OLD, "starting", number(0), None))])
    assert both.there == [("idle", False)]
    assert both.hear([on.InstanceReady(OLD, 1.0, 1.0, 2.0)]).there == [("idle", True)]


@pytest.mark.parametrize(
    ("keeps", "left"),
    [
        pytest.param(600.0, [], id="it ended by itself: in both"),
        pytest.param(1.0, [("idle", True)], id="the live fleet had it stopped: in that one alone"),
    ],
)
def test_an_old_instance_that_is_gone(keeps: float, left: list[tuple[str, bool]]) -> None:
    both = Beside(("fixed", keeps), ("fixed", 600.0)).hear([*LEFT, on.Tick(5.0)])
    both.hear([on.InstanceGone(OLD, "gone", b"", 6.0)])
    assert both.there == left


def test_leases_of_earlier_leaders_stay_where_they_are() -> None:
    """A frontend says what it holds; given back in the live fleet it is given back here."""
    holds = reported(N1, report(OLD, "busy", number(0), F))
    both = Beside().hear([*LEFT[:2], holds, attached(F, (OLD, number(0)), wanted=1)])
    assert both.there == [("leased", True)]
    both.hear([demanded(F, 0, 2.0), on.Released(F, [(OLD, number(0))], True, 2.0)])
    assert both.there == [("idle", True)]


# Nodes and frontends that go and come back


def test_a_start_on_a_node_that_is_lost_goes_on_elsewhere() -> None:
    """The live one is on N2, which is gone; the shadow's, on N2 as well, is made again like the live one."""
    both = Beside().hear([*STARTING, on.NodeDisconnected(N2, 1.0), on.NodeExpired(N2, 1.0)])
    assert both.there == [("leased", False)]
    assert both.hear([ready(3, 2.0)]).there == [("leased", True)]


def test_a_start_whose_twin_is_lost_takes_as_long_as_the_last() -> None:
    """The live one is on the emptiest node, which is lost; the shadow packs, and has it on the other."""
    both = Beside().hear([*fleet(), *idle(1), defined(version=OTHER)])
    both.own.books.pack = True
    both.hear([demanded(F, 1, 3.0, version=OTHER)])
    nodes = [[it.node for it in books.instances.values()] for books in (both.live.books, both.own.books)]
    assert nodes == [[N2, N1], [N2, N2]]
    both.hear([on.NodeDisconnected(N1, 3.1), on.NodeExpired(N1, 3.1), on.Tick(3.2)])
    assert both.there == [("idle", True), ("leased", False)]
    assert both.hear([on.Tick(3.7)]).there == [("idle", True), ("leased", True)]


def test_a_node_that_connects_again_says_what_the_shadow_has_there() -> None:
    """A start of which nothing was heard meanwhile ends as it would have."""
    both = Beside(other=("fixed", 0.0)).hear([*NOT_KEPT, demanded(F, 1, 10.0), on.NodeDisconnected(N2, 10.1)])
    both.hear([on.Tick(11.0)])
    again = reported(N2, report(instance(1), "busy", number(1)), at=12.0)
    both.hear([again, on.Tick(13.0)])
    assert ("leased", True) in both.there
    assert all(is_ready for _, is_ready in both.there)


def test_a_start_that_was_ready_before_its_node_connected_again() -> None:
    """Its worker says so in its report alone."""
    both = Beside().hear([*STARTING[:-1], demanded(F, 1), on.NodeDisconnected(N2, 0.1)])
    both.hear([reported(N2, report(instance(1), "idle", number(1), F), at=2.0), on.Tick(3.0)])
    assert list(both.shadow.workers.starts) == [instance(3)], "what was started instead"
    assert both.own.books.instances[next(iter(both.own.books.instances))].ready


def test_a_frontend_that_attaches_again_holds_what_the_shadow_gave_it() -> None:
    both = Beside().hear([*STARTING, ready(1), on.FrontendDetached(F, 2.0)])
    both.hear([attached(F, (instance(1), number(1)), wanted=1, at=2.5)])
    assert both.there == [("leased", True)]
    both.hear([demanded(F, 0, 3.0), released(F, 1, at=3.0)])
    assert (both.there, both.starts) == ([("idle", True)], (1, 1))


def test_a_frontend_that_is_gone() -> None:
    """What it held is taken back, and nothing of it is remembered."""
    both = Beside().hear([*STARTING, ready(1), on.FrontendDetached(F, 2.0), on.Tick(60.0)])
    both.hear([on.InstanceFreed(instance(1), number(2), False, 60.1)])
    assert both.there == [("idle", True)]
    assert not both.shadow.demand.jobs.get(F)
    assert not both.shadow.demand.live.get(F)


# Jobs


def test_what_the_live_fleet_has_served_is_served_later() -> None:
    """Its lease is kept until the instance is ready, and not for longer."""
    both = Beside(other=("fixed", 0.0)).hear([*NOT_KEPT, demanded(F, 1, 10.0)])
    lease = both.live.books.instances[instance(1)].number
    both.hear([demanded(F, 0, 10.1), on.Released(F, [(instance(1), lease)], True, 10.1)])
    assert both.there == [("leased", False)]
    both.hear([on.Tick(10.4)])
    assert both.there == [("leased", False)]
    both.hear([on.Tick(10.6)])
    assert both.there == [("stopping", True)], "idle, and its time is over"


SLOW = [*fleet(), *idle(1, 2), on.Tick(4.0), on.Tick(4.1)]


def test_what_is_owed_waits_until_it_can_be_started() -> None:
    """The shadow may start fewer at a time; the live fleet is done before."""
    both = Beside(other=("fixed", 0.0))
    both.hear(SLOW)
    both.own.books.functions[defined().function].rate.left = 1.0
    both.own.books.functions[defined().function].rate.most = 1
    both.hear([demanded(F, 2, 4.2)])
    held = [(it.id, it.number) for it in both.live.books.instances.values()]
    assert len(held) == 2
    both.hear([demanded(F, 0, 4.3), on.Released(F, held, True, 4.3)])
    assert both.there == [("leased", False)]
    assert both.shadow.own.waits == {"start_rate": 1}
    job = both.shadow.demand.job(F, V)
    assert (job.level, job.owed) == (0, 2)
    both.hear([on.Tick(5.0)])
    assert (job.level, job.owed, both.there) == (0, 0, [("stopping", True)])


def test_what_is_owed_for_too_long_is_given_up() -> None:
    """As callers do: here nothing can be started."""
    both = Beside(other=("fixed", 0.0)).hear(NOT_KEPT)
    both.own.books.functions[defined().function].start_after = 1e9
    both.hear([demanded(F, 1, 10.0)])
    lease = both.live.books.instances[instance(1)].number
    both.hear([demanded(F, 0, 10.1), on.Released(F, [(instance(1), lease)], True, 10.1)])
    both.hear([on.Tick(9.0 + PATIENCE_S)])
    assert both.shadow.demand.job(F, V).owed == 1
    both.hear([on.Tick(11.0 + PATIENCE_S)])
    assert not both.shadow.demand.owing
    assert not both.shadow.demand.jobs[F]


def test_who_gives_up_in_the_live_fleet_gives_up_here() -> None:
    """It was served in neither."""
    both = Beside().hear([*fleet(0), demanded(F, 3), demanded(F, 0, 1.0)])
    assert (both.there, both.starts) == ([], (0, 0))
    assert not both.shadow.demand.jobs[F]
    assert both.shadow.own.waits == both.shadow.live.waits == {"limit_reached": 1}


def test_a_recall_brings_what_the_live_one_brings() -> None:
    """F has one of its two to spare and gives it to G, in both."""
    both = Beside().hear([*fleet(2), demanded(F, 2), ready(1), ready(2), demanded(G, 1, 1.0)])
    both.hear([demanded(F, 1, 1.1), recalled(F, 1, at=1.1)])
    assert both.shadow.own.warm == both.shadow.live.warm == {"most_recently_used": 1}
    holders = sorted(str(it.frontend) for it in both.own.books.instances.values())
    assert holders == [F, G]


def test_a_recall_that_the_live_fleet_does_not_need() -> None:
    """There G has an instance that idles; here that was stopped, and F's only one is asked for. It comes back
    after as long as such an answer takes."""
    both = Beside(other=("fixed", 1.5)).hear([*fleet(2), *idle(1, 2, at=1.0)])
    both.hear([demanded(F, 1, 2.9), on.Tick(3.0), on.Tick(3.1)])
    assert both.there == [("leased", True)]
    both.own.books.functions[defined().function].start_after = 1e9
    both.hear([demanded(F, 0, 3.2), demanded(G, 1, 3.3)])
    holders = [it.frontend for it in both.own.books.instances.values()]
    assert holders == [F]
    both.hear([on.Tick(3.4), on.Tick(4.0)])
    assert [it.frontend for it in both.own.books.instances.values()] == [G]


def test_a_recall_that_brings_nothing_yet_brings_nothing_here() -> None:
    """Of what is busy in the live fleet something comes back after its event, whenever that is."""
    both = Beside().hear([*fleet(2), demanded(F, 3), ready(1), ready(2), demanded(G, 1, 1.0, 9.0)])
    both.hear([recalled(F, at=1.1), on.Tick(1.6), on.Tick(2.2), on.Tick(2.8)])
    assert [it.frontend for it in both.own.books.instances.values()] == [F, F]
    both.hear([released(F, 2, at=3.0)])
    assert [it.frontend for it in both.own.books.instances.values()] == [F, G]
    assert [it.frontend for it in both.live.books.instances.values()] == [F, G]


def test_since_when_a_call_waits() -> None:
    """Not since an earlier one did, that has been served."""
    both = Beside().hear([*fleet(1), demanded(F, 1, 1.0), ready(1, 1.5), demanded(F, 2, 5.0)])
    assert both.own.books.versions[V].wanted[F].oldest_at == 5.0


def test_of_versions_that_nobody_wants_nothing_is_left() -> None:
    """Of each a start fails for which nobody waits any more."""
    both = Beside().hear(fleet())
    for serial in range(1, 30):
        version = VersionKey(f"f:$LATEST:{serial + 1}")
        both.hear([defined(version=version, at=serial), demanded(F, 1, serial, version=version)])
        both.hear([demanded(F, 0, serial, version=version), gone(serial, "init", b"{}", serial)])
    assert both.starts == (29, 29)
    assert both.shadow.demand.jobs == {F: {}, G: {}, H: {}}
    assert not both.shadow.workers.twins


def test_how_long_the_live_fleet_lets_them_wait_is_told() -> None:
    """Who has waited for longer is first."""
    limited: list[on.Event] = [*fleet(1), demanded(F, 1), ready(1)]
    both = Beside().hear([*limited, demanded(G, 1, 2.0, 1.5), demanded(F, 2, 2.0, 0.2)])
    assert both.own.books.versions[V].wanted[G].oldest_at == 0.5
    assert both.own.books.versions[V].wanted[F].oldest_at == 1.8


def test_versions_and_functions_that_go_leave_nothing() -> None:
    removed = on.FunctionRemoved(defined().function, 3.0)
    both = Beside().hear([*fleet(), *idle(1), removed, on.InstanceGone(instance(1), "x", b"", 3.1)])
    both.hear([on.Tick(4.0 + second) for second in range(5)])
    assert not both.there
    assert not both.own.books.versions
    assert not both.shadow.workers.took


# What is counted


def test_what_is_counted() -> None:
    """By reason, and memory times the time for which it idled."""
    tally = Tally()
    lease = do.GiveLease(F, instance(1), number(1), N1, V, starting=True, reason="no_instance")
    warm = replace(lease, starting=False, reason="most_recently_used")
    tally.count([do.Grant(N1, instance(1), V, 256, number(1), F), lease], 0, 1.0)
    tally.count([do.Grant(N1, instance(2), V, 256, number(2), None)], 0, 1.0)
    tally.count([do.Grant(N1, instance(3), V, 256, number(3), None, provisioned=True)], 100, 2.0)
    tally.count([warm, warm], 300, 4.0)
    tally.count([do.Evict(N1, instance(1), number(4), "memory")], 0, 5.0)
    told = [do.TellUnmet(F, V, reason, "") for reason in (do.Unmet.MEMORY, do.Unmet.NONE)]
    tally.count([*told], 50, 9.0)
    assert tally.starts == {"no_instance": 1, "ahead": 1, "provisioned": 1}
    assert tally.warm == {"most_recently_used": 2}
    assert tally.waits == {"no_memory": 1}
    assert tally.evictions == {"memory": 1}
    assert tally.idle_mb_s == 100 * 2 + 300 * 1


def test_since_when_it_counts() -> None:
    """From the first event whose time is known."""
    both = Beside().hear([*node(N1)[:1]])
    assert both.shadow.counted_s == 0
    both.hear([defined(at=100.0), on.Tick(103.0)])
    assert both.shadow.counted_s == 3.0


def test_nothing_is_named_like_a_live_one() -> None:
    both = Beside().hear([*STARTING, demanded(F, 1, version=OTHER)])
    assert not both.own.books.instances.keys() & both.live.books.instances.keys()


def test_it_leaves_the_live_one_alone() -> None:
    """What the live scheduler says is the same with a shadow and without."""
    story = [*fleet(), *idle(1, 2), demanded(G, 2, 5.0), on.Tick(6.0), on.FrontendDetached(F, 7.0)]
    alone, both = Scheduler(Epoch(1), keep_alive_s=600.0), Beside(other=("histogram", 1.0))
    said = []
    for event in story:
        both.hear([event])
        said.append(alone.handle(event))
    assert alone.books.instances.keys() == both.live.books.instances.keys()
    assert [it.state for it in alone.books.instances.values()] == [
        it.state for it in both.live.books.instances.values()
    ]
    assert FrontendId("nobody") not in both.live.books.frontends
