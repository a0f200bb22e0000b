"""What must now be done. The shell carries commands out in the order given and decides nothing."""

from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple

from lambent_proto.ids import FrontendId, InstanceId, LeaseNumber, NodeId, VersionKey
from lambent_proto.messages import message
from lambent_proto.sticky import STICKY_INSTANCE, STICKY_NODE


class Reason:
    """Why a lease was given as it was. A closed list, explained in docs/explain.md."""

    MOST_RECENTLY_USED: Final = "most_recently_used"
    PROVISIONED: Final = "provisioned"
    STICKY_INSTANCE: Final = STICKY_INSTANCE
    STICKY_NODE: Final = STICKY_NODE
    NO_INSTANCE: Final = "no_instance"
    ALL_BUSY: Final = "all_busy"
    OTHER_VERSION: Final = "other_version"
    OUT_OF_REACH: Final = "out_of_reach"


class Unmet(Enum):
    """Why a demand is not met at the moment. A closed list, explained in docs/explain.md."""

    NONE = ""
    LIMIT = "limit_reached"
    FLEET_LIMIT = "fleet_limit_reached"
    START_RATE = "start_rate"
    MEMORY = "no_memory"
    NO_NODE = "no_node"
    NO_RUNTIME = "no_node_with_runtime"
    NO_LABELS = "no_node_with_labels"
    COUNTING = "counting"
    UNKNOWN = "unknown_version"
    STARTS_FAIL = "starts_fail"


class Candidate(NamedTuple):
    """A node that a new instance could go to, and what spoke for it: `where` has the points.

    A tuple, since each start makes a few of them, which are read when somebody asks for the explanation.
    """

    node: NodeId
    points: float
    preferred: int
    """How many of the labels it has that the function prefers."""
    holds: int
    """How many instances of the function it has."""
    package: bool
    free: float
    """The share of its memory that stays free."""
    sticky: bool = False
    """The sticky key of the call that waits was served there last."""


@message
class Grant:
    """Let a worker start an instance, leased to a frontend from the beginning, or to nobody yet."""

    node: NodeId
    instance: InstanceId
    version: VersionKey
    memory_mb: int
    number: LeaseNumber
    frontend: FrontendId | None
    provisioned: bool = False


@message
class Evict:
    node: NodeId
    instance: InstanceId
    number: LeaseNumber
    reason: str


@message
class Fence:
    """Have a worker refuse all older leases on an instance and say when nothing runs there."""

    node: NodeId
    instance: InstanceId
    number: LeaseNumber


@message
class GiveLease:
    frontend: FrontendId
    instance: InstanceId
    number: LeaseNumber
    node: NodeId
    version: VersionKey
    starting: bool
    reason: str
    candidates: Sequence[Candidate] = ()
    """Of a start: the nodes compared, the one that was taken first."""


@message
class TellReady:
    frontend: FrontendId
    instance: InstanceId
    number: LeaseNumber
    starting_ms: float
    init_ms: float
    restored: bool = False


@message
class VoidLease:
    frontend: FrontendId
    instance: InstanceId
    number: LeaseNumber
    reason: str
    node_lost: bool
    error: bytes = b""


@message
class Recall:
    """Ask a frontend for so many leases of a version back. A level; 0 takes it back."""

    frontend: FrontendId
    version: VersionKey
    wanted: int


@message
class TellUnmet:
    frontend: FrontendId
    version: VersionKey
    reason: Unmet
    detail: str


Command = Grant | Evict | Fence | GiveLease | TellReady | VoidLease | Recall | TellUnmet
