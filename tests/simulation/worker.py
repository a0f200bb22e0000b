"""A worker in the simulation: the real core, its sandboxes, and the watchdog that outlives a pause."""

from collections.abc import Callable
from typing import Any

from lambent_proto.ids import Epoch, FrontendId, InstanceId, NodeId, RequestId, VersionKey
from lambent_worker.core import commands as do
from lambent_worker.core import events as on
from lambent_worker.core.agent import Agent
from tests.simulation.network import End, Network, Process, Wire
from tests.simulation.promises import Promises
from tests.simulation.store import Etcd

TICK_S = 0.05
LEASE_TTL_S = 4.0
TIMEOUT_S = 1.0
DRAIN_S = 4.0


class Watchdog:
    """The process that really holds the sandboxes: it kills them when the worker's time has run out.

    Not a process of the simulation: it can be neither paused nor cut off from its own children.
    """

    def __init__(self, worker: "Worker", node: NodeId) -> None:
        self.worker = worker
        self.node = node
        self.valid_until = worker.net.clock.now + LEASE_TTL_S
        self.closed = False
        self.held: dict[InstanceId, VersionKey] = {}
        self._check()

    def extend(self, valid_until: float) -> None:
        self.valid_until = max(self.valid_until, valid_until)

    def _check(self) -> None:
        clock = self.worker.net.clock
        if clock.now >= self.valid_until - 0.5:
            self.kill_all()
        elif not self.closed:
            clock.at(self.valid_until - 0.5, self._check)

    def kill_all(self) -> None:
        self.closed = True
        for instance in list(self.held):
            self.kill(instance, on.ExitReason.KILLED)

    def start(self, instance: InstanceId, version: VersionKey) -> None:
        if self.closed:
            self.worker.soon(0.0, lambda: self._exited(instance, on.ExitReason.SPAWN_FAILED))
            return
        dice = self.worker.net.clock.dice
        if dice.random() < 0.03:
            self.worker.promises.start_failed(version, self.worker.net.clock.now)
            self.worker.soon(0.01, lambda: self._exited(instance, on.ExitReason.SPAWN_FAILED))
            return
        self.held[instance] = version
        self.worker.promises.started(instance, version)
        delay = dice.choice((0.005, 0.02, 0.1, 0.4))
        self.worker.net.clock.after(delay, lambda: self._initialised(instance))

    def _initialised(self, instance: InstanceId) -> None:
        if instance not in self.held:
            return
        if self.worker.net.clock.dice.random() < 0.03:
            self.worker.promises.start_failed(self.held[instance], self.worker.net.clock.now)
            self._end(instance)
            self.worker.soon(0.0, lambda: self._exited(instance, on.ExitReason.INIT_ERROR, b"{}"))
            return
        sandbox = self.worker.promises.sandboxes[instance]
        sandbox.ready = True
        sandbox.idle_since = self.worker.net.clock.now
        life = self.worker.life
        self.worker._run(life, lambda: self.worker.feed(on.InstanceReady(instance, 1.0, 2.0)))

    def deliver(self, instance: InstanceId, request: RequestId) -> None:
        if instance not in self.held:
            return  # it has just died: its exit is on the way, and the event never reached a runtime
        self.worker.promises.delivered(instance, request, self.worker.net.clock.now)
        dice = self.worker.net.clock.dice
        duration = dice.choice((0.001, 0.005, 0.05, 0.3, 0.8, 1.5))
        crash = dice.random() < 0.2  # often: it is what makes instances come and go
        self.worker.net.clock.after(duration, lambda: self._returned(instance, request, crash))

    def _returned(self, instance: InstanceId, request: RequestId, crash: bool) -> None:
        if instance not in self.held or self.worker.promises.sandboxes[instance].running != request:
            return  # it was timed out meanwhile, or is gone
        self.worker.promises.returned(instance, self.worker.net.clock.now)
        if crash:
            self._end(instance)
        self.worker.soon(0.0, lambda: self.worker.feed(on.Answered(instance, request)))
        if crash:
            self.worker.soon(0.0, lambda: self._exited(instance, on.ExitReason.CRASHED))

    def time_out(self, instance: InstanceId) -> None:
        """The runtime is ended; its sandbox stays, and takes the next event."""
        if instance in self.held:
            self.worker.promises.returned(instance, self.worker.net.clock.now)

    def kill(self, instance: InstanceId, reason: str) -> None:
        delay = self.worker.net.clock.dice.choice((0.001, 0.001, 0.02))

        def reaped() -> None:
            if instance in self.held:
                self._end(instance)
                self.worker.soon(0.0, lambda: self._exited(instance, reason))

        self.worker.net.clock.after(delay, reaped)

    def _end(self, instance: InstanceId) -> None:
        del self.held[instance]
        self.worker.promises.ended(instance)

    def _exited(self, instance: InstanceId, reason: str, error: bytes = b"") -> None:
        if self.worker.watchdog is self:
            self.worker.feed(on.InstanceExited(instance, reason, error))


