"""The nodes that may be given new instances, by their free memory: a choice looks at a few of them.

Only the books change it, whenever a node's memory or its part in the fleet has changed.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import merge
from typing import TYPE_CHECKING

from lambent_proto.ids import NodeId
from lambent_proto.runtimes import runs

if TYPE_CHECKING:
    from lambent_placement.core.books import Node

Rank = tuple[int, int, NodeId]
"""Free memory, fewest instances, and the id, so that among equals the choice is always the same."""

Kind = frozenset[str]
"""The runtimes of nodes: those of one fleet have few different sets of them."""


@dataclass(slots=True)
class NodeIndex:
    nodes: dict[NodeId, "Node"]
    kinds: dict[Kind, list[Rank]] = field(default_factory=dict)
    """Of open nodes, the emptiest last."""
    places: dict[NodeId, tuple[Kind, Rank]] = field(default_factory=dict)
    registered: Counter[Kind] = field(default_factory=Counter)
    """How many registered nodes there are of each kind, open or not."""

    def update(self, node: "Node") -> None:
        """After any change of the node. One that is not open has no place."""
        rank = (node.free_mb, -len(node.instances), node.id)
        place = (node.runtimes, rank) if node.is_open else None
        old = self.places.get(node.id)
        if place == old:
            return
        if old is not None:
            self._take_out(node.id, *old)
        if place is not None:
            self.places[node.id] = place
            insort(self.kinds.setdefault(node.runtimes, []), rank)

    def _take_out(self, node: NodeId, kind: Kind, rank: Rank) -> None:
        del self.places[node]
        ranks = self.kinds[kind]
        del ranks[bisect_left(ranks, rank)]
        if not ranks:
            del self.kinds[kind]

    def emptiest(self, runtime: str) -> Iterator["Node"]:
        """Open nodes with the runtime, the emptiest first."""
        suitable = [reversed(ranks) for kind, ranks in self.kinds.items() if runs(kind, runtime)]
        ranks = suitable[0] if len(suitable) == 1 else merge(*suitable, reverse=True)
        return (self.nodes[node] for _, _, node in ranks)

    def somewhere(self, runtime: str) -> bool:
        """Whether a registered node has the runtime; also if there are no nodes: then those are missing."""
        if any(count and runs(kind, runtime) for kind, count in self.registered.items()):
            return True
        return not any(self.registered.values())
