"""Placement's decisions: who gets which instance, where a new one starts, which one has to go.

Rule 1: everything that changes who may run what goes through `Scheduler.handle`, and nothing else does.
Rule 2: this module knows no clock, no socket and no etcd. Events carry the time they happened at.

A demand that is not met is served in this order of preference, the longest waiting frontend first:

    1. an idle instance that the frontend can reach: the one that served the call's sticky key last, one on
       the node of that one, a provisioned one, the most recently used;
    2. what is already on its way: a fenced instance, a recalled lease, room being made;
    3. an instance held by a frontend that is gone: fenced, then given;
    4. what another frontend holds and does not use: recalled, idle ones come back at once;
    5. below the function's limit, a new instance on the node that `where` finds best;
    6. at the limit, in place of an idle one of another version, or of one out of reach;
    7. without free memory, in place of the idle instances of one such node that are worth least (`keep`);
    8. at the limit with every instance in use: recalled from the frontend whose own callers have waited less.

At the end of the pool (`limits`) a function that runs nothing, or less than others, is given of theirs.

Counting. An instance counts from the grant until its worker reports it gone or the worker's key has left
etcd. While any registered worker has not reported to this leader, as many instances as could possibly run
there count as well. So the count may be too high for a moment; it is never too low.
"""

from dataclasses import dataclass, field
from typing import Final, assert_never

from lambent_placement.core.acts import Acts
from lambent_placement.core.books import Books
from lambent_placement.core.commands import (
    Command,
    TellReady,
    VoidLease,
)
from lambent_placement.core.drains import Drains
from lambent_placement.core.events import (
    ConcurrencySet,
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
    KeysServed,
    LinkChanged,
    NodeDisconnected,
    NodeDraining,
    NodeExpired,
    NodeLeaving,
    NodeRegistered,
    NodeReported,
    ProvisionedSet,
    Recalled,
    Released,
    Tick,
    VersionRemoved,
    Wish,
)
from lambent_placement.core.greedy_dual import GreedyDual
from lambent_placement.core.histogram import Histogram
from lambent_placement.core.keep import KEPT_S, Fixed
from lambent_placement.core.limits import Pool
from lambent_placement.core.prewarm import Prewarm
from lambent_placement.core.provision import Provision
from lambent_placement.core.records import Frontend, Function, State, Version
from lambent_placement.core.reports import ORPHAN_S, Reports
from lambent_placement.core.supply import UNANSWERED_S, Supply
from lambent_proto.ids import (
    Epoch,
    FrontendId,
    InstanceId,
    LeaseNumber,
    function_of,
)
from lambent_proto.shards import ONLY, Shard

KEEPS: Final = {"fixed": Fixed, "greedy-dual": GreedyDual, "histogram": Histogram}

NO_LEASE: Final = LeaseNumber(-1)

REFUSED_S: Final = 0.5
"""How long a node that refused a grant gets no other."""

PRUNE_S: Final = 1.0
"""How often what is left of old versions and functions is looked for."""

BACKOFF_S: Final = (0.1, 5.0)
"""First and longest pause between starts that fail through no fault of the function's; doubles each time."""


