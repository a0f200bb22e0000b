"""What has happened, as a frontend sees it. Times are monotonic seconds of the frontend's own clock."""

from lambent_frontend.core.call import Priority
from lambent_proto.ids import InstanceId, LeaseNumber, NodeId, RequestId, VersionKey
from lambent_proto.messages import message
from lambent_proto.sticky import NO_KEY


@message
class InvocationArrived:
    """A caller wants an event run. `deadline` is when it stops waiting for the answer."""

    request: RequestId
    version: VersionKey
    deadline: float
    at: float
    priority: Priority = Priority.NORMAL
    tenant: str = ""
    size: int = 0
    """Bytes that it holds while it waits."""
    sticky: int = NO_KEY


@message
class InvocationAbandoned:
    """The caller went away and wants no answer any more."""

    request: RequestId
    at: float


@message
class EventAnswered:
    """The runtime's answer came back, whatever it says."""

    instance: InstanceId
    request: RequestId
    at: float


@message
class EventRefused:
    """The worker proves that the runtime never took this event."""

    instance: InstanceId
    request: RequestId
    reason: str
    at: float


@message
class EventLost:
    """The instance is gone that had this event, and left no answer: it may have run."""

    instance: InstanceId
    request: RequestId
    reason: str
    at: float


@message
class LinkUp:
    """A data connection to a worker stands."""

    node: NodeId


@message
class LinkDown:
    """A data connection broke: what was under way there may or may not have run."""

    node: NodeId
    at: float


@message
class WorkerLeaves:
    """Nothing runs on a worker, and nothing will; what was sent there is still answered, with refusals."""

    node: NodeId
    at: float


@message
class LeaseGiven:
    instance: InstanceId
    number: LeaseNumber
    node: NodeId
    version: VersionKey
    starting: bool
    """The instance is still being started: it may be used once LeaseReady has come."""
    reason: str
    at: float


@message
class LeaseReady:
    """A starting instance can be used. Comes from the worker and from placement; the first one counts."""

    instance: InstanceId
    number: LeaseNumber
    starting_ms: float
    init_ms: float
    at: float
    restored: bool = False
    """It was forked of a snapshot."""


@message
class LeaseVoided:
    """The lease ended without our doing."""

    instance: InstanceId
    number: LeaseNumber
    reason: str
    node_lost: bool
    """Its worker is gone for good: an event that ran there has no answer to come."""
    error: bytes
    """Lambda's error JSON when the function's own initialisation failed, else empty."""
    at: float


@message
class RecallAsked:
    """Others wait for this version: give back so many leases as they become free. A level; 0 ends it."""

    version: VersionKey
    wanted: int
    at: float


@message
class UnmetTold:
    """Why placement cannot give what was asked for at the moment; an empty reason: it can again."""

    version: VersionKey
    reason: str
    detail: str
    at: float


@message
class PlacementAttached:
    """A new stream to the leading placement stands; it knows nothing of us yet."""

    at: float


@message
class PlacementLost:
    pass


@message
class VersionDefined:
    """A version may be called. `limit` 0 switches its function off."""

    version: VersionKey
    limit: int | None


@message
class VersionReplaced:
    """Calls that wait for the old version now wait for the new one."""

    old: VersionKey
    new: VersionKey
    limit: int | None
    at: float


@message
class ConcurrencySet:
    """How many instances may run at one time in the whole fleet."""

    concurrency: int


@message
class FrontendsCounted:
    """How many frontends the fleet has, this one included."""

    number: int


@message
class VersionRemoved:
    version: VersionKey
    at: float


@message
class Tick:
    at: float


Event = (
    InvocationArrived
    | EventAnswered
    | LeaseGiven
    | LeaseReady
    | InvocationAbandoned
    | EventRefused
    | EventLost
    | Tick
    | RecallAsked
    | UnmetTold
    | LeaseVoided
    | LinkUp
    | LinkDown
    | WorkerLeaves
    | PlacementAttached
    | PlacementLost
    | VersionDefined
    | VersionReplaced
    | VersionRemoved
    | ConcurrencySet
    | FrontendsCounted
)
