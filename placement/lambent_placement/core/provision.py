"""Provisioned concurrency: a version has so many instances ready, whoever calls it.

They are started for nobody, one after the other, under the limits that every start is under, and are

    1. started where a new instance would be, or where idle ones that are not provisioned give way;
    2. given first, so that what is above them grows old and goes;
    3. never evicted for memory, for another version, or for their age: only with their version, when its
       function's limit is lowered, or when fewer are asked for: then they are instances like all others.

What is provisioned is set aside like a reservation: out of the function's own, if it has one, else out of the
pool. Calls above it are served as all others are. A start that fails is tried again after a pause.
"""

from dataclasses import dataclass
from typing import Final

from lambent_placement.core import choice, where
from lambent_placement.core.acts import Acts
from lambent_placement.core.books import Books
from lambent_placement.core.commands import Command
from lambent_placement.core.records import Instance, State, Version
from lambent_proto.ids import VersionKey

BACKOFF_S: Final = (1.0, 60.0)
"""First and longest pause after a start that failed; doubles each time."""


@dataclass(slots=True)
class Provision:
    books: Books
    acts: Acts

    def set(self, key: VersionKey, count: int) -> None:
        version = self.books.version(key)
        self.books.provision(version, count)
        self._unmark(version)
        version.provision_after, version.provision_failures, version.provision_error = 0.0, 0, ""

    def step(self, at: float) -> list[Command]:
        """Goes on with all versions that have too few, or too many."""
        commands: list[Command] = []
        for version in self.books.provisioned.values():
            self._unmark(version)
            commands += self._start(version, at)
        return commands

    def _unmark(self, version: Version) -> None:
        surplus = len(version.marked) - version.provisioned
        if surplus > 0:
            busy_first = sorted(version.marked.values(), key=lambda i: i.state is State.IDLE)
            for instance in busy_first[:surplus]:
                self.books.mark(instance, False)

    def _start(self, version: Version, at: float) -> list[Command]:
        function = version.function
        commands: list[Command] = []
        while len(version.marked) < version.provisioned:
            if not version.current or at < max(version.provision_after, function.start_after):
                break
            if len(function.instances) + self.books.unreported >= self.books.limit(function):
                victim = choice.give_way(version, self.books)
                if victim is not None and not version.making_room:
                    commands += self.acts.evict_for(version, victim, "gives_way", at)
                break
            if not function.rate.may_start(at):
                break
            candidates = where.candidates(self.books, None, version, at)
            if not candidates:
                commands += self._make_room(version, at)
                break
            commands.append(self.acts.grant_to_nobody(version, candidates[0].node, provisioned=True))
        return commands

    def _make_room(self, version: Version, at: float) -> list[Command]:
        if version.making_room:
            return []
        victims = choice.make_room(self.books, None, version, at)
        for victim in victims:
            self.books.keep.gives_way(victim)
        return [c for victim in victims for c in self.acts.evict_for(version, victim, "memory", at)]

    def ready(self, instance: Instance) -> None:
        version = self.books.version(instance.version)
        if instance.provisioned:
            version.provision_failures, version.provision_error = 0, ""

    def gone(self, instance: Instance, error: str, at: float) -> None:
        """One that never was ready; `error` is why, of the function's own doing or not."""
        version = self.books.version(instance.version)
        first, longest = BACKOFF_S
        version.provision_after = at + min(longest, first * 2**version.provision_failures)
        version.provision_failures = min(version.provision_failures + 1, 10)
        version.provision_error = error


def allocated(version: Version) -> int:
    """How many of those it is to have are there and ready."""
    return sum(instance.ready for instance in version.marked.values())


def status(version: Version) -> str:
    """By Lambda's words: `READY`, `IN_PROGRESS`, or `FAILED` while the last start failed."""
    if allocated(version) >= version.provisioned:
        return "READY"
    return "FAILED" if version.provision_error else "IN_PROGRESS"
