"""The waiting line and the leases of one function version: what a frontend holds and what it still needs."""

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from lambent_frontend.core.turns import InOrder, Turns
from lambent_proto.ids import InstanceId, LeaseNumber, NodeId, RequestId, VersionKey

RUNS: Final = 32
"""How many calls the mean time of a run is taken of, about: the last ones count most."""

STUCK: Final = ("limit_reached", "fleet_limit_reached", "no_memory")
"""What placement says of a line that can have no more instances until others give some up."""


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
    since: float = 0.0
    """When it became idle, or its event was sent."""
    void: bool = False
    """Ended while an event runs: the answer is still welcome, another event must not follow."""


@dataclass(slots=True, eq=False)
class Line:
    """All that a frontend knows of one version."""

    version: VersionKey
    limit: int | None = None
    removed: bool = False
    waiting: InOrder = field(default_factory=OrderedDict)
    """All that wait, the oldest first. `turns` has the same calls in the order in which they are served."""
    turns: Turns = field(default_factory=Turns)
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
    most: int = 0
    """The most leases held at any moment since placement says that there can be no more."""
    grew_at: float = 0.0
    """When it was last one more, or since when placement says so."""
    runs: int = 0
    """Calls that have ended while others waited, counted up to RUNS."""
    run_s: float = 0.0
    """How long such a call ran, in the mean."""

    @property
    def wanted(self) -> int:
        return self.busy + len(self.waiting)

    @property
    def unused(self) -> bool:
        """Nothing is held, waits, or was told to placement: the line can be made anew when it is needed."""
        return not (self.held or self.waiting or self.told or self.owed)

    @property
    def is_stuck(self) -> bool:
        return self.unmet in STUCK

    def tell_unmet(self, reason: str, detail: str, at: float) -> None:
        if not (self.is_stuck and reason in STUCK):
            self.most, self.grew_at = self.held, at
        self.unmet, self.unmet_detail = reason, detail

    def ran(self, seconds: float) -> None:
        self.runs = min(self.runs + 1, RUNS)
        self.run_s += (seconds - self.run_s) / self.runs

    def oldest_wait_s(self, at: float) -> float:
        for call in self.waiting.values():
            return max(0.0, at - call.arrived_at)
        return 0.0
