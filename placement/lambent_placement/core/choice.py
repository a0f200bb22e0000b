"""The choices: which instance, who has to go. Each looks at the books and changes nothing; `where` has nodes.

None of them looks at all nodes or all instances of the fleet: a decision costs the same at ten nodes and at
ten thousand. `NodeIndex` has the nodes by their free memory, `Keep` what is idle in its order.
"""

from collections.abc import Iterator
from itertools import chain, islice
from typing import Final

from lambent_placement.core.books import Books
from lambent_placement.core.commands import Reason
from lambent_placement.core.records import Frontend, Instance, Node, Version
from lambent_placement.core.where import LOOKED_AT

ROOM_ON: Final = 8
"""Nodes compared when room has to be made, those with the instances that are worth least."""


def warmest(version: Version, frontend: Frontend) -> Instance | None:
    """The most recently used idle instance that the frontend can reach, a provisioned one before others."""
    for instance in chain(reversed(version.kept.values()), reversed(version.idle.values())):
        if instance.node in frontend.links:
            return instance
    return None


def for_key(books: Books, version: Version, frontend: Frontend, key: int) -> tuple[Instance, str] | None:
    """The idle instance that served a sticky key last, or else the most recently used one on its node."""
    last = books.served.by(version.function.name, key)
    if last is None or last.node not in frontend.links:
        return None
    instance = version.kept.get(last.instance) or version.idle.get(last.instance)
    if instance is not None:
        return instance, Reason.STICKY_INSTANCE
    node = books.nodes.get(last.node)
    for instance in islice(reversed(node.idle.values()), LOOKED_AT) if node else ():
        if instance.version == version.key:
            return instance, Reason.STICKY_NODE
    return None


def make_room(books: Books, frontend: Frontend | None, version: Version, at: float) -> list[Instance]:
    """Idle instances to evict, all on one node, so that a new instance fits there; empty if nothing helps.

    The policy says which are worth least; the node is the one whose victims are, by the last of them.
    """
    best: list[Instance] = []
    worth = books.keep.worth
    for node in islice(_cheapest(books, frontend, version, at), ROOM_ON):
        victims = _victims(books, node, version.memory_mb)
        if victims and (not best or worth(victims[-1]) < worth(best[-1])):
            best = victims
    return best


def _cheapest(books: Books, frontend: Frontend | None, version: Version, at: float) -> Iterator[Node]:
    """Nodes that could take an instance, those first whose own first to give way is worth least."""
    for node in islice(books.keep.nodes(), LOOKED_AT):
        if node.is_open and version.may_be_on(node) and _takes(node, frontend, at):
            yield node


def give_way(version: Version, books: Books) -> Instance | None:
    """An idle instance to evict so that its function, at its limit, can start one of this version.

    First the least recently used one of another version, then one of the same version that nobody who
    waits can reach: that is why it is still idle.
    """
    same = None
    for instance in version.function.idle.values():
        if not books.nodes[instance.node].connected:
            continue
        if instance.version != version.key:
            return instance
        same = same or instance
    return same


def cold_reason(version: Version) -> str:
    """Why no warm instance could be used."""
    if version.idle or version.kept:
        return Reason.OUT_OF_REACH
    if version.count:
        return Reason.ALL_BUSY
    return Reason.OTHER_VERSION if version.function.instances else Reason.NO_INSTANCE


def in_reach(books: Books, frontend: Frontend, version: Version) -> bool:
    """Whether the frontend is connected to any open node that the version may be on."""
    nodes = books.index.emptiest(version.runtime, version.require)
    return any(node in frontend.links for node in nodes)


def _takes(node: Node, frontend: Frontend | None, at: float) -> bool:
    return (frontend is None or node.id in frontend.links) and at >= node.refused_until


def _victims(books: Books, node: Node, memory_mb: int) -> list[Instance]:
    """The idle instances of a node that have to go for so much memory, in the order that the policy has."""
    missing = memory_mb - node.free_mb
    victims = []
    for instance in books.keep.on_node(node):
        if missing <= 0:
            break
        victims.append(instance)
        missing -= instance.memory_mb
    return victims if missing <= 0 else []
