"""What schedulers do that know no warm instances: they choose a node, by chance or by load, and hope.

Each node keeps what it has started until it needs the memory for something else, least recently used first.
"""

import random
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from lambent.simulate.figures import Counted
from lambent.simulate.trace import Invocation, Trace


@dataclass(slots=True, eq=False)
class Node:
    free_mb: int
    busy: int = 0
    idle: OrderedDict[int, tuple[int, float]] = field(default_factory=OrderedDict)
    """Instances by serial, least recently used first: function, and since when."""
    warm: dict[int, list[int]] = field(default_factory=dict)
    """Serials by function, most recently used last."""


@dataclass(slots=True)
class Baseline:
    trace: Trace
    counted: Counted
    nodes: list[Node]
    cold_s: float
    choose: Callable[[list[Node]], Node]
    _ends: list[tuple[float, int, Node, int]] = field(default_factory=list)
    _waiting: deque[tuple[Invocation, Node]] = field(default_factory=deque)
    _serial: int = 0

    def run(self, invocations: list[Invocation], progress: Callable[[int], None]) -> None:
        for number, invocation in enumerate(invocations):
            self._until(invocation.at)
            self._arrives(invocation, self.choose(self.nodes), invocation.at)
            if number % 1000 == 0:
                progress(number)
        self._until(float("inf"))
        end = invocations[-1].at if invocations else 0.0
        for node in self.nodes:
            while node.idle:
                self._evict(node, end)

    def _until(self, at: float) -> None:
        while self._ends and self._ends[0][0] <= at:
            now, serial, node, function = heappop(self._ends)
            node.busy -= 1
            node.idle[serial] = function, now
            node.warm.setdefault(function, []).append(serial)
            for _ in range(len(self._waiting)):
                self._arrives(*self._waiting.popleft(), now)

    def _arrives(self, invocation: Invocation, node: Node, now: float) -> None:
        function = invocation.function
        memory_mb = self.trace.functions[function].memory_mb
        serials = node.warm.get(function)
        if serials:
            serial, cold_s = serials.pop(), 0.0
            _, since = node.idle.pop(serial)
            self.counted.idled(since, now, memory_mb)
        else:
            while node.free_mb < memory_mb and node.idle:
                self._evict(node, now)
            if node.free_mb < memory_mb:
                self._waiting.append((invocation, node))
                return
            node.free_mb -= memory_mb
            self._serial += 1
            self.counted.starts += 1
            serial, cold_s = self._serial, self.cold_s
        node.busy += 1
        waited_s = now - invocation.at + cold_s
        self.counted.served(function, invocation.at, waited_s, cold=cold_s > 0)
        end = now + cold_s + invocation.duration_s
        self.counted.ran(now + cold_s, end)
        heappush(self._ends, (end, serial, node, function))

    def _evict(self, node: Node, now: float) -> None:
        serial, (function, since) = node.idle.popitem(last=False)
        node.warm[function].remove(serial)
        memory_mb = self.trace.functions[function].memory_mb
        node.free_mb += memory_mb
        self.counted.idled(since, now, memory_mb)


def by_chance(seed: int) -> Callable[[list[Node]], Node]:
    dice = random.Random(seed)
    return dice.choice


def by_load(nodes: list[Node]) -> Node:
    return min(nodes, key=lambda node: (node.busy, -node.free_mb))
