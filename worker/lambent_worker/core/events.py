"""What has happened on this worker. Times are monotonic seconds of the worker's own clock."""

from enum import Enum
from typing import Final

from lambent_proto.ids import Epoch, FrontendId, InstanceId, LeaseNumber, RequestId, VersionKey
from lambent_proto.messages import message


class Refusal(Enum):
    """Why an event was not taken. In every case the runtime never saw it."""

    STALE = "stale_lease"
    BUSY = "busy"
    GONE = "gone"
    FENCED = "worker_fenced"


class ExitReason:
    """Why an instance ended, as the host reports it and placement learns it."""

    INIT_ERROR: Final = "init_error"
    CRASHED: Final = "crashed"
    KILLED: Final = "killed"
    SPAWN_FAILED: Final = "spawn_failed"
    PACKAGE_MISSING: Final = "package_missing"
    RUNTIME_MISSING: Final = "runtime_missing"


@message
class EventArrived:
    """A frontend sent an event to an instance under a lease."""

    frontend: FrontendId
    request: RequestId
    instance: InstanceId
    number: LeaseNumber
    timeout_s: float
    at: float


@message
class Answered:
    """The runtime answered the event it was given."""

    instance: InstanceId
    request: RequestId


@message
class LeaderFollowed:
    """This worker attaches to the placement of this epoch. From here on older orders are refused."""

    epoch: Epoch


@message
class GrantArrived:
    epoch: Epoch
    instance: InstanceId
    version: VersionKey
    memory_mb: int
    number: LeaseNumber
    frontend: FrontendId | None
    at: float
    provisioned: bool = False


@message
class EvictArrived:
    epoch: Epoch
    instance: InstanceId
    number: LeaseNumber
    reason: str


@message
class FenceArrived:
    epoch: Epoch
    instance: InstanceId
    number: LeaseNumber


@message
class InstanceReady:
    instance: InstanceId
    starting_ms: float
    init_ms: float
    restored: bool = False
    """It was forked of a snapshot."""


@message
class InstanceExited:
    """The sandbox is gone: its processes have been reaped."""

    instance: InstanceId
    reason: str
    error: bytes
    """Lambda's error JSON where the function's own initialisation failed, else empty."""


@message
class RegistrationRenewed:
    """etcd confirmed this worker's lease: the fleet counts on it until then."""

    valid_until: float


@message
class RegistrationLost:
    """etcd said that the lease is gone."""

    reason: str


@message
class StopAsked:
    """The worker is to end, once nothing runs here any more."""


@message
class Tick:
    at: float


Event = (
    EventArrived
    | Answered
    | Tick
    | RegistrationRenewed
    | GrantArrived
    | InstanceReady
    | InstanceExited
    | FenceArrived
    | EvictArrived
    | LeaderFollowed
    | RegistrationLost
    | StopAsked
)
