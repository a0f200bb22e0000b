"""Which call may wait when no instance is idle, in this order:

    1. its payload finds no room: throttled. What waits of one tenant in one class for one version may take
       as many bytes as are then still free of `max_waiting_bytes`: who waits alone takes half, and however
       much one holds, there is as much left for the next one;
    2. its turn would come after its deadline (`estimate`): throttled;
    3. the line is full: one call is throttled, it or one with less right to wait (`turns`);
    4. it waits.

A call that was sent and never ran is not asked again: it may always wait.
"""

from dataclasses import dataclass

from lambent_frontend.core.books import Books
from lambent_frontend.core.call import Call
from lambent_frontend.core.commands import Command
from lambent_frontend.core.estimate import too_late
from lambent_frontend.core.line import Line
from lambent_frontend.core.throttles import Refusal, throttled
from lambent_proto.ids import function_of


@dataclass(slots=True)
class Admission:
    books: Books
    max_waiting: int
    max_waiting_bytes: int

    def admit(self, line: Line, call: Call, at: float) -> list[Command]:
        """Has the call wait, unless it is throttled itself."""
        attached = self.books.attached
        if detail := self._no_room(line, call):
            return [throttled(call.request, line, Refusal.NO_ROOM, detail, attached)]
        if attached and (detail := too_late(line, call, at)):
            return [throttled(call.request, line, Refusal.DEADLINE, detail, attached)]
        commands: list[Command] = []
        if len(line.waiting) >= self.max_waiting:
            loser = line.turns.gives_way(call)
            full = (
                f"the line of function '{function_of(line.version)}' is full: {len(line.waiting)} calls wait"
            )
            if loser is call:
                return [throttled(call.request, line, Refusal.LINE_FULL, full, attached)]
            full += ", and one that goes before this one has come"
            commands.append(throttled(loser.request, line, Refusal.LINE_FULL, full, attached))
            self.books.leave(line, loser)
            del self.books.calls[loser.request]
        self.books.calls[call.request] = call
        self.books.join(line, call)
        return commands

    def _no_room(self, line: Line, call: Call) -> str:
        free = self.max_waiting_bytes - self.books.waiting_bytes
        like = line.turns.size_like(call)
        if like + call.size <= free:
            return ""
        return (
            f"no room in the line of function '{function_of(line.version)}' for {call.size:,} bytes: "
            f"{like:,} bytes of this tenant and class wait there, and {max(free, 0):,} of the "
            f"{self.max_waiting_bytes:,} of this frontend are free"
        )
