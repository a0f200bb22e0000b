"""Where a new instance goes: a few nodes are looked at, and the one with most points is taken.

Only open nodes with the function's runtime and all labels that it requires, in the frontend's reach, with
memory for the instance, and that have not just refused one. Each has points, the larger wish first:

    1. `PREFERRED` for the share of the preferred labels that it has;
    2. `APART` less, the nearer the more instances it has of a function whose instances are kept apart;
    3. `STICKY` if the sticky key of the call that waits was served there last;
    4. `PACKAGE` if an instance of the same package was there before: it need not be fetched and unpacked;
    5. `HOLDS` if it has instances of the function, whose files are in its memory;
    6. up to 1 for the share of its memory that stays free; to pack instead: that is in use.

Memory stands for CPU too: an instance's share of the CPU is that of its memory. 3 to 5 count only for a node
that is filled no more than a quarter above the average, so that nobody is overloaded for their sake; and not
at all where instances are kept apart. Of nodes with as many points the first in the order of the index wins.
"""

from collections.abc import Container
from itertools import islice
from operator import itemgetter
from typing import Final

from lambent_placement.core.books import Books
from lambent_placement.core.commands import Candidate
from lambent_placement.core.records import Frontend, Node, Version
from lambent_proto.ids import NodeId
from lambent_proto.sticky import NO_KEY

PREFERRED: Final = 8.0
APART: Final = 4.0
STICKY: Final = 3.0
PACKAGE: Final = 2.0
HOLDS: Final = 1.0

FILLED: Final = 1.25
"""How full a node may be, of the average, to be chosen for what it has: as in consistent hashing with bounded
loads."""

COMPARED: Final = 3
"""Nodes looked at of each kind: the emptiest (or fullest), those with the function or with its package."""

LOOKED_AT: Final = 64
"""Nodes that may be out of a frontend's reach or have just refused before a search is given up."""

NOWHERE: Final[dict[NodeId, None]] = {}

_POINTS: Final = itemgetter(1)

_CANDIDATE: Final = tuple.__new__
"""Makes one of a tuple of its parts, in a third of the time that `Candidate(...)` takes."""


def candidates(
    books: Books, frontend: Frontend | None, version: Version, at: float, key: int = NO_KEY
) -> list[Candidate]:
    """The nodes compared, with their points, the best first; empty if none can take an instance."""
    links = None if frontend is None else frontend.links
    had, holders = books.packages.get(version.package, NOWHERE), version.function.nodes
    sticky = None
    if key and (last := books.served.by(version.function.name, key)) is not None:
        sticky = last.node
    found: dict[NodeId, Candidate] = {}
    for labels in _wishes(version) if version.prefer else (version.require,):
        _by_memory(books, version, labels, links, at, had, sticky, found)
    if version.apart and holders:
        _by_memory(books, version, version.require, links, at, had, sticky, found, without=holders)
    if had or holders or sticky:
        _known(books, version, links, at, had, sticky, found)
    rated = list(found.values())
    if len(rated) > 1:
        rated.sort(key=_POINTS, reverse=True)
    return rated


def _wishes(version: Version) -> tuple[frozenset[str], ...]:
    """The labels to look for, if it likes any: all that it likes, each of these, what it needs."""
    singles = sorted(version.prefer) if len(version.prefer) > 1 else []
    each = (version.require | {label} for label in singles)
    return (version.require | version.prefer, *each, version.require)


def _by_memory(
    books: Books,
    version: Version,
    labels: frozenset[str],
    links: set[NodeId] | None,
    at: float,
    had: dict[NodeId, None],
    sticky: NodeId | None,
    found: dict[NodeId, Candidate],
    without: Container[NodeId] = (),
) -> None:
    """A few of the emptiest, or of the fullest, that are in reach and have not just refused.

    Rated here, since for most of them nothing speaks but their memory: a call for each costs more than that.
    """
    pack, memory_mb, prefer, holders = books.pack, version.memory_mb, version.prefer, version.function.nodes
    ordered = books.index.fullest if pack else books.index.emptiest
    nodes, left = books.nodes, COMPARED
    for name in islice(ordered(version.runtime, labels, memory_mb), LOOKED_AT):
        node = nodes[name]
        if at < node.refused_until or not (links is None or name in links) or name in without:
            continue
        if name in had or name in holders or name == sticky or prefer:
            found[name] = _rated(books, version, node, had, sticky)
        else:
            free = 1 - (node.used_mb + memory_mb) / node.memory_mb
            points = 1 - free if pack else free
            found[name] = _CANDIDATE(Candidate, (name, points, 0, 0, False, free, False))
        left -= 1
        if not left:
            return


def _known(
    books: Books,
    version: Version,
    links: set[NodeId] | None,
    at: float,
    had: dict[NodeId, None],
    sticky: NodeId | None,
    found: dict[NodeId, Candidate],
) -> None:
    """The node of the key, and the last few that were given an instance, or had its package."""
    names = [] if sticky is None else [sticky]
    for last in (version.function.nodes, had):
        if last:
            names += islice(reversed(last), COMPARED)
    for name in names:
        node = books.nodes.get(name)
        if node is None or name in found or not node.is_open or node.free_mb < version.memory_mb:
            continue
        if at < node.refused_until or not (links is None or name in links):
            continue
        if version.may_be_on(node):
            found[name] = _rated(books, version, node, had, sticky)


def _rated(
    books: Books, version: Version, node: Node, had: dict[NodeId, None], key: NodeId | None
) -> Candidate:
    """A node with all that speaks for it."""
    name, prefer = node.id, version.prefer
    free = 1 - (node.used_mb + version.memory_mb) / node.memory_mb
    points = 1 - free if books.pack else free
    here, preferred, sticky, package = version.function.nodes.get(name, 0), 0, False, False
    if version.apart:
        points -= APART * here / (here + 1)
    elif (here or name in had or name == key) and (books.pack or not books.index.is_filled(node, FILLED)):
        sticky, package = name == key, name in had
        points += STICKY * sticky + PACKAGE * package + HOLDS * (here > 0)
    if prefer:
        preferred = len(prefer & node.labels)
        points += PREFERRED * preferred / len(prefer)
    return _CANDIDATE(Candidate, (name, points, preferred, here, package, free, sticky))
