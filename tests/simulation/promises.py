"""What must be true in the world, whatever its parts believe. Checked with every step."""

from dataclasses import dataclass, field
from typing import Protocol

from lambent_proto.ids import FunctionName, InstanceId, RequestId, VersionKey, function_of


class Broken(AssertionError):
    """A promise of the design does not hold."""


class Caller(Protocol):
    """Where a call was made, as far as it matters for its outcome."""

    alive: bool
    life: int
    paused_until: float
    woke_at: float


@dataclass(slots=True, eq=False)
class Sandbox:
    """One instance as it really is, wherever it runs and whatever anybody thinks of it."""

    instance: InstanceId
    version: VersionKey
    running: RequestId | None = None
    idle_since: float = 0.0
    ready: bool = False


@dataclass(slots=True, eq=False)
class Accepted:
    request: RequestId
    version: VersionKey
    deadline: float
    caller: Caller
    life: int
    at: float
    outcome: str = ""


@dataclass
class Promises:
    limits: dict[FunctionName, int]
    sandboxes: dict[InstanceId, Sandbox] = field(default_factory=dict)
    calls: dict[RequestId, Accepted] = field(default_factory=dict)
    open_calls: dict[RequestId, Accepted] = field(default_factory=dict)
    runs: dict[RequestId, int] = field(default_factory=dict)
    answers: dict[RequestId, int] = field(default_factory=dict)
    counts: dict[FunctionName, int] = field(default_factory=dict)
    starts: int = 0

    def started(self, instance: InstanceId, version: VersionKey) -> Sandbox:
        """Promise 2: never more instances of a function than its limit, over all nodes."""
        function = function_of(version)
        self.counts[function] = self.counts.get(function, 0) + 1
        self.starts += 1
        sandbox = self.sandboxes[instance] = Sandbox(instance, version)
        if self.counts[function] > self.limits[function]:
            raise Broken(
                f"promise 2: {self.counts[function]} instances of {function} exist, "
                f"its limit is {self.limits[function]}"
            )
        return sandbox

    def ended(self, instance: InstanceId) -> None:
        sandbox = self.sandboxes.pop(instance)
        self.counts[function_of(sandbox.version)] -= 1

    def delivered(self, instance: InstanceId, request: RequestId, at: float) -> None:
        """Promises 1, 4 and 8: one at a time, once at the most, never to a dead one."""
        sandbox = self.sandboxes.get(instance)
        if sandbox is None:
            raise Broken(f"promise 8: {request} was handed to {instance}, which is gone")
        if sandbox.running is not None:
            raise Broken(f"promise 1: {request} was handed to {instance}, which runs {sandbox.running}")
        if not sandbox.ready:
            raise Broken(f"promise 1: {request} was handed to {instance}, which is still starting")
        self.runs[request] = self.runs.get(request, 0) + 1
        if self.runs[request] > 1:
            raise Broken(f"promise 4: {request} ran {self.runs[request]} times")
        sandbox.running = request

    def returned(self, instance: InstanceId, at: float) -> None:
        sandbox = self.sandboxes[instance]
        sandbox.running = None
        sandbox.idle_since = at

    def answered_by_worker(self, request: RequestId) -> None:
        """Promise 8: after the timeout's answer no other one is let through."""
        self.answers[request] = self.answers.get(request, 0) + 1
        if self.answers[request] > 1:
            raise Broken(f"promise 8: {request} was answered {self.answers[request]} times")

    def accepted(self, call: Accepted) -> None:
        self.calls[call.request] = self.open_calls[call.request] = call

    def finished(self, request: RequestId, outcome: str) -> None:
        """Promise 3: exactly one outcome."""
        call = self.calls[request]
        if call.outcome:
            raise Broken(f"promise 3: {request} ended twice: {call.outcome}, then {outcome}")
        call.outcome = outcome
        del self.open_calls[request]

    def check_deadlines(self, now: float) -> None:
        """Promise 3: at the latest at its deadline plus one second, for as long as its frontend lives."""
        for call in list(self.open_calls.values()):
            if not call.caller.alive or call.caller.life != call.life:
                call.outcome = "died with its frontend"
                del self.open_calls[call.request]
                continue
            latest = max(call.deadline + 1.0, call.caller.woke_at + 0.5)
            if now > latest and now >= call.caller.paused_until:
                raise Broken(f"promise 3: {call.request} has no outcome {now - call.deadline:.2f} s late")
