"""A shadow: a second policy beside the live one, in a world of its own, and what would have differed.

It is a second scheduler, the same code with other settings. It hears what the live one hears of functions,
nodes and limits, and what frontends want; what it answers is sent to nobody. Models stand in for those who
would have got it: `shadow_demand` for the frontends, `shadow_workers` for the workers. Both policies are
counted the same way over the same time (`tally`). With the live policy for its own it counts the same, or
nearly. At first it has the instances that earlier leaders left, as the live one does.

What it cannot know: the calls. Frontends tell how many instances they could use, and a call that a lease of
theirs serves at once is told to nobody. So a call that comes while the live fleet has a warm instance, and
the shadow still starts one, wants no second one there, as it might. Leases are counted, not calls.

Whoever runs it may do so later than the live one, event by event in the same order: it looks at nothing of
the live one's but what `noted` has put down.
"""

from collections import deque
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from typing import Final

from lambent_placement.core.books import Books
from lambent_placement.core.commands import Command, Evict, Fence, Grant, Recall
from lambent_placement.core.events import (
    Demanded,
    Event,
    FrontendAttached,
    FrontendDetached,
    FunctionDefined,
    FunctionRemoved,
    GrantRefused,
    InstanceFreed,
    InstanceGone,
    InstanceReady,
    NodeExpired,
    NodeRegistered,
    NodeReported,
    Recalled,
    Released,
    Tick,
    VersionRemoved,
)
from lambent_placement.core.records import Asked
from lambent_placement.core.scheduler import Scheduler
from lambent_placement.core.shadow_demand import ANSWER_S, Demand, Held, Job, Pair, held
from lambent_placement.core.shadow_workers import Workers
from lambent_placement.core.tally import Tally
from lambent_proto.ids import Epoch, FrontendId, InstanceId, VersionKey
from lambent_proto.messages import message

OTHER_EPOCHS: Final = 1 << 20
"""Further on than any leader comes: nothing of the shadow's has the name or number of anything live."""


@message
class Noted:
    """One event of the live scheduler's, and what it made of it."""

    event: Event
    commands: list[Command]
    idle_mb: int
    held: list[Held]
    """Leases of a frontend, or on a node, that has just said what it holds; else none."""


def noted(event: Event, commands: list[Command], books: Books) -> Noted:
    """To be called right after the event, with the live scheduler's books."""
    return Noted(event, commands, books.idle_mb, _said(event, books))


def _said(event: Event, books: Books) -> list[Held]:
    match event:
        case FrontendAttached():
            return held(books, books.frontend(event.frontend).held.values())
        case NodeReported() if event.node in books.nodes:
            return held(books, books.nodes[event.node].instances.values())
        case _:
            return []


def shadow_epoch(epoch: Epoch) -> Epoch:
    """Under which the shadow's scheduler leads, beside the live one's."""
    return Epoch(epoch + OTHER_EPOCHS)


