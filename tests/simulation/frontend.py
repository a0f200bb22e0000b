"""A frontend in the simulation: the real core, and a shell as thin as the real one."""

from collections.abc import Callable
from typing import Any

from lambent_frontend.core import commands as do
from lambent_frontend.core import events as on
from lambent_frontend.core.call import Priority
from lambent_frontend.core.dispatcher import Dispatcher
from lambent_frontend.core.throttles import FLEET_RATE, RESERVED_RATE
from lambent_proto.ids import FrontendId, NodeId, RequestId, VersionKey
from tests.simulation.network import End, Network, Process, Wire
from tests.simulation.promises import Accepted, Promises
from tests.simulation.store import Etcd

TICK_S = 0.05
LEASE_TTL_S = 4.0

RATES = (FLEET_RATE, RESERVED_RATE)

MAX_WAITING_BYTES = 60
"""A few calls' worth of those that the world makes."""


class Frontend(Process):
    def __init__(
        self,
        net: Network,
        name: str,
        etcd: Etcd,
        promises: Promises,
        tell: Callable[..., None],
        rate_per_concurrency: float,
    ):
        super().__init__(net, name)
        self.rate_per_concurrency = rate_per_concurrency
        self.etcd = etcd
        self.promises = promises
        self.tell = tell
        self.woke_at = 0.0
        self.max_waiting = 8
        self.started()

    def started(self) -> None:
        self.id = FrontendId(f"{self.name}.{self.life}")
        self.core = Dispatcher(
            max_waiting=self.max_waiting,
            max_waiting_bytes=MAX_WAITING_BYTES,
            linger_s=0.1,
            rate_per_concurrency=self.rate_per_concurrency,
        )
        self.lease: int | None = None
        self.peers: set[str] = set()
        self.nodes: dict[NodeId, str] = {}
        self.links: dict[NodeId, Wire] = {}
        self.left: set[NodeId] = set()
        self.dialling: dict[str, float] = {}
        self.leader: tuple[str, int] | None = None
        self.control: Wire | None = None
        self.versions: dict[str, VersionKey] = {}
        self.etcd.follow(self, "node/", self._node_changed)
        self.etcd.follow(self, "leader", self._leader_changed)
        self.etcd.follow(self, "fn/", self._function_changed)
        self.etcd.follow(self, "frontend/", self._peers_changed)
        self.etcd.follow(self, "concurrency", self._concurrency_changed)
        self._stay_registered()
        self._tick()

    def _wake(self, life: int) -> None:
        self.woke_at = self.net.clock.now
        super()._wake(life)

    # What happens

    def call(
        self, function: str, request: RequestId, patience: float, rights: tuple[Priority, str, int, int]
    ) -> None:
        """`rights`: its priority, tenant, size and sticky key."""
        version = self.versions.get(function)
        if version is None:
            return  # answered NOT_FOUND before it is accepted
        now = self.net.clock.now
        self.promises.accepted(Accepted(request, version, now + patience, self, self.life, now))
        self.feed(on.InvocationArrived(request, version, now + patience, now, *rights))

    def abandon(self, request: RequestId) -> None:
        if request in self.promises.open_calls:
            self.promises.finished(request, "abandoned")
            self.feed(on.InvocationAbandoned(request, self.net.clock.now))

    def feed(self, event: on.Event) -> None:
        self.tell(self.id, "<-", event)
        for command in self.core.handle(event):
            self.tell(self.id, "->", command)
            self._carry_out(command)

    def _carry_out(self, command: do.Command) -> None:
        match command:
            case do.Dispatch():
                self.links[command.node].send(
                    self, ("event", command.request, command.instance, command.number)
                )
            case do.Unlink():
                wire = self.links.pop(command.node)
                wire.close(self)
            case do.Finish():
                if command.throttle in RATES:
                    self.promises.too_often.add(command.request)
                self.promises.finished(command.request, command.outcome.value)
            case _:
                if self.control is not None:
                    self.control.send(self, command)

    def _tick(self) -> None:
        now = self.net.clock.now
        self.feed(on.Tick(now))
        for node, worker in self.nodes.items():
            if node not in self.links and node not in self.left and now >= self.dialling.get(node, 0.0):
                self.dialling[node] = now + 0.3
                self._dial_worker(node, worker)
        if self.control is None and self.leader is not None and now >= self.dialling.get("leader", 0.0):
            self.dialling["leader"] = now + 0.3
            self._dial_leader(*self.leader)
        self.soon(TICK_S, self._tick)

    # etcd

    def _stay_registered(self) -> None:
        """Says it again and again, so that a lost answer is as good as a lost lease."""
        etcd, key, lease = self.etcd, f"frontend/{self.id}", self.lease

        def say() -> int:
            if lease is not None and etcd.keep_alive(lease, LEASE_TTL_S):
                return lease
            another = etcd.grant(LEASE_TTL_S)
            etcd.put(key, "", another)
            return another

        def said(lease: int) -> None:
            self.lease = lease

        etcd.ask(self, say, said)
        self.soon(LEASE_TTL_S / 4, self._stay_registered)

    def _peers_changed(self, kind: str, key: str, value: Any) -> None:
        (self.peers.add if kind == "put" else self.peers.discard)(key)
        self.feed(on.FrontendsCounted(len(self.peers | {f"frontend/{self.id}"})))

    def _concurrency_changed(self, kind: str, key: str, value: Any) -> None:
        self.feed(on.ConcurrencySet(value))

    def _node_changed(self, kind: str, key: str, value: Any) -> None:
        node = NodeId(key.removeprefix("node/"))
        if kind == "put":
            self.nodes[node] = value[0]
        else:
            self.nodes.pop(node, None)

    def _leader_changed(self, kind: str, key: str, value: Any) -> None:
        if kind == "put" and (self.leader is None or value[1] > self.leader[1]):
            self.leader = value
            if self.control is not None:
                wire, self.control = self.control, None
                wire.close(self)
                self.feed(on.PlacementLost())
            self.dialling.pop("leader", None)

    def _function_changed(self, kind: str, key: str, value: Any) -> None:
        function = key.removeprefix("fn/")
        old = self.versions.get(function)
        version, limit = value[0], value[1]
        self.versions[function] = version
        if old is None or old == version:
            self.feed(on.VersionDefined(version, limit))
        else:
            self.feed(on.VersionReplaced(old, version, limit, self.net.clock.now))

    # Connections

    def _dial_worker(self, node: NodeId, worker: str) -> None:
        process: Any = self.net.processes[worker]

        def opened(wire: Wire) -> None:
            if node in self.links:
                wire.close(self)
                return
            self.links[node] = wire
            self.feed(on.LinkUp(node))
            if node in self.left:
                self.feed(on.WorkerLeaves(node, self.net.clock.now))

        def lost(wire: Wire) -> None:
            if self.links.get(node) is wire:
                del self.links[node]
                self.feed(on.LinkDown(node, self.net.clock.now))

        self.net.dial(
            End(self, opened, self._from_worker, lost), process, lambda: process.accept_link(node, self.id)
        )

    def _from_worker(self, wire: Wire, message: Any) -> None:
        now = self.net.clock.now
        match message:
            case ("answer", request, instance):
                self.feed(on.EventAnswered(instance, request, now))
            case ("refused", request, instance, reason):
                self.feed(on.EventRefused(instance, request, reason, now))
            case ("lost", request, instance, reason):
                self.feed(on.EventLost(instance, request, reason, now))
            case ("ready", instance, number, starting_ms, init_ms):
                self.feed(on.LeaseReady(instance, number, starting_ms, init_ms, now))
            case ("bye", node):
                self.left.add(node)
                self.feed(on.WorkerLeaves(node, now))
            case _:
                raise AssertionError(f"no worker says {message}")

    def _dial_leader(self, name: str, epoch: int) -> None:
        process: Any = self.net.processes[name]

        def opened(wire: Wire) -> None:
            if self.control is not None or self.leader is None or self.leader[1] != epoch:
                wire.close(self)
                return
            self.control = wire
            self.feed(on.PlacementAttached(self.net.clock.now))

        def lost(wire: Wire) -> None:
            if self.control is wire:
                self.control = None
                self.feed(on.PlacementLost())

        self.net.dial(
            End(self, opened, self._from_placement, lost),
            process,
            lambda: process.accept_frontend(epoch, self.id),
        )

    def _from_placement(self, wire: Wire, message: Any) -> None:
        if wire is self.control:
            at = self.net.clock.now
            match message:
                case ("lease", instance, number, node, version, starting, reason):
                    self.feed(on.LeaseGiven(instance, number, node, version, starting, reason, at))
                case ("ready", instance, number, starting_ms, init_ms):
                    self.feed(on.LeaseReady(instance, number, starting_ms, init_ms, at))
                case ("void", instance, number, reason, node_lost, error):
                    self.feed(on.LeaseVoided(instance, number, reason, node_lost, error, at))
                case ("recall", version, wanted):
                    self.feed(on.RecallAsked(version, wanted, at))
                case ("unmet", version, reason, detail):
                    self.feed(on.UnmetTold(version, reason, detail, at))
                case _:
                    raise AssertionError(f"no placement says {message}")
