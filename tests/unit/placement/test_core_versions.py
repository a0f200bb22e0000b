"""Several versions of one function: each has instances of its own, and all share the function's limit."""

from typing import Final

from lambent_placement.core import commands as do
from lambent_placement.core import events as on
from lambent_placement.core.scheduler import Scheduler
from lambent_proto.ids import Epoch, FunctionName, NodeId, VersionKey
from tests.unit.placement.scheduler_rows import N1, PYTHON, F, V, W, attached, defined, instance, node, number

ONE: Final = VersionKey("f:1:1")
TWO: Final = VersionKey("f:2:2")


def fleet(*events: on.Event, limit: int | None = 4) -> Scheduler:
    scheduler = Scheduler(Epoch(1), keep_alive_s=600.0)
    start: list[on.Event] = [defined(limit), defined(limit, ONE), *node(N1), attached(F, links=(N1,))]
    for event in [*start, *events]:
        scheduler.handle(event)
    return scheduler


def wanted(version: VersionKey, count: int, at: float = 0.0) -> on.Demanded:
    return on.Demanded(F, on.Wish(version, count, 0.0), at)


def ready(serial: int, at: float = 0.0) -> on.InstanceReady:
    return on.InstanceReady(instance(serial), 1.0, 1.0, at)


def released(*serials: int, at: float = 1.0) -> on.Released:
    return on.Released(F, [(instance(serial), number(serial)) for serial in serials], True, at)


ONE_IDLE_OF_EACH: Final[list[on.Event]] = [
    *(wanted(V, 1), wanted(ONE, 1), ready(1), ready(2)),
    *(wanted(V, 0), wanted(ONE, 0), released(1, 2)),
]


def kinds(commands: list[do.Command]) -> list[str]:
    return [type(command).__name__ for command in commands]


def test_versions_run_beside_each_other() -> None:
    """A published version stays when `$LATEST` changes; neither takes the other's instances."""
    scheduler = fleet(
        wanted(V, 1), wanted(ONE, 1), ready(1), ready(2), wanted(V, 0), wanted(ONE, 0), released(1, 2)
    )
    commands = scheduler.handle(defined(4, W, at=2.0))
    assert [(type(c), c.instance) for c in commands if isinstance(c, do.Evict)] == [(do.Evict, instance(1))]
    given = [c for c in scheduler.handle(wanted(ONE, 1, 3.0)) if isinstance(c, do.GiveLease)]
    assert [(c.instance, c.starting) for c in given] == [(instance(2), False)]


def test_versions_share_their_functions_limit() -> None:
    """Two of one version and two of the other are four; a fifth is not started."""
    scheduler = fleet(wanted(V, 2), wanted(ONE, 2))
    assert kinds(scheduler.handle(wanted(ONE, 3))) == ["TellUnmet"]


def test_an_idle_instance_of_one_gives_way_to_another() -> None:
    """At the limit the least recently used one of another version goes."""
    scheduler = fleet(wanted(V, 1), ready(1), wanted(V, 0), released(1), limit=1)
    commands = scheduler.handle(wanted(ONE, 1, 2.0))
    assert commands == [do.Evict(N1, instance(1), number(2), "gives_way")]


def test_a_deleted_version_leaves_nothing() -> None:
    """Its idle instances go at once, those in use after their event; a call of it waits in vain."""
    scheduler = fleet(wanted(ONE, 2), ready(1), ready(2), wanted(ONE, 1), released(1))
    commands = scheduler.handle(on.VersionRemoved(ONE, 2.0))
    assert [c.instance for c in commands if isinstance(c, do.Evict)] == [instance(1)]
    scheduler.handle(wanted(ONE, 0, 2.0))
    back = scheduler.handle(released(2, at=3.0))
    assert [c.instance for c in back if isinstance(c, do.Evict)] == [instance(2)]
    [unmet] = scheduler.handle(wanted(ONE, 1, 4.0))
    assert isinstance(unmet, do.TellUnmet)
    assert unmet.reason is do.Unmet.UNKNOWN


def test_a_deleted_function_takes_its_versions_along() -> None:
    """Nothing of it is left, in the books neither."""
    scheduler = fleet(
        wanted(V, 1), wanted(ONE, 1), ready(1), ready(2), wanted(V, 0), wanted(ONE, 0), released(1, 2)
    )
    commands = scheduler.handle(on.FunctionRemoved(FunctionName("f"), 2.0))
    assert sorted(c.instance for c in commands if isinstance(c, do.Evict)) == [instance(1), instance(2)]
    for serial in (1, 2):
        scheduler.handle(on.InstanceGone(instance(serial), "evicted", b"", 2.0))
    scheduler.handle(on.Tick(5.0))
    assert (scheduler.books.functions, scheduler.books.versions, scheduler.books.packages) == ({}, {}, {})


def test_each_version_has_its_own_needs() -> None:
    """Memory and runtime are the version's that is started."""
    scheduler = fleet(defined(4, TWO, memory_mb=512, runtime=PYTHON))
    [grant, _] = scheduler.handle(wanted(TWO, 1))
    assert isinstance(grant, do.Grant)
    assert (grant.memory_mb, grant.node) == (512, NodeId(N1))
