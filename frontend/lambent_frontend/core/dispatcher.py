"""The frontend's decisions: which call runs next on which leased instance, and when a call has to give up.

Rule 1: everything that changes who waits and who runs goes through `Dispatcher.handle` alone.
Rule 2: this module knows no clock, no socket and no payload. Events carry the time they happened at.

A call that arrives is served in this order of preference:

    1. a function that is switched off throttles it at once;
    2. one that is called more often than it may be throttles it at once (`rates`);
    3. the most recently used idle instance that we hold a lease on takes it: where one is idle nobody waits;
    4. no room, a deadline that cannot be met, or a full line throttles it, or one that waits (`admission`);
    5. it waits for its turn (`turns`), and for whatever becomes free first: an instance of ours, or one that
       placement leases to us, warm or new.

A call is sent a second time only when the worker proves that the runtime never took it (`EventRefused`).
"""

from dataclasses import dataclass, field
from typing import Final, assert_never

from lambent_frontend.core import throttles
from lambent_frontend.core.admission import Admission
from lambent_frontend.core.books import Books
from lambent_frontend.core.call import Call
from lambent_frontend.core.commands import Command, Finish, Outcome, Release, ReportLink
from lambent_frontend.core.demands import Demands
from lambent_frontend.core.events import (
    ConcurrencySet,
    Event,
    EventAnswered,
    EventLost,
    EventRefused,
    FrontendsCounted,
    InvocationAbandoned,
    InvocationArrived,
    LeaseGiven,
    LeaseReady,
    LeaseVoided,
    LinkDown,
    LinkUp,
    PlacementAttached,
    PlacementLost,
    RecallAsked,
    Tick,
    UnmetTold,
    VersionDefined,
    VersionRemoved,
    VersionReplaced,
    WorkerLeaves,
)
from lambent_frontend.core.leases import Leases
from lambent_frontend.core.line import Line
from lambent_frontend.core.rates import Rates
from lambent_frontend.core.serving import Serving
from lambent_proto.ids import LATEST, RequestId, function_of, qualifier_of

GRACE_S: Final = 0.5
"""How long past its deadline a running call is kept: a function's own timeout, which ends at the same moment,
is a better answer than ours. Half of what promise 3 allows."""


