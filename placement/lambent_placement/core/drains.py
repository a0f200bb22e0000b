"""Emptying nodes so that no call notices: each instance has a stand-in elsewhere before it goes.

A node is emptied because somebody has said so of its name, or because its worker was told to end. It is given
nothing new. Of each instance there

    1. that is ready, a stand-in is started elsewhere, for nobody, within the function's limit and memory;
    2. when the stand-in is ready the instance goes: idle at once, in use when its event has ended;
    3. for which no stand-in can be had, it goes at once, or when its event has ended.

A stand-in that fails is started again, after the pause that failed starts have.
"""

from dataclasses import dataclass, field

from lambent_placement.core import where
from lambent_placement.core.acts import Acts
from lambent_placement.core.books import Books
from lambent_placement.core.commands import Candidate, Command
from lambent_placement.core.events import NodeDraining, NodeLeaving
from lambent_placement.core.records import Instance, Node, State
from lambent_proto.ids import InstanceId, node_name


@dataclass(slots=True)
class Drains:
    books: Books
    acts: Acts
    stand_ins: dict[InstanceId, InstanceId] = field(default_factory=dict)
    """Those that are not ready yet: whose each is."""

    def changed(self, event: NodeDraining) -> list[Command]:
        if event.draining:
            self.books.draining.add(event.name)
        else:
            self.books.draining.discard(event.name)
        for node in list(self.books.nodes.values()):
            if node_name(node.id) == event.name:
                self.books.change_node(node, draining=event.draining)
                if not node.is_emptied:
                    self._stay(node)
        return self.step(event.at)

    def leaving(self, event: NodeLeaving) -> list[Command]:
        node = self.books.nodes.get(event.node)
        if node is None:
            return []
        self.books.change_node(node, leaving=True)
        return self.step(event.at)

    def _stay(self, node: Node) -> None:
        for instance in node.instances.values():
            instance.relieved = False
        self.stand_ins = {new: old for new, old in self.stand_ins.items() if old not in node.instances}

    def step(self, at: float) -> list[Command]:
        """Goes on with all nodes that are emptied."""
        commands: list[Command] = []
        if not self.books.emptied:
            return commands
        instances = self.books.instances
        self.stand_ins = {new: old for new, old in self.stand_ins.items() if new in instances}
        waiting = set(self.stand_ins.values())
        for node in self.books.emptied.values():
            if node.connected:
                for instance in list(node.instances.values()):
                    held = instance.state in (State.IDLE, State.LEASED)
                    if instance.ready and held and not instance.relieved and instance.id not in waiting:
                        commands += self._relieve(instance, at)
        return commands

    def _relieve(self, instance: Instance, at: float) -> list[Command]:
        version = self.books.version(instance.version)
        function = version.function
        if not version.current:
            return self._let_go(instance, at)
        if function.start_after > at:
            return []
        candidates: list[Candidate] = []
        if len(function.instances) + self.books.unreported < self.books.limit(function):
            candidates = where.candidates(self.books, None, version, at)
        if not candidates or not function.rate.may_start(at):
            return self._let_go(instance, at)
        grant = self.acts.grant_to_nobody(version, candidates[0].node, provisioned=instance.provisioned)
        if instance.provisioned:
            self.books.mark(instance, False)
        self.stand_ins[grant.instance] = instance.id
        return [grant]

    def _let_go(self, instance: Instance, at: float) -> list[Command]:
        instance.relieved = True
        if instance.state is State.LEASED:
            return self.acts.fence(instance, at)
        return self.acts.evict(instance, "drained")

    def ready(self, stand_in: InstanceId, at: float) -> list[Command]:
        """Whoever it stands in for may go."""
        old = self.books.instances.get(self.stand_ins.pop(stand_in, InstanceId("")))
        if old is None or old.state not in (State.IDLE, State.LEASED):
            return []  # it is going already, or will be looked at when it is free
        return self._let_go(old, at)
