"""A node that is emptied: what starts elsewhere, what goes when, and what cannot be moved."""

from lambent_placement.core import events as on
from lambent_placement.core import invariants
from lambent_placement.core.commands import Command, Evict, Fence, GiveLease, Grant
from lambent_placement.core.scheduler import Scheduler
from lambent_proto.ids import Epoch, NodeId
from tests.unit.placement.scheduler_rows import (
    N1,
    N2,
    F,
    attached,
    defined,
    demanded,
    gone,
    instance,
    node,
    number,
    ready,
    released,
    report,
)


class Drained:
    """One function; node n2 has an idle instance and one in use, n1 is empty. Both come to drain n2."""

    def __init__(self, limit: int | None = 10, memory_mb: int = 4096) -> None:
        self.core = Scheduler(Epoch(1))
        for event in (defined(limit), *node(N2, 4096), attached(F), demanded(F, 2), ready(1), ready(2)):
            self.say(event)
        self.say(demanded(F, 1, 1.0))
        self.say(released(F, 1, at=1.0))
        for event in node(N1, memory_mb):
            self.say(event)

    def say(self, event: on.Event) -> list[Command]:
        commands = self.core.handle(event)
        invariants.check(self.core.books)
        return commands

    def drain(self, draining: bool = True) -> list[Command]:
        return self.say(on.NodeDraining("n2", draining, 2.0))

    def leave(self) -> list[Command]:
        """The node's worker was told to end."""
        return self.say(on.NodeLeaving(N2, 2.0))

    def freed(self, name: int, at: float) -> list[Command]:
        """Its event has ended, and its worker says so."""
        return self.say(
            on.InstanceFreed(instance(name), self.core.books.instances[instance(name)].number, False, at)
        )


def grants(commands: list[Command]) -> list[NodeId]:
    assert all(command.frontend is None for command in commands if isinstance(command, Grant))
    return [command.node for command in commands if isinstance(command, Grant)]


def evicted(commands: list[Command]) -> list[str]:
    return [command.instance for command in commands if isinstance(command, Evict)]


def fenced(commands: list[Command]) -> list[str]:
    return [command.instance for command in commands if isinstance(command, Fence)]


def test_stand_ins_come_first() -> None:
    """One for each instance, elsewhere, and nothing goes before they are ready."""
    fleet = Drained()
    commands = fleet.drain()
    assert grants(commands) == [N1, N1]
    assert (evicted(commands), fenced(commands)) == ([], [])
    assert fleet.say(on.Tick(2.1)) == []


def test_an_idle_one_goes_when_its_stand_in_is_ready() -> None:
    fleet = Drained()
    fleet.drain()
    commands = fleet.say(ready(3, at=2.5)) + fleet.say(ready(4, at=2.5))
    assert evicted(commands) == [instance(1)]


def test_one_in_use_goes_after_its_event() -> None:
    """Its caller has the answer, and the next call is given the stand-in."""
    fleet = Drained()
    fleet.drain()
    commands = fleet.say(ready(3, at=2.5)) + fleet.say(ready(4, at=2.5))
    assert fenced(commands) == [instance(2)]
    assert evicted(fleet.freed(2, 3.0)) == [instance(2)]
    given = [c for c in fleet.say(demanded(F, 1, 3.1)) if isinstance(c, GiveLease)]
    assert [command.node for command in given] in ([N1], []), "it has been given one already"


def test_nothing_new_starts_there() -> None:
    """However much room it has; and again once it may."""
    fleet = Drained(memory_mb=256)
    fleet.drain()
    assert [c.node for c in fleet.say(demanded(F, 4, 3.0)) if isinstance(c, Grant)] == []
    commands = fleet.drain(False)
    assert N2 in [command.node for command in commands if isinstance(command, Grant)]


def test_where_the_limit_allows_no_stand_in_the_old_one_gives_way() -> None:
    """At once if it is idle, and after its event if it is in use."""
    fleet = Drained(limit=2)
    commands = fleet.drain()
    assert grants(commands) == []
    assert (evicted(commands), fenced(commands)) == ([instance(1)], [instance(2)])


def test_where_nobody_has_the_memory_it_goes_all_the_same() -> None:
    fleet = Drained(memory_mb=128)
    commands = fleet.drain()
    assert (evicted(commands), fenced(commands)) == ([instance(1)], [instance(2)])


