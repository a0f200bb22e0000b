"""What the frontends want of a shadow: leases for as long as they want or hold them in the live fleet.

A job is one lease of a version that a frontend wants or holds there: its level is the larger of the two, for
a frontend says late that it wants less. A job begins and ends when the live one does, but it does not end
before the shadow has had an instance ready for it: what the live fleet has served and the shadow has not is
owed. That takes no time once there is an instance, and is given up after `PATIENCE_S`, as callers do.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from lambent_placement.core.books import Books
from lambent_placement.core.commands import Command, GiveLease, Recall, TellReady, VoidLease
from lambent_placement.core.events import Wish
from lambent_placement.core.records import Instance
from lambent_proto.ids import FrontendId, InstanceId, LeaseNumber, VersionKey

PATIENCE_S: Final = 60.0
"""How long a caller waits, if it waits long. No part of the fleet tells placement of deadlines."""

ANSWER_S: Final = 0.25
"""Until a recall brings something, before any has: a linger, and a message each way."""

LATEST: Final = 0.1
"""What the latest of these times counts, beside all earlier ones."""

Pair = tuple[FrontendId, VersionKey]
Held = tuple[FrontendId, InstanceId, VersionKey, LeaseNumber]
Leases = list[tuple[InstanceId, LeaseNumber]]


def held(books: Books, instances: Iterable[Instance]) -> list[Held]:
    """The leases on these that attached frontends hold."""
    return [
        (it.frontend, it.id, it.version, it.number)
        for it in instances
        if it.frontend is not None and books.frontends[it.frontend].attached
    ]


@dataclass(slots=True)
class Job:
    """Those of one frontend for one version."""

    wanted: int = 0
    """As the frontend said last."""
    live: int = 0
    """Leases that it holds in the live fleet."""
    level: int = 0
    """The larger of the two when it was last looked at."""
    owed: int = 0
    passed: int = 0
    """Leases that the shadow has taken for others, and that nobody waits for in the live fleet: no longer of
    use there either, as far as anybody knows."""
    since: float | None = None
    """Since when it has wanted more than the shadow has given; None if it does not."""
    told: int = 0
    """What the shadow's scheduler was told last."""
    starting: dict[InstanceId, LeaseNumber] = field(default_factory=dict)
    """Leases of the shadow's on what is not ready yet."""
    ready: dict[InstanceId, LeaseNumber] = field(default_factory=dict)
    """The oldest lease first."""
    given_at: float = 0.0
    """When the youngest of these came."""

    @property
    def total(self) -> int:
        return self.level - self.passed + self.owed

    def wish(self, version: VersionKey, waited_s: float, at: float) -> Wish:
        """What the shadow is told. `waited_s` is how long the oldest call waits in the live fleet;
        where none does, what waits here has done so since it was first told."""
        given = len(self.starting) + len(self.ready)
        if self.told <= given:
            self.since = None
        self.told = self.total
        if waited_s:
            self.since = at - waited_s
        elif self.total <= given:
            self.since = None
        elif self.since is None:
            self.since = at
        return Wish(version, self.total, 0.0 if self.since is None else at - self.since)

    def follow(self, *, served: bool = False) -> None:
        """Takes the new level. `served`: what has ended had its instance in the live fleet."""
        before, self.level = self.level, max(self.wanted, self.live)
        ended = max(0, before - self.level)
        passed = min(self.passed, ended)
        self.passed = 0 if self.wanted > self.live else min(self.passed - passed, self.level)
        if served:
            self.owed += max(0, ended - passed - len(self.ready))
        if len(self.ready) > self.level - self.passed:
            self.owed = 0

    def heard(self, twins: Iterable[InstanceId | None]) -> None:
        """These are ready: a frontend hears that from the worker, and may be done with one before placement
        has heard of it."""
        for twin in twins:
            if twin in self.starting:
                self.ready[twin] = self.starting.pop(twin)

    def like(self, twin: InstanceId | None) -> InstanceId | None:
        """Of those that are ready this one, or else the oldest."""
        return twin if twin in self.ready else next(iter(self.ready), None)

    def surplus(self) -> int:
        """How many leases are given back: one on what still starts is kept until it is ready."""
        return max(0, min(len(self.starting) + len(self.ready) - self.total, len(self.ready)))


