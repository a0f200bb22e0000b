"""Placement's decisions: who gets which instance, where a new one starts, which one has to go.

Rule 1: everything that changes who may run what goes through `Scheduler.handle`, and nothing else does.
Rule 2: this module knows no clock, no socket and no etcd. Events carry the time they happened at.

A demand that is not met is served in this order of preference, the longest waiting frontend first:

    1. the most recently used idle instance that the frontend can reach;
    2. what is already on its way: a fenced instance, a recalled lease, room being made;
    3. an instance held by a frontend that is gone: fenced, then given;
    4. what another frontend holds and does not use: recalled, idle ones come back at once;
    5. below the function's limit, a new instance on the node with most free memory;
    6. at the limit, in place of an idle one of another version, or of one out of reach;
    7. without free memory, in place of the least recently used idle instances of one node;
    8. at the limit with every instance in use: recalled from the frontend whose own callers have waited less.

Counting. An instance counts from the grant until its worker reports it gone or the worker's key has left
etcd. While any registered worker has not reported to this leader, as many instances as could possibly run
there count as well. So the count may be too high for a moment; it is never too low.
"""

from dataclasses import dataclass, field
from typing import Final, assert_never

from lambent_placement.core import choice
from lambent_placement.core.books import (
    Asked,
    Books,
    Frontend,
    Function,
    Instance,
    Node,
    State,
    Version,
    Wanted,
)
from lambent_placement.core.commands import (
    Command,
    Evict,
    Fence,
    GiveLease,
    Grant,
    Reason,
    Recall,
    TellReady,
    TellUnmet,
    Unmet,
    VoidLease,
)
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
    LinkChanged,
    NodeDisconnected,
    NodeExpired,
    NodeRegistered,
    NodeReported,
    Recalled,
    Released,
    Reported,
    Tick,
    Wish,
)
from lambent_proto.ids import (
    Epoch,
    FrontendId,
    InstanceId,
    LeaseNumber,
    VersionKey,
    function_of,
    lease_number,
)

SETTLE_S: Final = 1.0
"""How long a new leader waits for the holder of a lease to attach before the lease may go to others."""

ORPHAN_S: Final = 5.0
"""How long a frontend that is gone keeps leases that nobody else asks for."""

RECALL_FRESH_S: Final = 0.02
"""How long the answer "nothing idle here" is believed before the same frontend is asked again."""

OLDER_S: Final = 0.05
"""How much longer one frontend's callers must have waited than another's before a busy lease is recalled:
more than the age of what the parts know of each other."""

REFUSED_S: Final = 0.5
"""How long a node that refused a grant gets no other."""

BACKOFF_S: Final = (0.1, 5.0)
"""First and longest pause between starts that fail through no fault of the function's; doubles each time."""


