"""The workers of a shadow: they start and stop what it says, and take for it what the live ones took of late.

A start that the live fleet makes at the same time, of the same version, is its twin: it is ready, fails or is
refused when that is. One without a twin takes as long as the last start of its function, or of any, and does
not fail. Twins stay twins: what the one is stopped or fenced for in both worlds takes as long in both, and
where one of several instances ends or is given back, it is the twin of the live one. Any other would be on
another node, and from there on memory would be short on other nodes. Without a twin what is to be stopped
is gone after `STOP_S`, and what is fenced is free at once. A message of a node that is not connected is lost,
and what runs there is said again when it reports.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final

from lambent_placement.core.books import Books
from lambent_placement.core.commands import Command, Evict, Fence, Grant
from lambent_placement.core.events import (
    Event,
    GrantRefused,
    InstanceFreed,
    InstanceGone,
    InstanceReady,
    NodeReported,
    Reported,
)
from lambent_placement.core.records import Instance, State
from lambent_proto.ids import FunctionName, InstanceId, LeaseNumber, NodeId, VersionKey, function_of

START_S: Final = 0.25
"""What a start takes before any has been seen: that of a runtime with a few libraries."""

STOP_S: Final = 0.05
"""What an eviction takes: some tens of milliseconds."""


@dataclass(slots=True)
class Start:
    """One that the live fleet makes, or has made."""

    version: VersionKey
    node: NodeId
    at: float
    twin: InstanceId | None = None
    """The shadow's that goes as this one goes."""


