"""Which instance takes which waiting call, and which one is given back instead."""

from dataclasses import dataclass

from lambent_frontend.core.books import Books
from lambent_frontend.core.call import Call
from lambent_frontend.core.commands import Command, Dispatch, Release
from lambent_frontend.core.demands import Demands
from lambent_frontend.core.line import Hold, Lease, Line
from lambent_proto.ids import InstanceId, LeaseNumber, function_of
from lambent_proto.sticky import NO_KEY, STICKY_INSTANCE, STICKY_NODE


@dataclass(slots=True)
class Serving:
    books: Books
    demands: Demands

    def serve(self, line: Line, at: float) -> list[Command]:
        """Gives idle instances to waiting calls, then says what is still needed or no longer is."""
        commands: list[Command] = []
        if line.owed and line.idle and (given := self.give_back(line)):
            commands += [*self.demands.lower(line, at), Release(given, sure=True)]
        while line.waiting and line.idle:
            commands.append(self.send(line, self.books.next(line), at))
        if line.removed and line.idle:
            given = self.drop_first(line, len(line.idle))
            commands += [*self.demands.lower(line, at), Release(given, sure=True)]
        return commands + self.demands.ask(line, at)

    def send(self, line: Line, call: Call, at: float) -> Command:
        """To the most recently used idle instance, but for a sticky key."""
        lease, matched = self._pick(line, call)
        lease.hold = Hold.BUSY
        lease.request = call.request
        lease.since = at
        line.busy += 1
        call.running_on = lease.instance
        cold = lease.fresh and call.arrived_at < lease.ready_at
        reason = matched or (lease.reason if lease.fresh or not lease.ready_at else "idle_lease")
        if reason in (STICKY_INSTANCE, STICKY_NODE) and not call.sticky:
            reason = "most_recently_used"  # given for a call that something else had served by then
        command = Dispatch(
            lease.node,
            lease.instance,
            lease.number,
            call.request,
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

    def _pick(self, line: Line, call: Call) -> tuple[Lease, str]:
        """Takes an idle lease, and says what of the sticky key's last one it is: the instance, its node."""
        if call.sticky == NO_KEY:
            return line.idle.pop(), ""
        last = self.books.served.by(function_of(line.version), call.sticky)
        lease, matched = line.idle[-1], ""
        if last is not None:
            for idle in reversed(line.idle):
                if idle.instance == last.instance:
                    lease, matched = idle, STICKY_INSTANCE
                    break
                if idle.node == last.node and not matched:
                    lease, matched = idle, STICKY_NODE
        line.idle.remove(lease)
        self.books.serves_key(call.sticky, lease)
        return lease, "" if lease.fresh else matched

    def give_back(self, line: Line) -> list[tuple[InstanceId, LeaseNumber]]:
        """Takes idle leases that are owed out of the books, least recently used first.

        Where calls wait, one that has served nobody yet serves one of them first: else those who share what
        is scarce could pass an instance on for ever without using it.
        """
        given = []
        for lease in [i for i in line.idle if i.served or not line.waiting]:
            if not line.owed:
                break
            self.books.drop(lease)
            line.owed -= 1
            given.append((lease.instance, lease.number))
        return given

    def drop_first(self, line: Line, count: int) -> list[tuple[InstanceId, LeaseNumber]]:
        leases = line.idle[:count]
        for lease in leases:
            self.books.drop(lease)
        return [(lease.instance, lease.number) for lease in leases]
