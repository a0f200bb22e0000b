"""Where a new instance goes: a few nodes are looked at, and the one with most points is taken.

Only open nodes with the function's runtime and all labels that it requires, in the frontend's reach, with
memory for the instance, and that have not just refused one. Each has points, the larger wish first:

    1. `PREFERRED` for the share of the preferred labels that it has;
    2. `APART` less, the nearer the more instances it has of a function whose instances are kept apart;
    3. `PACKAGE` if an instance of the same package was there before: it need not be fetched and unpacked;
    4. `HOLDS` if it has instances of the function, whose files are in its memory;
    5. up to 1 for the share of its memory that stays free; to pack instead: that is in use.

Memory stands for CPU too: an instance's share of the CPU is that of its memory. 3 and 4 count only for a node
that is filled no more than a quarter above the average, so that nobody is overloaded for their sake; and not
at all where instances are kept apart. Of nodes with as many points the first in the order of the index wins.
"""

from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Final

from lambent_placement.core.books import Books, Frontend, Function, Node
from lambent_placement.core.commands import Candidate
from lambent_proto.ids import NodeId

PREFERRED: Final = 8.0
APART: Final = 4.0
PACKAGE: Final = 2.0
HOLDS: Final = 1.0

FILLED: Final = 1.25
"""How full a node may be, of the average, to be chosen for what it has: as in consistent hashing with bounded
loads."""

COMPARED: Final = 3
"""Nodes looked at of each kind: the emptiest (or fullest), those with the function or with its package."""

LOOKED_AT: Final = 64
"""Nodes that may be out of a frontend's reach or have just refused before a search is given up."""


def candidates(books: Books, frontend: Frontend | None, function: Function, at: float) -> list[Candidate]:
    """The nodes compared, with their points, the best first; empty if none can take an instance."""
    found: dict[NodeId, Candidate] = {}
    for node in _looked_at(books, frontend, function, at):
        if node.id not in found:
            found[node.id] = _rated(books, function, node)
    return sorted(found.values(), key=_points, reverse=True)


def _points(candidate: Candidate) -> float:
    return candidate.points


def _looked_at(books: Books, frontend: Frontend | None, function: Function, at: float) -> Iterator[Node]:
    memory_mb = function.memory_mb
    nodes = books.nodes

    def takes(node: Node) -> bool:
        in_reach = frontend is None or node.id in frontend.links
        return in_reach and node.free_mb >= memory_mb and at >= node.refused_until

    def fresh(node: Node) -> bool:
        return node.id not in function.nodes and takes(node)

    for labels in _wishes(function):
        yield from _few(_by_memory(books, function, labels), takes)
    if function.apart:
        yield from _few(_by_memory(books, function, function.require), fresh)
    known = chain(islice(reversed(function.nodes), COMPARED), islice(reversed(function.had), COMPARED))
    for name in known:
        node = nodes.get(name)
        if node is not None and node.is_open and function.may_be_on(node) and takes(node):
            yield node


def _few(nodes: Iterator[Node], suits: Callable[[Node], bool]) -> Iterator[Node]:
    return islice(filter(suits, islice(nodes, LOOKED_AT)), COMPARED)


def _by_memory(books: Books, function: Function, labels: frozenset[str]) -> Iterator[Node]:
    nodes = books.index.fullest if books.pack else books.index.emptiest
    return nodes(function.runtime, labels, function.memory_mb)


def _wishes(function: Function) -> Iterator[frozenset[str]]:
    """The labels to look for: all that it likes, each of these, what it needs."""
    if function.prefer:
        yield function.require | function.prefer
        if len(function.prefer) > 1:
            yield from (function.require | {label} for label in sorted(function.prefer))
    yield function.require


def _rated(books: Books, function: Function, node: Node) -> Candidate:
    here = function.nodes.get(node.id, 0)
    free = (node.free_mb - function.memory_mb) / node.memory_mb
    points = 1 - free if books.pack else free
    package = holds = False
    if function.apart:
        points -= APART * here / (here + 1)
    elif books.pack or not books.index.is_filled(node, FILLED):
        package, holds = node.id in function.had, here > 0
        points += PACKAGE * package + HOLDS * holds
    preferred = len(function.prefer & node.labels)
    if preferred:
        points += PREFERRED * preferred / len(function.prefer)
    return Candidate(node.id, points, preferred, here, package, free)
