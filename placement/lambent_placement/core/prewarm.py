"""Instances that are started ahead of a call that the policy expects.

One of a function that has none, for nobody, and only where that takes nothing from anybody: within its
function's limit, while the pool has room, as fast as starts may be, on a node with free memory. It counts as
any other. What cannot be started now is not started later: the call that was expected may be there by then.
"""

from dataclasses import dataclass

from lambent_placement.core import where
from lambent_placement.core.acts import Acts
from lambent_placement.core.books import Books
from lambent_placement.core.commands import Command
from lambent_placement.core.records import Version


@dataclass(slots=True)
class Prewarm:
    books: Books
    acts: Acts

    def start(self, versions: list[Version], at: float) -> list[Command]:
        return [command for version in versions for command in self._start(version, at)]

    def _start(self, version: Version, at: float) -> list[Command]:
        if not self._may_start(version, at):
            return []
        candidates = where.candidates(self.books, None, version, at)
        return [self.acts.grant_to_nobody(version, it.node) for it in candidates[:1]]

    def _may_start(self, version: Version, at: float) -> bool:
        function, pool = version.function, self.books.pool
        if not version.current or function.instances or at < function.start_after:
            return False
        if self.books.unreported >= self.books.limit(function):
            return False
        if function.reserved is None and pool.used + self.books.unreported >= pool.size:
            return False
        return function.rate.may_start(at)
