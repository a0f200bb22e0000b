"""Histograms: how long a function was idle before says how long it is kept, and when one is started ahead.

The policy of "Serverless in the Wild" (ATC 2020), for concurrency: a function's n-th instance is idle from
when fewer than n run until n run again, whether an instance was kept meanwhile or not. From these idle times,
counted by the minute, come a head and a tail, `HEAD` and `TAIL` of them being shorter. Once they can be told
(`Habit.reckon` says when not: then it is as `fixed`),

    1. an idle instance is kept for the tail;
    2. where the head is not short, what a function has ends as soon as nothing of it runs, and one is started
       when the head is over, and kept until the tail is.

Memory that is short meanwhile goes as in `fixed`. A new leader has no notes, and learns anew.
"""

from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING, Final

from lambent_placement.core.keep import Due, Fixed
from lambent_proto.ids import FunctionName, VersionKey, qualifier_of

if TYPE_CHECKING:
    from lambent_placement.core.records import Function, Instance, Version

MINUTE_S: Final = 60.0

LONGEST: Final = 240
"""Minutes: longer idle times are counted as one. The range of the paper's histograms."""

HEAD: Final = 0.05
"""The paper's."""

TAIL: Final = 0.999
"""The paper's is 0.99, which is as many cold starts among a busy function's calls: docs/decisions/0012."""

EARLY, LATE = 0.9, 1.1
"""The margins of the paper, on the head and on the tail."""

SEEN: Final = 3
"""Fewer idle times say nothing."""

SPREAD: Final = 60
"""Minutes from head to tail: an instance that waits for longer is no better than one that was kept."""

SHORT: Final = 2
"""Minutes: what may be called so soon is not ended meanwhile."""

REMEMBERED: Final = 10_000
"""Idle times after which all counts are halved, so that a new habit shows."""


@dataclass(slots=True)
class Habit:
    """When a function is called, and what follows from it."""

    minutes: dict[int, int] = field(default_factory=dict)
    """How many idle times there were of each length."""
    seen: int = 0
    reckon_at: int = 0
    """With how many the head and the tail are worked out again: each time a twentieth more."""
    head_s: float = 0.0
    tail_s: float | None = None
    """None: nothing can be told."""
    version: VersionKey | None = None
    """What was called last."""
    fewer_since: dict[int, float] = field(default_factory=dict)
    """Since when fewer instances run, by how many they were."""
    freed_at: float | None = None
    """When the last one was."""
    warm_at: float | None = None
    """When one is to be started; until then the function has none."""
    look_at: float = inf
    """When it is on the agenda."""

    def note(self, idle_s: float) -> None:
        minute = min(int(idle_s / MINUTE_S), LONGEST)
        self.minutes[minute] = self.minutes.get(minute, 0) + 1
        self.seen += 1
        if self.seen >= REMEMBERED:
            self.minutes = {minute: count // 2 for minute, count in self.minutes.items() if count > 1}
            self.seen = self.reckon_at = sum(self.minutes.values())
        if self.seen >= max(SEEN, self.reckon_at):
            self.reckon_at = self.seen + 1 + self.seen // 20
            self.reckon()

    def reckon(self) -> None:
        """Nothing can be told of few idle times, of long ones, and of what is spread out."""
        head, tail = self._minute(HEAD), self._minute(TAIL)
        told = tail < LONGEST and tail - head <= SPREAD
        self.head_s = EARLY * MINUTE_S * head if told and head >= SHORT else 0.0
        self.tail_s = LATE * MINUTE_S * (tail + 1) if told else None

    def _minute(self, share: float) -> int:
        shorter, minute = 0, 0
        for minute in sorted(self.minutes):
            shorter += self.minutes[minute]
            if shorter > share * self.seen:
                break
        return minute


@dataclass(slots=True)
class Histogram(Fixed):
    habits: dict[FunctionName, Habit] = field(default_factory=dict)
    agenda: list[tuple[float, FunctionName]] = field(default_factory=list)
    """When to look at which function next, the soonest first; what its habit does not say is out of date."""

    def called(self, instance: "Instance", at: float) -> None:
        function = self.books.version(instance.version).function
        habit = self._habit(function.name)
        since = habit.fewer_since.pop(function.running, None)
        if since is not None:
            habit.note(at - since)
        habit.version, habit.warm_at = instance.version, None

    def freed(self, instance: "Instance", at: float) -> None:
        function = self.books.version(instance.version).function
        habit = self._habit(function.name)
        habit.fewer_since[function.running] = habit.freed_at = at
        if function.running == 1 and habit.head_s:
            habit.warm_at = at + habit.head_s

    def idles(self, instance: "Instance") -> None:
        name = self.books.version(instance.version).function.name
        self._look(name, self._end(instance, self._habit(name)))

    def _end(self, instance: "Instance", habit: Habit) -> float:
        """One that was started ahead is kept no longer than if it had been there since the last call."""
        if habit.tail_s is None:
            return instance.idle_since + self.keep_alive_s
        since = instance.idle_since if habit.freed_at is None else min(instance.idle_since, habit.freed_at)
        return since + (habit.tail_s if habit.warm_at is None else 0.0)

    def _habit(self, name: FunctionName) -> Habit:
        found = self.habits.get(name)
        if found is None:
            found = self.habits[name] = Habit()
        return found

    def _look(self, name: FunctionName, at: float) -> None:
        habit = self.habits[name]
        if at < habit.look_at:
            habit.look_at = at
            heappush(self.agenda, (at, name))

    def due(self, at: float) -> Due:
        due = Due()
        while self.agenda and self.agenda[0][0] <= at:
            look_at, name = heappop(self.agenda)
            habit = self.habits.get(name)
            if habit is not None and habit.look_at == look_at:
                habit.look_at = inf
                self._look_at(name, habit, due, at)
        return due

    def _expected(self, function: "Function", habit: Habit) -> "list[Version]":
        """What was called last, or what has taken its place."""
        version = function.current.get(qualifier_of(habit.version)) if habit.version else None
        return [version] if version else []

    def _look_at(self, name: FunctionName, habit: Habit, due: Due, at: float) -> None:
        function = self.books.functions.get(name)
        if function is None:
            del self.habits[name]
            return
        if habit.warm_at is not None and habit.warm_at <= at:
            habit.warm_at = None
            due.warm += self._expected(function, habit)
        next_at = at + LONGEST * MINUTE_S if habit.warm_at is None else habit.warm_at
        for instance in function.idle.values():
            end = self._end(instance, habit)
            if end > at:
                next_at = min(next_at, end)
                break  # least recently used first: the rest ends later
            due.over.append(instance)
        self._look(name, next_at)