class Worker(Process):
    def __init__(
        self,
        net: Network,
        name: str,
        memory_mb: int,
        etcd: Etcd,
        promises: Promises,
        tell: Callable[..., None],
    ):
        super().__init__(net, name)
        self.memory_mb = memory_mb
        self.etcd = etcd
        self.promises = promises
        self.tell = tell
        self.incarnation = 0
        self.core = Agent(memory_mb=memory_mb)
        self.watchdog: Watchdog | None = None
        self.started()

    def started(self) -> None:
        self.links: dict[FrontendId, Wire] = {}
        self.asked: dict[RequestId, tuple[Wire, InstanceId]] = {}
        self.control: Wire | None = None
        self.leader: tuple[str, int] | None = None
        self.dialling = 0.0
        self._register()
        self.etcd.follow(self, "leader", self._leader_changed)
        self._tick()

    def _register(self) -> None:
        """A new registration is another node: nothing of an earlier one is carried over."""
        self.incarnation += 1
        self.node = NodeId(f"{self.name}@{self.incarnation}")
        self.core = Agent(memory_mb=self.memory_mb, epoch=self.core.epoch)
        self.lease: int | None = None
        self.registered = False
        self.next_renewal = 0.0
        self.put_at = 0.0
        self.valid_until = 0.0
        self.watchdog = Watchdog(self, self.node)
        self._ask_lease(self.node)

    def killed(self) -> None:
        if self.watchdog is not None:
            self.watchdog.kill_all()  # it sees the worker's end of their pipe close

    # etcd

    def _ask_lease(self, node: NodeId) -> None:
        sent = self.net.clock.now

        def granted(lease: int) -> None:
            if self.node != node:
                return
            self.lease = lease
            self._renewed(sent)
            self._put_registration(node, lease)

        self.etcd.ask(self, lambda: self.etcd.grant(LEASE_TTL_S), granted)

    def _put_registration(self, node: NodeId, lease: int) -> None:
        """Sent again until it is answered, as our etcd client does."""
        self.put_at = self.net.clock.now
        self.etcd.ask(
            self,
            lambda: self.etcd.put("node/" + node, (self.name, self.memory_mb), lease),
            lambda there: self._registered(node, there),
        )

    def _registered(self, node: NodeId, there: bool) -> None:
        if self.node != node:
            return
        self.registered = there
        if not there:
            self.feed(on.RegistrationLost("its lease ended before it was registered"))

    def _renewed(self, sent: float) -> None:
        self.valid_until = sent + LEASE_TTL_S
        if self.watchdog is not None:
            self.watchdog.extend(self.valid_until)
        self.feed(on.RegistrationRenewed(self.valid_until))

    def _renew(self) -> None:
        sent, lease, node = self.net.clock.now, self.lease, self.node
        if lease is None:
            return

        def answer(alive: bool) -> None:
            if self.node != node:
                return
            if alive:
                self._renewed(sent)
            else:
                self.feed(on.RegistrationLost("etcd does not know its lease"))

        self.etcd.ask(self, lambda: self.etcd.keep_alive(lease, LEASE_TTL_S), answer)

    def _leader_changed(self, kind: str, key: str, value: Any) -> None:
        if kind == "put" and (self.leader is None or value[1] > self.leader[1]):
            self.leader = value
            wire, self.control = self.control, None
            if wire is not None:  # what the old leader said may still be read a while: its epoch is refused
                self.soon(self.net.clock.dice.choice((0.0, 0.01, 0.5)), lambda: wire.close(self))
            self.dialling = 0.0

    def _close_control(self) -> None:
        if self.control is not None:
            wire, self.control = self.control, None
            wire.close(self)

    # The loop

    def _tick(self) -> None:
        now = self.net.clock.now
        self.feed(on.Tick(now))
        if now >= self.next_renewal:
            self.next_renewal = now + LEASE_TTL_S / 4
            self._renew()
        if self.lease is None and now - self.next_renewal > 1.0:
            self._ask_lease(self.node)
        if self.lease is not None and not self.registered and now - self.put_at > 1.0:
            self._put_registration(self.node, self.lease)
        if self.control is None and self.leader is not None and now >= self.dialling and self.registered:
            self.dialling = now + 0.3
            self._dial_leader(*self.leader)
        self.soon(TICK_S, self._tick)

    def feed(self, event: on.Event) -> None:
        self.tell(self.node, "<-", event)
        for command in self.core.handle(event):
            self.tell(self.node, "->", command)
            self._carry_out(command)

    def _carry_out(self, command: do.Command) -> None:  # noqa: C901 - a case a command
        assert self.watchdog is not None
        match command:
            case do.Deliver():
                self.watchdog.deliver(command.instance, command.request)
            case do.Answer():
                self._answer(command)
            case do.TimeOut():
                self.watchdog.time_out(command.instance)
                self._answer(command)
            case do.Refuse():
                self._reply(command.request, "refused", command.reason.value)
            case do.Lose():
                self._reply(command.request, "lost", command.reason)
            case do.Start():
                self.watchdog.start(command.instance, command.version)
            case do.Kill():
                self.watchdog.kill(command.instance, on.ExitReason.KILLED)
            case do.Announce():
                self._announce(command)
            case do.Retire():
                self._retire_soon()
            case do.SayBye():
                for wire in self._frontends():
                    wire.send(self, ("bye", self.node))
            case _:
                if self.control is not None:
                    self.control.send(self, command)

    def _answer(self, command: do.Answer | do.TimeOut) -> None:
        self.promises.answered_by_worker(command.request)
        self._reply(command.request, "answer")

    def _announce(self, command: do.Announce) -> None:
        wire = self.links.get(command.frontend)
        if wire is not None:
            times = command.starting_ms, command.init_ms
            wire.send(self, ("ready", command.instance, command.number, *times))

    def _reply(self, request: RequestId, kind: str, *rest: Any) -> None:
        """Over the connection that the event came on; if that is gone the frontend has counted it as lost."""
        wire, instance = self.asked.pop(request)
        wire.send(self, (kind, request, instance, *rest))

    def leave(self) -> None:
        """SIGTERM, and a new start afterwards. What is left after a while is ended."""
        node = self.node
        if self.core.leaving:
            return
        self.feed(on.StopAsked())

        def end() -> None:
            if self.node == node:
                self._end()

        self.soon(DRAIN_S, end)
        self._end_if_alone(node)

    def _end_if_alone(self, node: NodeId) -> None:
        """In order: without frontends nobody waits for what still runs here."""
        if self.node == node and self.core.leaving and not self._frontends():
            self._end()

    def _end(self) -> None:
        assert self.watchdog is not None
        self.watchdog.kill_all()
        self._retire_soon()

    def _retire_soon(self) -> None:
        node = self.node
        self.soon(0.1, lambda: self._retire() if self.node == node else None)

    def _frontends(self) -> list[Wire]:
        return [wire for wire in self.wires if wire.tags.get("frontend")]

    def _retire(self) -> None:
        for wire in self._frontends():
            wire.close(self)
        self.links.clear()
        self.asked.clear()
        self._close_control()
        lease = self.lease
        if lease is not None:
            self.etcd.ask(self, lambda: self.etcd.revoke(lease), lambda _: None)
        self._register()

    # Connections

    def accept_link(self, node: NodeId, frontend: FrontendId) -> End | None:
        if node != self.node:
            return None

        def opened(wire: Wire) -> None:
            wire.tags["frontend"] = frontend
            self.links[frontend] = wire
            if self.core.said_bye:
                wire.send(self, ("bye", node))

        def receive(wire: Wire, message: Any) -> None:
            _, request, instance, number = message
            if node == self.node:
                self.asked[request] = wire, instance
                now = self.net.clock.now
                self.feed(on.EventArrived(frontend, request, instance, number, TIMEOUT_S, now))

        def lost(wire: Wire) -> None:
            if self.links.get(frontend) is wire:
                del self.links[frontend]
            self._end_if_alone(node)

        return End(self, opened, receive, lost)

    def _dial_leader(self, name: str, epoch: int) -> None:
        process: Any = self.net.processes[name]
        node = self.node

        def opened(wire: Wire) -> None:
            if self.control is not None or self.leader != (name, epoch) or node != self.node:
                wire.close(self)
                return
            self.control = wire
            self.feed(on.LeaderFollowed(Epoch(epoch)))
            report = [
                (i.id, i.version, i.memory_mb, i.state.value, i.number, i.frontend, i.provisioned)
                for i in self.core.instances.values()
            ]
            wire.send(self, ("hello", node, self.memory_mb, report, self.core.leaving))

        def lost(wire: Wire) -> None:
            if self.control is wire:
                self.control = None

        def receive(wire: Wire, message: Any) -> None:
            if node == self.node:
                self._order(Epoch(epoch), message)

        self.net.dial(End(self, opened, receive, lost), process, lambda: process.accept_worker(epoch, node))

    def _order(self, epoch: Epoch, order: Any) -> None:
        match order:
            case ("grant", instance, version, memory_mb, number, frontend, provisioned):
                what = instance, version, memory_mb, number, frontend
                self.feed(on.GrantArrived(epoch, *what, self.net.clock.now, provisioned))
            case ("evict", instance, number, reason):
                self.feed(on.EvictArrived(epoch, instance, number, reason))
            case ("fence", instance, number):
                self.feed(on.FenceArrived(epoch, instance, number))
            case _:
                raise AssertionError(f"no such order: {order}")
