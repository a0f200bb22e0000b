"""The waiting line and the leases of one function version: what a frontend holds and what it still needs."""

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum

from lambent_proto.ids import InstanceId, LeaseNumber, NodeId, RequestId, VersionKey


class Hold(Enum):
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"


@dataclass(slots=True, eq=False)
class Lease:
    """The right to send one event at a time to one instance."""

    instance: InstanceId
    number: LeaseNumber
    node: NodeId
    version: VersionKey
    hold: Hold
    reason: str
    ready_at: float = 0.0
    fresh: bool = False
    """No event of anybody's has run there yet."""
    served: bool = False
    """An event has been sent under it."""
    starting_ms: float = 0.0
    init_ms: float = 0.0
    restored: bool = False
    request: RequestId | None = None
    idle_since: float = 0.0
    void: bool = False
    """Ended while an event runs: the answer is still welcome, another event must not follow."""


@dataclass(slots=True, eq=False)
class Call:
    """One accepted invocation that has no outcome yet."""

    request: RequestId
    version: VersionKey
    deadline: float
    arrived_at: float
    running_on: InstanceId | None = None
    waited_for: str = ""


@dataclass(slots=True, eq=False)
class Line:
    """All that a frontend knows of one version."""

    version: VersionKey
    limit: int | None = None
    removed: bool = False
    waiting: OrderedDict[RequestId, Call] = field(default_factory=OrderedDict)
    idle: list[Lease] = field(default_factory=list)
    """Idle leases, most recently used last."""
    held: int = 0
    """Leases in any state, void ones excepted: what placement counts as given."""
    busy: int = 0
    """Busy ones among them."""
    told: int = 0
    """What placement was last told that we could use."""
    told_at: float = 0.0
    peak: int = 0
    """The most that we could use at any moment since the last tick."""
    owed: int = 0
    """How many leases placement wants back."""
    unmet: str = ""
    unmet_detail: str = ""

    @property
    def wanted(self) -> int:
        return self.busy + len(self.waiting)

    @property
    def unused(self) -> bool:
        """Nothing is held, waits, or was told to placement: the line can be made anew when it is needed."""
        return not (self.held or self.waiting or self.told or self.owed)

    def oldest_wait_s(self, at: float) -> float:
        for call in self.waiting.values():
            return max(0.0, at - call.arrived_at)
        return 0.0
