"""The frontend's decisions: which call runs next on which leased instance, and when a call has to give up.

Rule 1: everything that changes who waits and who runs goes through `Dispatcher.handle` alone.
Rule 2: this module knows no clock, no socket and no payload. Events carry the time they happened at.

A call that arrives is served in this order of preference:

    1. a function that is switched off throttles it at once;
    2. the most recently used idle instance that we hold a lease on takes it, unless others wait already;
    3. a full line throttles it;
    4. it waits, oldest first, for whatever becomes free first: an instance of ours, or one that placement
       leases to us, warm or new.

A lease is kept while there is work and for `linger_s` afterwards, then released. When placement recalls
leases, idle ones go back at once, busy ones after their event and before our own line. What we could use is
told to placement as a level, "so many in all", so that a message lost or sent twice changes nothing.

A call is sent a second time only when the worker proves that the runtime never took it (`EventRefused`).
"""

from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final, assert_never

from lambent_frontend.core import throttles
from lambent_frontend.core.commands import (
    AnswerRecall,
    Attach,
    Command,
    Demand,
    Dispatch,
    Finish,
    Outcome,
    Release,
    ReportLink,
    Unlink,
)
from lambent_frontend.core.events import (
    Event,
    EventAnswered,
    EventRefused,
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
from lambent_frontend.core.line import Call, Hold, Lease, Line
from lambent_proto.ids import InstanceId, LeaseNumber, NodeId, RequestId, VersionKey, function_of

GRACE_S: Final = 0.5
"""How long past its deadline a running call is kept: a function's own timeout, which ends at the same moment,
is a better answer than ours. Half of what promise 3 allows."""

DEMAND_REFRESH_S: Final = 0.1
"""How often placement hears again how long the oldest call has waited."""


@dataclass(slots=True)
class Dispatcher:
    """The state may be read by anyone and is changed by `handle` alone."""

    max_waiting: int = 1000
    """Calls that may wait for one version; more are throttled."""
    linger_s: float = 0.1
    lines: dict[VersionKey, Line] = field(default_factory=dict)
    calls: dict[RequestId, Call] = field(default_factory=dict)
    leases: dict[InstanceId, Lease] = field(default_factory=dict)
    links: set[NodeId] = field(default_factory=set)
    """Workers that events may be sent to."""
    leaving: set[NodeId] = field(default_factory=set)
    """Workers that will end, and still owe answers."""
    attached: bool = False
    """A stream to the leading placement stands."""

    def handle(self, event: Event) -> list[Command]:  # noqa: C901 - the one gate: a case an event
        """Takes one event and returns what must be done. Duplicates and late events have no effect."""
        match event:
            case InvocationArrived():
                return self._arrived(event)
            case EventAnswered():
                return self._answered(event)
            case LeaseGiven():
                return self._given(event)
            case LeaseReady():
                return self._ready(event)
            case InvocationAbandoned():
                return self._abandoned(event)
            case EventRefused():
                return self._refused(event)
            case Tick():
                return self._tick(event.at)
            case RecallAsked():
                return self._recalled(event)
            case UnmetTold():
                if line := self.lines.get(event.version):
                    line.unmet, line.unmet_detail = event.reason, event.detail
                return []
            case LeaseVoided():
                return self._voided(event)
            case LinkUp():
                self.links.add(event.node)
                return [ReportLink(event.node, up=True)] if self.attached else []
            case LinkDown():
                return self._link_down(event)
            case WorkerLeaves():
                return self._leaves(event)
            case PlacementAttached():
                return self._attach(event.at)
            case PlacementLost():
                self.attached = False
                for line in self.lines.values():
                    line.owed = 0
                return []
            case VersionDefined():
                self._line(event.version).limit = event.limit
                return []
            case VersionReplaced():
                return self._replaced(event)
            case VersionRemoved():
                return self._removed(event)
            case _:
                assert_never(event)

    # Calls

    def _arrived(self, event: InvocationArrived) -> list[Command]:
        line = self._line(event.version)
        function = function_of(line.version)
        if line.removed:
            return [Finish(event.request, Outcome.REMOVED, f"function '{function}' was deleted")]
        if line.limit == 0:
            detail = f"function '{function}' is switched off: its concurrency is 0"
            return [self._throttled(event.request, line, detail)]
        if not (line.idle and not line.waiting) and len(line.waiting) >= self.max_waiting:
            return [self._throttled(event.request, line, self._full(line))]
        call = Call(event.request, line.version, event.deadline, event.at)
        self.calls[event.request] = call
        line.waiting[event.request] = call
        return self._serve(line, event.at)

    def _answered(self, event: EventAnswered) -> list[Command]:
        lease = self.leases.get(event.instance)
        if lease is None or lease.request != event.request:
            return []
        commands: list[Command] = []
        if self.calls.pop(event.request, None) is not None:
            commands.append(Finish(event.request, Outcome.ANSWERED))
        line = self._free(lease, event.at)
        return commands + self._serve(line, event.at) + self._unlink()

    def _refused(self, event: EventRefused) -> list[Command]:
        lease = self.leases.get(event.instance)
        if lease is None or lease.request != event.request:
            return []
        line = self._drop(lease)
        commands: list[Command] = []
        if not lease.void:
            commands.append(Release([(lease.instance, lease.number)], sure=False))
        call = self.calls.get(event.request)
        if call is not None:
            call.running_on = None
            call.waited_for = event.reason
            line = self._requeue(call)
            if line.removed:
                commands += self._end_waiting(line)
        return commands + self._serve(line, event.at) + self._unlink()

    def _abandoned(self, event: InvocationAbandoned) -> list[Command]:
        call = self.calls.pop(event.request, None)
        if call is None or call.running_on is not None:
            return []  # if it runs it is finished, and its answer finds nobody
        line = self._line(call.version)
        line.waiting.pop(event.request, None)
        return self._ask(line, event.at)

    def _requeue(self, call: Call) -> Line:
        """Puts a call that never ran back to the head of its line, behind those that came before it."""
        line = self._line(call.version)
        older = list(takewhile(lambda other: other.arrived_at <= call.arrived_at, line.waiting.values()))
        line.waiting[call.request] = call
        for ahead in (call, *reversed(older)):
            line.waiting.move_to_end(ahead.request, last=False)
        return line

    # Leases

    def _given(self, event: LeaseGiven) -> list[Command]:
        if event.node not in self.links:
            return []  # placement has been told that the link is down, and takes the lease back by itself
        old = self.leases.get(event.instance)
        if old is not None and old.number >= event.number:
            return []
        if old is not None:
            if old.hold is Hold.BUSY:
                # Our own event still runs there under an older lease: no second one may follow.
                return [Release([(event.instance, event.number)], sure=False)]
            self._drop(old)
        hold = Hold.STARTING if event.starting else Hold.IDLE
        lease = Lease(event.instance, event.number, event.node, event.version, hold, event.reason)
        lease.fresh = event.starting
        self.leases[event.instance] = lease
        line = self._line(event.version)
        line.held += 1
        if not event.starting:
            lease.idle_since = event.at
            line.idle.append(lease)
        return self._serve(line, event.at)

    def _ready(self, event: LeaseReady) -> list[Command]:
        lease = self.leases.get(event.instance)
        if lease is None or lease.number != event.number or lease.hold is not Hold.STARTING:
            return []
        lease.hold = Hold.IDLE
        lease.ready_at = lease.idle_since = event.at
        lease.starting_ms, lease.init_ms = event.starting_ms, event.init_ms
        lease.restored = event.restored
        line = self._line(lease.version)
        line.idle.append(lease)
        return self._serve(line, event.at)

    def _voided(self, event: LeaseVoided) -> list[Command]:
        lease = self.leases.get(event.instance)
        if lease is None or lease.number != event.number:
            return []
        line = self._line(lease.version)
        commands: list[Command] = []
        if lease.hold is Hold.BUSY and not event.node_lost:
            if not lease.void:
                self._end(lease)
            return self._ask(line, event.at)
        if lease.request is not None:
            commands += self._lose(lease.request, f"its node is gone ({event.reason})")
        self._drop(lease)
        if event.error:
            commands += self._init_failed(line, event.error)
        return commands + self._serve(line, event.at) + self._unlink()

    def _init_failed(self, line: Line, error: bytes) -> list[Command]:
        """One failed start costs one call, the oldest: as on Lambda, where each call sees its own start."""
        if not line.waiting:
            return []
        request, _ = line.waiting.popitem(last=False)
        del self.calls[request]
        return [Finish(request, Outcome.INIT_FAILED, error=error)]

    def _recalled(self, event: RecallAsked) -> list[Command]:
        line = self._line(event.version)
        line.owed = event.wanted
        if event.wanted == 0:
            return []
        given = self._give_back(line)
        return [*self._lower(line, event.at), AnswerRecall(event.version, given), *self._ask(line, event.at)]

    def _give_back(self, line: Line) -> list[tuple[InstanceId, LeaseNumber]]:
        """Takes idle leases that are owed out of the books, least recently used first.

        Where calls wait, one that has served nobody yet serves one of them first: else those who share what
        is scarce could pass an instance on for ever without using it.
        """
        given = []
        for lease in [i for i in line.idle if i.served or not line.waiting]:
            if not line.owed:
                break
            self._drop(lease)
            line.owed -= 1
            given.append((lease.instance, lease.number))
        return given

    def _leaves(self, event: WorkerLeaves) -> list[Command]:
        """No lease there is of use any more, and what was sent there comes back refused."""
        if event.node not in self.links:
            return []
        self.links.discard(event.node)
        self.leaving.add(event.node)
        leases = [held for held in self.leases.values() if held.node == event.node and not held.void]
        commands: list[Command] = []
        if self.attached:
            commands.append(ReportLink(event.node, up=False))
            if leases:
                commands.append(Release([(lease.instance, lease.number) for lease in leases], sure=False))
        for line in {lease.version: self._end(lease) for lease in leases}.values():
            commands += self._serve(line, event.at)
        return commands + self._unlink()

    def _unlink(self) -> list[Command]:
        """From workers that leave and owe no answer."""
        if not self.leaving:
            return []
        done = self.leaving - {lease.node for lease in self.leases.values()}
        self.leaving -= done
        return [Unlink(node) for node in sorted(done)]

    def _link_down(self, event: LinkDown) -> list[Command]:
        self.links.discard(event.node)
        self.leaving.discard(event.node)
        commands: list[Command] = [ReportLink(event.node, up=False)] if self.attached else []
        touched = {}
        leases = [held for held in self.leases.values() if held.node == event.node]
        for lease in leases:
            if lease.request is not None:
                commands += self._lose(lease.request, "the connection to its node broke")
            touched[lease.version] = self._drop(lease)
        given = [(lease.instance, lease.number) for lease in leases if not lease.void]
        if given and self.attached:
            commands.append(Release(given, sure=False))
        for line in touched.values():
            commands += self._serve(line, event.at)
        return commands

    def _lose(self, request: RequestId, why: str) -> list[Command]:
        if self.calls.pop(request, None) is None:
            return []
        return [Finish(request, Outcome.LOST, why)]

    def _free(self, lease: Lease, at: float) -> Line:
        """The instance of this lease runs nothing any more."""
        line = self._line(lease.version)
        if lease.void:
            del self.leases[lease.instance]
            return line
        line.busy -= 1
        lease.hold = Hold.IDLE
        lease.request = None
        lease.idle_since = at
        line.idle.append(lease)
        return line

    def _end(self, lease: Lease) -> Line:
        """Nothing more may be sent under this lease; the answer to what was is still welcome."""
        if lease.hold is not Hold.BUSY:
            return self._drop(lease)
        line = self._line(lease.version)
        lease.void = True
        line.held -= 1
        line.busy -= 1
        return line

    def _drop(self, lease: Lease) -> Line:
        """Takes a lease out of the books, whatever state it is in."""
        del self.leases[lease.instance]
        line = self._line(lease.version)
        if lease.void:
            return line
        line.held -= 1
        if lease.hold is Hold.BUSY:
            line.busy -= 1
        elif lease.hold is Hold.IDLE:
            line.idle.remove(lease)
        return line

    # What follows

    def _serve(self, line: Line, at: float) -> list[Command]:
        """Gives idle instances to waiting calls, then says what is still needed or no longer is."""
        commands: list[Command] = []
        if line.owed and line.idle and (given := self._give_back(line)):
            commands += [*self._lower(line, at), Release(given, sure=True)]
        while line.waiting and line.idle:
            commands.append(self._dispatch(line, at))
        if line.removed and line.idle:
            given = self._drop_first(line, len(line.idle))
            commands += [*self._lower(line, at), Release(given, sure=True)]
        return commands + self._ask(line, at)

    def _dispatch(self, line: Line, at: float) -> Command:
        lease = line.idle.pop()
        request, call = line.waiting.popitem(last=False)
        lease.hold = Hold.BUSY
        lease.request = request
        line.busy += 1
        call.running_on = lease.instance
        cold = lease.fresh and call.arrived_at < lease.ready_at
        reason = lease.reason if lease.fresh or not lease.ready_at else "idle_lease"
        command = Dispatch(
            lease.node,
            lease.instance,
            lease.number,
            request,
            cold,
            reason,
            at - call.arrived_at,
            call.waited_for or line.unmet if at > call.arrived_at else "",
            lease.starting_ms if cold else 0.0,
            lease.init_ms if cold else 0.0,
            cold and lease.restored,
        )
        lease.fresh = False
        lease.served = True
        lease.reason = "idle_lease"
        return command

    def _ask(self, line: Line, at: float) -> list[Command]:
        """Tells placement at once that more could be used; that less is needed can wait for the next tick."""
        wanted = line.wanted
        line.peak = max(line.peak, wanted)
        if not self.attached or wanted <= line.held or wanted <= line.told:
            return []
        return [self._demand(line, wanted, at)]

    def _lower(self, line: Line, at: float) -> list[Command]:
        """Goes before every release: what is given back must not come back as still wanted."""
        line.peak = line.wanted
        if not self.attached or line.told <= line.wanted:
            return []
        return [self._demand(line, line.wanted, at)]

    def _demand(self, line: Line, level: int, at: float) -> Demand:
        line.told = level
        line.told_at = at
        return Demand(line.version, level, line.oldest_wait_s(at))

    def _tick(self, at: float) -> list[Command]:
        commands: list[Command] = []
        for request in [c.request for c in self.calls.values() if at >= c.deadline]:
            commands += self._overdue(self.calls[request], at)
        for line in list(self.lines.values()):
            commands += self._linger(line, at)
            commands += self._tell_level(line, at)
            if (line.removed or line.limit is None) and line.unused:
                del self.lines[line.version]
        return commands

    def _tell_level(self, line: Line, at: float) -> list[Command]:
        """While calls wait it is the peak since the last tick that placement is told: the chance value of
        this moment would go up and down, and every step up is a message."""
        level = max(line.peak, line.wanted) if line.waiting else line.wanted
        line.peak = line.wanted
        if not self.attached:
            return []
        if level == line.told:
            due = bool(line.waiting) and at - line.told_at >= DEMAND_REFRESH_S
        else:
            due = level > line.held or line.told > line.held
        return [self._demand(line, level, at)] if due else []

    def _overdue(self, call: Call, at: float) -> list[Command]:
        if call.running_on is None:
            line = self._line(call.version)
            del self.calls[call.request]
            del line.waiting[call.request]
            return [self._throttled(call.request, line, self._waited_in_vain(line, at - call.arrived_at))]
        if at < call.deadline + GRACE_S:
            return []
        del self.calls[call.request]
        detail = f"no answer by the deadline, {at - call.arrived_at:.1f} s after the call arrived"
        return [Finish(call.request, Outcome.DEADLINE, detail)]

    def _linger(self, line: Line, at: float) -> list[Command]:
        """Releases what has been idle for too long; the least recently used are at the front.

        Not while placement is away: nobody could use what is given up then, this frontend included.
        """
        if not self.attached:
            return []
        late = 0
        while late < len(line.idle) and at - line.idle[late].idle_since >= self.linger_s:
            late += 1
        if not late:
            return []
        given = self._drop_first(line, late)
        return [*self._lower(line, at), Release(given, sure=True)]

    def _drop_first(self, line: Line, count: int) -> list[tuple[InstanceId, LeaseNumber]]:
        leases = line.idle[:count]
        for lease in leases:
            self._drop(lease)
        return [(lease.instance, lease.number) for lease in leases]

    # Placement and definitions

    def _attach(self, at: float) -> list[Command]:
        self.attached = True
        demands = []
        for line in self.lines.values():
            line.owed = 0
            line.told = 0
            line.unmet = line.unmet_detail = ""
            if line.wanted:
                demands.append(self._demand(line, line.wanted, at))
        leases = [(lease.instance, lease.number) for lease in self.leases.values() if not lease.void]
        return [Attach(leases, demands, sorted(self.links))]

    def _replaced(self, event: VersionReplaced) -> list[Command]:
        old, new = self._line(event.old), self._line(event.new)
        new.limit = event.limit
        for call in self.calls.values():
            if call.version == event.old:
                call.version = event.new  # a running one too: if it is refused it waits for the new version
        new.waiting.update(old.waiting)
        old.waiting.clear()
        old.removed = True
        return self._serve(old, event.at) + self._serve(new, event.at)

    def _removed(self, event: VersionRemoved) -> list[Command]:
        line = self._line(event.version)
        line.removed = True
        return self._end_waiting(line) + self._serve(line, event.at)

    def _end_waiting(self, line: Line) -> list[Command]:
        commands: list[Command] = []
        for request in line.waiting:
            del self.calls[request]
            detail = f"function '{function_of(line.version)}' was deleted"
            commands.append(Finish(request, Outcome.REMOVED, detail))
        line.waiting.clear()
        return commands

    def _line(self, version: VersionKey) -> Line:
        line = self.lines.get(version)
        if line is None:
            line = self.lines[version] = Line(version)
        return line

    # Words

    def _throttled(self, request: RequestId, line: Line, detail: str) -> Finish:
        why = throttles.reason(line.limit, line.unmet if self.attached else "")
        return Finish(request, Outcome.THROTTLED, detail, throttle=why)

    def _full(self, line: Line) -> str:
        function = function_of(line.version)
        return f"the line of function '{function}' is full: {len(line.waiting)} calls wait{self._why(line)}"

    def _waited_in_vain(self, line: Line, waited_s: float) -> str:
        function = function_of(line.version)
        return f"no instance of function '{function}' became free in {waited_s:.1f} s{self._why(line)}"

    def _why(self, line: Line) -> str:
        if not self.attached:
            return "; placement cannot be reached, so nothing new can be started"
        return f"; {line.unmet_detail or line.unmet}" if line.unmet else ""
