"""The worker's decisions: which orders it follows, which events it takes, when an instance must die.

Rule 1: everything that changes what runs on this host goes through `Agent.handle`, and nothing else does.
Rule 2: this module knows no clock, no socket and no process. Events carry the time they happened at.

Theory of operation. Placement grants, this core obeys or refuses; what it never does is start an instance
of its own accord. An instance takes one event at a time, from the holder of its newest lease:

    starting ──ready──▶ idle ──event──▶ busy ──answer, timeout──▶ idle
        │                 │               │
        └────── evict, exit, fence of the worker ──▶ stopping ──exited──▶ gone

A timeout ends the event and not the instance: the shell ends the runtime, and launches it again in the same
sandbox with the next event.

Lease numbers only grow. A frame or order that carries an older number than the newest one seen is refused,
so a lease can be handed on without asking its old holder. A worker whose own etcd lease is about to run out
kills all it has *before* that moment: once etcd has dropped the key, its instances are certainly gone.

A worker that is to end asks placement to move everything away, and serves on meanwhile. When nothing is left
it says goodbye to the frontends, once: an event that was sent before one of them heard it is still refused.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeVar, assert_never

from lambent_proto.ids import NO_EPOCH, Epoch, FrontendId, InstanceId, LeaseNumber, RequestId, VersionKey
from lambent_worker.core.commands import (
    Announce,
    Answer,
    Command,
    Deliver,
    Kill,
    Lose,
    Refuse,
    ReportFreed,
    ReportGone,
    ReportLeaving,
    ReportReady,
    ReportRefused,
    Retire,
    SayBye,
    Start,
    TimeOut,
)
from lambent_worker.core.events import (
    Answered,
    Event,
    EventArrived,
    EvictArrived,
    ExitReason,
    FenceArrived,
    GrantArrived,
    InstanceExited,
    InstanceReady,
    LeaderFollowed,
    Refusal,
    RegistrationLost,
    RegistrationRenewed,
    StopAsked,
    Tick,
)

Order = TypeVar("Order", GrantArrived, FenceArrived, EvictArrived)

FENCE_MARGIN_S: Final = 2.0
"""How long before its etcd lease may run out a worker kills its instances: time enough to see them reaped.

A kill was measured at 1 ms, 13 ms with 63 descendants; the rest is for a machine under load.
"""


FENCED: Final = "worker_fenced"
"""Why an instance is killed that must be gone before its worker's lease in etcd is."""


class State(Enum):
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    STOPPING = "stopping"


@dataclass(slots=True)
class Instance:
    id: InstanceId
    version: VersionKey
    memory_mb: int
    number: LeaseNumber
    """The newest lease number seen: anything older is refused."""
    frontend: FrontendId | None
    """Who holds that lease, as far as this worker knows."""
    provisioned: bool = False
    """One of those that its version has ready, whoever calls; said again to every leader."""
    state: State = State.STARTING
    request: RequestId | None = None
    asked_by: FrontendId | None = None
    """Who gets the answer to `request`."""
    timeout_s: float = 0.0
    deadline: float = 0.0
    fenced: bool = False
    """Placement waits to hear that the running event has ended."""
    evict: str = ""
    """Why it must stop once its event has ended; empty if it need not."""


