"""The choices: which instance, which node, who has to go. Each looks at the books and changes nothing."""

from collections.abc import Iterable

from lambent_placement.core.books import Frontend, Function, Instance, Node, State, Version
from lambent_placement.core.commands import Reason
from lambent_proto.ids import NodeId, VersionKey


def warmest(version: Version, frontend: Frontend) -> Instance | None:
    """The most recently used idle instance that the frontend can reach."""
    for instance in reversed(version.idle.values()):
        if instance.node in frontend.links:
            return instance
    return None


def emptiest(nodes: Iterable[Node], frontend: Frontend, function: Function, at: float) -> Node | None:
    """The node with most free memory among those that can take a new instance for the frontend."""
    able = [n for n in _able(nodes, frontend, function, at) if n.free_mb >= function.memory_mb]
    return max(able, key=lambda n: (n.free_mb, -len(n.instances), n.id), default=None)


def make_room(nodes: Iterable[Node], frontend: Frontend, function: Function, at: float) -> list[Instance]:
    """Idle instances to evict, all on one node, so that a new instance fits there; empty if nothing helps.

    The node is the one whose victims have been idle longest, measured by the most recently used of them.
    """
    best: list[Instance] = []
    for node in _able(nodes, frontend, function, at):
        victims = _victims(node, function.memory_mb)
        if victims and (not best or victims[-1].idle_since < best[-1].idle_since):
            best = victims
    return best


def give_way(function: Function, version: Version, nodes: dict[NodeId, Node]) -> Instance | None:
    """An idle instance to evict so that its function, at its limit, can start one of this version.

    First the least recently used one of another version, then one of the same version that nobody who
    waits can reach: that is why it is still idle.
    """
    idle = [i for i in function.instances.values() if i.state is State.IDLE and i.ready]
    idle = [i for i in idle if nodes[i.node].connected]
    others = [i for i in idle if i.version != version.key]
    return min(others or idle, key=lambda i: (i.idle_since, i.id), default=None)


def cold_reason(function: Function, version: VersionKey, idle: bool) -> str:
    """Why no warm instance could be used."""
    if idle:
        return Reason.OUT_OF_REACH
    if any(i.version == version for i in function.instances.values()):
        return Reason.ALL_BUSY
    return Reason.OTHER_VERSION if function.instances else Reason.NO_INSTANCE


def linked(nodes: Iterable[Node], frontend: Frontend, runtime: str) -> list[Node]:
    """The nodes with the runtime that both placement and the frontend are connected to."""
    return [n for n in nodes if n.connected and n.id in frontend.links and n.runs(runtime)]


def _able(nodes: Iterable[Node], frontend: Frontend, function: Function, at: float) -> list[Node]:
    near = linked(nodes, frontend, function.runtime)
    return [n for n in near if n.registered and at >= n.refused_until]


def _victims(node: Node, memory_mb: int) -> list[Instance]:
    """The least recently used idle instances of a node that have to go for so much memory."""
    missing = memory_mb - node.free_mb
    victims = []
    idle = (i for i in node.instances.values() if i.state is State.IDLE and i.ready)
    for instance in sorted(idle, key=lambda i: (i.idle_since, i.id)):
        if missing <= 0:
            break
        victims.append(instance)
        missing -= instance.memory_mb
    return victims if missing <= 0 else []
