"""One simulated fleet, one seed: what is in it, what is asked of it, what is done to it."""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from lambent_frontend.core.call import Priority
from lambent_placement.core import invariants
from lambent_placement.core.commands import Unmet
from lambent_placement.core.scheduler import KEEPS, Scheduler
from lambent_proto.ids import FunctionName, RequestId, VersionKey, function_of, node_name
from tests.simulation.frontend import Frontend
from tests.simulation.network import Clock, Network, Process
from tests.simulation.placement import Placement
from tests.simulation.promises import Bound, Broken, Promises
from tests.simulation.store import Etcd
from tests.simulation.worker import Worker

STORM_S = 10.0
CALM_S = 12.0
"""Long enough for every lease to run out, every part to come back and every call to end."""

BESIDE_S = 0.6
"""How long, in the calm, an idle instance may stand beside a waiting call: a linger, a tick, round trips."""

STARVES_S = 5.0
"""How long, in the calm, a function may have calls that wait and none that runs."""


@dataclass
class Story:
    """What happened, for people: the last lines of it, or all when a seed is replayed."""

    clock: Clock
    lines: deque[str] | None = None
    counts: Counter[str] = field(default_factory=Counter)

    def tell(self, who: str, direction: str, what: Any) -> None:
        self.counts[type(what).__name__] += 1
        if self.lines is not None and type(what).__name__ != "Tick":
            self.lines.append(f"{self.clock.now:9.4f} {who:<14} {direction} {what}")

    def note(self, what: str) -> None:
        self.counts[what.split(" ", 1)[0]] += 1
        if self.lines is not None:
            self.lines.append(f"{self.clock.now:9.4f} {'*** world':<14}    {what}")


