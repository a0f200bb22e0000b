"""What placement is told of a line: how many instances could be used in all.

It is a level, "so many in all", so that a message lost or sent twice changes nothing. More is told at once;
less with the next tick, or before what is given back.
"""

from dataclasses import dataclass
from itertools import islice
from typing import Final

from lambent_frontend.core.books import Books
from lambent_frontend.core.commands import Attach, Command, Demand, TellServed
from lambent_frontend.core.line import Line

DEMAND_REFRESH_S: Final = 0.1
"""How often placement hears again how long the oldest call has waited."""


KEYS: Final = 8
"""Of how many waiting calls placement is told the sticky keys."""


@dataclass(slots=True)
class Demands:
    books: Books

    def ask(self, line: Line, at: float) -> list[Command]:
        """Tells placement at once that more could be used; that less is needed can wait for the next tick."""
        wanted = line.wanted
        line.peak = max(line.peak, wanted)
        if not self.books.attached or wanted <= line.held or wanted <= line.told:
            return []
        return [self._demand(line, wanted, at)]

    def lower(self, line: Line, at: float) -> list[Command]:
        """Goes before every release: what is given back must not come back as still wanted."""
        line.peak = line.wanted
        if not self.books.attached or line.told <= line.wanted:
            return []
        return [self._demand(line, line.wanted, at)]

    def tell_level(self, line: Line, at: float) -> list[Command]:
        """While calls wait it is the peak since the last tick that placement is told: the chance value of
        this moment would go up and down, and every step up is a message."""
        wanted = line.wanted
        level = max(line.peak, wanted) if line.waiting else wanted
        line.peak = wanted
        if not self.books.attached:
            return []
        if level == line.told:
            due = bool(line.waiting) and at - line.told_at >= DEMAND_REFRESH_S
        else:
            due = level > line.held or line.told > line.held
        return [self._demand(line, level, at)] if due else []

    def attach(self, at: float) -> list[Command]:
        self.books.attached = True
        demands = []
        for line in self.books.lines.values():
            line.owed = 0
            line.told = 0
            line.tell_unmet("", "", at)
            if line.wanted:
                demands.append(self._demand(line, line.wanted, at))
        leases = [(lease.instance, lease.number) for lease in self.books.leases.values() if not lease.void]
        return [Attach(leases, demands, sorted(self.books.links))]

    def _demand(self, line: Line, level: int, at: float) -> Demand:
        line.told = level
        line.told_at = at
        oldest = islice(line.waiting.values(), KEYS)
        keys = tuple(call.sticky for call in oldest if call.sticky)
        return Demand(line.version, level, line.oldest_wait_s(at), keys)

    def tell_served(self) -> list[Command]:
        """Goes before what is given back, so that it is found for its keys."""
        untold = self.books.untold
        if not untold or not self.books.attached:
            return []
        calls = [(instance, key) for (_, key), instance in untold.items()]
        untold.clear()
        return [TellServed(calls)]