def test_a_stand_in_that_fails_is_started_again() -> None:
    """After the pause that failed starts have; the old one stays meanwhile."""
    fleet = Drained()
    fleet.drain()
    commands = fleet.say(gone(3, "spawn_failed", at=2.1))
    assert (evicted(commands), grants(commands)) == ([], [])
    assert grants(fleet.say(on.Tick(2.15))) == []
    assert grants(fleet.say(on.Tick(2.3))) == [N1]


def test_a_node_that_comes_back_still_drains() -> None:
    """Its worker was started again: it has the name, and is given nothing."""
    fleet = Drained(memory_mb=128)
    fleet.drain()
    again = NodeId("n2@2")
    for event in node(again, 4096):
        fleet.say(event)
    assert fleet.core.books.nodes[again].draining
    assert not fleet.core.books.nodes[again].is_open


def test_what_was_to_go_stays_when_it_is_undone() -> None:
    fleet = Drained()
    fleet.drain()
    fleet.drain(False)
    commands = fleet.say(ready(3, at=2.5)) + fleet.say(ready(4, at=2.5)) + fleet.say(on.Tick(3.0))
    assert (evicted(commands), fenced(commands)) == ([], [])


def test_a_worker_that_will_end_is_emptied_alike() -> None:
    """Stand-ins first, then what is idle, and after its event what is in use."""
    fleet = Drained()
    assert grants(fleet.leave()) == [N1, N1]
    commands = fleet.say(ready(3, at=2.5)) + fleet.say(ready(4, at=2.5))
    assert (evicted(commands), fenced(commands)) == ([instance(1)], [instance(2)])
    assert evicted(fleet.freed(2, 3.0)) == [instance(2)]


def test_one_that_has_nowhere_to_move_them_is_emptied_at_once() -> None:
    """As when all workers of a fleet are stopped together: nobody waits for anything but running events."""
    fleet = Drained()
    fleet.say(on.NodeLeaving(N1, 2.0))
    commands = fleet.leave()
    assert (evicted(commands), fenced(commands)) == ([instance(1)], [instance(2)])


def test_whose_instance_is_taken_is_given_an_idle_one_at_once() -> None:
    """The limit allows no stand-in, and another node has one that nobody uses."""
    core = Scheduler(Epoch(1))
    history = (defined(2), *node(N2), attached(F), demanded(F, 1), ready(1), *node(N1), demanded(F, 2))
    for event in (*history, ready(2), demanded(F, 1), released(F, 2)):
        core.handle(event)
    assert core.books.instances[instance(2)].node == N1
    commands = core.handle(on.NodeLeaving(N2, 2.0))
    assert fenced(commands) == [instance(1)]
    assert [c.instance for c in commands if isinstance(c, GiveLease)] == [instance(2)]


def test_a_new_leader_hears_of_it() -> None:
    """With all that the worker says of itself, and grants nothing there."""
    core = Scheduler(Epoch(2))
    for event in (defined(10), on.NodeRegistered(N2, 4096), attached(F), *node(N1)):
        core.handle(event)
    held = report(instance(1), "idle", number(1), frontend=None)
    core.handle(on.NodeReported(N2, 4096, [held], 1.0, leaving=True))
    assert not core.books.nodes[N2].is_open
    assert grants(core.handle(on.Tick(1.1))) == [N1]


def test_its_name_is_not_what_leaves() -> None:
    """Its worker was started again: that is another node, and takes new instances."""
    fleet = Drained()
    fleet.leave()
    again = NodeId("n2@2")
    for event in node(again, 4096):
        fleet.say(event)
    assert fleet.core.books.nodes[again].is_open


def test_nothing_takes_it_back() -> None:
    """Nor does `--undo` of a drain of its name."""
    fleet = Drained()
    fleet.leave()
    fleet.drain()
    fleet.drain(False)
    commands = fleet.say(ready(3, at=2.5)) + fleet.say(ready(4, at=2.5))
    assert (evicted(commands), fenced(commands)) == ([instance(1)], [instance(2)])


def test_a_node_that_is_not_known_may_leave() -> None:
    """The word of one whose registration is over comes late."""
    assert Drained().say(on.NodeLeaving(NodeId("n9@1"), 2.0)) == []