class World:
    """Builds the fleet from the seed alone: the same seed is the same story."""

    def __init__(self, seed: int, record: bool = False) -> None:
        self.seed = seed
        self.clock = Clock(seed)
        dice = self.dice = self.clock.dice
        self.net = Network(self.clock)
        self.net.slow = dice.choice((0.2, 1.0, 5.0))
        self.story = Story(self.clock, deque(maxlen=20_000) if record else None)
        self.reserved: dict[FunctionName, int | None] = {
            FunctionName(f"f{i}"): dice.choice((1, 2, 4, None, None)) for i in range(3)
        }
        self.shared = dice.choice((1, 2, 4))
        self.memory = {f: dice.choice((128, 256, 512)) for f in self.reserved}
        reserved = {f: Bound(limit, self.clock) for f, limit in self.reserved.items() if limit is not None}
        self.promises = Promises(reserved, Bound(self.shared, self.clock))
        self.etcd = Etcd(self.net)
        self.versions: dict[FunctionName, VersionKey] = {}
        self.revision = 0
        self._set_concurrency()
        for function in self.reserved:
            self._define(function)
        tell = self.story.tell
        keep, keep_alive_s = dice.choice(sorted(KEEPS)), dice.choice((0.5, 3.0, 60.0))
        self.placements = [
            Placement(self.net, f"placement{i}", self.etcd, self._check_books, tell, keep, keep_alive_s)
            for i in range(2)
        ]
        self.workers = [
            Worker(self.net, f"worker{i}", dice.choice((512, 1024)), self.etcd, self.promises, tell)
            for i in range(dice.choice((2, 3)))
        ]
        self.rate_per_concurrency = dice.choice((0.0, 0.0, 2.0))
        self.frontends = [
            Frontend(self.net, f"frontend{i}", self.etcd, self.promises, tell, self.rate_per_concurrency)
            for i in range(dice.choice((1, 2)))
        ]
        self.parts: list[Process] = [*self.placements, *self.workers, *self.frontends]
        self.calls = 0
        self.rate = dice.choice((10.0, 30.0, 60.0))
        self.checked_at = 0.0
        self.keys = 3
        """How many sticky keys calls are given, at random; some have none."""
        self.beside_since: dict[VersionKey, float] = {}
        self.starving_since: dict[FunctionName, float] = {}

    def _define(self, function: FunctionName) -> None:
        self.revision += 1
        if self.etcd.keys.get(f"provisioned/{self.versions.get(function)}"):
            self.etcd.put(f"provisioned/{self.versions[function]}", 0)
        version = VersionKey(f"{function}:$LATEST:{self.revision}")
        self.versions[function] = version
        self._put(function)

    def _put(self, function: FunctionName) -> None:
        value = (self.versions[function], self.reserved[function], self.memory[function])
        self.etcd.put(f"fn/{function}", value)

    def _set_concurrency(self) -> None:
        reserved = sum(limit for limit in self.reserved.values() if limit is not None)
        self.etcd.put("concurrency", reserved + self.shared)

    def _change_a_limit(self) -> None:
        """Of a function, which takes from the pool or gives to it, or the fleet's."""
        function = self.dice.choice([*self.reserved, None])
        before = self.reserved[function] if function else None
        after = self.dice.choice((1, 2, 4))
        if function is None or before is None:
            self.story.note(f"the pool is {after}")
            self.shared = after
            self._set_concurrency()
        else:
            after = min(after, before + self.shared - 1)
            self.story.note(f"{function} reserves {after}")
            self.reserved[function] = after
            self.shared -= after - before
            self.promises.limits[function].change(after)
            self._put(function)
        self.promises.pool.change(self.shared)

    def _check_books(self, core: Scheduler) -> None:
        invariants.check(core.books)

    def run(self, *, storm: bool = True) -> None:
        """A storm of faults under load, or none; then calm under load, then silence. Raises Broken."""
        self._load()
        if storm:
            self._trouble()
        self._run_until(STORM_S)
        self._calm_down()
        self.clock.at(STORM_S + CALM_S / 2, lambda: self._leave(self.workers[0]))
        self._run_until(STORM_S + CALM_S)
        self.rate = 0.0
        self._run_until(STORM_S + CALM_S + 6.0)
        self._check_the_end()

    def _run_until(self, until: float) -> None:
        while self.clock.step(until):
            if self.clock.now - self.checked_at >= 0.05:
                self.checked_at = self.clock.now
                self.promises.check_deadlines(self.clock.now)
                if self.clock.now > STORM_S + CALM_S / 2:
                    self._check_nothing_idle_beside_a_waiting_call()
                    self._check_none_starves()

    # Load

    def _load(self) -> None:
        if self.rate <= 0:
            return
        self.clock.after(self.dice.expovariate(self.rate), self._load)
        burst = self.dice.randint(2, 12) if self.dice.random() < 0.05 else 1
        frontend = self.dice.choice(self.frontends)
        function = self.dice.choice(list(self.reserved))
        for _ in range(burst):
            self._call(frontend, function)

    def _call(self, frontend: Frontend, function: FunctionName) -> None:
        if not frontend.alive or self.clock.now < frontend.paused_until:
            return
        self.calls += 1
        request = RequestId(f"r{self.calls}")
        patience = self.dice.uniform(0.3, 3.0)
        priority = self.dice.choice(list(Priority))
        tenant = self.dice.choice(("", "a", "b"))
        size, sticky = self.dice.randint(0, 5), self.dice.randint(0, self.keys)
        frontend.call(function, request, patience, (priority, tenant, size, sticky))
        if self.dice.random() < 0.05:
            frontend.soon(self.dice.uniform(0.0, patience), lambda: frontend.abandon(request))

    # Trouble

    def _trouble(self) -> None:
        if self.clock.now >= STORM_S - 0.5:
            return
        self.clock.after(self.dice.expovariate(1.2), self._trouble)
        kinds = (
            "kill",
            "pause",
            "split",
            "cut",
            "etcd",
            "update",
            "limit",
            "drain",
            "leave",
            "provision",
            "worker",
            "leader",
        )
        fault = self.dice.choice(kinds)
        victim = self.dice.choice(self.parts)
        if fault == "worker":
            fault, victim = self.dice.choice(("kill", "pause")), self.dice.choice(self.workers)
        if fault == "leader":
            fault, victim = self.dice.choice(("kill", "pause", "etcd")), self.dice.choice(self.placements)
        self._hurt(fault, victim)

    def _hurt(self, fault: str, victim: Process) -> None:
        dice = self.dice
        seconds = dice.choice((0.05, 0.5, 2.0, 6.0))
        match fault:
            case "kill":
                self.story.note(f"kill {victim.name}, back in {seconds} s")
                victim.kill()
                self.clock.after(seconds, victim.restart)
            case "pause":
                self.story.note(f"pause {victim.name} for {seconds} s")
                victim.pause(seconds)
            case "split":
                other = dice.choice([p for p in self.parts if p is not victim])
                self.story.note(f"split {victim.name} from {other.name} for {seconds} s")
                self.net.partition(victim, other, seconds)
            case "etcd":
                self.story.note(f"split {victim.name} from etcd for {seconds} s")
                self.net.partition(victim, self.etcd, seconds)
            case "cut" if victim.wires:
                wire = dice.choice(victim.wires)
                self.story.note("cut " + " and ".join(end.process.name for end in wire.ends))
                wire.cut()
            case "update":
                function = dice.choice(list(self.reserved))
                self.story.note(f"update {function}")
                self._define(function)
            case "limit":
                self._change_a_limit()
            case "provision":
                self._provision()
            case "drain" | "leave":
                self._empty(fault, dice.choice(self.workers), seconds)
            case _:
                pass  # nothing to cut

    def _provision(self) -> None:
        """Within its reservation; without one it would take from the pool what others are promised."""
        reserved = [function for function, limit in self.reserved.items() if limit is not None]
        if not reserved:
            return
        function = self.dice.choice(reserved)
        count = self.dice.randint(0, self.reserved[function] or 0)
        self.story.note(f"{function} has {count} ready")
        self.etcd.put(f"provisioned/{self.versions[function]}", count)

    def _empty(self, how: str, worker: Worker, seconds: float) -> None:
        if how == "leave":
            self._leave(worker)
        else:
            self._drain(worker, seconds)

    def _drain(self, worker: Worker, seconds: float) -> None:
        """For good if it is for long: then nothing may be left there at the end."""
        self.story.note(f"drain {worker.name}")
        self.etcd.put(f"drain/{worker.name}", "")
        others = [it for it in self.workers if f"drain/{it.name}" not in self.etcd.keys]
        if seconds < 5.0 or not others:
            self.clock.after(seconds, lambda: self.etcd.delete(f"drain/{worker.name}"))

    def _leave(self, worker: Worker) -> None:
        if worker.alive:
            self.story.note(f"{worker.name} is told to stop")
            worker.soon(0.0, worker.leave)

    def _calm_down(self) -> None:
        self.story.note("calm from here on")
        self.net.heal()
        self.net.slow = 0.0
        for part in self.parts:
            part.restart()
            part.paused_until = min(part.paused_until, self.clock.now)
            part._wake(part.life)

    # What must be so once all is well

    def _leader(self) -> Scheduler | None:
        leaders = [p.core for p in self.placements if p.core is not None and p.epoch == self.etcd.epoch]
        return leaders[0] if leaders else None

    def _check_nothing_idle_beside_a_waiting_call(self) -> None:
        now = self.clock.now
        waiting = {
            line.version for f in self.frontends for line in f.core.books.lines.values() if line.waiting
        }
        idle = {
            s.version
            for s in self.promises.sandboxes.values()
            if s.ready and s.running is None and now - s.idle_since > BESIDE_S
        }
        if (leader := self._leader()) and leader.books.pool.used >= leader.books.pool.size:
            idle = {version for version in idle if function_of(version) in self.promises.limits}
        for version in waiting & idle:
            since = self.beside_since.setdefault(version, now)
            if now - since > BESIDE_S:
                raise Broken(
                    f"an instance of {version} has been idle beside a waiting call since {since:.2f}"
                )
        for version in list(self.beside_since):
            if version not in waiting & idle:
                del self.beside_since[version]

    def _check_none_starves(self) -> None:
        """Of the functions that share the pool, each gets a part of it, however many calls another has."""
        now = self.clock.now
        lines = [line for f in self.frontends for line in f.core.books.lines.values()]
        waiting = {line.version for line in lines if line.waiting and line.unmet == Unmet.FLEET_LIMIT.value}
        starving = {function_of(version) for version in waiting}
        self.starving_since = {f: self.starving_since.get(f, now) for f in starving}
        for function, since in self.starving_since.items():
            no_memory = [p.unmet_at.get((function, Unmet.MEMORY), 0.0) for p in self.placements]
            if now - max(since, self.promises.ran_at.get(function, 0.0), *no_memory) > STARVES_S:
                raise Broken(f"calls of {function} have waited since {since:.2f}, and others run meanwhile")

    def _check_rates(self) -> None:
        """In the second half of the calm no function had more calls than it may, over all frontends."""
        accepted = Counter(
            function_of(call.version)
            for call in self.promises.calls.values()
            if call.at > STORM_S + CALM_S / 2 and call.request not in self.promises.too_often
        )
        fleet = self.shared + sum(limit for limit in self.reserved.values() if limit is not None)
        for function, reserved in self.reserved.items():
            rate = self.rate_per_concurrency * (fleet if reserved is None else reserved)
            most = rate * (CALM_S / 2 + 1.0) + len(self.frontends)  # what was saved up is for a second more
            if rate and accepted[function] > most:
                raise Broken(f"{function} had {accepted[function]} calls, and may have {most:g} in that time")

    def _check_the_end(self) -> None:
        """Promise 7: the index is whole again, and what it says is what there is."""
        if self.promises.open_calls:
            raise Broken(f"promise 3: calls without an outcome: {sorted(self.promises.open_calls)}")
        leader = self._leader()
        if leader is None:
            raise Broken("promise 7: nobody leads")
        invariants.check(leader.books)
        exist, known = set(self.promises.sandboxes), set(leader.books.instances)
        if exist != known:  # the word of one that has just ended may be on its way
            self._run_until(self.clock.now + 0.1)
            exist, known = set(self.promises.sandboxes), set(leader.books.instances)
        if exist != known:
            raise Broken(f"promise 7: the books have drifted from the fleet: {exist ^ known}")
        for node in leader.books.nodes.values():
            if node.instances and f"drain/{node_name(node.id)}" in self.etcd.keys:
                raise Broken(f"{node.id} was to be emptied, and has {sorted(node.instances)}")
        for frontend in self.frontends:
            if frontend.core.books.leases:
                raise Broken(
                    f"{frontend.id} still holds leases with nothing to do: {frontend.core.books.leases}"
                )
        self._check_rates()
        served = Counter(c.outcome for c in self.promises.calls.values())
        late = [c for c in self.promises.calls.values() if c.at > STORM_S + CALM_S / 2]
        odd = {c.outcome for c in late} - {"answered", "init_failed", "abandoned", "throttled", "deadline"}
        if odd:
            raise Broken(f"calls in the calm ended in {sorted(odd)}: {dict(served)}")
