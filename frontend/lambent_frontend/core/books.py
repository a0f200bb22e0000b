"""What a frontend knows: its lines, its calls, its leases and its links."""

from dataclasses import dataclass, field
from typing import Final

from lambent_frontend.core.call import Call
from lambent_frontend.core.line import Hold, Lease, Line
from lambent_frontend.core.turns import by_age
from lambent_proto.ids import FunctionName, InstanceId, NodeId, RequestId, VersionKey, function_of
from lambent_proto.sticky import Served

UNTOLD: Final = 10_000
"""Sticky keys that are remembered for placement while it is away; the oldest are forgotten."""


@dataclass(slots=True)
class Books:
    lines: dict[VersionKey, Line] = field(default_factory=dict)
    """Of the versions that are in use: each tick looks at all of them, and most functions idle."""
    limits: dict[VersionKey, int] = field(default_factory=dict)
    """Of versions that have one, in use or not."""
    calls: dict[RequestId, Call] = field(default_factory=dict)
    leases: dict[InstanceId, Lease] = field(default_factory=dict)
    links: set[NodeId] = field(default_factory=set)
    """Workers that events may be sent to."""
    leaving: set[NodeId] = field(default_factory=set)
    """Workers that will end, and still owe answers."""
    attached: bool = False
    """A stream to the leading placement stands."""
    waiting_bytes: int = 0
    """Of all calls that wait."""
    served: Served = field(default_factory=Served)
    """Who served each sticky key last, of the calls of this frontend."""
    untold: dict[tuple[FunctionName, int], InstanceId] = field(default_factory=dict)
    """What of that placement has not been told."""

    def join(self, line: Line, call: Call) -> None:
        if call.had_turn:
            by_age(line.waiting, call)
        else:
            line.waiting[call.request] = call
        line.turns.join(call)
        self.waiting_bytes += call.size

    def leave(self, line: Line, call: Call) -> None:
        del line.waiting[call.request]
        line.turns.leave(call)
        self.waiting_bytes -= call.size

    def next(self, line: Line) -> Call:
        """Takes the call whose turn it is out of the line."""
        call = line.turns.next()
        del line.waiting[call.request]
        self.waiting_bytes -= call.size
        return call

    def serves_key(self, key: int, lease: Lease) -> None:
        function = function_of(lease.version)
        self.served.note(function, key, lease.instance, lease.node)
        self.untold.pop((function, key), None)
        self.untold[function, key] = lease.instance
        if len(self.untold) > UNTOLD:
            del self.untold[next(iter(self.untold))]

    def line(self, version: VersionKey) -> Line:
        line = self.lines.get(version)
        if line is None:
            line = self.lines[version] = Line(version, self.limits.get(version))
        return line

    def set_limit(self, version: VersionKey, limit: int | None) -> None:
        if limit is None:
            self.limits.pop(version, None)
        else:
            self.limits[version] = limit
        if (line := self.lines.get(version)) is not None:
            line.limit = limit

    def end(self, lease: Lease) -> Line:
        """Nothing more may be sent under this lease; the answer to what was is still welcome."""
        if lease.hold is not Hold.BUSY:
            return self.drop(lease)
        line = self.line(lease.version)
        lease.void = True
        line.held -= 1
        line.busy -= 1
        return line

    def drop(self, lease: Lease) -> Line:
        """Takes a lease out of the books, whatever state it is in."""
        del self.leases[lease.instance]
        line = self.line(lease.version)
        if lease.void:
            return line
        line.held -= 1
        if lease.hold is Hold.BUSY:
            line.busy -= 1
        elif lease.hold is Hold.IDLE:
            line.idle.remove(lease)
        return line

    def free(self, lease: Lease, at: float) -> Line:
        """The instance of this lease runs nothing any more."""
        line = self.line(lease.version)
        if lease.void:
            del self.leases[lease.instance]
            return line
        line.busy -= 1
        lease.hold = Hold.IDLE
        lease.request = None
        if line.waiting:
            line.ran(at - lease.since)
        lease.since = at
        line.idle.append(lease)
        return line
