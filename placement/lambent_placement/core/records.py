"""What placement knows of one instance, node, frontend, function or version. `books` alone changes them."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from lambent_placement.core.limits import StartRate
from lambent_proto.ids import (
    MIN_MEMORY_MB,
    FrontendId,
    FunctionName,
    InstanceId,
    LeaseNumber,
    NodeId,
    VersionKey,
)
from lambent_proto.runtimes import runs


class State(Enum):
    IDLE = "idle"
    """Nobody holds it: in the warm index, or still starting for nobody."""
    LEASED = "leased"
    FENCING = "fencing"
    """Taken from a holder that could not be asked; the worker will say when nothing runs there."""
    STOPPING = "stopping"


IDLE: Final = State.IDLE
LEASED: Final = State.LEASED
FENCING: Final = State.FENCING
STOPPING: Final = State.STOPPING
"""By themselves too, for the books: by way of its Enum a member takes ten times as long to read."""


@dataclass(slots=True, eq=False)
class Instance:
    id: InstanceId
    version: VersionKey
    node: NodeId
    memory_mb: int
    number: LeaseNumber
    state: State
    frontend: FrontendId | None = None
    """Who holds its lease while it is LEASED."""
    ready: bool = False
    busy: bool = False
    """FENCING only: the worker said that an event still runs."""
    running: bool = False
    """Somebody holds it, or held it when it was told to stop: an event may run there."""
    idle_since: float = 0.0
    stop_reason: str = ""
    provisioned: bool = False
    """One of those that its version is to have ready: it does not give way, and does not grow old."""
    relieved: bool = False
    """Its node drains, and it is to go: its stand-in is ready, or there can be none."""
    asked_at: float = 0.0
    """When its worker was last asked to fence or to stop it."""


@dataclass(slots=True, eq=False)
class Node:
    id: NodeId
    memory_mb: int
    runtimes: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    """Each `key=value`."""
    registered: bool = False
    """Its key is in etcd."""
    connected: bool = False
    """Its stream to this leader stands."""
    reported: bool = False
    """It has said once to this leader what runs there; all since then was granted by this leader."""
    draining: bool = False
    """Its name is to be emptied."""
    leaving: bool = False
    """Its worker will end."""
    is_open: bool = False
    """It may be given new instances, if it has the memory. Kept by `Books.change_node`."""
    used_mb: int = 0
    instances: dict[InstanceId, Instance] = field(default_factory=dict)
    idle: dict[InstanceId, Instance] = field(default_factory=dict)
    """Ready and leased to nobody, most recently used last."""
    refused_until: float = 0.0
    """No grants before then: it has just refused one."""

    @property
    def is_emptied(self) -> bool:
        """What runs there is moved away."""
        return self.draining or self.leaving

    @property
    def free_mb(self) -> int:
        return self.memory_mb - self.used_mb

    @property
    def most_instances(self) -> int:
        """How many instances could exist there at the most, whoever granted them."""
        return self.memory_mb // MIN_MEMORY_MB


@dataclass(slots=True, eq=False)
class Asked:
    """An open recall: how many leases a frontend was asked for, and when it last answered."""

    wanted: int
    sent_at: float
    answered: bool = False
    for_others: bool = False
    """It is another function that is to run instead: what its own version misses says nothing of it."""


@dataclass(slots=True, eq=False)
class Wanted:
    """A frontend's demand for one version, and how much of it is met."""

    wanted: int = 0
    oldest_at: float = 0.0
    """When its oldest waiting call began to wait."""
    held: int = 0
    unmet: str = ""
    """The last reason told, with its detail: said again only when it changes."""
    recall: Asked | None = None
    keys: tuple[int, ...] = ()
    """Sticky keys of the calls that have waited longest; one less with each instance given."""

    @property
    def missing(self) -> int:
        return self.wanted - self.held if self.wanted > self.held else 0


@dataclass(slots=True, eq=False)
class Frontend:
    id: FrontendId
    attached: bool = False
    """Its stream to this leader stands."""
    reclaim_at: float = 0.0
    """Not attached: from when on its leases may be taken back for others who wait."""
    forget_at: float = 0.0
    """Not attached: when its leases are taken back in any case."""
    links: set[NodeId] = field(default_factory=set)
    held: dict[InstanceId, Instance] = field(default_factory=dict)
    claims: dict[InstanceId, LeaseNumber] = field(default_factory=dict)
    """Leases it says it holds on instances that no worker has reported yet."""


@dataclass(slots=True, eq=False)
class Function:
    name: FunctionName
    instances: dict[InstanceId, Instance] = field(default_factory=dict)
    """Of all its versions, in any state: these are what its limit limits."""
    idle: dict[InstanceId, Instance] = field(default_factory=dict)
    """Of all its versions: ready and leased to nobody, most recently used last."""
    current: dict[str, "Version"] = field(default_factory=dict)
    """What may be called of it, by version; empty if it does not exist (any more), or is not known yet."""
    versions: dict[VersionKey, "Version"] = field(default_factory=dict)
    """All that the books know of it, current or not."""
    nodes: dict[NodeId, int] = field(default_factory=dict)
    """How many of its instances each node has; the node of the newest one last."""
    reserved: int | None = None
    """What it has for itself, and its limit; None: it shares the pool. Changed by `Books.reserve` alone."""
    running: int = 0
    """Its running instances."""
    provisioned: int = 0
    """How many its versions are to have ready together."""
    beyond: int = 0
    """Of its running instances those of each version above what is provisioned: they take from the pool."""
    turn: int = 0
    """When it was last given one, as leases are counted."""
    calls: int = 0
    """How often one of its instances was taken up."""
    start_ms: float = 0.0
    """What its last start took; 0 until one is seen."""
    rate: StartRate = field(default_factory=StartRate)
    failures: int = 0
    """Starts that failed through no fault of the function's, in a row."""
    start_after: float = 0.0


@dataclass(slots=True, eq=False)
class Version:
    key: VersionKey
    function: Function
    current: bool = False
    """It is what its name stands for: the published version, or the newest revision of `$LATEST`."""
    memory_mb: int = 0
    runtime: str = ""
    package: str = ""
    """What its instances need on a node: its code and its layers."""
    require: frozenset[str] = frozenset()
    """Labels, without which a node is not taken."""
    prefer: frozenset[str] = frozenset()
    apart: bool = False
    """The function's instances are kept on different nodes, as far as that goes."""
    idle: dict[InstanceId, Instance] = field(default_factory=dict)
    """Ready and leased to nobody, most recently used last."""
    kept: dict[InstanceId, Instance] = field(default_factory=dict)
    """The provisioned ones among those that are ready and leased to nobody, most recently used last."""
    count: int = 0
    """Its instances, in any state."""
    running: int = 0
    provisioned: int = 0
    """How many it is to have ready. Changed by `Books.provision` alone."""
    marked: dict[InstanceId, Instance] = field(default_factory=dict)
    """Its provisioned instances that are not being stopped."""
    provision_after: float = 0.0
    """No more are started before then: the last one failed."""
    provision_failures: int = 0
    provision_error: str = ""
    """Why it failed; empty once one is ready."""
    fencing: int = 0
    """FENCING ones that are not known to be busy: they will be free in a moment."""
    making_room: int = 0
    """Evictions under way in favour of this version."""
    wanted: dict[FrontendId, Wanted] = field(default_factory=dict)

    @property
    def beyond(self) -> int:
        """How many of its instances run that are not provisioned for."""
        return self.running - self.provisioned if self.running > self.provisioned else 0

    def may_be_on(self, node: Node) -> bool:
        return runs(node.runtimes, self.runtime) and self.require <= node.labels