@dataclass(slots=True)
class Shadow:
    scheduler: Scheduler
    """The second one, of a `shadow_epoch`. Nothing else may feed it."""
    live: Tally = field(default_factory=Tally)
    own: Tally = field(default_factory=Tally)
    demand: Demand = field(default_factory=Demand)
    workers: Workers = field(init=False)
    began_at: float | None = None
    """When the first event was; it has counted since."""
    at: float = 0.0
    recalls: deque[tuple[float, FrontendId, VersionKey]] = field(default_factory=deque)
    """The shadow's own, and until when they are answered, the first one first."""

    def __post_init__(self) -> None:
        self.workers = Workers(self.scheduler.books)

    @property
    def counted_s(self) -> float:
        return 0.0 if self.began_at is None else self.at - self.began_at

    def see(self, what: Noted) -> None:
        """The one gate: everything that the live scheduler hears, in its order."""
        event = what.event
        at = self.at if isinstance(event, NodeRegistered) else max(self.at, event.at)
        if self.began_at is None and at:
            self.began_at = at
        self._catch_up(at)
        self.at = at
        self.live.count(what.commands, what.idle_mb, at)
        if isinstance(event, NodeReported):  # it speaks of earlier grants, not of those it brings about
            self.workers.live_lost(event.node, at, {it.instance for it in event.instances})
        self.workers.live_said(what.commands, at)
        self._hear(event, what)

    def _catch_up(self, at: float) -> None:
        """What the shadow's workers and frontends have said in the meantime."""
        while (due := self.workers.next_due(at)) is not None:
            self.at = max(self.at, due.at)
            self._feed(due)
        while self.recalls and self.recalls[0][0] <= at:
            due_at, frontend, version = self.recalls.popleft()
            self.at = max(self.at, due_at)
            self._answer(frontend, version)

    def _hear(self, event: Event, what: Noted) -> None:
        """Only what is not the same in both worlds is translated. What frontends no longer want comes first:
        else an instance that ends is replaced for nobody."""
        match event:
            case Demanded():
                self._demanded(event, what)
            case Released() | Recalled():
                self._returned(event, what)
            case InstanceReady() | InstanceGone() | GrantRefused() | InstanceFreed():
                said = self._of_worker(event)
                self._follow(self.demand.live_said(what.commands, self.at))
                if said is not None:
                    self._feed(said)
            case FrontendAttached():
                self._frontend_attached(event, what)
            case NodeReported():
                self._node_reported(event, what)
            case _:
                self._housekeep(event)
                self._follow(self.demand.live_said(what.commands, self.at))
                self._feed(event)
                if isinstance(event, FunctionDefined | VersionRemoved | FunctionRemoved):
                    self._follow(set(self.demand.owing))

    def _housekeep(self, event: Event) -> None:
        match event:
            case Tick():
                for frontend, version in self.demand.overdue(event.at):
                    job = self.demand.job(frontend, version)
                    job.owed = 0
                    self._change(frontend, version, job)
            case FrontendDetached():
                self.demand.forget(event.frontend)
            case NodeExpired():
                self.workers.live_lost(event.node, event.at)
                self.demand.unsure.clear()  # what was there is never heard of again
            case FunctionRemoved():
                self.workers.forget(event.function)
            case _:
                pass

    # Frontends

    def _demanded(self, event: Demanded, what: Noted) -> None:
        taken = self.demand.live_said(what.commands, self.at)
        if event.frontend in self.demand.jobs:
            job = self.demand.job(event.frontend, event.wish.version)
            job.wanted = event.wish.wanted
            job.follow()
            self._change(event.frontend, event.wish.version, job, event.wish.oldest_wait_s, anew=True)
        self._follow(taken)

    def _returned(self, event: Released | Recalled, what: Noted) -> None:
        """As many come back in the shadow as are over, or as it has asked for."""
        sure = isinstance(event, Recalled) or event.sure
        returned = self.demand.returned(event.frontend, event.leases, self.at, sure=sure)
        taken = self.demand.live_said(what.commands, self.at)
        twins = [self.workers.twin(instance) for instance, _ in event.leases]
        for (frontend, version), count in returned.items():
            job = self.demand.job(frontend, version)
            if sure:
                job.heard(twins)
            job.follow(served=True)
            recall = self._recall(frontend, version)
            asked = min(recall.wanted, count) if recall is not None else 0
            self._change(frontend, version, job, give=asked, first=twins)
        if isinstance(event, Recalled) and not event.leases and self._recall(event.frontend, event.version):
            self._feed(Recalled(event.frontend, event.version, [], self.at))
        self._follow(taken - returned.keys())

    def _recall(self, frontend: FrontendId, version: VersionKey) -> Asked | None:
        """An open one of the shadow's."""
        known = self.scheduler.books.versions.get(version)
        wanted = known.wanted.get(frontend) if known is not None else None
        return wanted.recall if wanted is not None else None

    def _answer(self, frontend: FrontendId, version: VersionKey) -> None:
        """Gives back what a recall asks for, of what is ready: a live frontend gives a busy one back after
        its event, and one that has just come not before it has served one."""
        recall, job = self._recall(frontend, version), self.demand.known(frontend, version)
        if recall is None or not recall.wanted:
            return
        if job is None or not job.ready:
            self._feed(Recalled(frontend, version, [], self.at))
            return
        if job.live and (frontend, version) in self.demand.asked:  # the answer there is the answer here
            self.recalls.append((self.at + ANSWER_S, frontend, version))
            return
        used_at = job.given_at + self.demand.answer_s
        count = min(recall.wanted, len(job.ready) - (self.at < used_at))
        if count:
            job.passed += count
            job.follow()
            self._change(frontend, version, job, give=count)
        else:
            self.recalls.append((used_at, frontend, version))

    def _follow(self, pairs: Set[Pair]) -> None:
        for frontend, version in sorted(pairs):
            job = self.demand.known(frontend, version)
            if job is not None:
                job.follow()
                self._change(frontend, version, job)

    def _change(
        self,
        frontend: FrontendId,
        version: VersionKey,
        job: Job,
        waited_s: float = 0.0,
        *,
        anew: bool = False,
        give: int = 0,
        first: Iterable[InstanceId | None] = (),
    ) -> None:
        """Tells the shadow's scheduler what is wanted, then gives back what is not, `give` at the least."""
        if job.owed and not self._is_current(version):
            job.owed = 0  # its callers wait for the new one
        if anew or job.total != job.told:
            self._feed(Demanded(frontend, job.wish(version, waited_s, self.at), self.at))
        given = self.demand.give_back(job, max(give, job.surplus()), first)
        if given and self._recall(frontend, version) is not None:
            self._feed(Recalled(frontend, version, given, self.at))
        elif given:
            self._feed(Released(frontend, given, True, self.at))
        self.demand.settle(frontend, version, job, self.at)

    def _is_current(self, version: VersionKey) -> bool:
        known = self.scheduler.books.versions.get(version)
        return known is not None and known.current

    def _frontend_attached(self, event: FrontendAttached, what: Noted) -> None:
        """It holds what the shadow has given it, and of what earlier leaders gave what it says."""
        frontend, books = event.frontend, self.scheduler.books
        own = books.frontends[frontend].held.values() if frontend in books.frontends else ()
        claims = dict(event.leases) | {instance.id: instance.number for instance in own}
        self.demand.forget(frontend)
        jobs = self.demand.jobs[frontend] = {}
        touched = self.demand.live_said(what.commands, self.at) | self.demand.live_holds(what.held)
        for wish in event.wishes:
            self.demand.job(frontend, wish.version).wanted = wish.wanted
        waited = {wish.version: wish.oldest_wait_s for wish in event.wishes}
        wishes = []
        for version, job in jobs.items():
            job.follow()
            wishes.append(job.wish(version, waited.get(version, 0.0), self.at))
        self._feed(FrontendAttached(frontend, list(claims.items()), wishes, event.links, self.at))
        touched |= self.demand.shadow_holds(self._held_by(frontend), books)
        self._follow(touched | {(frontend, version) for version in jobs})

    def _held_by(self, frontend: FrontendId) -> list[Held]:
        books = self.scheduler.books
        return held(books, books.frontends[frontend].held.values())

    def _node_reported(self, event: NodeReported, what: Noted) -> None:
        touched = self.demand.live_said(what.commands, self.at) | self.demand.live_holds(what.held)
        self._follow(touched)
        self._feed(self.workers.reported(event))
        for said in self.workers.live_reported(event):
            self._feed(said)
        books = self.scheduler.books
        there = books.nodes[event.node].instances.values() if event.node in books.nodes else ()
        self._follow(self.demand.shadow_holds(held(books, there), books))

    # Workers

    def _of_worker(self, event: InstanceReady | InstanceGone | GrantRefused | InstanceFreed) -> Event | None:
        match event:
            case InstanceReady():
                return self.workers.live_ready(event)
            case GrantRefused():
                return self.workers.live_refused(event)
            case InstanceGone():
                pair = self.demand.holder(event.instance)
                job = self.demand.known(*pair) if pair else None
                used = job.like(self.workers.twin(event.instance)) if job is not None else None
                self.demand.unsure.pop(event.instance, None)
                return self.workers.live_gone(event, used)
            case _:
                if not event.busy:
                    self.demand.unsure.pop(event.instance, None)
                return self.workers.live_freed(event)

    # The shadow's scheduler

    def _feed(self, event: Event) -> None:
        """Hands it an event, and what follows from it in the shadow's world, until nothing does."""
        todo = deque([event])
        served: dict[Pair, None] = {}
        while todo:
            commands = self.scheduler.handle(todo.popleft())
            self.own.count(commands, self.scheduler.books.idle_mb, self.at)
            for command in commands:
                pair = self.demand.shadow_said(command, self.scheduler.books)
                if pair is not None:
                    served[pair] = None
                    self.demand.job(*pair).given_at = self.at
                todo.extend(self._carry_out(command))
        for frontend, version in served:
            job = self.demand.known(frontend, version)
            if job is not None and (job.owed or job.surplus()):
                job.follow()
                self._change(frontend, version, job)

    def _carry_out(self, command: Command) -> list[Event]:
        match command:
            case Grant():
                self.workers.start(command, self.at)
            case Evict():
                self.workers.stop(command, self.at)
            case Fence():
                return self.workers.free(command, self.at)
            case Recall() if command.wanted:
                self.recalls.append((self.at + self.demand.answer_s, command.frontend, command.version))
            case _:
                pass  # nobody else has to do anything
        return []
