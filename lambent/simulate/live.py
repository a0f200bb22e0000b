"""The live cores over a trace: placement's scheduler and the frontend's dispatcher, in virtual time.

The network takes no time, a cold start `cold_s`, a call as long as the trace says.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final

from lambent.simulate.figures import Counted
from lambent.simulate.trace import Invocation, Trace
from lambent_frontend.core import commands as frontend_do
from lambent_frontend.core import events as frontend_on
from lambent_frontend.core.dispatcher import Dispatcher
from lambent_placement.core import commands as do
from lambent_placement.core import events as on
from lambent_placement.core.scheduler import Scheduler
from lambent_placement.core.shadow import Shadow, noted
from lambent_proto.ids import (
    Epoch,
    FrontendId,
    FunctionName,
    InstanceId,
    LeaseNumber,
    NodeId,
    RequestId,
    VersionKey,
)

F: Final = FrontendId("frontend@1")
RUNTIME: Final = "python3.11"
TICK_S: Final = 0.1
QUIET_TICK_S: Final = 10.0
"""The longest while no call runs or waits: a hundredth of the time for which an instance is kept, if that is
shorter. So much longer than it should be an instance is kept at the most."""
PATIENCE_S: Final = 60.0
"""How long a caller waits for an instance, beside what its call takes."""


@dataclass(slots=True)
class Live:
    trace: Trace
    counted: Counted
    nodes: int
    node_mb: int
    cold_s: float
    keep_alive_s: float
    keep: str = "fixed"
    starts_s: Sequence[float] = ()
    """What the first starts take, one after the other; further ones take `cold_s`."""
    shadow: Shadow | None = None
    """Sees all that the scheduler does."""
    quiet_s: float = 0.0
    """How often both cores are told the time while nothing runs or waits; 0: by `keep_alive_s`."""
    now: float = 0.0
    scheduler: Scheduler = field(init=False)
    dispatcher: Dispatcher = field(init=False)
    _versions: list[VersionKey] = field(init=False)
    _later: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _serial: Any = field(default_factory=count)
    _todo: deque[Callable[[], None]] = field(default_factory=deque)
    _calls: dict[RequestId, Invocation] = field(default_factory=dict)
    _busy: dict[InstanceId, RequestId] = field(default_factory=dict)
    _fenced: dict[InstanceId, LeaseNumber] = field(default_factory=dict)
    _idle_since: dict[InstanceId, tuple[float, int]] = field(default_factory=dict)
    """And its memory."""

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(Epoch(1), keep=self.keep, keep_alive_s=self.keep_alive_s)
        if not self.quiet_s:
            self.quiet_s = min(QUIET_TICK_S, max(TICK_S, self.keep_alive_s / 100))
        self.dispatcher = Dispatcher(max_waiting=100_000)
        self.dispatcher.books.attached = True
        names = [NodeId(f"node-{number}@1") for number in range(1, self.nodes + 1)]
        self._place(on.ConcurrencySet(1_000_000, 0.0))
        for name in names:
            self._place(on.NodeRegistered(name, self.node_mb, frozenset({RUNTIME})))
            self._place(on.NodeReported(name, self.node_mb, [], 0.0))
            self.dispatcher.handle(frontend_on.LinkUp(name))
        self._place(on.FrontendAttached(F, [], [], names, 0.0))
        self._versions = []
        for number, function in enumerate(self.trace.functions):
            version = VersionKey(f"f{number}:$LATEST:1")
            self._versions.append(version)
            self._place(
                on.FunctionDefined(
                    FunctionName(f"f{number}"), version, function.memory_mb, None, RUNTIME, 0.0
                )
            )
            self.dispatcher.handle(frontend_on.VersionDefined(version, None))

    def run(self, invocations: list[Invocation], progress: Callable[[int], None]) -> None:
        began = time.process_time()
        tick_at = 0.0
        for number, invocation in enumerate(invocations):
            tick_at = self._until(invocation.at, tick_at)
            self._arrives(RequestId(f"{number}"), invocation)
            tick_at = min(tick_at, self.now + TICK_S)  # the quiet is over
            if number % 1000 == 0:
                progress(number)
        self._until(self.now + PATIENCE_S, tick_at)
        for instance in list(self._idle_since):
            self._stops_idling(instance)
        self.counted.cpu_s = time.process_time() - began

    def _until(self, end: float, tick_at: float) -> float:
        """All that is due by then, and the ticks of both cores; returns when the next one is."""
        while True:
            at = min(self._later[0][0] if self._later else end, tick_at)
            if at >= end:
                self.now = max(self.now, end)
                return tick_at
            self.now = max(self.now, at)
            if at == tick_at:
                quiet = not (self._calls or self.dispatcher.books.leases)
                tick_at = self.now + (self.quiet_s if quiet else TICK_S)
                self._front(frontend_on.Tick(self.now))
                self._place(on.Tick(self.now))
            else:
                heappop(self._later)[2]()
            self._settle()

    def _arrives(self, request: RequestId, invocation: Invocation) -> None:
        self._calls[request] = invocation
        deadline = self.now + invocation.duration_s + PATIENCE_S
        version = self._versions[invocation.function]
        self._front(frontend_on.InvocationArrived(request, version, deadline, self.now))
        self._settle()

    def _settle(self) -> None:
        """What one core told the other, until neither has anything more to say."""
        while self._todo:
            self._todo.popleft()()

    def _after(self, seconds: float, then: Callable[[], None]) -> None:
        heappush(self._later, (self.now + seconds, next(self._serial), then))

    def _front(self, event: frontend_on.Event) -> None:
        for command in self.dispatcher.handle(event):
            self._of_frontend(command)

    def _place(self, event: on.Event) -> None:
        self.counted.decisions += 1
        commands = self.scheduler.handle(event)
        if self.shadow is not None:
            self.shadow.see(noted(event, commands, self.scheduler.books))
        for command in commands:
            self._todo.append(partial(self._of_placement, command))

    def _of_frontend(self, command: frontend_do.Command) -> None:
        match command:
            case frontend_do.Dispatch():
                self._runs(command)
            case frontend_do.Finish():
                if command.outcome is frontend_do.Outcome.THROTTLED:
                    at = self._calls.pop(command.request).at
                    self.counted.gave_up(at, self.now - at)
            case frontend_do.Demand():
                wish = on.Wish(command.version, command.wanted, command.oldest_wait_s, command.keys)
                self._todo.append(lambda: self._place(on.Demanded(F, wish, self.now)))
            case frontend_do.Release():
                self._todo.append(lambda: self._place(on.Released(F, command.leases, command.sure, self.now)))
            case frontend_do.AnswerRecall():
                self._todo.append(
                    lambda: self._place(on.Recalled(F, command.version, command.leases, self.now))
                )
            case _:
                pass  # links and streams stand from the beginning

    def _runs(self, command: frontend_do.Dispatch) -> None:
        invocation = self._calls[command.request]
        self._stops_idling(command.instance)
        self._busy[command.instance] = command.request
        self.counted.served(invocation.function, invocation.at, command.waited_s, cold=command.cold)
        self.counted.ran(self.now, self.now + invocation.duration_s)
        self._after(invocation.duration_s, lambda: self._answers(command.instance, command.request))

    def _answers(self, instance: InstanceId, request: RequestId) -> None:
        del self._calls[request]
        del self._busy[instance]
        self._idles(instance)
        self._front(frontend_on.EventAnswered(instance, request, self.now))
        number = self._fenced.pop(instance, None)
        if number is not None:
            self._place(on.InstanceFreed(instance, number, False, self.now))

    def _of_placement(self, command: do.Command) -> None:
        at = self.now
        match command:
            case do.Grant():
                number = self.counted.starts
                self.counted.starts += 1
                takes_s = self.starts_s[number] if number < len(self.starts_s) else self.cold_s
                self._after(takes_s, lambda: self._ready(command.instance, takes_s))
            case do.GiveLease():
                told = command.instance, command.number, command.node, command.version
                self._front(frontend_on.LeaseGiven(*told, command.starting, command.reason, at))
            case do.TellReady():
                ready = command.instance, command.number, command.starting_ms, command.init_ms
                self._front(frontend_on.LeaseReady(*ready, at))
            case do.VoidLease():
                void = command.instance, command.number, command.reason, command.node_lost, command.error
                self._front(frontend_on.LeaseVoided(*void, at))
            case do.Recall():
                self._front(frontend_on.RecallAsked(command.version, command.wanted, at))
            case do.TellUnmet():
                told_why = command.version, command.reason.value, command.detail, at
                self._front(frontend_on.UnmetTold(*told_why))
            case do.Evict():
                self._stops_idling(command.instance)
                self._place(on.InstanceGone(command.instance, command.reason, b"", at))
            case do.Fence():
                self._fences(command)

    def _fences(self, command: do.Fence) -> None:
        busy = command.instance in self._busy
        if busy:
            self._fenced[command.instance] = command.number
        self._place(on.InstanceFreed(command.instance, command.number, busy, self.now))

    def _ready(self, instance: InstanceId, took_s: float) -> None:
        if instance in self.scheduler.books.instances:
            self._idles(instance)
            self._place(on.InstanceReady(instance, 0.0, took_s * 1000, self.now))

    def _idles(self, instance: InstanceId) -> None:
        known = self.scheduler.books.instances.get(instance)
        if known is not None:
            self._idle_since[instance] = self.now, known.memory_mb

    def _stops_idling(self, instance: InstanceId) -> None:
        since, memory_mb = self._idle_since.pop(instance, (self.now, 0))
        if memory_mb:
            self.counted.idled(since, self.now, memory_mb)