@dataclass(slots=True)
class Scheduler:
    """The state may be read by anyone and is changed by `handle` alone."""

    epoch: Epoch
    keep: str = "fixed"
    """Which policy says what becomes of idle instances: one of KEEPS."""
    keep_alive_s: float = KEPT_S
    shard: Shard = ONLY
    """What it leads."""
    pruned_at: float = 0.0
    books: Books = field(default_factory=Books)
    acts: Acts = field(init=False)
    supply: Supply = field(init=False)
    reports: Reports = field(init=False)
    drains: Drains = field(init=False)
    provision: Provision = field(init=False)
    prewarm: Prewarm = field(init=False)

    def __post_init__(self) -> None:
        self.books.keep = KEEPS[self.keep](self.books, self.keep_alive_s)
        self.books.pool = Pool(shard=self.shard)
        self.acts = Acts(self.books, self.epoch, self.shard.number)
        self.supply = Supply(self.books, self.acts)
        self.reports = Reports(self.books, self.acts, self.supply)
        self.drains = Drains(self.books, self.acts)
        self.provision = Provision(self.books, self.acts)
        self.prewarm = Prewarm(self.books, self.acts)

    def handle(self, event: Event) -> list[Command]:  # noqa: C901 - the one gate: a case an event
        """Takes one event and returns what must be done. Duplicates and late events have no effect."""
        match event:
            case Demanded():
                return self._demanded(event)
            case Released():
                return self._take_back(event.frontend, event.leases, event.sure, event.at)
            case KeysServed():
                return self._keys_served(event)
            case Tick():
                return self._tick(event.at)
            case InstanceReady():
                return self._ready(event)
            case InstanceGone():
                return self._gone(event)
            case InstanceFreed():
                return self._freed(event)
            case GrantRefused():
                return self._refused(event)
            case Recalled():
                return self._recalled(event)
            case LinkChanged():
                return self._link_changed(event)
            case FrontendAttached():
                return self._attached(event)
            case FrontendDetached():
                return self._detached(event)
            case NodeRegistered():
                return self._registered(event)
            case NodeReported():
                return self.reports.node_reported(event)
            case NodeDisconnected():
                return self.reports.disconnected(event)
            case NodeExpired():
                return self.reports.expired(event)
            case FunctionDefined():
                return self._defined(event)
            case ProvisionedSet():
                return self._provisioned(event)
            case VersionRemoved():
                return self._version_removed(event)
            case FunctionRemoved():
                return self._function_removed(event)
            case ConcurrencySet():
                return self._concurrency_set(event)
            case NodeDraining():
                return self.drains.changed(event) + self.supply.serve_needy(event.at)
            case NodeLeaving():
                return self.drains.leaving(event) + self.supply.serve_needy(event.at)
            case _:
                assert_never(event)

    def _demanded(self, event: Demanded) -> list[Command]:
        frontend = self.books.frontends.get(event.frontend)
        if frontend is None or not frontend.attached:
            return []
        at = event.at
        return self.supply.serve(self._note(event.frontend, event.wish, at), at)

    def _note(self, frontend: FrontendId, wish: Wish, at: float) -> Version:
        version = self.books.version(wish.version)
        wanted = version.wanted.get(frontend) or self.books.wanted(version, frontend)
        wanted.wanted = wish.wanted
        wanted.oldest_at = at - wish.oldest_wait_s
        wanted.keys = wish.keys
        return version

    def _keys_served(self, event: KeysServed) -> list[Command]:
        """A hint, and taken as such: nothing is done for it."""
        for instance_id, key in event.calls:
            instance = self.books.instances.get(instance_id)
            if instance is not None:
                function = function_of(instance.version)
                self.books.served.note(function, key, instance_id, instance.node)
        return []

    def _attached(self, event: FrontendAttached) -> list[Command]:
        """Its claims against the books: what it does not claim it does not hold, whatever the books say."""
        frontend = self.books.frontend(event.frontend)
        self._forget_wishes(frontend)
        frontend.attached = True
        frontend.links = set(event.links)
        frontend.claims.clear()
        claimed = dict(event.leases)
        commands: list[Command] = []
        for instance in self.acts.held_by(frontend.id):
            if claimed.get(instance.id, NO_LEASE) < instance.number:
                commands += self.acts.fence(instance, event.at)
        for instance_id, number in event.leases:
            commands += self._claim(frontend, instance_id, number)
        for wish in event.wishes:
            self._note(frontend.id, wish, event.at)
            self.books.needy[wish.version] = None
        return commands + self.acts.void_claims() + self.supply.serve_needy(event.at)

    def _claim(self, frontend: Frontend, instance_id: InstanceId, number: LeaseNumber) -> list[Command]:
        instance = self.books.instances.get(instance_id)
        if instance is None:
            frontend.claims[instance_id] = number
            return []
        if instance.number == number and instance.frontend == frontend.id:
            if instance.ready:
                return [TellReady(frontend.id, instance_id, number, 0.0, 0.0)]
            return []
        if instance.number <= number and instance.state in (State.IDLE, State.LEASED):
            # A lease of an earlier leader's that had not been used yet when the worker reported.
            self.books.change(instance, State.LEASED, frontend=frontend.id, number=number)
            return [TellReady(frontend.id, instance_id, number, 0.0, 0.0)] if instance.ready else []
        return [VoidLease(frontend.id, instance_id, number, "superseded", node_lost=False)]

    def _detached(self, event: FrontendDetached) -> list[Command]:
        frontend = self.books.frontend(event.frontend)
        frontend.attached = False
        frontend.links.clear()
        frontend.claims.clear()
        frontend.reclaim_at = event.at
        frontend.forget_at = event.at + ORPHAN_S
        self._forget_wishes(frontend)
        return self.supply.serve_needy(event.at)

    def _forget_wishes(self, frontend: Frontend) -> None:
        for version in self.books.versions.values():
            wanted = version.wanted.get(frontend.id)
            if wanted is not None:
                wanted.wanted = 0
                wanted.unmet = ""
                wanted.recall = None

    def _take_back(
        self, frontend: FrontendId, leases: list[tuple[InstanceId, LeaseNumber]], sure: bool, at: float
    ) -> list[Command]:
        commands: list[Command] = []
        known = self.books.frontends.get(frontend)
        if known is None:
            return []
        for instance_id, number in leases:
            instance = self.books.instances.get(instance_id)
            known.claims.pop(instance_id, None)
            if instance is None or instance.frontend != frontend or instance.number != number:
                continue
            commands += self.acts.settle(instance, at) if sure else self.acts.fence(instance, at)
        return commands + self.supply.serve_needy(at)

    def _recalled(self, event: Recalled) -> list[Command]:
        if event.frontend not in self.books.frontends:
            return []
        version = self.books.version(event.version)
        recall = self.books.wanted(version, event.frontend).recall
        if recall is not None:
            recall.answered = True
            recall.wanted = max(0, recall.wanted - len(event.leases))
        commands = self._take_back(event.frontend, event.leases, True, event.at)
        return commands + self.supply.serve(version, event.at)

    def _link_changed(self, event: LinkChanged) -> list[Command]:
        frontend = self.books.frontends.get(event.frontend)
        if frontend is None:
            return []
        if event.up:
            frontend.links.add(event.node)
            return self.supply.serve_needy(event.at)
        frontend.links.discard(event.node)
        commands: list[Command] = []
        node = self.books.nodes.get(event.node)
        for instance in list(node.instances.values()) if node else []:
            if instance.frontend == event.frontend:
                commands += self.acts.fence(instance, event.at)
        return commands + self.supply.serve_needy(event.at)

    def _registered(self, event: NodeRegistered) -> list[Command]:
        if event.node in self.books.expired:
            return []
        node = self.books.node(event.node, event.memory_mb)
        self.books.change_node(node, registered=True, runtimes=event.runtimes, labels=event.labels)
        return []

    def _ready(self, event: InstanceReady) -> list[Command]:
        instance = self.books.instances.get(event.instance)
        if instance is None or instance.ready:
            return []
        commands = self.acts.make_ready(instance, event) + self.drains.ready(instance.id, event.at)
        self.provision.ready(instance)
        return commands + self.supply.serve_needy(event.at)

    def _gone(self, event: InstanceGone) -> list[Command]:
        instance = self.books.instances.get(event.instance)
        if instance is None:
            return []
        stopping = instance.state is State.STOPPING
        if instance.provisioned and not instance.ready and not stopping:
            self.provision.gone(instance, event.error.decode(errors="replace") or event.reason, event.at)
        if not instance.ready and not stopping and not event.error:
            self._back_off(self.books.version(instance.version).function, event.at)
        commands = self.acts.remove(instance, event.reason, event.error)
        return commands + self.supply.serve_needy(event.at)

    def _back_off(self, function: Function, at: float) -> None:
        first, longest = BACKOFF_S
        function.start_after = at + min(longest, first * 2**function.failures)
        function.failures = min(function.failures + 1, 10)

    def _freed(self, event: InstanceFreed) -> list[Command]:
        instance = self.books.instances.get(event.instance)
        if instance is None or instance.state is not State.FENCING or instance.number != event.number:
            return []
        if event.busy:
            self.books.change(instance, State.FENCING, busy=True)
            return self.supply.serve_needy(event.at)
        return self.acts.settle(instance, event.at) + self.supply.serve_needy(event.at)

    def _refused(self, event: GrantRefused) -> list[Command]:
        instance = self.books.instances.get(event.instance)
        if instance is None:
            return []
        self.books.nodes[instance.node].refused_until = event.at + REFUSED_S
        return self.acts.remove(instance, event.reason, b"") + self.supply.serve_needy(event.at)

    def _defined(self, event: FunctionDefined) -> list[Command]:
        version = self.books.version(event.version)
        function = version.function
        if not version.current:
            function.failures, function.start_after = 0, 0.0
            self.books.make_current(version)
        version.memory_mb, version.runtime, version.package = event.memory_mb, event.runtime, event.package
        version.require, version.prefer, version.apart = event.require, event.prefer, event.apart
        before = self.books.pool.size
        self.books.reserve(function, event.reserved)
        commands = self._retire(function, event.at) + self._pool_changed(before, event.at)
        return commands + self.supply.serve_needy(event.at)

    def _provisioned(self, event: ProvisionedSet) -> list[Command]:
        before = self.books.pool.size
        self.provision.set(event.version, event.count)
        commands = self._pool_changed(before, event.at) + self.provision.step(event.at)
        return commands + self.supply.serve_needy(event.at)

    def _version_removed(self, event: VersionRemoved) -> list[Command]:
        version = self.books.versions.get(event.version)
        if version is None:
            return []
        self.books.make_past(version)
        return self._retire(version.function, event.at) + self.supply.serve_needy(event.at)

    def _function_removed(self, event: FunctionRemoved) -> list[Command]:
        function = self.books.function(event.function)
        for version in list(function.current.values()):
            self.books.make_past(version)
        self.books.reserve(function, None)
        return self._retire(function, event.at) + self.supply.serve_needy(event.at)

    def _concurrency_set(self, event: ConcurrencySet) -> list[Command]:
        before = self.books.pool.size
        self.books.pool.concurrency = event.concurrency
        self.books.pool.elsewhere = event.elsewhere
        self.books.pool.resize()
        return self._pool_changed(before, event.at) + self.supply.serve_needy(event.at)

    def _pool_changed(self, before: int, at: float) -> list[Command]:
        """No function may have more than the whole pool, nor may all together run more."""
        if self.books.pool.size >= before or not self.books.instances:
            return []
        sharing = [f for f in self.books.functions.values() if f.reserved is None and f.instances]
        commands = [command for function in sharing for command in self._retire(function, at)]
        held = [i for f in sharing for i in f.instances.values() if i.state is State.LEASED and i.ready]
        ending = sum(f.running for f in sharing) - len(held)
        held = [i for i in held if not i.provisioned]
        surplus = self.books.pool.used - self.books.pool.size - ending
        for instance in held[: max(0, surplus)]:
            commands += self.acts.fence(instance, at)
        return commands

    def _retire(self, function: Function, at: float) -> list[Command]:
        """What is of no use goes: idle ones of a version that is not current, and what a lowered limit leaves
        no room for, the least recently used first. Those in use are fenced: they go after their event."""
        commands: list[Command] = []
        idle = [i for i in function.instances.values() if i.state is State.IDLE and i.ready]
        for instance in sorted(idle, key=lambda i: (i.provisioned, i.idle_since)):
            if not self.books.version(instance.version).current:
                commands += self.acts.evict(instance, "other_version")
            elif self.acts.surplus(function) > 0:
                commands += self.acts.evict(instance, "limit_lowered")
        used = [i for i in function.instances.values() if i.state is State.LEASED and i.ready]
        fenced = sum(i.state is State.FENCING for i in function.instances.values())
        for instance in used[: max(0, self.acts.surplus(function) - fenced)]:
            commands += self.acts.fence(instance, at)
        return commands

    def _tick(self, at: float) -> list[Command]:
        commands = self.reports.overdue(at)
        for frontend in list(self.books.frontends.values()):
            if not frontend.attached and at >= frontend.forget_at:
                for instance in self.acts.held_by(frontend.id):
                    commands += self.acts.fence(instance, at)
                del self.books.frontends[frontend.id]
                for version in self.books.versions.values():
                    version.wanted.pop(frontend.id, None)
        self._give_up_waiting(at)
        due = self.books.keep.due(at)
        commands += [command for one in due.over for command in self.acts.evict(one, "keep_alive")]
        commands += self.drains.step(at) + self.provision.step(at) + self.prewarm.start(due.warm, at)
        if at - self.pruned_at >= PRUNE_S:
            self.pruned_at = at
            self._prune()
        return commands + self.supply.serve_needy(at)

    def _give_up_waiting(self, at: float) -> None:
        """A worker that has not answered by now may be stopped: what it owes is on its way no more."""
        for instance in list(self.books.asked.values()):
            if at - instance.asked_at >= UNANSWERED_S:
                self.books.expect_no_more(instance)

    def _prune(self) -> None:
        for version in list(self.books.versions.values()):
            self._prune_version(version)
        for name, function in list(self.books.functions.items()):
            if not function.versions:
                del self.books.functions[name]
        wanted = {version.package for version in self.books.versions.values() if version.current}
        for package in self.books.packages.keys() - wanted:
            del self.books.packages[package]

    def _prune_version(self, version: Version) -> None:
        """A version that is not current leaves no trace once nothing of it is left."""
        for frontend, wanted in list(version.wanted.items()):
            asked = wanted.recall
            needed = wanted.wanted or wanted.held or wanted.unmet
            if not needed and (asked is None or asked.answered):
                del version.wanted[frontend]
        rests = version.count or version.wanted or version.making_room or version.provisioned
        if not version.current and not rests and version.key not in self.books.needy:
            self.books.forget_version(version)
