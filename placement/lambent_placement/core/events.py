"""What has happened, as the leading placement sees it. Times are monotonic seconds of its own clock."""

from lambent_proto.ids import FrontendId, FunctionName, InstanceId, LeaseNumber, NodeId, VersionKey
from lambent_proto.messages import message


@message
class FunctionDefined:
    """A version of a function is there from now on: a published one, or `$LATEST` in a new revision.

    Instances of what its name stood for before are of no use any more.
    """

    function: FunctionName
    version: VersionKey
    memory_mb: int
    reserved: int | None
    """Most instances over the whole fleet, which it has for itself; None: it shares what nobody reserves."""
    runtime: str
    at: float
    package: str = ""
    """What its instances need on a node: its code and its layers."""
    require: frozenset[str] = frozenset()
    """Labels, each `key=value`, without which a node is not taken."""
    prefer: frozenset[str] = frozenset()
    apart: bool = False
    """Its instances are kept on different nodes, as far as that goes."""


@message
class NodeDraining:
    """A node, by its name, is to be emptied, or no longer is; it need not be there."""

    name: str
    draining: bool
    at: float


@message
class NodeLeaving:
    """A worker was told to end, and asks for its instances to be moved away. Nothing takes it back: one that
    is started again is another node."""

    node: NodeId
    at: float


@message
class ConcurrencySet:
    """How many instances may run at one time in the whole fleet."""

    concurrency: int
    at: float
    elsewhere: int = 0
    """What functions of other shards reserve of it."""


@message
class VersionRemoved:
    """A published version was deleted."""

    version: VersionKey
    at: float


@message
class ProvisionedSet:
    """So many instances of a version are to be ready from now on."""

    version: VersionKey
    count: int
    at: float


@message
class FunctionRemoved:
    """With all its versions."""

    function: FunctionName
    at: float


@message
class NodeRegistered:
    """A worker's key appeared in etcd: instances may exist there until it is gone again."""

    node: NodeId
    memory_mb: int
    runtimes: frozenset[str] = frozenset()
    """Names of those that it can run; empty from a worker of an older release, which runs any Python."""
    labels: frozenset[str] = frozenset()
    """Each `key=value`."""


@message
class NodeExpired:
    """A worker's key is gone from etcd: so are all its instances, it has seen to that itself."""

    node: NodeId
    at: float


@message
class Reported:
    """One instance in a worker's own report."""

    instance: InstanceId
    version: VersionKey
    memory_mb: int
    state: str
    """starting, idle, busy or stopping."""
    number: LeaseNumber
    frontend: FrontendId | None
    provisioned: bool = False


@message
class NodeReported:
    """A worker opened its stream and said all that runs there."""

    node: NodeId
    memory_mb: int
    instances: list[Reported]
    at: float
    leaving: bool = False
    """It was told to end."""


@message
class NodeDisconnected:
    """A worker's stream broke. It may be dead, or only out of reach: its instances still count."""

    node: NodeId
    at: float


@message
class InstanceReady:
    instance: InstanceId
    starting_ms: float
    init_ms: float
    at: float
    restored: bool = False
    """It was forked of a snapshot: of interest to who explains calls alone."""


@message
class InstanceGone:
    instance: InstanceId
    reason: str
    error: bytes
    """Lambda's error JSON when the function's own initialisation failed, else empty."""
    at: float


@message
class InstanceFreed:
    """Answers a fence. With `busy` an event still runs, and another answer follows."""

    instance: InstanceId
    number: LeaseNumber
    busy: bool
    at: float


@message
class GrantRefused:
    instance: InstanceId
    reason: str
    at: float


@message
class Wish:
    """How many instances of a version a frontend could use in all."""

    version: VersionKey
    wanted: int
    oldest_wait_s: float
    keys: tuple[int, ...] = ()
    """Sticky keys of the calls that have waited longest."""


@message
class FrontendAttached:
    """A frontend opened its stream and said all it holds, wants and can reach."""

    frontend: FrontendId
    leases: list[tuple[InstanceId, LeaseNumber]]
    wishes: list[Wish]
    links: list[NodeId]
    at: float


@message
class FrontendDetached:
    """A frontend's stream broke. It may be dead, or still serving with the leases it has."""

    frontend: FrontendId
    at: float


@message
class Demanded:
    frontend: FrontendId
    wish: Wish
    at: float


@message
class Released:
    frontend: FrontendId
    leases: list[tuple[InstanceId, LeaseNumber]]
    sure: bool
    """False: an event of the frontend's may still run there."""
    at: float


@message
class KeysServed:
    """Which sticky keys instances that a frontend holds have served of late."""

    frontend: FrontendId
    calls: list[tuple[InstanceId, int]]
    at: float


@message
class Recalled:
    """Answers a recall at once, with what was idle."""

    frontend: FrontendId
    version: VersionKey
    leases: list[tuple[InstanceId, LeaseNumber]]
    at: float


@message
class LinkChanged:
    """A frontend's data connection to a worker came up or broke; broken, its leases there are void."""

    frontend: FrontendId
    node: NodeId
    up: bool
    at: float


@message
class Tick:
    at: float


Event = (
    Demanded
    | Released
    | Tick
    | InstanceReady
    | InstanceGone
    | InstanceFreed
    | GrantRefused
    | KeysServed
    | Recalled
    | LinkChanged
    | FrontendAttached
    | FrontendDetached
    | NodeRegistered
    | NodeReported
    | NodeDisconnected
    | NodeExpired
    | FunctionDefined
    | VersionRemoved
    | ProvisionedSet
    | FunctionRemoved
    | ConcurrencySet
    | NodeDraining
    | NodeLeaving
)