@dataclass(slots=True)
class Workers:
    books: Books
    """The shadow's."""
    starts: dict[InstanceId, Start] = field(default_factory=dict)
    """Of the live fleet, under way."""
    single: dict[VersionKey, dict[InstanceId, Start]] = field(default_factory=dict)
    """Those that have no twin yet."""
    took: dict[FunctionName, float] = field(default_factory=dict)
    """Seconds of the last start of each function, as placement saw it."""
    last_s: float = START_S
    twins: dict[InstanceId, Start] = field(default_factory=dict)
    """Instances of the live fleet that have one. Those of earlier leaders are their own."""
    stopped: set[InstanceId] = field(default_factory=set)
    """The shadow's, whose twin the live fleet stops."""
    fenced: set[InstanceId] = field(default_factory=set)
    """The shadow's, whose twin the live fleet fences."""
    later: list[tuple[float, int, InstanceId, bool]] = field(default_factory=list)
    """When, a serial, what of the shadow's, and whether it is ready then, or gone or free."""
    serial: int = 0

    # What the shadow says

    def start(self, grant: Grant, at: float) -> None:
        single = self.single.get(grant.version)
        if not single:
            took = self.took.get(function_of(grant.version), self.last_s)
            self._after(at + took, grant.instance, ready=True)
            return
        near = (it for it, start in single.items() if start.node == grant.node)
        live = next(near, None) or next(iter(single))
        start = self.twins[live] = single.pop(live)
        start.twin = grant.instance
        if not single:
            del self.single[grant.version]

    def stop(self, evict: Evict, at: float) -> None:
        if evict.instance not in self.stopped:
            self._after(at + STOP_S, evict.instance, ready=False)

    def free(self, fence: Fence, at: float) -> list[Event]:
        """The event of whoever held it is another's from here on: nothing runs there, as far as is known."""
        if fence.instance in self.fenced:
            return []
        return [InstanceFreed(fence.instance, fence.number, False, at)]

    def _after(self, at: float, instance: InstanceId, *, ready: bool) -> None:
        self.serial += 1
        heappush(self.later, (at, self.serial, instance, ready))

    def next_due(self, at: float) -> InstanceReady | InstanceGone | InstanceFreed | None:
        """What a worker says by then, the earliest first."""
        while self.later and self.later[0][0] <= at:
            due_at, _, instance, ready = heappop(self.later)
            if not self._heard(instance):
                continue
            if ready:
                return InstanceReady(instance, 0.0, 1000 * self._took(instance), due_at)
            if self._is(State.STOPPING, instance):
                return InstanceGone(instance, "stopped", b"", due_at)
            if self._is(State.FENCING, instance):
                return InstanceFreed(instance, self.books.instances[instance].number, False, due_at)
        return None

    def _took(self, instance: InstanceId) -> float:
        return self.took.get(function_of(self.books.instances[instance].version), self.last_s)

    def _heard(self, instance: InstanceId) -> bool:
        known = self.books.instances.get(instance)
        return known is not None and self.books.nodes[known.node].connected

    def _is(self, state: State, instance: InstanceId) -> bool:
        return instance in self.books.instances and self.books.instances[instance].state is state

    # What the live fleet says

    def twin(self, live: InstanceId) -> InstanceId | None:
        """The shadow's instance that stands for this one; it may be gone."""
        start = self.twins.get(live)
        return start.twin if start is not None else None

    def live_said(self, commands: Iterable[Command], at: float) -> None:
        for command in commands:
            if isinstance(command, Grant):
                start = self.starts[command.instance] = Start(command.version, command.node, at)
                self.single.setdefault(command.version, {})[command.instance] = start
            elif isinstance(command, Evict | Fence):
                twin = self.twin(command.instance)
                if twin is not None:
                    (self.stopped if isinstance(command, Evict) else self.fenced).add(twin)

    def live_ready(self, event: InstanceReady) -> Event | None:
        """What the shadow hears of it."""
        start = self._over(event.instance)
        if start is None:
            return event if self._heard(event.instance) else None
        self.last_s = self.took[function_of(start.version)] = event.at - start.at
        if start.twin is None or not self._heard(start.twin):
            return None
        return InstanceReady(start.twin, event.starting_ms, event.init_ms, event.at, event.restored)

    def live_refused(self, event: GrantRefused) -> Event | None:
        start = self._over(event.instance)
        self._part(event.instance)
        if start is None or start.twin is None or not self._heard(start.twin):
            return None
        return GrantRefused(start.twin, event.reason, event.at)

    def live_freed(self, event: InstanceFreed) -> Event | None:
        twin = self.twin(event.instance)
        if twin is None or twin not in self.fenced:
            return None
        if not event.busy:
            self.fenced.discard(twin)
        if not self._is(State.FENCING, twin) or not self._heard(twin):
            return None
        return InstanceFreed(twin, self.books.instances[twin].number, event.busy, event.at)

    def live_gone(self, event: InstanceGone, used: InstanceId | None) -> Event | None:
        """`used`: the shadow's instance that whoever used this one uses there; None if nobody did."""
        start = self._over(event.instance)
        gone = start.twin if start is not None else self._goes_with(event.instance, used)
        self._part(event.instance)
        if gone is None or not self._heard(gone):
            return None
        return InstanceGone(gone, event.reason, event.error, event.at)

    def _goes_with(self, live: InstanceId, used: InstanceId | None) -> InstanceId | None:
        twin = self.twin(live)
        if twin is None:
            return used
        if twin in self.stopped:
            return twin if self._is(State.STOPPING, twin) else None
        if twin == live or self._is(State.FENCING, twin):
            return twin
        return used

    def _part(self, live: InstanceId) -> InstanceId | None:
        """The live one of two twins is no more. Returns the other."""
        twin = self.twin(live)
        if twin is not None:
            del self.twins[live]
            self.stopped.discard(twin)
            self.fenced.discard(twin)
        return twin

    def live_reported(self, event: NodeReported) -> list[Event]:
        """What the shadow hears of starts that were over while the node was not connected."""
        ready = {it.instance for it in event.instances if it.state != "starting"}
        over = [InstanceReady(it, 0.0, 0.0, event.at) for it in sorted(ready & self.starts.keys())]
        return [heard for it in over if (heard := self.live_ready(it)) is not None]

    def live_lost(self, node: NodeId, at: float, there: Set[InstanceId] = frozenset()) -> None:
        """Starts on a node that are not there: nobody will say how they went."""
        lost = [it for it, start in self.starts.items() if start.node == node and it not in there]
        for instance in lost:
            start = self._over(instance)
            if start is not None and start.twin is not None:
                took = self.took.get(function_of(start.version), self.last_s)
                self._after(at + took, start.twin, ready=True)
        for live in [it for it, start in self.twins.items() if start.node == node and it not in there]:
            twin = self._part(live)
            if twin is not None:
                self._after(at + STOP_S, twin, ready=False)

    def _over(self, instance: InstanceId) -> Start | None:
        start = self.starts.pop(instance, None)
        if start is not None and start.twin is None:
            single = self.single[start.version]
            del single[instance]
            if not single:
                del self.single[start.version]
        return start

    def forget(self, function: FunctionName) -> None:
        self.took.pop(function, None)

    # Nodes that connect again

    def reported(self, event: NodeReported) -> NodeReported:
        """What the shadow's worker reports: at first what is there in the live fleet, then its own."""
        node = self.books.nodes.get(event.node)
        if node is None or not node.reported:
            for it in event.instances:
                self.twins.setdefault(it.instance, Start(it.version, event.node, event.at, it.instance))
            return event
        twins = {start.twin for start in self.starts.values()}
        for instance in node.instances.values():
            if instance.state is State.STOPPING:
                self._after(event.at + STOP_S, instance.id, ready=False)
            elif not instance.ready and instance.id not in twins:
                self._after(event.at + self._took(instance.id), instance.id, ready=True)
        reports = [_report(instance) for instance in node.instances.values()]
        return NodeReported(event.node, event.memory_mb, reports, event.at, event.leaving)


def _report(instance: Instance) -> Reported:
    state = "stopping" if instance.state is State.STOPPING else "idle" if instance.ready else "starting"
    held = instance.id, instance.version, instance.memory_mb, state, LeaseNumber(0), instance.frontend
    return Reported(*held, instance.provisioned)
