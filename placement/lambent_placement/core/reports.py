"""Workers that register, report and vanish: a worker's own report against the books.

What runs on a host is what its worker says; what may run there counts until the worker's key has left etcd.
"""

from dataclasses import dataclass, field
from typing import Final

from lambent_placement.core.acts import Acts
from lambent_placement.core.books import Books
from lambent_placement.core.commands import Command, Evict, Fence, TellReady
from lambent_placement.core.events import InstanceReady, NodeDisconnected, NodeExpired, NodeReported, Reported
from lambent_placement.core.records import Instance, Node, State
from lambent_placement.core.supply import Supply
from lambent_proto.ids import FrontendId, NodeId

SETTLE_S: Final = 1.0
"""How long a new leader waits for the holder of a lease to attach before the lease may go to others."""

LINGERING_S: Final = 10.0
"""How long the instances of a worker whose key is gone still count while its stream stands."""

ORPHAN_S: Final = 5.0
"""How long a frontend that is gone keeps leases that nobody else asks for."""


@dataclass(slots=True)
class Reports:
    books: Books
    acts: Acts
    supply: Supply
    lingering: dict[NodeId, float] = field(default_factory=dict)
    """Nodes whose key is gone while their stream stands: until when their instances count."""

    def node_reported(self, event: NodeReported) -> list[Command]:
        """A worker's own report against the books: what runs there is what it says."""
        if event.node in self.books.expired:
            return []
        node = self.books.node(event.node, event.memory_mb)
        self.books.change_node(node, connected=True, reported=True, leaving=event.leaving)
        if not node.registered:
            # Its key has not been seen, so what it says runs there does not count, and it gets no grant.
            # Either the key is new and on its way: then nothing runs there, for a worker attaches only once
            # it is registered, and this leader has read the list after every earlier leader's last grant.
            # Or the key was gone before this leader came: then its instances are gone too.
            return []
        commands: list[Command] = []
        reported = {report.instance for report in event.instances}
        for instance in [i for i in node.instances.values() if i.id not in reported]:
            commands += self.acts.remove(instance, "the grant was lost", b"")
        for report in event.instances:
            known = self.books.instances.get(report.instance)
            if known is None:
                commands += self._adopt(node, report, event.at)
            else:
                commands += self._reconcile(known, report, event.at)
        return commands + self.acts.void_claims() + self.supply.serve_needy(event.at)

    def _adopt(self, node: Node, report: Reported, at: float) -> list[Command]:
        """An instance that an earlier leader granted. It belongs to whoever claims it or held it last."""
        instance = Instance(
            report.instance,
            report.version,
            node.id,
            report.memory_mb,
            report.number,
            State.STOPPING if report.state == "stopping" else State.IDLE,
            idle_since=at,
        )
        instance.ready = report.state != "starting"
        version = self.books.version(report.version)
        instance.provisioned = report.provisioned and len(version.marked) < version.provisioned
        self.books.add(instance, version)
        if instance.state is State.STOPPING:
            return []
        for frontend in self.books.frontends.values():
            number = frontend.claims.pop(instance.id, None)
            if number is not None and number >= report.number:
                self.books.change(instance, State.LEASED, frontend=frontend.id, number=number)
                return [TellReady(frontend.id, instance.id, number, 0.0, 0.0)] if instance.ready else []
        if report.frontend is not None and self._may_still_attach(report.frontend, at):
            self.books.change(instance, State.LEASED, frontend=report.frontend)
            return []
        if report.state == "busy":
            return self.acts.fence(instance, at)
        return self.acts.settle(instance, at)

    def _may_still_attach(self, frontend_id: FrontendId, at: float) -> bool:
        """Whether a last holder may be on its way to this leader, so that its lease is left alone."""
        frontend = self.books.frontends.get(frontend_id)
        if frontend is None:
            frontend = self.books.frontend(frontend_id)
            frontend.reclaim_at = at + SETTLE_S
            frontend.forget_at = at + SETTLE_S + ORPHAN_S
        return not frontend.attached

    def _reconcile(self, instance: Instance, report: Reported, at: float) -> list[Command]:
        commands: list[Command] = []
        if report.state != "starting" and not instance.ready:
            commands += self.acts.make_ready(instance, InstanceReady(instance.id, 0.0, 0.0, at))
        if report.state == "stopping":
            return commands + self._stopped_by_worker(instance)
        if instance.state is State.STOPPING:
            return [*commands, Evict(instance.node, instance.id, instance.number, instance.stop_reason)]
        if instance.state is State.FENCING:
            return commands + self._fence_again(instance, report, at)
        if instance.state is State.IDLE and report.state == "busy":
            return commands + self.acts.fence(instance, at)
        if instance.state is State.IDLE and instance.ready and (reason := self.acts.of_no_use(instance)):
            return commands + self.acts.evict(instance, reason)
        return commands

    def _stopped_by_worker(self, instance: Instance) -> list[Command]:
        commands = self.acts._void(instance, "the worker is stopping it", b"")
        self.books.change(instance, State.STOPPING)
        return commands

    def _fence_again(self, instance: Instance, report: Reported, at: float) -> list[Command]:
        """The fence, or its answer, may have been lost with the old stream."""
        busy = report.state == "busy"
        if report.number < instance.number:
            self.books.change(instance, State.FENCING, busy=busy)
            return [Fence(instance.node, instance.id, instance.number)]
        if busy:
            self.books.change(instance, State.FENCING, busy=True)
            return []
        return self.acts.settle(instance, at)

    def disconnected(self, event: NodeDisconnected) -> list[Command]:
        node = self.books.nodes.get(event.node)
        if node is None:
            return []
        self.books.change_node(node, connected=False)
        if not node.registered:
            return self._end(node, event.at)
        commands: list[Command] = []
        for instance in list(node.instances.values()):
            if instance.state is State.LEASED and not instance.ready:
                # Nobody knows whether the grant arrived: its caller is served elsewhere, and it counts.
                commands += self.acts.fence(instance, event.at)
            self.books.expect_no_more(instance)
        return commands + self.supply.serve_needy(event.at)

    def expired(self, event: NodeExpired) -> list[Command]:
        """Its instances are gone, unless it still talks to us: some releases of etcd drop a lease too early.

        Such a worker hears of it within a third of its lease, kills what it has, and leaves by itself.
        """
        self.books.expired.add(event.node)
        node = self.books.nodes.get(event.node)
        if node is None:
            return []
        self.books.change_node(node, registered=False)
        if not (node.connected and node.instances):
            return self._end(node, event.at)
        self.lingering[node.id] = event.at + LINGERING_S
        return []

    def overdue(self, at: float) -> list[Command]:
        """Ends what expired long ago with its stream unbroken: a stopped process keeps its connections."""
        ended = [node for node, end_at in self.lingering.items() if at >= end_at]
        return [command for node in ended for command in self._end(self.books.nodes[node], at)]

    def _end(self, node: Node, at: float) -> list[Command]:
        commands: list[Command] = []
        for instance in list(node.instances.values()):
            commands += self.acts.remove(instance, "its worker's registration ended", b"", node_lost=True)
        self.books.forget_node(node)
        self.lingering.pop(node.id, None)
        return commands + self.acts.void_claims() + self.supply.serve_needy(at)
