"""The nodes that may be given new instances, by their free memory: a choice looks at a few of them.

Only the books change it, whenever a node's memory or its part in the fleet has changed.
"""

import sys
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import merge
from typing import TYPE_CHECKING, Final

from lambent_proto.ids import NodeId
from lambent_proto.runtimes import runs

if TYPE_CHECKING:
    from lambent_placement.core.records import Node

Rank = tuple[int, int]
"""Free memory, and less the number of instances: fewest before others."""

Labels = frozenset[str]
NO_LABELS: Final[Labels] = frozenset()

Kind = tuple[frozenset[str], frozenset[str]]
"""The runtimes and the labels of nodes: those of one fleet have few different sets of them."""


@dataclass(slots=True, eq=False)
class Ranked:
    """The open nodes of one kind. Those of one rank are together: few ranks are there for many nodes."""

    ranks: list[Rank] = field(default_factory=list)
    """Those that a node has, the emptiest last."""
    of: dict[Rank, list[NodeId]] = field(default_factory=dict)
    """In the order of their ids, so that among equals the choice is always the same."""

    def put(self, node: NodeId, rank: Rank) -> None:
        equals = self.of.get(rank)
        if equals is None:
            self.of[rank] = [node]
            insort(self.ranks, rank)
        else:
            insort(equals, node)

    def take_out(self, node: NodeId, rank: Rank) -> None:
        equals = self.of[rank]
        if len(equals) > 1:
            del equals[bisect_left(equals, node)]
        else:
            del self.of[rank]
            del self.ranks[bisect_left(self.ranks, rank)]

    def emptiest(self, memory_mb: int) -> Iterator[NodeId]:
        """Those with so much free memory, the emptiest first; the last of equals first."""
        for rank in reversed(self.ranks):
            if rank[0] < memory_mb:
                return
            yield from reversed(self.of[rank])

    def fullest(self, memory_mb: int) -> Iterator[NodeId]:
        """The same, the other way round."""
        for at in range(bisect_left(self.ranks, (memory_mb, -sys.maxsize)), len(self.ranks)):
            yield from self.of[self.ranks[at]]


@dataclass(slots=True)
class NodeIndex:
    kinds: dict[Kind, Ranked] = field(default_factory=dict)
    """Of open nodes; one without any while all nodes of a kind are closed."""
    suiting: dict[tuple[str, Labels], list[Ranked]] = field(default_factory=dict)
    """Those of `kinds` that have a runtime and labels; looked for anew when there is another kind."""
    places: dict[NodeId, tuple[Ranked, Rank]] = field(default_factory=dict)
    registered: Counter[Kind] = field(default_factory=Counter)
    """How many registered nodes there are of each kind, open or not."""
    free_mb: int = 0
    """Of all open nodes together."""
    memory_mb: int = 0

    def update(self, node: "Node") -> None:
        """After its part in the fleet has changed. One that is not open has no place."""
        old = self.places.pop(node.id, None)
        if old is not None:
            ranked, rank = old
            ranked.take_out(node.id, rank)
            self.free_mb -= rank[0]
            self.memory_mb -= node.memory_mb
        if node.is_open:
            ranked, rank = self._of_kind((node.runtimes, node.labels)), (node.free_mb, -len(node.instances))
            ranked.put(node.id, rank)
            self.places[node.id] = ranked, rank
            self.free_mb += rank[0]
            self.memory_mb += node.memory_mb

    def _of_kind(self, kind: Kind) -> Ranked:
        found = self.kinds.get(kind)
        if found is None:
            found = self.kinds[kind] = Ranked()
            self.suiting.clear()
        return found

    def reorder(self, node: "Node") -> None:
        """After its memory or its instances have changed, and nothing else."""
        name = node.id
        place = self.places.get(name)
        if place is None:
            return
        ranked, old = place
        rank = (node.memory_mb - node.used_mb, -len(node.instances))
        self.places[name] = ranked, rank
        self.free_mb += rank[0] - old[0]
        ranked.take_out(name, old)
        ranked.put(name, rank)

    def emptiest(self, runtime: str, labels: Labels, memory_mb: int = 0) -> Iterator[NodeId]:
        """Open nodes with the runtime, the labels and so much free memory, the emptiest first."""
        kinds = self._suitable(runtime, labels)
        if len(kinds) == 1:
            return kinds[0].emptiest(memory_mb)
        return merge(*(kind.emptiest(memory_mb) for kind in kinds), key=self._order, reverse=True)

    def fullest(self, runtime: str, labels: Labels, memory_mb: int) -> Iterator[NodeId]:
        """The same nodes, the fullest first."""
        kinds = self._suitable(runtime, labels)
        return merge(*(kind.fullest(memory_mb) for kind in kinds), key=self._order)

    def _order(self, node: NodeId) -> tuple[Rank, NodeId]:
        return self.places[node][1], node

    def _suitable(self, runtime: str, labels: Labels) -> list[Ranked]:
        suiting = self.suiting.get((runtime, labels))
        if suiting is None:
            kinds = self.kinds.items()
            suiting = [ranked for (has, marked), ranked in kinds if runs(has, runtime) and labels <= marked]
            self.suiting[runtime, labels] = suiting
        return suiting

    def is_filled(self, node: "Node", most: float) -> bool:
        """Whether it is used more than the open nodes are on average, times `most`."""
        return node.used_mb * self.memory_mb > most * (self.memory_mb - self.free_mb) * node.memory_mb

    def somewhere(self, runtime: str, labels: Labels = NO_LABELS) -> bool:
        """Whether a registered node has them; also if there are no nodes: then those are missing."""
        for ranked in self.suiting.get((runtime, labels)) or self._suitable(runtime, labels):
            if ranked.ranks:
                return True
        kinds = [kind for kind, count in self.registered.items() if count]
        return not kinds or any(runs(has, runtime) and labels <= marked for has, marked in kinds)
