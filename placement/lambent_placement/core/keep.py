"""What becomes of idle instances: when they end, who gives way first, what is started ahead of a call.

A policy is told what happens and answers from what it has seen; it changes nothing but its own notes, and
knows no clock. What it says is carried out by others, under the limits that everything is under. No answer
may cost more in a larger fleet. `fixed` is here, `greedy_dual` and `histogram` have modules of their own.
Provisioned instances are nothing to a policy: they neither end nor give way.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from lambent_proto.ids import NodeId

if TYPE_CHECKING:
    from lambent_placement.core.books import Books
    from lambent_placement.core.records import Instance, Node, Version

KEPT_S: Final = 3600.0
"""How long an idle instance is kept if nothing better is known: docs/decisions/0011."""


@dataclass(slots=True)
class Due:
    """What a policy would have done now."""

    over: list["Instance"] = field(default_factory=list)
    """Idle instances whose time has come."""
    warm: list["Version"] = field(default_factory=list)
    """Versions of which an instance is to be started: a call is expected."""


class Keep(Protocol):
    def called(self, instance: "Instance", at: float) -> None:
        """Somebody takes it up, new or idle until now; its function's `running` counts it already."""

    def freed(self, instance: "Instance", at: float) -> None:
        """Nobody holds it any more; its function's `running` still counts it."""

    def idles(self, instance: "Instance") -> None:
        """From here on it may end or give way."""

    def idles_no_more(self, instance: "Instance") -> None: ...

    def gives_way(self, instance: "Instance") -> None:
        """It is about to be evicted because others need its memory."""

    def due(self, at: float) -> Due:
        """Asked with every tick; what was answered once is not answered again."""

    def nodes(self) -> Iterator["Node"]:
        """Those with idle instances, each once: first the one whose own first to give way is worth least."""

    def on_node(self, node: "Node") -> Iterable["Instance"]:
        """What idles there, in the order in which it gives way."""

    def worth(self, instance: "Instance") -> float:
        """Of an idle instance, to be compared with others: the one worth less gives way."""


@dataclass(slots=True)
class Fixed:
    """Kept for a fixed time, or until its memory is needed: then the least recently used gives way."""

    books: "Books"
    keep_alive_s: float = KEPT_S

    def called(self, instance: "Instance", at: float) -> None:
        pass

    def freed(self, instance: "Instance", at: float) -> None:
        pass

    def idles(self, instance: "Instance") -> None:
        pass

    def idles_no_more(self, instance: "Instance") -> None:
        pass

    def gives_way(self, instance: "Instance") -> None:
        pass

    def due(self, at: float) -> Due:
        due = Due()
        for instance in self.books.idle.values():
            if at - instance.idle_since < self.keep_alive_s:
                break  # least recently used first: the rest is younger
            due.over.append(instance)
        return due

    def nodes(self) -> Iterator["Node"]:
        seen: set[NodeId] = set()
        for instance in self.books.idle.values():
            if instance.node not in seen:
                seen.add(instance.node)
                yield self.books.nodes[instance.node]

    def on_node(self, node: "Node") -> Iterable["Instance"]:
        return node.idle.values()

    def worth(self, instance: "Instance") -> float:
        return instance.idle_since
