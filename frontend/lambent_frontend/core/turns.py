"""Whose turn it is among the calls that wait for one version, and which of them has to give way.

The next call is, in this order of preference:

    1. one that was sent and never ran, the oldest of them: it has had its turn;
    2. of the highest class that was passed over `PATIENCE` times since its last turn;
    3. of the highest class in which calls wait;

and in its class

    4. of the tenant whose turn it is: tenants take turns, call by call, and one that joins comes last;
    5. the oldest of that tenant.

When one too many would wait, the one that gives way is, the newcomer counted,

    6. of the lowest class;
    7. of the tenant that has most of its calls, the newcomer's own if another has as many;
    8. the newest of that tenant.

A call that has had its turn does not give way.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, takewhile, zip_longest
from typing import Final

from lambent_frontend.core.call import Call, Priority
from lambent_proto.ids import RequestId

PATIENCE: Final = 8
"""How often calls of higher classes are preferred to one class that waits: it has a ninth of the turns, and
the lowest of three a tenth, however many calls there are above it."""

InOrder = OrderedDict[RequestId, Call]


@dataclass(slots=True, eq=False)
class Queue:
    """What one tenant has waiting in one class, the oldest first."""

    calls: InOrder = field(default_factory=OrderedDict)
    size: int = 0
    """Bytes of all of them."""


@dataclass(slots=True, eq=False)
class Rank:
    """One class."""

    queues: OrderedDict[str, Queue] = field(default_factory=OrderedDict)
    """By tenant, in the order of their turns."""
    passed_over: int = 0
    """Turns that higher classes have had since its own last one, while it waited."""


@dataclass(slots=True, eq=False)
class Turns:
    again: InOrder = field(default_factory=OrderedDict)
    """Those that have had their turn, the oldest first."""
    ranks: list[Rank] = field(default_factory=lambda: [Rank() for _ in Priority])

    def join(self, call: Call) -> None:
        if call.had_turn:
            by_age(self.again, call)
            return
        queues = self.ranks[call.priority].queues
        queue = queues.get(call.tenant)
        if queue is None:
            queue = queues[call.tenant] = Queue()
        queue.calls[call.request] = call
        queue.size += call.size

    def leave(self, call: Call) -> None:
        if call.had_turn:
            del self.again[call.request]
            return
        rank = self.ranks[call.priority]
        queue = rank.queues[call.tenant]
        del queue.calls[call.request]
        queue.size -= call.size
        if not queue.calls:
            del rank.queues[call.tenant]
            if not rank.queues:
                rank.passed_over = 0

    def next(self) -> Call:
        """Takes out the call whose turn it is. There must be one."""
        if self.again:
            return self.again.popitem(last=False)[1]
        queues = self._turn().queues
        tenant, queue = next(iter(queues.items()))
        queues.move_to_end(tenant)
        call = next(iter(queue.calls.values()))
        self.leave(call)
        return call

    def _turn(self) -> Rank:
        waiting = [rank for rank in self.ranks if rank.queues]
        turn = next((rank for rank in waiting if rank.passed_over >= PATIENCE), waiting[0])
        turn.passed_over = 0
        for lower in waiting[waiting.index(turn) + 1 :]:
            lower.passed_over += 1
        return turn

    def gives_way(self, newcomer: Call) -> Call:
        """Looks at every tenant of one class: there are no more than calls in the line."""
        waiting = [priority for priority in Priority if self.ranks[priority].queues]
        if not waiting or newcomer.priority > waiting[-1]:
            return newcomer
        lowest = waiting[-1]
        most = max(self.ranks[lowest].queues.values(), key=lambda queue: len(queue.calls)).calls
        if newcomer.priority == lowest and self.waiting_like(newcomer) + 1 >= len(most):
            return newcomer
        return next(reversed(most.values()))

    def size_like(self, newcomer: Call) -> int:
        """Bytes that wait of its tenant in its class."""
        queue = self.ranks[newcomer.priority].queues.get(newcomer.tenant)
        return queue.size if queue else 0

    def waiting_like(self, newcomer: Call) -> int:
        """Calls that wait of its tenant in its class."""
        queue = self.ranks[newcomer.priority].queues.get(newcomer.tenant)
        return len(queue.calls) if queue else 0

    def ahead(self, newcomer: Call) -> Iterator[Call]:
        """Those that have their turn before the newcomer for certain, in about that order."""
        rounds = self.waiting_like(newcomer)
        queues = self.ranks[newcomer.priority].queues.values()
        turns = zip_longest(*(islice(queue.calls.values(), rounds) for queue in queues))
        equals = [call for each in turns for call in each if call is not None]
        higher = (queue for rank in self.ranks[: newcomer.priority] for queue in rank.queues.values())
        above = (call for queue in higher for call in queue.calls.values())
        yield from self.again.values()
        yield from islice(above, PATIENCE * len(equals))
        yield from equals


def by_age(calls: InOrder, call: Call) -> None:
    """Puts in a call that may be older than some that are there."""
    older = list(takewhile(lambda other: other.arrived_at <= call.arrived_at, calls.values()))
    calls[call.request] = call
    for ahead in (call, *reversed(older)):
        calls.move_to_end(ahead.request, last=False)
