"""Sticky keys: which instance, on which node, served the calls of one key last.

It is a preference and nothing more: what is known here may be old or forgotten, and no call waits for it.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from lambent_proto.ids import FunctionName, InstanceId, NodeId

NO_KEY: Final = 0

STICKY_INSTANCE: Final = "sticky_instance"
STICKY_NODE: Final = "sticky_node"
"""Reasons of a warm start: docs/explain.md."""

REMEMBERED: Final = 50_000
"""Keys, of all functions together; those that were not used for longest are forgotten. Some 15 MB."""


def sticky_of(key: str) -> int:
    """The 64-bit number that stands for a caller's key; NO_KEY for the empty one."""
    if not key:
        return NO_KEY
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") or 1


class Last(NamedTuple):
    instance: InstanceId
    node: NodeId


@dataclass(slots=True)
class Served:
    last: OrderedDict[tuple[FunctionName, int], Last] = field(default_factory=OrderedDict)

    def note(self, function: FunctionName, key: int, instance: InstanceId, node: NodeId) -> None:
        self.last[function, key] = Last(instance, node)
        self.last.move_to_end((function, key))
        if len(self.last) > REMEMBERED:
            self.last.popitem(last=False)

    def by(self, function: FunctionName, key: int) -> Last | None:
        """Who served the key last, as far as is known."""
        return self.last.get((function, key))
