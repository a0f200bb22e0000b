"""What must be true in the world, whatever its parts believe. Checked with every step."""

from dataclasses import dataclass, field
from typing import Final, Protocol

from lambent_proto.ids import FunctionName, InstanceId, RequestId, VersionKey, function_of

HEARD_S: Final = 8.0
"""Longer than any placement may lead without hearing from etcd, and than what runs meanwhile takes."""


class Broken(AssertionError):
    """A promise of the design does not hold."""


class Clock(Protocol):
    now: float


class Caller(Protocol):
    """Where a call was made, as far as it matters for its outcome."""

    alive: bool
    life: int
    paused_until: float
    woke_at: float


class Bound:
    """A limit that may change. One that was lowered holds once everybody has had the time to hear of it."""

    def __init__(self, most: int, clock: "Clock") -> None:
        self.most = most
        self._clock = clock
        self._before: list[tuple[float, int]] = []

    def change(self, most: int) -> None:
        if most != self.most:
            self._before.append((self._clock.now + HEARD_S, self.most))
            self.most = most

    @property
    def allowed(self) -> int:
        self._before = [(until, most) for until, most in self._before if until > self._clock.now]
        return max([self.most, *(most for _, most in self._before)])


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
    limits: dict[FunctionName, Bound]
    """Of functions with a reservation."""
    pool: Bound
    """What all others share."""
    sandboxes: dict[InstanceId, Sandbox] = field(default_factory=dict)
    calls: dict[RequestId, Accepted] = field(default_factory=dict)
    open_calls: dict[RequestId, Accepted] = field(default_factory=dict)
    runs: dict[RequestId, int] = field(default_factory=dict)
    answers: dict[RequestId, int] = field(default_factory=dict)
    counts: dict[FunctionName, int] = field(default_factory=dict)
    ran_at: dict[FunctionName, float] = field(default_factory=dict)
    """When one of its calls last began to run, or a start of its own failed: that was its turn."""
    starts: int = 0
    too_often: set[RequestId] = field(default_factory=set)
    """Calls that were refused for their function's rate."""

    def started(self, instance: InstanceId, version: VersionKey) -> Sandbox:
        """Promise 2: never more instances of a function than its limit, over all nodes."""
        function = function_of(version)
        limit = self.limits.get(function, self.pool).allowed
        self.counts[function] = self.counts.get(function, 0) + 1
        self.starts += 1
        sandbox = self.sandboxes[instance] = Sandbox(instance, version)
        if self.counts[function] > limit:
            raise Broken(
                f"promise 2: {self.counts[function]} instances of {function} exist, its limit is {limit}"
            )
        return sandbox

    def start_failed(self, version: VersionKey, at: float) -> None:
        self.ran_at[function_of(version)] = at

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
        self.ran_at[function_of(sandbox.version)] = at
        if function_of(sandbox.version) not in self.limits:
            self._check_pool()

    def _check_pool(self) -> None:
        """Promise 2: what shares the fleet's concurrency runs no more than all of it."""
        busy = (s for s in self.sandboxes.values() if s.running is not None)
        running = sum(function_of(s.version) not in self.limits for s in busy)
        if running > self.pool.allowed:
            raise Broken(f"promise 2: {running} calls run that share a concurrency of {self.pool.allowed}")

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