@dataclass(slots=True)
class Demand:
    jobs: dict[FrontendId, dict[VersionKey, Job]] = field(default_factory=dict)
    """Of the frontends that are attached."""
    live: dict[FrontendId, dict[InstanceId, tuple[VersionKey, LeaseNumber]]] = field(default_factory=dict)
    """The leases of the live fleet."""
    mine: dict[InstanceId, Pair] = field(default_factory=dict)
    """Who has each lease of the shadow's."""
    owing: dict[Pair, float] = field(default_factory=dict)
    """Where jobs are owed, and since when, the oldest first."""
    unsure: dict[InstanceId, Pair] = field(default_factory=dict)
    """What a frontend of the live fleet gave back without knowing whether it still runs there."""
    asked: dict[Pair, float] = field(default_factory=dict)
    """Recalls of the live fleet's that have brought nothing yet, and since when."""
    answer_s: float = ANSWER_S
    """How long it takes of late until one brings something."""

    def job(self, frontend: FrontendId, version: VersionKey) -> Job:
        jobs = self.jobs.setdefault(frontend, {})
        found = jobs.get(version)
        if found is None:
            found = jobs[version] = Job()
        return found

    def known(self, frontend: FrontendId, version: VersionKey) -> Job | None:
        return self.jobs.get(frontend, {}).get(version)

    def settle(self, frontend: FrontendId, version: VersionKey, job: Job, at: float) -> None:
        """After a change: notes what is owed, and forgets a job of which nothing is left."""
        if job.owed:
            self.owing.setdefault((frontend, version), at)
        else:
            self.owing.pop((frontend, version), None)
        self._leave(frontend, version, job)

    def _leave(self, frontend: FrontendId, version: VersionKey, job: Job) -> None:
        if not (job.total or job.told or job.live or job.starting or job.ready):
            self.jobs[frontend].pop(version, None)
            self.asked.pop((frontend, version), None)

    def overdue(self, at: float) -> list[Pair]:
        """Whose callers have given up."""
        late = []
        for pair, since in self.owing.items():
            if at - since < PATIENCE_S:
                break
            late.append(pair)
        return late

    def forget(self, frontend: FrontendId) -> None:
        """It is not attached any more."""
        self.live.pop(frontend, None)
        for version, job in self.jobs.pop(frontend, {}).items():
            for instance in (*job.starting, *job.ready):
                del self.mine[instance]
            self.owing.pop((frontend, version), None)
            self.asked.pop((frontend, version), None)

    # The live fleet's leases

    def returned(self, frontend: FrontendId, leases: Leases, at: float, *, sure: bool) -> Counter[Pair]:
        """A frontend gave leases of the live fleet back: how many of each version."""
        mine, back = self.live.get(frontend, {}), Counter[Pair]()
        for instance, number in leases:
            version, current = mine.get(instance, (None, number))
            if version is not None and current == number:
                back[self._drop(frontend, instance, version)] += 1
                if not sure:
                    self.unsure[instance] = frontend, version
        for pair in back:
            if (asked_at := self.asked.pop(pair, None)) is not None:
                self.answer_s += LATEST * (at - asked_at - self.answer_s)
        return back

    def live_said(self, commands: Iterable[Command], at: float) -> set[Pair]:
        """Leases that the live fleet gave and took; returns whose were taken."""
        taken = set()
        for command in commands:
            if isinstance(command, GiveLease):
                mine = self.live.setdefault(command.frontend, {})
                if command.instance not in mine:
                    self.job(command.frontend, command.version).live += 1
                mine[command.instance] = command.version, command.number
            elif isinstance(command, VoidLease):
                version, number = self.live.get(command.frontend, {}).get(command.instance, (None, 0))
                if version is not None and number == command.number:
                    taken.add(self._drop(command.frontend, command.instance, version))
            elif isinstance(command, Recall):
                pair = command.frontend, command.version
                if command.wanted:
                    self.asked.setdefault(pair, at)
                else:
                    self.asked.pop(pair, None)
        return taken

    def _drop(self, frontend: FrontendId, instance: InstanceId, version: VersionKey) -> Pair:
        del self.live[frontend][instance]
        self.job(frontend, version).live -= 1
        return frontend, version

    def holder(self, instance: InstanceId) -> Pair | None:
        """Who uses it in the live fleet, or did when it was last heard of."""
        for frontend, mine in self.live.items():
            if instance in mine:
                return frontend, mine[instance][0]
        return self.unsure.get(instance)

    def live_holds(self, leases: Iterable[Held]) -> set[Pair]:
        """Leases of the live fleet's that came without a word: frontends and workers have said so."""
        touched = set()
        for frontend, instance, version, number in leases:
            for other, theirs in self.live.items():
                if other != frontend and instance in theirs:
                    touched.add(self._drop(other, instance, theirs[instance][0]))
            mine = self.live.setdefault(frontend, {})
            if instance not in mine:
                self.job(frontend, version).live += 1
            mine[instance] = version, number
            touched.add((frontend, version))
        return touched

    # The shadow's own

    def shadow_holds(self, leases: Iterable[Held], books: Books) -> set[Pair]:
        """Leases of the shadow's that came without a word."""
        touched = set()
        for frontend, instance, version, number in leases:
            self._void(instance)
            self._lease((frontend, version), instance, number, ready=books.instances[instance].ready)
            touched.add((frontend, version))
        return touched

    def shadow_said(self, command: Command, books: Books) -> Pair | None:
        """A lease that the shadow gave or took; returns the job that has an instance ready now."""
        match command:
            case GiveLease():
                pair = command.frontend, command.version
                self._lease(pair, command.instance, command.number, ready=not command.starting)
                return None if command.starting else pair
            case TellReady() if command.instance in self.mine:
                pair = self.mine[command.instance]
                self._void(command.instance)
                self._lease(pair, command.instance, command.number, ready=True)
                return pair
            case VoidLease() if self.mine.get(command.instance, ("",))[0] == command.frontend:
                pair = self.mine[command.instance]
                self._void(command.instance)
                job = self.known(*pair)
                if job is not None:  # its last one may be one that nobody waited for any more
                    self._leave(*pair, job)
            case _:
                pass
        return None

    def _lease(self, pair: Pair, instance: InstanceId, number: LeaseNumber, *, ready: bool) -> None:
        job = self.job(*pair)
        (job.ready if ready else job.starting)[instance] = number
        self.mine[instance] = pair

    def _void(self, instance: InstanceId) -> None:
        pair = self.mine.pop(instance, None)
        job = self.known(*pair) if pair is not None else None
        if job is not None:
            job.starting.pop(instance, None)
            job.ready.pop(instance, None)

    def give_back(self, job: Job, count: int, first: Iterable[InstanceId | None] = ()) -> Leases:
        """Of those that are ready, these first, then the oldest."""
        order = dict.fromkeys([*(it for it in first if it in job.ready), *job.ready])
        given = [(it, job.ready[it]) for it in islice(order, count)]
        for instance, _ in given:
            del job.ready[instance]
            del self.mine[instance]
        return given

    def all(self) -> Iterator[tuple[FrontendId, VersionKey, Job]]:
        for frontend, jobs in list(self.jobs.items()):
            for version, job in list(jobs.items()):
                yield frontend, version, job
