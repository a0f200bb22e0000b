"""Provisioned concurrency: so many instances of a version are ready; above them all is as always."""

from typing import Final

from lambent_placement.core import commands as do
from lambent_placement.core import events as on
from lambent_placement.core.commands import Reason
from lambent_placement.core.provision import allocated, status
from lambent_placement.core.scheduler import Scheduler
from lambent_proto.ids import Epoch, InstanceId, VersionKey
from tests.unit.placement.scheduler_rows import (
    N1,
    N2,
    OTHER,
    F,
    V,
    attached,
    defined,
    instance,
    node,
    number,
)

P: Final = VersionKey("f:1:1")


class Fleet:
    """One published version of `f`, beside `$LATEST`, on two nodes that take four instances each."""

    def __init__(self, limit: int | None = None, nodes: int = 2) -> None:
        self.core = Scheduler(Epoch(1), keep_alive_s=600.0)
        self.at = 0.0
        known: list[on.Event] = [defined(limit), defined(limit, P), defined(None, OTHER)]
        workers = [event for name in (N1, N2)[:nodes] for event in node(name)]
        for event in [*known, attached(F, links=(N1, N2)), *workers]:
            self.core.handle(event)

    def provision(self, count: int, version: VersionKey = P) -> list[do.Command]:
        return self.core.handle(on.ProvisionedSet(version, count, self.at))

    def ready(self, *serials: int) -> None:
        for serial in serials:
            self.core.handle(on.InstanceReady(instance(serial), 1.0, 1.0, self.at))

    def wants(self, count: int, version: VersionKey = P) -> list[do.Command]:
        return self.core.handle(on.Demanded(F, on.Wish(version, count, 0.0), self.at))

    def released(self, *serials: tuple[int, int]) -> list[do.Command]:
        """Each is the instance, and the lease of it that ends."""
        leases = [(instance(one), number(lease)) for one, lease in serials]
        return self.core.handle(on.Released(F, leases, True, self.at))

    def tick(self, at: float) -> list[do.Command]:
        self.at = at
        return self.core.handle(on.Tick(at))

    @property
    def state(self) -> tuple[str, int]:
        version = self.core.books.version(P)
        return status(version), allocated(version)


def grants(commands: list[do.Command]) -> list[InstanceId]:
    return [c.instance for c in commands if isinstance(c, do.Grant) and c.provisioned]


def given(commands: list[do.Command]) -> list[tuple[InstanceId, str]]:
    return [(c.instance, c.reason) for c in commands if isinstance(c, do.GiveLease)]


def evicted(commands: list[do.Command]) -> list[InstanceId]:
    return [c.instance for c in commands if isinstance(c, do.Evict)]


def test_they_are_started_for_nobody_and_said_to_be_ready() -> None:
    """In progress until all of them are."""
    fleet = Fleet()
    assert grants(fleet.provision(2)) == [instance(1), instance(2)]
    assert fleet.state == ("IN_PROGRESS", 0)
    fleet.ready(1)
    assert fleet.state == ("IN_PROGRESS", 1)
    fleet.ready(2)
    assert fleet.state == ("READY", 2)
    assert fleet.tick(1.0) == []


def test_they_are_given_first() -> None:
    """Before one that was used later; what comes on top starts as always."""
    fleet = Fleet()
    fleet.wants(1)
    fleet.ready(1)
    fleet.provision(1)
    fleet.ready(2)
    fleet.wants(0)
    fleet.released((1, 1))
    assert given(fleet.wants(1)) == [(instance(2), Reason.PROVISIONED)]
    assert given(fleet.wants(2)) == [(instance(1), Reason.MOST_RECENTLY_USED)]
    [start] = [c for c in fleet.wants(3) if isinstance(c, do.Grant)]
    assert not start.provisioned


def test_they_do_not_grow_old_and_do_not_give_way() -> None:
    """Neither after the time that instances are kept, nor for the memory of another function."""
    fleet = Fleet(nodes=1)
    fleet.provision(4)
    fleet.ready(1, 2, 3, 4)
    assert fleet.tick(10_000.0) == []
    [unmet] = fleet.wants(1, OTHER)
    assert isinstance(unmet, do.TellUnmet)
    assert unmet.reason is do.Unmet.MEMORY


def test_others_give_way_to_them() -> None:
    """Where there is no memory the least recently used ones that are not provisioned go."""
    fleet = Fleet(nodes=1)
    fleet.wants(4, OTHER)
    fleet.ready(1, 2, 3, 4)
    fleet.wants(0, OTHER)
    fleet.released(*((n, n) for n in (1, 2, 3, 4)))
    assert evicted(fleet.provision(1)) == [instance(1)]
    assert fleet.tick(0.1) == []
    gone = fleet.core.handle(on.InstanceGone(instance(1), "evicted", b"", 0.2))
    assert grants(gone + fleet.tick(0.3)) == [InstanceId("1-6")]