@dataclass(slots=True)
class Agent:
    """The state may be read by anyone and is changed by `handle` alone."""

    memory_mb: int
    """Memory that instances may take on this host, in MB."""
    epoch: Epoch = NO_EPOCH
    """Newest epoch seen."""
    valid_until: float = float("inf")
    fenced: str = ""
    """Why this worker takes no work any more; empty while it does."""
    retired: bool = False
    leaving: bool = False
    """It was told to end, and starts nothing any more."""
    said_bye: bool = False
    instances: dict[InstanceId, Instance] = field(default_factory=dict)
    memory_used_mb: int = 0

    def handle(self, event: Event) -> list[Command]:  # noqa: C901 - the one gate: a case an event
        """Takes one event and returns what must be done. Duplicates and late events have no effect."""
        match event:
            case EventArrived():
                return self._event(event)
            case Answered():
                return self._answered(event)
            case Tick():
                return self._tick(event.at)
            case RegistrationRenewed():
                self.valid_until = event.valid_until
                return []
            case GrantArrived():
                return self._obey(event.epoch, self._grant, event)
            case InstanceReady():
                return self._ready(event)
            case InstanceExited():
                return self._exited(event)
            case FenceArrived():
                return self._obey(event.epoch, self._fence, event)
            case EvictArrived():
                return self._obey(event.epoch, self._evict, event)
            case LeaderFollowed():
                self.epoch = max(self.epoch, event.epoch)
                return []
            case RegistrationLost():
                return self._stop_all(event.reason)
            case StopAsked():
                return self._leave()
            case _:
                assert_never(event)

    def _event(self, event: EventArrived) -> list[Command]:
        instance = self.instances.get(event.instance)
        refusal = self._refusal(instance, event)
        if instance is None or refusal is not None:
            return [Refuse(event.frontend, event.request, refusal or Refusal.GONE)]
        instance.number = event.number
        instance.frontend = event.frontend
        instance.state = State.BUSY
        instance.request = event.request
        instance.asked_by = event.frontend
        instance.timeout_s = event.timeout_s
        instance.deadline = event.at + event.timeout_s
        return [Deliver(event.instance, event.request)]

    def _refusal(self, instance: Instance | None, event: EventArrived) -> Refusal | None:
        """Why this event may not run, or None."""
        if self._out_of_time(event.at):
            return Refusal.FENCED
        if instance is None or instance.state is State.STOPPING:
            return Refusal.GONE
        if event.number < instance.number:
            return Refusal.STALE
        if event.number == instance.number and event.frontend != instance.frontend:
            return Refusal.STALE
        if instance.state is not State.IDLE:
            return Refusal.BUSY
        return None

    def _answered(self, event: Answered) -> list[Command]:
        instance = self.instances.get(event.instance)
        if instance is None or instance.state is not State.BUSY or instance.request != event.request:
            return []  # late: the event was timed out, or its instance is being stopped
        commands: list[Command] = []
        if instance.asked_by is not None:
            commands.append(Answer(instance.asked_by, event.request, instance.id))
        return commands + self._free(instance)

    def _free(self, instance: Instance) -> list[Command]:
        """Its event has ended."""
        commands: list[Command] = []
        instance.state = State.IDLE
        instance.request = instance.asked_by = None
        if instance.fenced:
            instance.fenced = False
            commands.append(ReportFreed(instance.id, instance.number, busy=False))
        if instance.evict:
            commands.append(self._stop(instance, instance.evict))
        return commands

    def _tick(self, at: float) -> list[Command]:
        if self._out_of_time(at):
            return self._stop_all("its lease in etcd could not be renewed in time")
        commands: list[Command] = []
        for instance in self.instances.values():
            if instance.state is State.BUSY and at >= instance.deadline:
                commands += self._time_out(instance)
        return commands

    def _out_of_time(self, at: float) -> bool:
        """Asked with every event that could start something: a worker that was paused wakes up to a queue of
        messages, and reads them before its next tick."""
        return bool(self.fenced) or at >= self.valid_until - FENCE_MARGIN_S

    def _time_out(self, instance: Instance) -> list[Command]:
        commands: list[Command] = []
        if instance.request is not None and instance.asked_by is not None:
            commands.append(TimeOut(instance.asked_by, instance.request, instance.id, instance.timeout_s))
        return commands + self._free(instance)

    def _obey(self, epoch: Epoch, carry_out: Callable[[Order], list[Command]], order: Order) -> list[Command]:
        """Carries out an order, unless a newer leader has been seen than the one who gave it."""
        if epoch < self.epoch:
            return []
        self.epoch = epoch
        return carry_out(order)

    def _grant(self, grant: GrantArrived) -> list[Command]:
        if grant.instance in self.instances:
            return []
        if self._out_of_time(grant.at):
            return [ReportRefused(grant.instance, "the worker is fenced")]
        if self.leaving:
            return [ReportRefused(grant.instance, "the worker is about to end")]
        free = self.memory_mb - self.memory_used_mb
        if grant.memory_mb > free:
            reason = f"{grant.memory_mb} MB asked, {free} MB free"
            return [ReportRefused(grant.instance, reason)]
        self.instances[grant.instance] = Instance(
            grant.instance,
            grant.version,
            grant.memory_mb,
            grant.number,
            grant.frontend,
            grant.provisioned,
        )
        self.memory_used_mb += grant.memory_mb
        return [Start(grant.instance, grant.version, grant.provisioned)]

    def _ready(self, event: InstanceReady) -> list[Command]:
        instance = self.instances.get(event.instance)
        if instance is None or instance.state is not State.STARTING:
            return []
        instance.state = State.IDLE
        commands: list[Command] = []
        how = event.starting_ms, event.init_ms, event.restored
        if instance.frontend is not None:
            commands.append(Announce(instance.frontend, instance.id, instance.number, *how))
        commands.append(ReportReady(instance.id, *how))
        return commands

    def _exited(self, event: InstanceExited) -> list[Command]:
        instance = self.instances.pop(event.instance, None)
        if instance is None:
            return []
        self.memory_used_mb -= instance.memory_mb
        reason = event.reason
        if instance.state is State.STOPPING and reason == ExitReason.KILLED:
            reason = instance.evict or reason
        commands: list[Command] = []
        if instance.request is not None and instance.asked_by is not None:
            commands.append(Lose(instance.asked_by, instance.request, instance.id, reason))
        commands.append(ReportGone(instance.id, reason, event.error))
        return commands + self._retire_if_empty() + self._say_bye_if_empty()

    def _leave(self) -> list[Command]:
        if self.leaving:
            return []
        self.leaving = True
        return [ReportLeaving(), *self._say_bye_if_empty()]

    def _say_bye_if_empty(self) -> list[Command]:
        if not self.leaving or self.instances or self.said_bye:
            return []
        self.said_bye = True
        return [SayBye()]

    def _fence(self, fence: FenceArrived) -> list[Command]:
        instance = self.instances.get(fence.instance)
        if instance is None:
            return [ReportGone(fence.instance, "unknown", b"")]
        if fence.number < instance.number or instance.state is State.STOPPING:
            return []  # the report of its exit answers
        instance.number = fence.number
        instance.frontend = None
        instance.fenced = instance.state is State.BUSY
        return [ReportFreed(instance.id, fence.number, busy=instance.fenced)]

    def _evict(self, evict: EvictArrived) -> list[Command]:
        instance = self.instances.get(evict.instance)
        if instance is None:
            return [ReportGone(evict.instance, "unknown", b"")]
        if evict.number < instance.number or instance.state is State.STOPPING:
            return []
        instance.number = evict.number
        instance.frontend = None
        instance.evict = evict.reason
        if instance.state is State.BUSY:
            return []
        return [self._stop(instance, evict.reason)]

    def _stop(self, instance: Instance, reason: str) -> Command:
        instance.state = State.STOPPING
        instance.evict = reason
        return Kill(instance.id, reason)

    def _stop_all(self, reason: str) -> list[Command]:
        if self.fenced:
            return []
        self.fenced = reason
        commands: list[Command] = [
            self._stop(instance, FENCED)
            for instance in self.instances.values()
            if instance.state is not State.STOPPING
        ]
        return commands + self._retire_if_empty()

    def _retire_if_empty(self) -> list[Command]:
        if not self.fenced or self.instances or self.retired:
            return []
        self.retired = True
        return [Retire(self.fenced)]
