"""Greedy-dual: what is called rarely, starts fast and takes much memory gives way first.

The policy of FaasCache (ASPLOS 2021). An instance that becomes idle is worth

    clock + calls of its function * milliseconds that its last start took / megabytes

and the clock is what the last one was worth that gave way: so what is not used again grows cheap beside what
comes after it, however much it was called before. Without memory pressure it is `fixed`.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lambent_placement.core.keep import Fixed
from lambent_proto.ids import InstanceId, NodeId

if TYPE_CHECKING:
    from lambent_placement.core.records import Instance, Node

UNKNOWN_MS: Final = 250.0
"""What a start costs that no leader has seen yet: that of a runtime with a few libraries."""

Rank = tuple[float, float, InstanceId]
"""Its worth; among equals the least recently used gives way."""


@dataclass(slots=True)
class GreedyDual(Fixed):
    clock: float = 0.0
    ranks: dict[InstanceId, Rank] = field(default_factory=dict)
    on: dict[NodeId, list[Rank]] = field(default_factory=dict)
    """What idles on each node, the first to give way first."""
    firsts: list[tuple[Rank, NodeId]] = field(default_factory=list)
    """The first of each node."""

    def idles(self, instance: "Instance") -> None:
        function = self.books.version(instance.version).function
        calls, cost_ms = max(1, function.calls), function.start_ms or UNKNOWN_MS
        worth = self.clock + calls * cost_ms / max(1, instance.memory_mb)
        rank = self.ranks[instance.id] = (worth, instance.idle_since, instance.id)
        ranks = self.on.setdefault(instance.node, [])
        if not ranks or rank < ranks[0]:
            self._replace_first(instance.node, ranks[:1], [rank])
        insort(ranks, rank)

    def idles_no_more(self, instance: "Instance") -> None:
        rank = self.ranks.pop(instance.id)
        ranks = self.on[instance.node]
        place = bisect_left(ranks, rank)
        del ranks[place]
        if place == 0:
            self._replace_first(instance.node, [rank], ranks[:1])
        if not ranks:
            del self.on[instance.node]

    def _replace_first(self, node: NodeId, old: list[Rank], new: list[Rank]) -> None:
        for rank in old:
            del self.firsts[bisect_left(self.firsts, (rank, node))]
        for rank in new:
            insort(self.firsts, (rank, node))

    def gives_way(self, instance: "Instance") -> None:
        self.clock = max(self.clock, self.worth(instance))

    def nodes(self) -> Iterator["Node"]:
        return (self.books.nodes[node] for _, node in self.firsts)

    def on_node(self, node: "Node") -> Iterable["Instance"]:
        return (self.books.instances[instance] for _, _, instance in self.on.get(node.id, ()))

    def worth(self, instance: "Instance") -> float:
        return self.ranks[instance.id][0]
