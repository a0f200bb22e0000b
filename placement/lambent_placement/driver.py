"""The only caller of placement's core: what the parts say in, what they are told out.

One driver is one leadership: it is made when this process begins to lead and thrown away when it stops.
Nothing here awaits, so nothing comes between an event and what follows from it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, assert_never

import structlog

from lambent_chassis.clock import monotonic_s
from lambent_chassis.duplex import Outbox
from lambent_placement.core import commands as do
from lambent_placement.core import events as on
from lambent_placement.core.scheduler import Scheduler
from lambent_placement.core.tally import Tally
from lambent_placement.shadow import ShadowRun
from lambent_proto import concurrency
from lambent_proto.definition import Definition
from lambent_proto.ids import Epoch, FrontendId, FunctionName, InstanceId, NodeId, VersionKey
from lambent_proto.internal import control_pb2 as wire
from lambent_proto.registrations import Worker

TICK_S: Final = 0.05

FrontendOutbox = Outbox[wire.FrontendOrder]
WorkerOutbox = Outbox[wire.WorkerOrder]


@dataclass(slots=True)
class Leading:
    """What this leadership rests on."""

    epoch: Epoch
    valid_until: Callable[[], float]
    """Monotonic seconds: until then nobody else can lead."""


class Driver:
    def __init__(
        self,
        leading: Leading,
        core: Scheduler,
        shadow: ShadowRun | None = None,
        tally: Tally | None = None,
    ) -> None:
        """`tally` counts what is decided, over several leaderships of one process."""
        self.core = core
        self._tally = tally or Tally()
        self.shadow = shadow
        """A second policy that sees all that the core does; None: there is none."""
        self.workers: dict[NodeId, Worker] = {}
        """The registrations, for people to read."""
        self.over = False
        """The leadership has run out, or a fault was met: nothing more is decided."""
        self._concurrency = concurrency.DEFAULT
        self._elsewhere = 0
        self._leading = leading
        self._definitions: dict[VersionKey, bytes] = {}
        self._names: dict[FunctionName, dict[str, VersionKey]] = {}
        self._frontends: dict[FrontendId, FrontendOutbox] = {}
        self._nodes: dict[NodeId, WorkerOutbox] = {}
        self._log = structlog.get_logger()

    def feed(self, event: on.Event) -> None:
        """Asks with every event whether we still lead: a paused leader wakes up to a queue of messages."""
        now = monotonic_s()
        if self.over or now >= self._leading.valid_until():
            self.over = True
            return
        try:
            commands = self.core.handle(event)
            for command in commands:
                self._carry_out(command)
        except BaseException:
            self.over = True  # the books may be half changed: another leader reads them anew
            raise
        self._tally.count(commands, self.core.books.idle_mb, now)
        if self.shadow is not None:
            self.shadow.take(event, commands, self.core.books)

    def lease_left_s(self) -> float:
        """How long this leadership lasts if etcd says nothing more."""
        return max(0.0, self._leading.valid_until() - monotonic_s())

    def tick(self) -> None:
        self.feed(on.Tick(monotonic_s()))

    # Definitions and registrations

    def define(self, definition: Definition, concurrency: int | None) -> None:
        """A version of a function; its concurrency is the function's, as `$LATEST` has it."""
        self._forget(definition.name, definition.version)
        self._names.setdefault(definition.name, {})[definition.version] = definition.key
        self._definitions[definition.key] = definition.encode()
        self.feed(
            on.FunctionDefined(
                definition.name,
                definition.key,
                definition.memory_mb,
                concurrency,
                definition.runtime,
                monotonic_s(),
                definition.package,
                frozenset(definition.require),
                frozenset(definition.prefer),
                definition.apart,
            )
        )

    def undefine(self, name: FunctionName) -> None:
        for version in list(self._names.get(name, {})):
            self._forget(name, version)
        self.feed(on.FunctionRemoved(name, monotonic_s()))

    def undefine_version(self, name: FunctionName, version: str) -> None:
        key = self._forget(name, version)
        if key is not None:
            self.feed(on.VersionRemoved(key, monotonic_s()))

    def _forget(self, name: FunctionName, version: str) -> VersionKey | None:
        key = self._names.get(name, {}).pop(version, None)
        if key is not None:
            self._definitions.pop(key, None)
        return key

    def provision(self, version: VersionKey, count: int) -> None:
        self._log.info("provisioned", version=version, count=count)
        self.feed(on.ProvisionedSet(version, count, monotonic_s()))

    def drain(self, name: str, draining: bool) -> None:
        """Of a node, by its name."""
        self._log.info("draining" if draining else "not_draining", node=name)
        self.feed(on.NodeDraining(name, draining, monotonic_s()))

    def set_concurrency(self, fleet: int) -> None:
        """Of the whole fleet."""
        self._log.info("concurrency", fleet=fleet)
        self._concurrency = fleet
        self.feed(on.ConcurrencySet(fleet, monotonic_s(), self._elsewhere))

    def reserve_elsewhere(self, reserved: int) -> None:
        """What functions of the other shards have of it for themselves."""
        self._elsewhere = reserved
        self.feed(on.ConcurrencySet(self._concurrency, monotonic_s(), reserved))

    def register(self, worker: Worker) -> None:
        self.workers[worker.node] = worker
        has = frozenset(worker.runtimes), frozenset(worker.labels)
        self.feed(on.NodeRegistered(worker.node, worker.memory_mb, *has))

    def expire(self, node: NodeId) -> None:
        self.workers.pop(node, None)
        self._log.info("node_expired", node=node)
        self.feed(on.NodeExpired(node, monotonic_s()))

    # Streams

    def frontend_attached(self, hello: on.FrontendAttached, outbox: FrontendOutbox) -> None:
        """A frontend's newest stream is the one that counts."""
        self._frontends[hello.frontend] = outbox
        self._log.info("frontend_attached", frontend=hello.frontend, leases=len(hello.leases))
        self.feed(hello)

    def frontend_detached(self, frontend: FrontendId, outbox: FrontendOutbox) -> None:
        if self._frontends.get(frontend) is outbox:
            del self._frontends[frontend]
            self._log.info("frontend_detached", frontend=frontend)
            self.feed(on.FrontendDetached(frontend, monotonic_s()))

    def is_current_frontend(self, frontend: FrontendId, outbox: FrontendOutbox) -> bool:
        return self._frontends.get(frontend) is outbox

    def worker_attached(self, report: on.NodeReported, outbox: WorkerOutbox) -> None:
        self._nodes[report.node] = outbox
        self._log.info("node_reported", node=report.node, instances=len(report.instances))
        self.feed(report)

    def worker_detached(self, node: NodeId, outbox: WorkerOutbox) -> None:
        if self._nodes.get(node) is outbox:
            del self._nodes[node]
            self._log.info("node_disconnected", node=node)
            self.feed(on.NodeDisconnected(node, monotonic_s()))

    def is_current_worker(self, node: NodeId, outbox: WorkerOutbox) -> bool:
        return self._nodes.get(node) is outbox

    def is_elsewhere(self, instance: str, node: NodeId) -> bool:
        """Whether an instance is known to be another node's: of that this one has nothing to say."""
        known = self.core.books.instances.get(InstanceId(instance))
        if known is None or known.node == node:
            return False
        self._log.warning("report_not_taken", node=node, instance=instance, reason=f"it is on {known.node}")
        return True

    # Commands

    def _carry_out(self, command: do.Command) -> None:
        match command:
            case do.Grant():
                self._grant(command)
            case do.Evict():
                evict = wire.Evict(instance=command.instance, number=command.number, reason=command.reason)
                self._order(command.node, wire.WorkerOrder(evict=evict))
            case do.Fence():
                fence = wire.Fence(instance=command.instance, number=command.number)
                self._order(command.node, wire.WorkerOrder(fence=fence))
            case do.GiveLease():
                self._give(command)
            case do.TellReady():
                ready = wire.LeaseReady(
                    instance=command.instance,
                    number=command.number,
                    starting_ms=command.starting_ms,
                    init_ms=command.init_ms,
                    restored=command.restored,
                )
                self._tell(command.frontend, wire.FrontendOrder(ready=ready))
            case do.VoidLease():
                self._void(command)
            case do.Recall():
                recall = wire.Recall(version=command.version, wanted=command.wanted)
                self._tell(command.frontend, wire.FrontendOrder(recall=recall))
            case do.TellUnmet():
                unmet = wire.Unmet(
                    version=command.version, reason=command.reason.value, detail=command.detail
                )
                self._tell(command.frontend, wire.FrontendOrder(unmet=unmet))
            case _:
                assert_never(command)

    def _grant(self, command: do.Grant) -> None:
        self._log.info("granted", instance=command.instance, version=command.version, node=command.node)
        grant = wire.Grant(
            instance=command.instance,
            version=command.version,
            memory_mb=command.memory_mb,
            number=command.number,
            frontend=command.frontend or "",
            definition=self._definitions[command.version],
            provisioned=command.provisioned,
        )
        self._order(command.node, wire.WorkerOrder(grant=grant))

    def _give(self, command: do.GiveLease) -> None:
        lease = wire.Lease(
            instance=command.instance,
            number=command.number,
            node=command.node,
            version=command.version,
            starting=command.starting,
            reason=command.reason,
            candidates=[_candidate(it) for it in command.candidates],
        )
        self._tell(command.frontend, wire.FrontendOrder(lease=lease))

    def _void(self, command: do.VoidLease) -> None:
        void = wire.LeaseVoid(
            instance=command.instance,
            number=command.number,
            reason=command.reason,
            node_lost=command.node_lost,
            init_error=command.error,
        )
        self._tell(command.frontend, wire.FrontendOrder(void=void))

    def _order(self, node: NodeId, order: wire.WorkerOrder) -> None:
        order.epoch = self._leading.epoch
        if outbox := self._nodes.get(node):
            outbox.put(order)

    def _tell(self, frontend: FrontendId, order: wire.FrontendOrder) -> None:
        if outbox := self._frontends.get(frontend):
            outbox.put(order)


def _candidate(it: do.Candidate) -> wire.Candidate:
    return wire.Candidate(
        node=it.node,
        points=it.points,
        preferred=it.preferred,
        instances=it.holds,
        package=it.package,
        free=it.free,
        sticky=it.sticky,
    )