@dataclass(slots=True)
class Scheduler:
    """The state may be read by anyone and is changed by `handle` alone."""

    epoch: Epoch
    default_limit: int = 1000
    """Most instances of a function that sets no limit of its own."""
    keep_alive_s: float = 600.0
    books: Books = field(default_factory=Books)
    serial: int = 0

    def handle(self, event: Event) -> list[Command]:  # noqa: C901 - the one gate: a case an event
        """Takes one event and returns what must be done. Duplicates and late events have no effect."""
        match event:
            case Demanded():
                return self._demanded(event)
            case Released():
                return self._take_back(event.frontend, event.leases, event.sure, event.at)
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
                return self._node_reported(event)
            case NodeDisconnected():
                return self._disconnected(event)
            case NodeExpired():
                return self._expired(event)
            case FunctionDefined():
                return self._defined(event)
            case FunctionRemoved():
                return self._function_removed(event)
            case _:
                assert_never(event)

    # Frontends

    def _demanded(self, event: Demanded) -> list[Command]:
        if not self.books.frontend(event.frontend).attached:
            return []
        self._note(event.frontend, event.wish, event.at)
        return self._serve(event.wish.version, event.at)

    def _note(self, frontend: FrontendId, wish: Wish, at: float) -> None:
        wanted = self.books.wanted(wish.version, frontend)
        wanted.wanted = wish.wanted
        wanted.oldest_at = at - wish.oldest_wait_s

    def _attached(self, event: FrontendAttached) -> list[Command]:
        """Its claims against the books: what it does not claim it does not hold, whatever the books say."""
        frontend = self.books.frontend(event.frontend)
        self._forget_wishes(frontend)
        frontend.attached = True
        frontend.links = set(event.links)
        frontend.claims.clear()
        claimed = dict(event.leases)
        commands: list[Command] = []
        for instance in self._held_by(frontend.id):
            if claimed.get(instance.id) != instance.number:
                commands += self._fence(instance)
        for instance_id, number in event.leases:
            commands += self._claim(frontend, instance_id, number)
        for wish in event.wishes:
            self._note(frontend.id, wish, event.at)
            self.books.needy[wish.version] = None
        return commands + self._void_claims() + self._serve_needy(event.at)

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
        return self._serve_needy(event.at)

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
        for instance_id, number in leases:
            instance = self.books.instances.get(instance_id)
            if instance is None or instance.frontend != frontend or instance.number != number:
                continue
            commands += self._settle(instance, at) if sure else self._fence(instance)
        return commands + self._serve_needy(at)

    def _recalled(self, event: Recalled) -> list[Command]:
        recall = self.books.wanted(event.version, event.frontend).recall
        if recall is not None:
            recall.answered = True
            recall.wanted = max(0, recall.wanted - len(event.leases))
        commands = self._take_back(event.frontend, event.leases, True, event.at)
        return commands + self._serve(event.version, event.at)

    def _link_changed(self, event: LinkChanged) -> list[Command]:
        frontend = self.books.frontend(event.frontend)
        if event.up:
            frontend.links.add(event.node)
            return self._serve_needy(event.at)
        frontend.links.discard(event.node)
        commands: list[Command] = []
        node = self.books.nodes.get(event.node)
        for instance in list(node.instances.values()) if node else []:
            if instance.frontend == event.frontend:
                commands += self._fence(instance)
        return commands + self._serve_needy(event.at)

    # Workers

    def _registered(self, event: NodeRegistered) -> list[Command]:
        if event.node in self.books.expired:
            return []
        node = self.books.nodes.setdefault(event.node, Node(event.node, event.memory_mb))
        node.registered = True
        return []

    def _node_reported(self, event: NodeReported) -> list[Command]:
        """A worker's own report against the books: what runs there is what it says."""
        if event.node in self.books.expired:
            return []
        node = self.books.nodes.setdefault(event.node, Node(event.node, event.memory_mb))
        node.connected = node.reported = True
        commands: list[Command] = []
        reported = {report.instance for report in event.instances}
        for instance in [i for i in node.instances.values() if i.id not in reported]:
            commands += self._remove(instance, "the grant was lost", b"")
        for report in event.instances:
            known = self.books.instances.get(report.instance)
            if known is None:
                commands += self._adopt(node, report, event.at)
            else:
                commands += self._reconcile(known, report, event.at)
        return commands + self._void_claims() + self._serve_needy(event.at)

    def _adopt(self, node: Node, report: Reported, at: float) -> list[Command]:
        """An instance that an earlier leader granted. It belongs to whoever claims it or held it last."""
        instance = Instance(
            report.instance,
            report.version,
            node.id,
            report.memory_mb,
            report.number,
            State.STOPPING if report.state == "stopping" else State.IDLE,
            idle_since=at,
        )
        instance.ready = report.state != "starting"
        self.books.add(instance)
        if instance.state is State.STOPPING:
            return []
        for frontend in self.books.frontends.values():
            number = frontend.claims.pop(instance.id, None)
            if number is not None and number >= report.number:
                self.books.change(instance, State.LEASED, frontend=frontend.id, number=number)
                return [TellReady(frontend.id, instance.id, number, 0.0, 0.0)] if instance.ready else []
        if report.frontend is not None and self._may_still_attach(report.frontend, at):
            self.books.change(instance, State.LEASED, frontend=report.frontend)
            return []
        if report.state == "busy":
            return self._fence(instance)
        return self._settle(instance, at)

    def _may_still_attach(self, frontend_id: FrontendId, at: float) -> bool:
        """Whether a last holder may be on its way to this leader, so that its lease is left alone."""
        frontend = self.books.frontends.get(frontend_id)
        if frontend is None:
            frontend = self.books.frontend(frontend_id)
            frontend.reclaim_at = at + SETTLE_S
            frontend.forget_at = at + SETTLE_S + ORPHAN_S
        return not frontend.attached

    def _reconcile(self, instance: Instance, report: Reported, at: float) -> list[Command]:
        commands: list[Command] = []
        if report.state != "starting" and not instance.ready:
            commands += self._make_ready(instance, 0.0, 0.0, at)
        if report.state == "stopping":
            return commands + self._stopped_by_worker(instance)
        if instance.state is State.STOPPING:
            return [*commands, Evict(instance.node, instance.id, instance.number, instance.stop_reason)]
        if instance.state is State.FENCING:
            return commands + self._fence_again(instance, report, at)
        if instance.state is State.IDLE and report.state == "busy":
            return commands + self._fence(instance)
        return commands

    def _stopped_by_worker(self, instance: Instance) -> list[Command]:
        commands = self._void(instance, "the worker is stopping it", b"")
        self.books.change(instance, State.STOPPING)
        return commands

    def _fence_again(self, instance: Instance, report: Reported, at: float) -> list[Command]:
        """The fence, or its answer, may have been lost with the old stream."""
        busy = report.state == "busy"
        if report.number < instance.number:
            self.books.change(instance, State.FENCING, busy=busy)
            return [Fence(instance.node, instance.id, instance.number)]
        if busy:
            self.books.change(instance, State.FENCING, busy=True)
            return []
        return self._settle(instance, at)

    def _disconnected(self, event: NodeDisconnected) -> list[Command]:
        node = self.books.nodes.get(event.node)
        if node is None:
            return []
        node.connected = False
        for instance in node.instances.values():
            if instance.state is State.FENCING:
                self.books.change(instance, State.FENCING, busy=True)  # nobody knows when it will be free
            favoured = self.books.room_for.pop(instance.id, None)
            if favoured is not None:
                self.books.version(favoured).making_room -= 1
        return self._serve_needy(event.at)

    def _expired(self, event: NodeExpired) -> list[Command]:
        self.books.expired.add(event.node)
        node = self.books.nodes.get(event.node)
        if node is None:
            return []
        commands: list[Command] = []
        for instance in list(node.instances.values()):
            commands += self._remove(instance, "its worker's registration ended", b"", node_lost=True)
        del self.books.nodes[event.node]
        return commands + self._void_claims() + self._serve_needy(event.at)

    def _ready(self, event: InstanceReady) -> list[Command]:
        instance = self.books.instances.get(event.instance)
        if instance is None or instance.ready:
            return []
        commands = self._make_ready(instance, event.starting_ms, event.init_ms, event.at)
        return commands + self._serve_needy(event.at)

    def _make_ready(self, instance: Instance, starting_ms: float, init_ms: float, at: float) -> list[Command]:
        holder = instance.frontend
        self.books.change(
            instance, instance.state, frontend=holder, ready=True, busy=instance.busy, idle_since=at
        )
        self.books.function(function_of(instance.version)).failures = 0
        if holder is None:
            return []
        return [TellReady(holder, instance.id, instance.number, starting_ms, init_ms)]

    def _gone(self, event: InstanceGone) -> list[Command]:
        instance = self.books.instances.get(event.instance)
        if instance is None:
            return []
        stopping = instance.state is State.STOPPING
        if not instance.ready and not stopping and not event.error:
            self._back_off(self.books.function(function_of(instance.version)), event.at)
        commands = self._remove(instance, event.reason, event.error)
        return commands + self._serve_needy(event.at)

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
            return self._serve_needy(event.at)
        return self._settle(instance, event.at) + self._serve_needy(event.at)

    def _refused(self, event: GrantRefused) -> list[Command]:
        instance = self.books.instances.get(event.instance)
        if instance is None:
            return []
        self.books.nodes[instance.node].refused_until = event.at + REFUSED_S
        return self._remove(instance, event.reason, b"") + self._serve_needy(event.at)

    # Functions

    def _defined(self, event: FunctionDefined) -> list[Command]:
        function = self.books.function(event.function)
        function.version = event.version
        function.memory_mb = event.memory_mb
        function.limit = event.limit
        return self._retire_idle(function) + self._serve_needy(event.at)

    def _function_removed(self, event: FunctionRemoved) -> list[Command]:
        function = self.books.function(event.function)
        function.version = None
        return self._retire_idle(function) + self._serve_needy(event.at)

    def _retire_idle(self, function: Function) -> list[Command]:
        """Idle instances of a version that is not current, or beyond a lowered limit, are of no use."""
        commands: list[Command] = []
        surplus = len(function.instances) - self._limit(function)
        idle = [i for i in function.instances.values() if i.state is State.IDLE and i.ready]
        for instance in sorted(idle, key=lambda i: i.idle_since):
            if instance.version != function.version:
                commands += self._evict(instance, "other_version")
            elif surplus > 0:
                commands += self._evict(instance, "limit_lowered")
            else:
                continue
            surplus -= 1
        return commands

    def _limit(self, function: Function) -> int:
        return self.default_limit if function.limit is None else function.limit

    # Time

    def _tick(self, at: float) -> list[Command]:
        commands: list[Command] = []
        for frontend in list(self.books.frontends.values()):
            if not frontend.attached and at >= frontend.forget_at:
                for instance in self._held_by(frontend.id):
                    commands += self._fence(instance)
                del self.books.frontends[frontend.id]
                for version in self.books.versions.values():
                    version.wanted.pop(frontend.id, None)
        for version in list(self.books.versions.values()):
            commands += self._expire_idle(version, at)
        return commands + self._serve_needy(at)

    def _expire_idle(self, version: Version, at: float) -> list[Command]:
        late = []
        for instance in version.idle.values():
            if at - instance.idle_since < self.keep_alive_s:
                break  # least recently used first: the rest is younger
            late.append(instance)
        return [command for instance in late for command in self._evict(instance, "keep_alive")]

    # Serving a demand

    def _serve_needy(self, at: float) -> list[Command]:
        """Looks again at every demand that is not met, the one that has waited longest first."""
        if not self.books.needy:
            return []
        commands: list[Command] = []
        for key in sorted(self.books.needy, key=self._oldest):
            commands += self._serve(key, at)
        return commands

    def _oldest(self, key: VersionKey) -> tuple[float, str]:
        waiting = [w.oldest_at for w in self.books.version(key).wanted.values() if w.missing]
        return min(waiting, default=0.0), key

    def _serve(self, key: VersionKey, at: float) -> list[Command]:
        version = self.books.version(key)
        commands: list[Command] = []
        needy = self._needy(version)
        for frontend in needy:
            wanted = version.wanted[frontend.id]
            while wanted.missing and (instance := choice.warmest(version, frontend)) is not None:
                commands.append(self._give(instance, frontend.id, Reason.MOST_RECENTLY_USED))
        needy = [f for f in needy if version.wanted[f.id].missing]
        if not needy:
            self.books.needy.pop(key, None)
            return commands + self._all_met(version)
        self.books.needy[key] = None
        return commands + self._find_more(version, needy, at)

    def _needy(self, version: Version) -> list[Frontend]:
        """Who still misses instances of this version, the longest waiting first."""
        frontends = self.books.frontends
        needy = [f for f, w in version.wanted.items() if w.missing and frontends[f].attached]
        return [frontends[f] for f in sorted(needy, key=lambda f: (version.wanted[f].oldest_at, f))]

    def _all_met(self, version: Version) -> list[Command]:
        commands: list[Command] = []
        for frontend, wanted in version.wanted.items():
            if wanted.recall is not None:
                wanted.recall = None
                commands.append(Recall(frontend, version.key, 0))
            if wanted.unmet:
                wanted.unmet = ""
                commands.append(TellUnmet(frontend, version.key, Unmet.NONE, ""))
        return commands

    def _find_more(self, version: Version, needy: list[Frontend], at: float) -> list[Command]:
        missing = sum(version.wanted[f.id].missing for f in needy)
        commands = self._reclaim(version, missing, at)
        commands += self._recall_unused(version, missing, at)
        for frontend in needy:
            wanted = version.wanted[frontend.id]
            while wanted.missing and self._missing(version, needy) > self._coming(version):
                done, unmet, detail = self._start(version, frontend, at)
                commands += done
                if unmet is not Unmet.NONE:
                    commands += self._tell(version, frontend, wanted, unmet, detail)
                    break
        return commands + self._share_out(version, needy, at)

    def _missing(self, version: Version, needy: list[Frontend]) -> int:
        return sum(version.wanted[f.id].missing for f in needy)

    def _coming(self, version: Version) -> int:
        """How many instances of a version will be free in a moment without anything more being done."""
        asked = (w.recall.wanted for w in version.wanted.values() if w.recall and not w.recall.answered)
        return version.fencing + version.making_room + sum(asked)

    def _reclaim(self, version: Version, missing: int, at: float) -> list[Command]:
        """Takes instances back from frontends that are gone."""
        commands: list[Command] = []
        for frontend_id, wanted in version.wanted.items():
            frontend = self.books.frontends[frontend_id]
            if not wanted.held or frontend.attached or at < frontend.reclaim_at:
                continue
            for instance in self._held_by(frontend_id, version):
                if self._coming(version) >= missing:
                    return commands
                if self.books.nodes[instance.node].connected:
                    commands += self._fence(instance)
        return commands

    def _recall_unused(self, version: Version, missing: int, at: float) -> list[Command]:
        """Asks frontends that miss nothing themselves for what they hold idle."""
        commands: list[Command] = []
        for frontend_id, wanted in version.wanted.items():
            more = missing - self._coming(version)
            if more <= 0:
                break
            if not wanted.held or wanted.missing or not self.books.frontends[frontend_id].attached:
                continue
            commands += self._recall(version, frontend_id, wanted, min(more, wanted.held), at)
        return commands

    def _recall(
        self, version: Version, frontend: FrontendId, wanted: Wanted, count: int, at: float
    ) -> list[Command]:
        asked = wanted.recall
        if asked is not None and (not asked.answered or at - asked.sent_at < RECALL_FRESH_S):
            return []
        wanted.recall = Asked(count, at)
        return [Recall(frontend, version.key, count)]

    def _share_out(self, version: Version, needy: list[Frontend], at: float) -> list[Command]:
        """Every instance is in use: whose callers have waited less gives some up to whose waited more.

        Half the difference moves at a time, so that two who both have work end near an equal share.
        """
        oldest = needy[0]
        first = version.wanted[oldest.id]
        if self._coming(version):
            return []
        for frontend_id, wanted in version.wanted.items():
            if frontend_id == oldest.id or not wanted.held or not wanted.missing:
                continue
            if not self.books.frontends[frontend_id].attached or wanted.oldest_at < first.oldest_at + OLDER_S:
                continue
            count = min(first.missing, 1 + max(0, wanted.held - first.held) // 2)
            return self._recall(version, frontend_id, wanted, min(count, wanted.held), at)
        return []

    def _tell(
        self, version: Version, frontend: Frontend, wanted: Wanted, unmet: Unmet, detail: str
    ) -> list[Command]:
        told = f"{unmet.value} {detail}"
        if wanted.unmet == told:
            return []
        wanted.unmet = told
        return [TellUnmet(frontend.id, version.key, unmet, detail)]

    def _start(self, version: Version, frontend: Frontend, at: float) -> tuple[list[Command], Unmet, str]:
        """One more instance for this frontend, or room for one, or why not."""
        function = self.books.function(function_of(version.key))
        if function.version != version.key:
            return [], Unmet.UNKNOWN, "placement does not know this version (yet)"
        if at < function.start_after:
            return [], Unmet.STARTS_FAIL, f"the last {function.failures} starts of '{function.name}' failed"
        count, limit = len(function.instances), self._limit(function)
        if count >= limit:
            victim = choice.give_way(function, version, self.books.nodes)  # type: ignore[arg-type]
            if victim is None:
                return [], Unmet.LIMIT, f"all {count} instances exist that its limit of {limit} allows"
            return self._evict(victim, "gives_way", room_for=version), Unmet.NONE, ""
        if count + self.books.unreported() >= limit:
            return [], Unmet.COUNTING, "a worker has not reported yet what runs there"
        return self._start_on_a_node(version, function, frontend, at)

    def _start_on_a_node(
        self, version: Version, function: Function, frontend: Frontend, at: float
    ) -> tuple[list[Command], Unmet, str]:
        nodes = self.books.nodes.values()
        node = choice.emptiest(nodes, frontend, function.memory_mb, at)
        if node is not None:
            return self._grant(version, function, frontend, node), Unmet.NONE, ""
        victims = choice.make_room(nodes, frontend, function.memory_mb, at)
        if victims:
            commands = [c for victim in victims[:-1] for c in self._evict(victim, "memory")]
            return commands + self._evict(victims[-1], "memory", room_for=version), Unmet.NONE, ""
        if not any(n.connected and n.id in frontend.links for n in nodes):
            return [], Unmet.NO_NODE, "no worker is connected"
        return [], Unmet.MEMORY, f"no worker has {function.memory_mb} MB free or held by idle instances"

    # What is done to an instance

    def _grant(self, version: Version, function: Function, frontend: Frontend, node: Node) -> list[Command]:
        reason = choice.cold_reason(function, version.key, bool(version.idle))
        number = self._next()
        instance = Instance(
            InstanceId(f"{self.epoch:x}-{self.serial:x}"),
            version.key,
            node.id,
            function.memory_mb,
            number,
            State.LEASED,
            frontend.id,
        )
        self.books.add(instance)
        return [
            Grant(node.id, instance.id, version.key, function.memory_mb, number, frontend.id),
            GiveLease(frontend.id, instance.id, number, node.id, version.key, starting=True, reason=reason),
        ]

    def _give(self, instance: Instance, frontend: FrontendId, reason: str) -> Command:
        number = self._next()
        self.books.change(instance, State.LEASED, frontend=frontend, number=number)
        return GiveLease(
            frontend, instance.id, number, instance.node, instance.version, starting=False, reason=reason
        )

    def _settle(self, instance: Instance, at: float) -> list[Command]:
        """Nobody holds it and nothing runs there: into the warm index, or away with it if it is of no use."""
        self.books.change(instance, State.IDLE, idle_since=at)
        function = self.books.function(function_of(instance.version))
        if not instance.ready or not self.books.nodes[instance.node].connected:
            return []
        if instance.version != function.version:
            return self._evict(instance, "other_version")
        if len(function.instances) > self._limit(function):
            return self._evict(instance, "limit_lowered")
        return []

    def _fence(self, instance: Instance) -> list[Command]:
        connected = self.books.nodes[instance.node].connected
        self.books.change(instance, State.FENCING, number=self._next(), busy=not connected)
        return [Fence(instance.node, instance.id, instance.number)] if connected else []

    def _evict(self, instance: Instance, reason: str, *, room_for: Version | None = None) -> list[Command]:
        self.books.change(instance, State.STOPPING, number=self._next())
        instance.stop_reason = reason
        if room_for is not None:
            self.books.room_for[instance.id] = room_for.key
            room_for.making_room += 1
        if not self.books.nodes[instance.node].connected:
            return []  # said again when its worker reports
        return [Evict(instance.node, instance.id, instance.number, reason)]

    def _remove(
        self, instance: Instance, reason: str, error: bytes, *, node_lost: bool = False
    ) -> list[Command]:
        commands = self._void(instance, reason, error, node_lost=node_lost)
        self.books.remove(instance)
        return commands

    def _void(
        self, instance: Instance, reason: str, error: bytes, *, node_lost: bool = False
    ) -> list[Command]:
        if instance.frontend is None or not self.books.frontends[instance.frontend].attached:
            return []
        return [VoidLease(instance.frontend, instance.id, instance.number, reason, node_lost, error)]

    def _void_claims(self) -> list[Command]:
        """Once every worker has reported, a lease on an instance that none has is a lease on nothing."""
        if self.books.unreported():
            return []
        commands: list[Command] = []
        for frontend in self.books.frontends.values():
            for instance_id, number in frontend.claims.items():
                commands.append(VoidLease(frontend.id, instance_id, number, "gone", node_lost=False))
            frontend.claims.clear()
        return commands

    def _held_by(self, frontend: FrontendId, version: Version | None = None) -> list[Instance]:
        return [
            i
            for i in self.books.instances.values()
            if i.frontend == frontend and (version is None or i.version == version.key)
        ]

    def _next(self) -> LeaseNumber:
        self.serial += 1
        return lease_number(self.epoch, self.serial)
