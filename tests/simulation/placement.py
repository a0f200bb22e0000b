"""A placement in the simulation: the real core while it leads, an election, and a thin shell."""

from collections.abc import Callable
from typing import Any

from lambent_frontend.core import commands as frontend_said
from lambent_placement.core import commands as do
from lambent_placement.core import events as on
from lambent_placement.core.histogram import Habit, Histogram
from lambent_placement.core.scheduler import Scheduler
from lambent_placement.core.shadow import Shadow, noted, shadow_epoch
from lambent_proto.ids import Epoch, FrontendId, FunctionName, NodeId, VersionKey, function_of
from lambent_worker.core import commands as worker_said
from tests.simulation.network import End, Network, Process, Wire
from tests.simulation.store import Etcd

TICK_S = 0.05
LEASE_TTL_S = 2.0
RUNTIME = "python3.11"


class Placement(Process):
    def __init__(
        self,
        net: Network,
        name: str,
        etcd: Etcd,
        check: Callable[[Scheduler], None],
        tell: Callable[..., None],
        keep: str,
        keep_alive_s: float,
    ):
        super().__init__(net, name)
        self.etcd = etcd
        self.check = check
        self.tell = tell
        self.keep = keep
        self.keep_alive_s = keep_alive_s
        self.shadow_policy: tuple[str, float] | None = None
        """What runs beside the live policy: which, and for how long it keeps."""
        self.unmet_at: dict[tuple[FunctionName, do.Unmet], float] = {}
        """When each reason was last told for a function."""
        self.started()

    def started(self) -> None:
        self.core: Scheduler | None = None
        self.shadow: Shadow | None = None
        self.epoch = 0
        self.lease: int | None = None
        self.valid_until = 0.0
        self.busy_until = 0.0
        self.frontends: dict[FrontendId, Wire] = {}
        self.nodes: dict[NodeId, Wire] = {}
        self._tick()

    def feed(self, event: on.Event) -> None:
        if self.core is not None and self.net.clock.now >= self.valid_until:
            self._step_down()  # asked with every event: a paused leader wakes up to a queue of messages
        if self.core is None:
            return
        self.tell(self.name, "<-", event)
        commands = self.core.handle(event)
        for command in commands:
            self.tell(self.name, "->", command)
            self._carry_out(command)
        self.check(self.core)
        if self.shadow is not None:
            self.shadow.see(noted(event, commands, self.core.books))
            self.check(self.shadow.scheduler)

    def _carry_out(self, command: do.Command) -> None:
        match command:
            case do.Grant():
                self._order(
                    command.node,
                    "grant",
                    command.instance,
                    command.version,
                    command.memory_mb,
                    command.number,
                    command.frontend,
                    command.provisioned,
                )
            case do.Evict():
                self._order(command.node, "evict", command.instance, command.number, command.reason)
            case do.Fence():
                self._order(command.node, "fence", command.instance, command.number)
            case do.GiveLease():
                self._say(
                    command.frontend,
                    "lease",
                    command.instance,
                    command.number,
                    command.node,
                    command.version,
                    command.starting,
                    command.reason,
                )
            case do.TellReady():
                self._say(
                    command.frontend,
                    "ready",
                    command.instance,
                    command.number,
                    command.starting_ms,
                    command.init_ms,
                )
            case do.VoidLease():
                self._say(
                    command.frontend,
                    "void",
                    command.instance,
                    command.number,
                    command.reason,
                    command.node_lost,
                    command.error,
                )
            case do.Recall():
                self._say(command.frontend, "recall", command.version, command.wanted)
            case do.TellUnmet():
                self.unmet_at[function_of(command.version), command.reason] = self.net.clock.now
                self._say(command.frontend, "unmet", command.version, command.reason.value, command.detail)

    def _order(self, node: NodeId, *message: Any) -> None:
        if node in self.nodes:
            self.nodes[node].send(self, message)

    def _say(self, frontend: FrontendId, *message: Any) -> None:
        if frontend in self.frontends:
            self.frontends[frontend].send(self, message)

    # Leadership

    def _tick(self) -> None:
        now = self.net.clock.now
        self.feed(on.Tick(now))
        if now >= self.busy_until:
            self.busy_until = now + LEASE_TTL_S / 4
            self._campaign() if self.core is None else self._renew()
        self.soon(TICK_S, self._tick)

    def _renew(self) -> None:
        sent, lease, epoch = self.net.clock.now, self.lease, self.epoch

        def answer(alive: bool) -> None:
            if self.core is None or self.epoch != epoch:
                return
            if alive:
                self.valid_until = sent + LEASE_TTL_S
            else:
                self._step_down()

        if lease is not None:
            self.etcd.ask(self, lambda: self.etcd.keep_alive(lease, LEASE_TTL_S), answer)

    def _campaign(self) -> None:
        sent = self.net.clock.now

        def attempt() -> Any:
            lease = self.etcd.grant(LEASE_TTL_S)
            return lease, self.etcd.lead("leader", self.name, lease)

        def answer(result: Any) -> None:
            lease, epoch = result
            if epoch is not None and self.core is None and self.net.clock.now < sent + LEASE_TTL_S:
                self._lead(epoch, lease, sent)

        self.etcd.ask(self, attempt, answer)

    def _lead(self, epoch: int, lease: int, sent: float) -> None:
        self.epoch, self.lease = epoch, lease
        self.valid_until = sent + LEASE_TTL_S
        self.core = self._scheduler(Epoch(epoch), self.keep, self.keep_alive_s)
        if self.shadow_policy is not None:
            self.shadow = Shadow(self._scheduler(shadow_epoch(Epoch(epoch)), *self.shadow_policy))

        def changed(kind: str, key: str, value: Any) -> None:
            if self.epoch == epoch:
                self.feed(self._event(kind, key, value))

        # The lists are read before anything else is done; only the changes come later.
        for prefix in ("concurrency", "drain/", "fn/", "provisioned/", "node/"):
            for key in [key for key in self.etcd.keys if key.startswith(prefix)]:
                changed("put", key, self.etcd.keys[key][0])
            self.etcd.follow(self, prefix, changed)

    def _scheduler(self, epoch: Epoch, keep: str, keep_alive_s: float) -> Scheduler:
        core = Scheduler(epoch, keep=keep, keep_alive_s=keep_alive_s)
        if isinstance(core.books.keep, Histogram):
            core.books.keep.habits = {
                FunctionName(key.removeprefix("fn/")): Habit(head_s=0.1, tail_s=2.0, reckon_at=1_000_000)
                for key in self.etcd.keys
                if key.startswith("fn/")
            }  # nothing is idle for minutes here, and instances are to be started ahead all the same
        return core

    def _event(self, kind: str, key: str, value: Any) -> on.Event:
        """What a change in etcd means to placement."""
        now = self.net.clock.now
        what, _, name = key.partition("/")
        match what, kind:
            case "fn", _:
                version, limit, memory_mb = value
                return on.FunctionDefined(FunctionName(name), version, memory_mb, limit, RUNTIME, now)
            case "node", "put":
                return on.NodeRegistered(NodeId(name), value[1])
            case "node", _:
                return on.NodeExpired(NodeId(name), now)
            case "provisioned", _:
                return on.ProvisionedSet(VersionKey(name), value, now)
            case "drain", _:
                return on.NodeDraining(name, kind == "put", now)
            case _:
                return on.ConcurrencySet(value, now)

    def _step_down(self) -> None:
        self.core = self.shadow = None
        for wire in [*self.frontends.values(), *self.nodes.values()]:
            wire.close(self)
        self.frontends.clear()
        self.nodes.clear()

    # Connections

    def accept_frontend(self, epoch: int, frontend: FrontendId) -> End | None:
        if self.core is None or self.epoch != epoch:
            return None

        def lost(wire: Wire) -> None:
            if self.frontends.get(frontend) is wire:
                del self.frontends[frontend]
                self.feed(on.FrontendDetached(frontend, self.net.clock.now))

        def receive(wire: Wire, message: Any) -> None:
            self._from_frontend(frontend, wire, message)

        return End(self, lambda wire: None, receive, lost)

    def _from_frontend(self, frontend: FrontendId, wire: Wire, said: frontend_said.Command) -> None:
        at = self.net.clock.now
        if isinstance(said, frontend_said.Attach):
            old = self.frontends.get(frontend)
            if old is not None:
                old.close(self)
            self.frontends[frontend] = wire
            wishes = [on.Wish(d.version, d.wanted, d.oldest_wait_s, d.keys) for d in said.demands]
            self.feed(on.FrontendAttached(frontend, said.leases, wishes, said.links, at))
            return
        if self.frontends.get(frontend) is not wire:
            return
        match said:
            case frontend_said.Demand():
                wish = on.Wish(said.version, said.wanted, said.oldest_wait_s, said.keys)
                self.feed(on.Demanded(frontend, wish, at))
            case frontend_said.Release():
                self.feed(on.Released(frontend, said.leases, said.sure, at))
            case frontend_said.AnswerRecall():
                self.feed(on.Recalled(frontend, said.version, said.leases, at))
            case frontend_said.TellServed():
                self.feed(on.KeysServed(frontend, said.calls, at))
            case frontend_said.ReportLink():
                self.feed(on.LinkChanged(frontend, said.node, said.up, at))
            case _:
                raise AssertionError(f"no frontend says {said} to placement")

    def accept_worker(self, epoch: int, node: NodeId) -> End | None:
        if self.core is None or self.epoch != epoch:
            return None

        def lost(wire: Wire) -> None:
            if self.nodes.get(node) is wire:
                del self.nodes[node]
                self.feed(on.NodeDisconnected(node, self.net.clock.now))

        def receive(wire: Wire, message: Any) -> None:
            self._from_worker(node, wire, message)

        return End(self, lambda wire: None, receive, lost)

    def _from_worker(self, node: NodeId, wire: Wire, said: Any) -> None:
        at = self.net.clock.now
        if isinstance(said, tuple):
            _, _, memory_mb, instances, leaving = said
            old = self.nodes.get(node)
            if old is not None:
                old.close(self)
            self.nodes[node] = wire
            self.feed(on.NodeReported(node, memory_mb, [on.Reported(*i) for i in instances], at, leaving))
            return
        if self.nodes.get(node) is not wire:
            return
        match said:
            case worker_said.ReportReady():
                self.feed(on.InstanceReady(said.instance, said.starting_ms, said.init_ms, at))
            case worker_said.ReportGone():
                self.feed(on.InstanceGone(said.instance, said.reason, said.error, at))
            case worker_said.ReportFreed():
                self.feed(on.InstanceFreed(said.instance, said.number, said.busy, at))
            case worker_said.ReportRefused():
                self.feed(on.GrantRefused(said.instance, said.reason, at))
            case worker_said.ReportLeaving():
                self.feed(on.NodeLeaving(node, at))
            case _:
                raise AssertionError(f"no worker says {said} to placement")
