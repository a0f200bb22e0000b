"""Histograms of idle times.  (experimental draft)"""

import os
from collections import Counter
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING, Final

from lambent_placement.core.keep import Due, Fixed
from lambent_proto.ids import FunctionName, VersionKey, qualifier_of

if TYPE_CHECKING:
    from lambent_placement.core.books import Function, Instance, Version

E = os.environ.get
MINUTES: Final = 240
HEAD: Final = float(E("HEAD", "0.05"))
TAIL: Final = float(E("TAIL", "0.99"))
LEAST: Final = int(E("LEAST", "4"))
FARTHEST: Final = float(E("FARTHEST", "600"))
MODE = E("MODE", "paper")
EARLY, LATE = 0.9, 1.1
MOST = int(E("MOST", "1000000"))


@dataclass(slots=True)
class Habit:
    minutes: Counter[int] = field(default_factory=Counter)
    seen: int = 0
    fell: dict[int, float] = field(default_factory=dict)
    freed_at: float = 0.0
    warm_at: float | None = None
    look_at: float = inf
    version: VersionKey = VersionKey("")
    head_s: float = 0.0
    tail_s: float | None = None
    reckon_at: int = LEAST

    def note(self, idle_s: float) -> None:
        self.minutes[min(int(idle_s / 60), MINUTES)] += 1
        self.seen += 1
        if self.seen >= self.reckon_at:
            self.reckon_at = int(self.seen * 1.05) + 1
            self.reckon()
        if self.seen >= MOST:
            self.minutes = Counter({m: (c + 1) // 2 for m, c in self.minutes.items()})
            self.seen = self.minutes.total()
            self.reckon_at = self.seen

    def reckon(self) -> None:
        cum = 0
        head = tail = None
        for minute in sorted(self.minutes):
            cum += self.minutes[minute]
            if head is None and cum > HEAD * self.seen:
                head = minute
            if tail is None and cum >= TAIL * self.seen:
                tail = minute
        assert head is not None and tail is not None
        self.tail_s = None
        if tail >= MINUTES:
            return
        self.head_s, self.tail_s = head * 60 * EARLY, (tail + 1) * 60 * LATE


@dataclass(slots=True)
class Histogram(Fixed):
    habits: dict[FunctionName, Habit] = field(default_factory=dict)
    agenda: list[tuple[float, FunctionName]] = field(default_factory=list)

    def called(self, instance: "Instance", at: float) -> None:
        function = self.books.version(instance.version).function
        habit = self._habit(function.name)
        since = habit.fell.pop(function.running, None)
        if since is not None:
            habit.note(at - since)
        habit.version, habit.warm_at = instance.version, None

    def freed(self, instance: "Instance", at: float) -> None:
        function = self.books.version(instance.version).function
        habit = self._habit(function.name)
        habit.fell[function.running] = habit.freed_at = at
        if function.running == 1 and habit.tail_s is not None:
            far = habit.head_s >= FARTHEST
            if far:
                habit.warm_at = at + habit.head_s

    def idles(self, instance: "Instance") -> None:
        function = self.books.version(instance.version).function
        habit = self._habit(function.name)
        self._look(function.name, habit, self._end(instance, habit))
        if habit.warm_at is not None:
            self._look(function.name, habit, habit.warm_at)

    def _end(self, instance: "Instance", habit: Habit) -> float:
        since = min(instance.idle_since, habit.freed_at or instance.idle_since)
        if habit.tail_s is None:
            return since + self.keep_alive_s
        if MODE == "paper":
            if habit.warm_at is not None:
                return since
            return since + habit.tail_s
        if MODE == "add":
            if habit.warm_at is not None or habit.head_s < FARTHEST:
                return since + self.keep_alive_s
            return max(since + habit.tail_s, instance.idle_since)
        # longer
        if habit.warm_at is not None:
            return since + self.keep_alive_s
        return since + max(self.keep_alive_s, habit.tail_s)

    def _habit(self, name: FunctionName) -> Habit:
        found = self.habits.get(name)
        if found is None:
            found = self.habits[name] = Habit()
        return found

    def _look(self, name: FunctionName, habit: Habit, at: float) -> None:
        if at < habit.look_at:
            habit.look_at = at
            heappush(self.agenda, (at, name))

    def due(self, at: float) -> Due:
        due = Due()
        while self.agenda and self.agenda[0][0] <= at:
            look_at, name = heappop(self.agenda)
            habit = self.habits.get(name)
            if habit is None or habit.look_at != look_at:
                continue
            function = self.books.functions.get(name)
            if function is None:
                del self.habits[name]
                continue
            habit.look_at = inf
            if habit.warm_at is not None and habit.warm_at <= at:
                habit.warm_at = None
                version = function.current.get(qualifier_of(habit.version))
                if version is not None:
                    due.warm.append(version)
            next_at = at + 60 * MINUTES
            if habit.warm_at is not None:
                next_at = habit.warm_at
            for one in function.idle.values():
                end = self._end(one, habit)
                if end > at:
                    next_at = min(end, next_at)
                    break
                due.over.append(one)
            self._look(name, habit, next_at)
        return due
