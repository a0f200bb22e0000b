"""What can be done to an instance: the books are changed, and the commands that make it so are returned.

Nothing here decides whether it should be done.
"""

from dataclasses import dataclass, field

from lambent_placement.core import choice
from lambent_placement.core.books import Books
from lambent_placement.core.commands import (
    Candidate,
    Command,
    Evict,
    Fence,
    GiveLease,
    Grant,
    TellReady,
    VoidLease,
)
from lambent_placement.core.events import InstanceReady
from lambent_placement.core.records import IDLE, LEASED, Frontend, Function, Instance, State, Version
from lambent_proto.ids import (
    Epoch,
    FrontendId,
    InstanceId,
    LeaseNumber,
    NodeId,
    lease_number,
)


@dataclass(slots=True)
class Acts:
    books: Books
    epoch: Epoch
    shard: int = 0
    serial: int = 0
    """How many lease numbers this epoch has given out."""
    prefix: str = field(init=False)
    """What the names of this leader's instances begin with."""

    def __post_init__(self) -> None:
        self.prefix = f"{f's{self.shard}-' if self.shard else ''}{self.epoch:x}-"

    def grant(
        self, version: Version, frontend: Frontend, candidates: list[Candidate], at: float
    ) -> list[Command]:
        """One on the first of the candidates, leased to a frontend from the beginning."""
        reason = choice.cold_reason(version)
        node = candidates[0].node
        instance = self._new(version, node, LEASED, frontend.id)
        version.function.turn = self.serial
        self.books.keep.called(instance, at)
        name, number = instance.id, instance.number
        return [
            Grant(node, name, version.key, version.memory_mb, number, frontend.id),
            GiveLease(frontend.id, name, number, node, version.key, True, reason, candidates),
        ]

    def grant_to_nobody(self, version: Version, node: NodeId, *, provisioned: bool = False) -> Grant:
        """One that will be idle when it is ready."""
        new = self._new(version, node, State.IDLE, None, provisioned)
        return Grant(node, new.id, version.key, version.memory_mb, new.number, None, provisioned)

    def _new(
        self,
        version: Version,
        node: NodeId,
        state: State,
        frontend: FrontendId | None,
        provisioned: bool = False,
    ) -> Instance:
        number = self._next()
        name = InstanceId(f"{self.prefix}{self.serial:x}")
        instance = Instance(name, version.key, node, version.memory_mb, number, state, frontend)
        if provisioned:
            instance.provisioned = True
        self.books.add(instance, version)
        version.function.rate.started()
        return instance

    def give(self, instance: Instance, frontend: FrontendId, reason: str, at: float) -> Command:
        number = self._next()
        self.books.change(instance, LEASED, frontend=frontend, number=number)
        self.books.version(instance.version).function.turn = self.serial
        self.books.keep.called(instance, at)
        return GiveLease(frontend, instance.id, number, instance.node, instance.version, False, reason)

    def settle(self, instance: Instance, at: float) -> list[Command]:
        """Nobody holds it and nothing runs there: into the warm index, or away with it if it is of no use."""
        if instance.running:
            self.books.keep.freed(instance, at)
        self.books.change(instance, IDLE, idle_since=at)
        if not instance.ready or not self.books.nodes[instance.node].connected:
            return []
        reason = self.of_no_use(instance)
        return self.evict(instance, reason) if reason else []

    def of_no_use(self, instance: Instance) -> str:
        """Why an instance that nobody holds should go; empty if it should not."""
        version = self.books.version(instance.version)
        if not version.current:
            return "other_version"
        if instance.relieved:
            return "drained"
        return "limit_lowered" if self.surplus(version.function) > 0 else ""

    def make_ready(self, instance: Instance, event: InstanceReady) -> list[Command]:
        at = event.at
        holder = instance.frontend
        self.books.change(
            instance, instance.state, frontend=holder, ready=True, busy=instance.busy, idle_since=at
        )
        version = self.books.version(instance.version)
        version.function.failures = 0
        version.function.start_ms = event.starting_ms + event.init_ms or version.function.start_ms
        if version.current:
            self.books.has_package(version.package, instance.node)
        if holder is None:
            return self.settle(instance, at) if instance.state is State.IDLE else []
        how = event.starting_ms, event.init_ms, event.restored
        return [TellReady(holder, instance.id, instance.number, *how)]

    def surplus(self, function: Function) -> int:
        """How many instances too many there are, those that are being stopped not counted."""
        over = len(function.instances) - self.books.limit(function)
        if over <= 0:
            return 0
        return over - sum(i.state is State.STOPPING for i in function.instances.values())

    def fence(self, instance: Instance, at: float) -> list[Command]:
        """Takes an instance from its holder, who is told: the lease may still be on its way there."""
        commands = self._void(instance, "fenced", b"")
        connected = self.books.nodes[instance.node].connected
        self.books.change(instance, State.FENCING, number=self._next(), busy=not connected)
        if connected:
            self.books.expect(instance, at)
            commands.append(Fence(instance.node, instance.id, instance.number))
        return commands

    def evict_for(self, version: Version, instance: Instance, reason: str, at: float) -> list[Command]:
        """Evicts one instance so that one of a version can start in its place."""
        self.books.room_for[instance.id] = version.key
        version.making_room += 1
        self.books.expect(instance, at)
        return self.evict(instance, reason)

    def evict(self, instance: Instance, reason: str) -> list[Command]:
        self.books.change(instance, State.STOPPING, number=self._next())
        instance.stop_reason = reason
        if not self.books.nodes[instance.node].connected:
            return []  # said again when its worker reports
        return [Evict(instance.node, instance.id, instance.number, reason)]

    def remove(
        self, instance: Instance, reason: str, error: bytes, *, node_lost: bool = False
    ) -> list[Command]:
        commands = self._void(instance, reason, error, node_lost=node_lost)
        self.books.remove(instance)
        return commands

    def _void(
        self, instance: Instance, reason: str, error: bytes, *, node_lost: bool = False
    ) -> list[Command]:
        if instance.frontend is None or not self.books.frontends[instance.frontend].attached:
            return []
        return [VoidLease(instance.frontend, instance.id, instance.number, reason, node_lost, error)]

    def void_claims(self) -> list[Command]:
        """Once every worker has reported, a lease on an instance that none has is a lease on nothing."""
        if self.books.unreported:
            return []
        commands: list[Command] = []
        for frontend in self.books.frontends.values():
            for instance_id, number in frontend.claims.items():
                commands.append(VoidLease(frontend.id, instance_id, number, "gone", node_lost=False))
            frontend.claims.clear()
        return commands

    def held_by(self, frontend: FrontendId, version: Version | None = None) -> list[Instance]:
        held = self.books.frontend(frontend).held.values()
        return [i for i in held if version is None or i.version == version.key]

    def _next(self) -> LeaseNumber:
        self.serial += 1
        return lease_number(self.epoch, self.serial)
