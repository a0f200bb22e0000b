"""The nodes that may be given new instances, by their free memory: a choice looks at a few of them.

Only the books change it, whenever a node's memory or its part in the fleet has changed.
"""

import sys
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Final

from lambent_proto.ids import NodeId
from lambent_proto.runtimes import runs

if TYPE_CHECKING:
    from lambent_placement.core.records import Node

Rank = tuple[int, int, NodeId]
"""Free memory, fewest instances, and the id, so that among equals the choice is always the same."""

Labels = frozenset[str]
NO_LABELS: Final[Labels] = frozenset()

Kind = tuple[frozenset[str], frozenset[str]]
"""The runtimes and the labels of nodes: those of one fleet have few different sets of them."""


@dataclass(slots=True)
class NodeIndex:
    nodes: dict[NodeId, "Node"]
    kinds: dict[Kind, list[Rank]] = field(default_factory=dict)
    """Of open nodes, the emptiest last; empty while all nodes of a kind are closed."""
    suiting: dict[tuple[str, Labels], list[list[Rank]]] = field(default_factory=dict)
    """Those of `kinds` that have a runtime and labels; looked for anew when there is another kind."""
    places: dict[NodeId, tuple[Kind, Rank]] = field(default_factory=dict)
    registered: Counter[Kind] = field(default_factory=Counter)
    """How many registered nodes there are of each kind, open or not."""
    free_mb: int = 0
    """Of all open nodes together."""
    memory_mb: int = 0

    def update(self, node: "Node") -> None:
        """After its part in the fleet has changed. One that is not open has no place."""
        rank = (node.free_mb, -len(node.instances), node.id)
        place = ((node.runtimes, node.labels), rank) if node.is_open else None
        old = self.places.get(node.id)
        if place == old:
            return
        if old is not None:
            self._take_out(node, *old)
        if place is not None:
            self.places[node.id] = place
            self.free_mb += rank[0]
            self.memory_mb += node.memory_mb
            if place[0] not in self.kinds:
                self.kinds[place[0]] = []
                self.suiting.clear()
            insort(self.kinds[place[0]], rank)

    def reorder(self, node: "Node") -> None:
        """After its memory or its instances have changed, and nothing else."""
        place = self.places.get(node.id)
        if place is None:
            return
        kind, old = place
        rank = (node.memory_mb - node.used_mb, -len(node.instances), node.id)
        self.places[node.id] = kind, rank
        self.free_mb += rank[0] - old[0]
        ranks = self.kinds[kind]
        del ranks[bisect_left(ranks, old)]
        insort(ranks, rank)

    def _take_out(self, node: "Node", kind: Kind, rank: Rank) -> None:
        del self.places[node.id]
        self.free_mb -= rank[0]
        self.memory_mb -= node.memory_mb
        ranks = self.kinds[kind]
        del ranks[bisect_left(ranks, rank)]

    def emptiest(self, runtime: str, labels: Labels, memory_mb: int = 0) -> Iterator["Node"]:
        """Open nodes with the runtime, the labels and so much free memory, the emptiest first."""
        kinds = self._suitable(runtime, labels)
        ranks = reversed(kinds[0]) if len(kinds) == 1 else merge(*map(reversed, kinds), reverse=True)
        for free_mb, _, node in ranks:
            if free_mb < memory_mb:
                return
            yield self.nodes[node]

    def fullest(self, runtime: str, labels: Labels, memory_mb: int) -> Iterator["Node"]:
        """The same nodes, the fullest first."""
        least = (memory_mb, -sys.maxsize, NodeId(""))
        fitting = [
            islice(ranks, bisect_left(ranks, least), None) for ranks in self._suitable(runtime, labels)
        ]
        return (self.nodes[node] for _, _, node in merge(*fitting))

    def _suitable(self, runtime: str, labels: Labels) -> list[list[Rank]]:
        suiting = self.suiting.get((runtime, labels))
        if suiting is None:
            kinds = self.kinds.items()
            suiting = [ranks for (has, marked), ranks in kinds if runs(has, runtime) and labels <= marked]
            self.suiting[runtime, labels] = suiting
        return suiting

    def is_filled(self, node: "Node", most: float) -> bool:
        """Whether it is used more than the open nodes are on average, times `most`."""
        return node.used_mb * self.memory_mb > most * (self.memory_mb - self.free_mb) * node.memory_mb

    def somewhere(self, runtime: str, labels: Labels = NO_LABELS) -> bool:
        """Whether a registered node has them; also if there are no nodes: then those are missing."""
        if any(self.suiting.get((runtime, labels)) or self._suitable(runtime, labels)):
            return True
        kinds = [kind for kind, count in self.registered.items() if count]
        return not kinds or any(runs(has, runtime) and labels <= marked for has, marked in kinds)
