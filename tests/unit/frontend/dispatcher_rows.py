"""Short ways to write what a frontend's core hears and says. Every function is `f` unless a row says so."""

from typing import Final

from lambent_frontend.core import commands as do
from lambent_frontend.core import events as on
from lambent_frontend.core.call import Priority
from lambent_frontend.core.dispatcher import Dispatcher
from lambent_proto.ids import InstanceId, LeaseNumber, NodeId, RequestId, VersionKey

V: Final = VersionKey("f:$LATEST:1")
W: Final = VersionKey("f:$LATEST:2")
N1: Final = NodeId("n1@1")
N2: Final = NodeId("n2@1")
CONNECTED: Final[list[on.Event]] = [on.LinkUp(N1), on.LinkUp(N2), on.PlacementAttached(0.0)]
DELETED: Final = "function 'f' was deleted"


def decide(
    history: list[on.Event], last: on.Event, max_waiting: int = 2, max_waiting_bytes: int = 1000
) -> list[do.Command]:
    """What a frontend that is attached and linked to two nodes says to the last event."""
    dispatcher = Dispatcher(max_waiting=max_waiting, max_waiting_bytes=max_waiting_bytes, linger_s=0.1)
    for event in [*CONNECTED, *history]:
        dispatcher.handle(event)
    return dispatcher.handle(last)


def arrived(
    request: str,
    at: float = 0.0,
    *,
    deadline: float = 10.0,
    version: VersionKey = V,
    priority: Priority = Priority.NORMAL,
    tenant: str = "",
    size: int = 0,
    sticky: int = 0,
) -> on.InvocationArrived:
    rights = priority, tenant, size, sticky
    return on.InvocationArrived(RequestId(request), version, deadline, at, *rights)


def abandoned(request: str, at: float = 1.0) -> on.InvocationAbandoned:
    return on.InvocationAbandoned(RequestId(request), at)


def answered(instance: str, request: str, at: float = 1.0) -> on.EventAnswered:
    return on.EventAnswered(InstanceId(instance), RequestId(request), at)


def refused(instance: str, request: str, at: float = 1.0, reason: str = "stale_lease") -> on.EventRefused:
    return on.EventRefused(InstanceId(instance), RequestId(request), reason, at)


def given(
    instance: str,
    number: int = 1,
    at: float = 0.0,
    *,
    node: NodeId = N1,
    version: VersionKey = V,
    reason: str = "most_recently_used",
) -> on.LeaseGiven:
    return on.LeaseGiven(InstanceId(instance), LeaseNumber(number), node, version, False, reason, at)


def starting(
    instance: str, number: int = 1, at: float = 0.0, *, reason: str = "no_instance"
) -> on.LeaseGiven:
    return on.LeaseGiven(InstanceId(instance), LeaseNumber(number), N1, V, True, reason, at)


def ready(instance: str, number: int = 1, at: float = 1.0) -> on.LeaseReady:
    return on.LeaseReady(InstanceId(instance), LeaseNumber(number), 3.0, 5.0, at)


def voided(
    instance: str, number: int = 1, at: float = 1.0, *, node_lost: bool = False, error: bytes = b""
) -> on.LeaseVoided:
    return on.LeaseVoided(InstanceId(instance), LeaseNumber(number), "gone", node_lost, error, at)


def recalled(wanted: int, at: float = 1.0) -> on.RecallAsked:
    return on.RecallAsked(V, wanted, at)


def dispatch(
    instance: str,
    request: str,
    number: int = 1,
    *,
    node: NodeId = N1,
    cold: bool = False,
    reason: str = "most_recently_used",
    waited_s: float = 0.0,
    waited_for: str = "",
) -> do.Dispatch:
    starting_ms, init_ms = (3.0, 5.0) if cold else (0.0, 0.0)
    return do.Dispatch(
        node,
        InstanceId(instance),
        LeaseNumber(number),
        RequestId(request),
        cold,
        reason,
        waited_s,
        waited_for,
        starting_ms,
        init_ms,
    )


def finish(
    request: str,
    outcome: do.Outcome,
    detail: str = "",
    error: bytes = b"",
    throttle: str = "",
    refusal: str = "",
    waited_for: str = "",
) -> do.Finish:
    return do.Finish(RequestId(request), outcome, detail, error, throttle, refusal, waited_for)


def leases(*pairs: tuple[str, int]) -> list[tuple[InstanceId, LeaseNumber]]:
    return [(InstanceId(instance), LeaseNumber(number)) for instance, number in pairs]


def release(*pairs: tuple[str, int], sure: bool = True) -> do.Release:
    return do.Release(leases(*pairs), sure)
