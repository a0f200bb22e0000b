"""What a frontend knows: its lines, its calls, its leases and its links."""

from dataclasses import dataclass, field

from lambent_frontend.core.line import Call, Hold, Lease, Line
from lambent_proto.ids import InstanceId, NodeId, RequestId, VersionKey


@dataclass(slots=True)
class Books:
    lines: dict[VersionKey, Line] = field(default_factory=dict)
    calls: dict[RequestId, Call] = field(default_factory=dict)
    leases: dict[InstanceId, Lease] = field(default_factory=dict)
    links: set[NodeId] = field(default_factory=set)
    attached: bool = False
    """A stream to the leading placement stands."""

    def line(self, version: VersionKey) -> Line:
        line = self.lines.get(version)
        if line is None:
            line = self.lines[version] = Line(version)
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
        lease.idle_since = at
        line.idle.append(lease)
        return line
