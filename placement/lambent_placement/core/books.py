"""What placement knows: every instance, node and frontend, and the counts and indexes over them.

The books decide nothing. Each change goes through one method here, which keeps all counts and indexes in
step, so that none of them can drift from another.
"""

from dataclasses import dataclass, field
from typing import Final

from lambent_placement.core.keep import Fixed, Keep
from lambent_placement.core.limits import STARTS, Pool, StartRate
from lambent_placement.core.node_index import NodeIndex
from lambent_placement.core.records import (
    FENCING,
    IDLE,
    LEASED,
    STOPPING,
    Frontend,
    Function,
    Instance,
    Node,
    State,
    Version,
    Wanted,
)
from lambent_proto.ids import (
    FrontendId,
    FunctionName,
    InstanceId,
    LeaseNumber,
    NodeId,
    VersionKey,
    function_of,
    node_name,
    qualifier_of,
)
from lambent_proto.sticky import Served

REMEMBERED: Final = 16
"""Nodes that are known to have a function's package."""


@dataclass(slots=True)
class Books:
    instances: dict[InstanceId, Instance] = field(default_factory=dict)
    nodes: dict[NodeId, Node] = field(default_factory=dict)
    index: NodeIndex = field(init=False)
    keep: Keep = field(init=False)
    """The policy for what idles, told here so that its notes are in step with the indexes."""
    idle: dict[InstanceId, Instance] = field(default_factory=dict)
    """Of the whole fleet: ready and leased to nobody, most recently used last."""
    idle_mb: int = 0
    """Memory of all that is ready and leased to nobody, provisioned or not."""
    unreported: int = 0
    """How many instances may exist on workers that have not reported to this leader yet."""
    frontends: dict[FrontendId, Frontend] = field(default_factory=dict)
    functions: dict[FunctionName, Function] = field(default_factory=dict)
    versions: dict[VersionKey, Version] = field(default_factory=dict)
    packages: dict[str, dict[NodeId, None]] = field(default_factory=dict)
    """Nodes on which an instance with a package was ready, by package; the last of them last."""
    needy: dict[VersionKey, None] = field(default_factory=dict)
    """Versions whose demand may not be met: looked at whenever something becomes free."""
    asked: dict[InstanceId, Instance] = field(default_factory=dict)
    """What workers were asked to free, and may not have answered yet."""
    draining: set[str] = field(default_factory=set)
    """Names of nodes that are to be emptied, there or not."""
    emptied: dict[NodeId, Node] = field(default_factory=dict)
    """Those that are there, and those whose workers will end."""
    expired: set[NodeId] = field(default_factory=set)
    """Registrations that are over for good. A restarted worker is another node, so none comes back."""
    room_for: dict[InstanceId, VersionKey] = field(default_factory=dict)
    """Instances that are being evicted so that another version can start."""
    provisioned: dict[VersionKey, Version] = field(default_factory=dict)
    """Versions that are to have instances ready."""
    served: Served = field(default_factory=Served)
    """Who served each sticky key last."""
    pool: Pool = field(default_factory=Pool)
    pack: bool = False
    """New instances go to the fullest nodes rather than to the emptiest."""
    starts: int = STARTS
    """How many instances a function may start in ten seconds."""

    def __post_init__(self) -> None:
        self.index = NodeIndex()
        self.keep = Fixed(self)

    def node(self, node_id: NodeId, memory_mb: int) -> Node:
        found = self.nodes.get(node_id)
        if found is None:
            draining = node_name(node_id) in self.draining
            found = self.nodes[node_id] = Node(node_id, memory_mb)
            self.change_node(found, draining=draining)
        return found

    def change_node(
        self,
        node: Node,
        *,
        registered: bool | None = None,
        connected: bool | None = None,
        reported: bool | None = None,
        draining: bool | None = None,
        leaving: bool | None = None,
        runtimes: frozenset[str] | None = None,
        labels: frozenset[str] | None = None,
    ) -> None:
        """The one way to change its part in the fleet; what is not given stays."""
        self._count(node, -1)
        node.registered = node.registered if registered is None else registered
        node.connected = node.connected if connected is None else connected
        node.reported = node.reported if reported is None else reported
        node.draining = node.draining if draining is None else draining
        node.leaving = node.leaving if leaving is None else leaving
        node.runtimes = node.runtimes if runtimes is None else runtimes
        node.labels = node.labels if labels is None else labels
        node.is_open = node.registered and node.connected and not node.is_emptied
        self._count(node, 1)
        self.index.update(node)
        if node.is_emptied:
            self.emptied[node.id] = node
        else:
            self.emptied.pop(node.id, None)

    def _count(self, node: Node, by: int) -> None:
        if node.registered:
            self.index.registered[node.runtimes, node.labels] += by
            self.unreported += 0 if node.reported else by * node.most_instances

    def forget_node(self, node: Node) -> None:
        """Nothing runs there any more."""
        self.change_node(node, registered=False, connected=False)
        del self.nodes[node.id]
        self.emptied.pop(node.id, None)

    def limit(self, function: Function) -> int:
        """The most instances that may exist of a function."""
        return self.pool.size + function.provisioned if function.reserved is None else function.reserved

    def reserve(self, function: Function, reserved: int | None) -> None:
        """Its running instances count where it belongs from here on."""
        self._share(function, -1)
        function.reserved = reserved
        self._share(function, 1)

    def provision(self, version: Version, count: int) -> None:
        """So many of its instances are to be ready from here on."""
        function = version.function
        self._share(function, -1)
        function.beyond -= version.beyond
        function.provisioned += count - version.provisioned
        version.provisioned = count
        function.beyond += version.beyond
        self._share(function, 1)
        if count:
            self.provisioned[version.key] = version
        else:
            self.provisioned.pop(version.key, None)

    def _share(self, function: Function, by: int) -> None:
        """What the function takes from the pool, running or set aside."""
        if function.reserved is None:
            self.pool.used += by * function.beyond
            self.pool.reserved += by * function.provisioned
        else:
            self.pool.reserved += by * function.reserved
        self.pool.resize()

    def function(self, name: FunctionName) -> Function:
        found = self.functions.get(name)
        if found is None:
            found = self.functions[name] = Function(name, rate=StartRate(self.starts))
        return found

    def version(self, key: VersionKey) -> Version:
        found = self.versions.get(key)
        if found is None:
            function = self.function(function_of(key))
            found = self.versions[key] = function.versions[key] = Version(key, function)
        return found

    def forget_version(self, version: Version) -> None:
        """Nothing is left of it."""
        del self.versions[version.key]
        del version.function.versions[version.key]

    def make_current(self, version: Version) -> None:
        """From here on it is what its name stands for; what was it before is not."""
        before = version.function.current.get(qualifier_of(version.key))
        if before is not None:
            before.current = False
        version.current = True
        version.function.current[qualifier_of(version.key)] = version

    def make_past(self, version: Version) -> None:
        """It is not called any more."""
        if version.current:
            version.current = False
            del version.function.current[qualifier_of(version.key)]

    def has_package(self, package: str, node: NodeId) -> None:
        had = self.packages.setdefault(package, {})
        had.pop(node, None)
        had[node] = None
        if len(had) > REMEMBERED:
            del had[next(iter(had))]

    def frontend(self, frontend: FrontendId) -> Frontend:
        found = self.frontends.get(frontend)
        if found is None:
            found = self.frontends[frontend] = Frontend(frontend)
        return found

    def wanted(self, version: Version, frontend: FrontendId) -> Wanted:
        found = version.wanted.get(frontend)
        if found is None:
            found = version.wanted[frontend] = Wanted()
        return found

    def add(self, instance: Instance, version: Version) -> None:
        """A new instance counts from here on, on its node and for its version and function."""
        name, node, function = instance.id, self.nodes[instance.node], version.function
        self.instances[name] = node.instances[name] = function.instances[name] = instance
        function.nodes[node.id] = function.nodes.pop(node.id, 0) + 1
        version.count += 1
        node.used_mb += instance.memory_mb
        self.index.reorder(node)
        self._enter(instance, version)

    def remove(self, instance: Instance) -> None:
        version = self.version(instance.version)
        self._leave(instance, version)
        self._runs(instance, version, False)
        del self.instances[instance.id]
        node = self.nodes[instance.node]
        del node.instances[instance.id]
        node.used_mb -= instance.memory_mb
        self.index.reorder(node)
        version.count -= 1
        function = version.function
        del function.instances[instance.id]
        function.nodes[node.id] -= 1
        if not function.nodes[node.id]:
            del function.nodes[node.id]
        self._make_no_room(instance)
        self.asked.pop(instance.id, None)

    def expect(self, instance: Instance, at: float) -> None:
        """It will be free in a moment: its worker has been asked."""
        instance.asked_at = at
        self.asked[instance.id] = instance

    def expect_no_more(self, instance: Instance) -> None:
        """Nobody knows when it will be free: it is no longer on its way to anybody."""
        self.asked.pop(instance.id, None)
        if instance.state is FENCING:
            self.change(instance, FENCING, busy=True)
        self._make_no_room(instance)

    def _make_no_room(self, instance: Instance) -> None:
        favoured = self.room_for.pop(instance.id, None)
        if favoured is not None:
            self.version(favoured).making_room -= 1

    def change(
        self,
        instance: Instance,
        state: State,
        *,
        frontend: FrontendId | None = None,
        number: LeaseNumber | None = None,
        ready: bool | None = None,
        busy: bool = False,
        idle_since: float | None = None,
    ) -> None:
        """The one way from one state to another; what is not given stays, the holder excepted."""
        version = self.version(instance.version)
        self._leave(instance, version)
        instance.state = state
        instance.frontend = frontend
        instance.busy = busy
        if number is not None:
            instance.number = number
        if ready is not None:
            instance.ready = ready
        if idle_since is not None:
            instance.idle_since = idle_since
        self._enter(instance, version)

    def _enter(self, instance: Instance, version: Version) -> None:
        state = instance.state
        if state is not STOPPING:
            self._runs(instance, version, state is not IDLE)
            if instance.provisioned:
                version.marked[instance.id] = instance
        if state is LEASED:
            if (holder := instance.frontend) is not None:
                wanted = version.wanted.get(holder) or self.wanted(version, holder)
                wanted.held += 1
                self.frontend(holder).held[instance.id] = instance
        elif state is IDLE:
            if instance.ready:
                self.idle_mb += instance.memory_mb
                for index in self._idle_indexes(instance, version):
                    index[instance.id] = instance
                if not instance.provisioned:
                    self.keep.idles(instance)
        elif state is FENCING and not instance.busy:
            version.fencing += 1

    def _leave(self, instance: Instance, version: Version) -> None:
        state = instance.state
        version.marked.pop(instance.id, None)
        if state is LEASED:
            if instance.frontend is not None:
                self.wanted(version, instance.frontend).held -= 1
                self.frontend(instance.frontend).held.pop(instance.id, None)
                self.needy[instance.version] = None  # its holder may want another one
        elif state is IDLE:
            for index in self._idle_indexes(instance, version):
                index.pop(instance.id, None)
            if instance.ready:
                self.idle_mb -= instance.memory_mb
                if not instance.provisioned:
                    self.keep.idles_no_more(instance)
        elif state is FENCING and not instance.busy:
            version.fencing -= 1

    def mark(self, instance: Instance, provisioned: bool) -> None:
        """One more of those that its version is to have ready, or one less."""
        version = self.version(instance.version)
        self._leave(instance, version)
        instance.provisioned = provisioned
        if not provisioned and instance.state is State.IDLE and instance.ready:
            youngest = next(reversed(self.idle.values()), instance)  # it goes behind that one
            instance.idle_since = max(instance.idle_since, youngest.idle_since)
        self._enter(instance, version)

    def _runs(self, instance: Instance, version: Version, running: bool) -> None:
        if running == instance.running:
            return
        instance.running = running
        function, change = version.function, 1 if running else -1
        beyond = version.running + running > version.provisioned
        version.running += change
        function.running += change
        function.calls += running
        if beyond:  # it is one of those that are not provisioned for
            function.beyond += change
            if function.reserved is None:
                self.pool.used += change

    def _idle_indexes(self, instance: Instance, version: Version) -> tuple[dict[InstanceId, Instance], ...]:
        if instance.provisioned:
            return (version.kept,)
        return version.idle, self.idle, self.nodes[instance.node].idle, version.function.idle
