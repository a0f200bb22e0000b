"""Short ways to write what placement's core hears and says.

The leader is of epoch 1. Its n-th lease is `number(n)`, and the instance granted with it `instance(n)`.
"""

from dataclasses import replace
from typing import Final

from lambent_placement.core import commands as do
from lambent_placement.core import events as on
from lambent_placement.core.commands import Reason, Unmet
from lambent_placement.core.scheduler import Scheduler
from lambent_proto.ids import (
    Epoch,
    FrontendId,
    InstanceId,
    LeaseNumber,
    NodeId,
    VersionKey,
    function_of,
    lease_number,
)

PYTHON, NODE, NODE_20 = "python3.11", "nodejs", "nodejs20.x"
V: Final = VersionKey("f:$LATEST:1")
W: Final = VersionKey("f:$LATEST:2")
OTHER: Final = VersionKey("g:$LATEST:1")
N1, N2, N3 = NodeId("n1@1"), NodeId("n2@1"), NodeId("n3@1")
F, G, H = FrontendId("f1"), FrontendId("f2"), FrontendId("f3")


def number(serial: int) -> LeaseNumber:
    return lease_number(Epoch(1), serial)


def instance(serial: int) -> InstanceId:
    return InstanceId(f"1-{serial:x}")


def defined(
    limit: int | None = None,
    version: VersionKey = V,
    memory_mb: int = 256,
    at: float = 0.0,
    runtime: str = PYTHON,
) -> on.FunctionDefined:
    return on.FunctionDefined(function_of(version), version, memory_mb, limit, runtime, at)


def node(name: NodeId, memory_mb: int = 1024, *runtimes: str) -> list[on.Event]:
    """A worker that is registered and connected, and runs nothing."""
    return [
        on.NodeRegistered(name, memory_mb, frozenset(runtimes)),
        on.NodeReported(name, memory_mb, [], 0.0),
    ]


def attached(
    frontend: FrontendId,
    *claims: tuple[InstanceId, LeaseNumber],
    links: tuple[NodeId, ...] = (N1, N2),
    wanted: int = 0,
    at: float = 0.0,
) -> on.FrontendAttached:
    wishes = [on.Wish(V, wanted, 0.0)] if wanted else []
    return on.FrontendAttached(frontend, list(claims), wishes, list(links), at)


def fleet(limit: int | None = 4) -> list[on.Event]:
    """One function, two empty nodes, three frontends that reach both. The first start goes to N2."""
    return [defined(limit), *node(N1), *node(N2), attached(F), attached(G), attached(H)]


def decide(history: list[on.Event], last: on.Event) -> list[do.Command]:
    """What is done then. Which nodes were compared has rows of its own."""
    scheduler = Scheduler(Epoch(1), keep_alive_s=600.0)
    for event in history:
        scheduler.handle(event)
    done = scheduler.handle(last)
    return [replace(it, candidates=()) if isinstance(it, do.GiveLease) else it for it in done]


def demanded(
    frontend: FrontendId, wanted: int, at: float = 0.0, waited_s: float = 0.0, version: VersionKey = V
) -> on.Demanded:
    return on.Demanded(frontend, on.Wish(version, wanted, waited_s), at)


def ready(serial: int, at: float = 0.5) -> on.InstanceReady:
    return on.InstanceReady(instance(serial), 3.0, 5.0, at)


def gone(serial: int, reason: str = "crashed", error: bytes = b"", at: float = 1.0) -> on.InstanceGone:
    return on.InstanceGone(instance(serial), reason, error, at)


def freed(serial: int, fence: int, *, busy: bool = False, at: float = 1.0) -> on.InstanceFreed:
    return on.InstanceFreed(instance(serial), number(fence), busy, at)


def released(frontend: FrontendId, *serials: int, sure: bool = True, at: float = 1.0) -> on.Released:
    """Gives back instances under the lease that each was granted with."""
    return on.Released(frontend, [(instance(s), number(s)) for s in serials], sure, at)


def recalled(frontend: FrontendId, *serials: int, at: float = 1.0) -> on.Recalled:
    return on.Recalled(frontend, V, [(instance(s), number(s)) for s in serials], at)


def link(frontend: FrontendId, to: NodeId, *, up: bool, at: float = 1.0) -> on.LinkChanged:
    return on.LinkChanged(frontend, to, up, at)


def idle(*serials: int, holder: FrontendId = F, at: float = 1.0) -> list[on.Event]:
    """Instances are started, used and given back one after another, a second apart, and stay warm."""
    events: list[on.Event] = [demanded(holder, len(serials))]
    events += [ready(serial) for serial in serials]
    events.append(demanded(holder, 0, at))
    return events + [released(holder, s, at=at + later) for later, s in enumerate(serials)]


def report(
    of: InstanceId, state: str, held: LeaseNumber, frontend: FrontendId | None = F, version: VersionKey = V
) -> on.Reported:
    return on.Reported(of, version, 256, state, held, frontend)


def reported(of: NodeId, *reports: on.Reported, at: float = 1.0) -> on.NodeReported:
    return on.NodeReported(of, 1024, list(reports), at)


def started(
    serial: int,
    on_node: NodeId,
    frontend: FrontendId = F,
    *,
    version: VersionKey = V,
    reason: str = Reason.NO_INSTANCE,
) -> list[do.Command]:
    """A grant, and the lease on what it starts."""
    return [
        do.Grant(on_node, instance(serial), version, 256, number(serial), frontend),
        do.GiveLease(frontend, instance(serial), number(serial), on_node, version, True, reason),
    ]


def warm(serial: int, lease: int, on_node: NodeId, frontend: FrontendId = F) -> do.GiveLease:
    return do.GiveLease(
        frontend, instance(serial), number(lease), on_node, V, False, Reason.MOST_RECENTLY_USED
    )


def fence(serial: int, lease: int, on_node: NodeId = N2) -> do.Fence:
    return do.Fence(on_node, instance(serial), number(lease))


def evict(serial: int, lease: int, reason: str, on_node: NodeId = N2) -> do.Evict:
    return do.Evict(on_node, instance(serial), number(lease), reason)


def void(
    serial: int, reason: str, frontend: FrontendId = F, *, node_lost: bool = False, error: bytes = b""
) -> do.VoidLease:
    return do.VoidLease(frontend, instance(serial), number(serial), reason, node_lost, error)


def recall(frontend: FrontendId, wanted: int) -> do.Recall:
    return do.Recall(frontend, V, wanted)


def unmet(frontend: FrontendId, reason: Unmet, detail: str = "", version: VersionKey = V) -> do.TellUnmet:
    return do.TellUnmet(frontend, version, reason, detail)


def all_exist(count: int) -> str:
    return f"all {count} instances exist that its limit of {count} allows"


def told_ready(serial: int, starting_ms: float = 0.0, init_ms: float = 0.0) -> do.TellReady:
    return do.TellReady(F, instance(serial), number(serial), starting_ms, init_ms)


HELD: list[on.Event] = [*fleet(1), demanded(F, 1), ready(1)]
"""F holds the only instance of f there may be, on N2."""
UNUSED: list[on.Event] = [*HELD, demanded(F, 0)]
"""The same, and F has no work for it."""
FENCED: list[on.Event] = [*UNUSED, released(F, 1, sure=False)]
TAKEN = void(1, "fenced")