def test_fewer_leave_the_rest_as_instances_like_all_others() -> None:
    """They stay, can give way from then on, and grow old."""
    fleet = Fleet()
    fleet.provision(3)
    fleet.ready(1, 2, 3)
    assert fleet.provision(1) == []
    assert len(evicted(fleet.tick(601.0))) == 2
    assert fleet.state == ("READY", 1)
    assert fleet.provision(0) == []
    assert len(evicted(fleet.tick(1202.0))) == 1


def test_one_that_ends_is_replaced() -> None:
    """Whatever ended it."""
    fleet = Fleet()
    fleet.provision(1)
    fleet.ready(1)
    gone = fleet.core.handle(on.InstanceGone(instance(1), "exited", b"", 1.0))
    assert len(grants(gone + fleet.tick(1.1))) == 1


def test_a_start_that_fails_is_tried_again_later_and_told() -> None:
    """With the error of the function's initialisation; the pause doubles up to a minute."""
    fleet = Fleet()
    fleet.provision(1)
    gone = fleet.core.handle(
        on.InstanceGone(instance(1), "init failed", b'{"errorType": "ImportError"}', 0.0)
    )
    assert grants(gone) == []
    assert fleet.state == ("FAILED", 0)
    assert "ImportError" in fleet.core.books.version(P).provision_error
    assert grants(fleet.tick(0.9)) == []
    assert grants(fleet.tick(1.1)) == [instance(2)]
    fleet.core.handle(on.InstanceGone(instance(2), "init failed", b"{}", 2.0))
    assert grants(fleet.tick(3.9)) == []
    assert grants(fleet.tick(4.1)) == [instance(3)]
    fleet.ready(3)
    assert fleet.state == ("READY", 1)


def test_they_count_within_the_functions_reservation() -> None:
    """Of three, two are provisioned and one is left; an idle one of another version gives way to them."""
    fleet = Fleet(limit=3)
    fleet.wants(3, V)
    fleet.ready(1, 2, 3)
    fleet.wants(0, V)
    fleet.released((1, 1), (2, 2), (3, 3))
    assert evicted(fleet.provision(2)) == [instance(1)]
    gone = fleet.core.handle(on.InstanceGone(instance(1), "evicted", b"", 1.0))
    assert len(grants(gone + fleet.tick(1.0))) == 1
    assert len(fleet.core.books.function(fleet.core.books.version(P).function.name).instances) == 3


def test_the_pool_sets_them_aside() -> None:
    """Idle or not they are out of what others share, and those that they serve take no more of it."""
    fleet = Fleet()
    fleet.core.handle(on.ConcurrencySet(3, 0.0))
    fleet.provision(2)
    fleet.ready(1, 2)
    books = fleet.core.books
    assert (books.pool.size, books.pool.used) == (1, 0)
    assert len(given(fleet.wants(2))) == 2
    assert (books.pool.size, books.pool.used) == (1, 0)
    assert len(given(fleet.wants(1, OTHER))) == 1
    assert books.pool.used == 1
    told = [c.reason for c in fleet.wants(3) if isinstance(c, do.TellUnmet)]
    assert told == [do.Unmet.FLEET_LIMIT]


def test_a_new_leader_knows_them_again() -> None:
    """Its worker says which they are; no others are started."""
    fleet = Fleet(nodes=0)
    fleet.provision(1)
    held = on.Reported(InstanceId("0-1"), P, 256, "idle", number(0), None, True)
    fleet.core.handle(on.NodeRegistered(N1, 1024))
    fleet.core.handle(on.NodeReported(N1, 1024, [held], 0.0))
    assert fleet.tick(0.1) == []
    assert fleet.state == ("READY", 1)
    assert fleet.tick(1000.0) == []


def test_a_drained_node_leaves_as_many() -> None:
    """The stand-in is a provisioned one, and no other is started for the one that goes."""
    fleet = Fleet()
    fleet.provision(1)
    fleet.ready(1)
    [on_node] = [i.node for i in fleet.core.books.instances.values()]
    draining = fleet.core.handle(on.NodeDraining(on_node.partition("@")[0], True, 1.0))
    assert len(grants(draining)) == 1
    fleet.at = 1.0
    fleet.ready(2)
    assert fleet.tick(1.2) == []
    assert fleet.state == ("READY", 1)
    assert [i.id for i in fleet.core.books.instances.values() if i.provisioned] == [instance(2)]