@dataclass(slots=True)
class Dispatcher:
    """The state may be read by anyone and is changed by `handle` alone."""

    max_waiting: int = 1000
    """Calls that may wait for one version; more are throttled."""
    max_waiting_bytes: int = 256 * 1024 * 1024
    """Bytes of payload that may wait, for all versions together."""
    linger_s: float = 0.1
    rate_per_concurrency: float = 0.0
    """Calls a second that a function may have for each unit of its concurrency; 0 for no such limit."""
    books: Books = field(default_factory=Books)
    demands: Demands = field(init=False)
    serving: Serving = field(init=False)
    leases: Leases = field(init=False)
    admission: Admission = field(init=False)
    rates: Rates = field(init=False)

    def __post_init__(self) -> None:
        self.demands = Demands(self.books)
        self.serving = Serving(self.books, self.demands)
        self.leases = Leases(self.books, self.demands, self.serving, self.linger_s)
        self.admission = Admission(self.books, self.max_waiting, self.max_waiting_bytes)
        self.rates = Rates(self.rate_per_concurrency)

    def handle(self, event: Event) -> list[Command]:  # noqa: C901 - the one gate: a case an event
        """Takes one event and returns what must be done. Duplicates and late events have no effect."""
        match event:
            case InvocationArrived():
                return self._arrived(event)
            case EventAnswered():
                return self._answered(event)
            case LeaseGiven():
                return self.leases.given(event)
            case LeaseReady():
                return self.leases.ready(event)
            case InvocationAbandoned():
                return self._abandoned(event)
            case EventRefused():
                return self._refused(event)
            case EventLost():
                return self.leases.event_lost(event)
            case Tick():
                return self._tick(event.at)
            case RecallAsked():
                return self.leases.recalled(event)
            case UnmetTold():
                if line := self.books.lines.get(event.version):
                    line.tell_unmet(event.reason, event.detail, event.at)
                return []
            case LeaseVoided():
                return self.leases.voided(event)
            case LinkUp():
                self.books.links.add(event.node)
                return [ReportLink(event.node, up=True)] if self.books.attached else []
            case LinkDown():
                return self.leases.link_down(event)
            case WorkerLeaves():
                return self.leases.worker_leaves(event)
            case PlacementAttached():
                return self.demands.attach(event.at)
            case PlacementLost():
                self.books.attached = False
                for line in self.books.lines.values():
                    line.owed = 0
                return []
            case VersionDefined():
                self.books.set_limit(event.version, event.limit)
                return []
            case VersionReplaced():
                return self._replaced(event)
            case VersionRemoved():
                return self._removed(event)
            case ConcurrencySet():
                self.rates.fleet = event.concurrency
                return []
            case FrontendsCounted():
                self.rates.frontends = event.number
                return []
            case _:
                assert_never(event)

    def _arrived(self, event: InvocationArrived) -> list[Command]:
        line = self.books.line(event.version)
        if line.removed:
            return [_deleted(event.request, line)]
        if line.limit == 0:
            return [throttles.switched_off(event.request, line)]
        if refusal := self.rates.take(line, event.at):
            return [throttles.too_often(event.request, line, refusal)]
        rights = event.priority, event.tenant, event.size
        call = Call(event.request, line.version, event.deadline, event.at, *rights, event.sticky)
        if line.idle:
            self.books.calls[event.request] = call
            return [self.serving.send(line, call, event.at), *self.demands.ask(line, event.at)]
        return self.admission.admit(line, call, event.at) + self.demands.ask(line, event.at)

    def _answered(self, event: EventAnswered) -> list[Command]:
        lease = self.books.leases.get(event.instance)
        if lease is None or lease.request != event.request:
            return []
        commands: list[Command] = []
        if self.books.calls.pop(event.request, None) is not None:
            commands.append(Finish(event.request, Outcome.ANSWERED))
        line = self.books.free(lease, event.at)
        return commands + self.serving.serve(line, event.at) + self.leases.unlink()

    def _refused(self, event: EventRefused) -> list[Command]:
        lease = self.books.leases.get(event.instance)
        if lease is None or lease.request != event.request:
            return []
        line = self.books.drop(lease)
        commands: list[Command] = []
        if not lease.void:
            commands.append(Release([(lease.instance, lease.number)], sure=False))
        call = self.books.calls.get(event.request)
        if call is not None:
            call.running_on = None
            call.waited_for = event.reason
            call.had_turn = True
            line = self.books.line(call.version)
            self.books.join(line, call)
            if line.removed:
                commands += self._end_waiting(line)
        return commands + self.serving.serve(line, event.at) + self.leases.unlink()

    def _abandoned(self, event: InvocationAbandoned) -> list[Command]:
        call = self.books.calls.pop(event.request, None)
        if call is None or call.running_on is not None:
            return []  # if it runs it is finished, and its answer finds nobody
        line = self.books.line(call.version)
        self.books.leave(line, call)
        return self.demands.ask(line, event.at)

    def _tick(self, at: float) -> list[Command]:
        commands: list[Command] = []
        for request in [c.request for c in self.books.calls.values() if at >= c.deadline]:
            commands += self._overdue(self.books.calls[request], at)
        commands += self.demands.tell_served()
        for line in list(self.books.lines.values()):
            commands += self.leases.linger(line, at)
            commands += self.demands.tell_level(line, at)
            if line.unused:
                del self.books.lines[line.version]
        return commands

    def _overdue(self, call: Call, at: float) -> list[Command]:
        if call.running_on is None:
            line = self.books.line(call.version)
            del self.books.calls[call.request]
            self.books.leave(line, call)
            function, waited_s = function_of(line.version), at - call.arrived_at
            detail = f"no instance of function '{function}' became free in {waited_s:.1f} s"
            why = throttles.Refusal.IN_VAIN
            return [throttles.throttled(call.request, line, why, detail, self.books.attached)]
        if at < call.deadline + GRACE_S:
            return []
        del self.books.calls[call.request]
        detail = f"no answer by the deadline, {at - call.arrived_at:.1f} s after the call arrived"
        return [Finish(call.request, Outcome.DEADLINE, detail)]

    def _replaced(self, event: VersionReplaced) -> list[Command]:
        self.books.limits.pop(event.old, None)
        self.books.set_limit(event.new, event.limit)
        old, new = self.books.line(event.old), self.books.line(event.new)
        for call in self.books.calls.values():
            if call.version == event.old:
                call.version = event.new  # a running one too: if it is refused it waits for the new version
        for call in list(old.waiting.values()):
            self.books.leave(old, call)
            self.books.join(new, call)
        old.removed = True
        return self.serving.serve(old, event.at) + self.serving.serve(new, event.at)

    def _removed(self, event: VersionRemoved) -> list[Command]:
        self.books.limits.pop(event.version, None)
        line = self.books.line(event.version)
        line.removed = True
        if qualifier_of(line.version) == LATEST:
            self.rates.forget(function_of(line.version))
        return self._end_waiting(line) + self.serving.serve(line, event.at)

    def _end_waiting(self, line: Line) -> list[Command]:
        commands: list[Command] = []
        for call in list(line.waiting.values()):
            self.books.leave(line, call)
            del self.books.calls[call.request]
            commands.append(_deleted(call.request, line))
        return commands


def _deleted(request: RequestId, line: Line) -> Finish:
    qualifier = qualifier_of(line.version)
    version = "" if qualifier == LATEST else f"version {qualifier} of "
    return Finish(request, Outcome.REMOVED, f"{version}function '{function_of(line.version)}' was deleted")
