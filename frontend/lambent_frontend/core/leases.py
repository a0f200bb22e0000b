"""Leases as they come, become ready, are recalled, linger and end.

A lease is kept while there is work and for `linger_s` afterwards, then released. When placement recalls
leases, idle ones go back at once, busy ones after their event and before our own line.
"""

from dataclasses import dataclass

from lambent_frontend.core.books import Books
from lambent_frontend.core.commands import AnswerRecall, Command, Finish, Outcome, Release, ReportLink, Unlink
from lambent_frontend.core.demands import Demands
from lambent_frontend.core.events import (
    EventLost,
    LeaseGiven,
    LeaseReady,
    LeaseVoided,
    LinkDown,
    RecallAsked,
    WorkerLeaves,
)
from lambent_frontend.core.line import Hold, Lease, Line
from lambent_frontend.core.serving import Serving
from lambent_proto.ids import RequestId


@dataclass(slots=True)
class Leases:
    books: Books
    demands: Demands
    serving: Serving
    linger_s: float

    def given(self, event: LeaseGiven) -> list[Command]:
        if event.node not in self.books.links:
            return []  # placement has been told that the link is down, and takes the lease back by itself
        old = self.books.leases.get(event.instance)
        if old is not None and old.number >= event.number:
            return []
        if old is not None:
            if old.hold is Hold.BUSY:
                # Our own event still runs there under an older lease: no second one may follow.
                return [Release([(event.instance, event.number)], sure=False)]
            self.books.drop(old)
        hold = Hold.STARTING if event.starting else Hold.IDLE
        lease = Lease(event.instance, event.number, event.node, event.version, hold, event.reason)
        lease.fresh = event.starting
        self.books.leases[event.instance] = lease
        line = self.books.line(event.version)
        line.held += 1
        if line.held > line.most:
            line.most, line.grew_at = line.held, event.at
        if not event.starting:
            lease.since = event.at
            line.idle.append(lease)
        return self.serving.serve(line, event.at)

    def ready(self, event: LeaseReady) -> list[Command]:
        lease = self.books.leases.get(event.instance)
        if lease is None or lease.number != event.number or lease.hold is not Hold.STARTING:
            return []
        lease.hold = Hold.IDLE
        lease.ready_at = lease.since = event.at
        lease.starting_ms, lease.init_ms = event.starting_ms, event.init_ms
        lease.restored = event.restored
        line = self.books.line(lease.version)
        line.idle.append(lease)
        return self.serving.serve(line, event.at)

    def voided(self, event: LeaseVoided) -> list[Command]:
        lease = self.books.leases.get(event.instance)
        if lease is None or lease.number != event.number:
            return []
        line = self.books.line(lease.version)
        commands: list[Command] = []
        if lease.hold is Hold.BUSY and not event.node_lost:
            if not lease.void:
                self.books.end(lease)
            return self.demands.ask(line, event.at)
        if lease.request is not None:
            commands += self._lose(lease.request, f"its node is gone ({event.reason})")
        self.books.drop(lease)
        if event.error:
            commands += self._init_failed(line, event.error)
        return commands + self.serving.serve(line, event.at) + self.unlink()

    def _init_failed(self, line: Line, error: bytes) -> list[Command]:
        """One failed start costs one call, the next: as on Lambda, where each call sees its own start."""
        if not line.waiting:
            return []
        request = self.books.next(line).request
        del self.books.calls[request]
        return [Finish(request, Outcome.INIT_FAILED, error=error)]

    def event_lost(self, event: EventLost) -> list[Command]:
        """Its lease is over too. Placement hears that from the worker, and nothing of it from here."""
        lease = self.books.leases.get(event.instance)
        if lease is None or lease.request != event.request:
            return []
        line = self.books.drop(lease)
        commands = self._lose(event.request, f"its instance is gone ({event.reason})")
        return commands + self.serving.serve(line, event.at) + self.unlink()

    def recalled(self, event: RecallAsked) -> list[Command]:
        line = self.books.line(event.version)
        line.owed = event.wanted
        if event.wanted == 0:
            return []
        given = self.serving.give_back(line)
        return [
            *self.demands.tell_served(),
            *self.demands.lower(line, event.at),
            AnswerRecall(event.version, given),
            *self.demands.ask(line, event.at),
        ]

    def worker_leaves(self, event: WorkerLeaves) -> list[Command]:
        """No lease there is of use any more, and what was sent there comes back refused."""
        if event.node not in self.books.links:
            return []
        self.books.links.discard(event.node)
        self.books.leaving.add(event.node)
        leases = [held for held in self.books.leases.values() if held.node == event.node and not held.void]
        commands: list[Command] = []
        if self.books.attached:
            commands.append(ReportLink(event.node, up=False))
            if leases:
                commands.append(Release([(lease.instance, lease.number) for lease in leases], sure=False))
        for line in {lease.version: self.books.end(lease) for lease in leases}.values():
            commands += self.serving.serve(line, event.at)
        return commands + self.unlink()

    def unlink(self) -> list[Command]:
        """From workers that leave and owe no answer."""
        if not self.books.leaving:
            return []
        done = self.books.leaving - {lease.node for lease in self.books.leases.values()}
        self.books.leaving -= done
        return [Unlink(node) for node in sorted(done)]

    def link_down(self, event: LinkDown) -> list[Command]:
        self.books.links.discard(event.node)
        self.books.leaving.discard(event.node)
        commands: list[Command] = [ReportLink(event.node, up=False)] if self.books.attached else []
        touched = {}
        leases = [held for held in self.books.leases.values() if held.node == event.node]
        for lease in leases:
            if lease.request is not None:
                commands += self._lose(lease.request, "the connection to its node broke")
            touched[lease.version] = self.books.drop(lease)
        given = [(lease.instance, lease.number) for lease in leases if not lease.void]
        if given and self.books.attached:
            commands.append(Release(given, sure=False))
        for line in touched.values():
            commands += self.serving.serve(line, event.at)
        return commands

    def _lose(self, request: RequestId, why: str) -> list[Command]:
        if self.books.calls.pop(request, None) is None:
            return []
        return [Finish(request, Outcome.LOST, why)]

    def linger(self, line: Line, at: float) -> list[Command]:
        """Releases what has been idle for too long; the least recently used are at the front.

        Not while placement is away: nobody could use what is given up then, this frontend included.
        """
        if not self.books.attached:
            return []
        late = 0
        while late < len(line.idle) and at - line.idle[late].since >= self.linger_s:
            late += 1
        if not late:
            return []
        given = self.serving.drop_first(line, late)
        return [*self.demands.lower(line, at), Release(given, sure=True)]
