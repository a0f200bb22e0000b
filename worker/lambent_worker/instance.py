"""One instance on this worker: its life from start to exit, and the one call that it may be running.

starting ──"initialising"──▶ initialising ──"ready"──▶ idle ⇄ busy ──▶ stopping ──reaped──▶ gone
"""

import asyncio
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

import structlog

from lambent_chassis import clock
from lambent_proto.definition import Definition
from lambent_proto.ids import InstanceId, RequestId
from lambent_worker import failures
from lambent_worker.channel import Channel, Output
from lambent_worker.logs import InstanceLog
from lambent_worker.sandbox.api import Exit, Sandbox

_log = structlog.get_logger()

TIMED_OUT: Final = "timed_out"
"""Why an instance is killed when its call has taken longer than its function may."""

PEAK_MEMORY_EVERY_S: Final = 1.0
"""Reading it takes 30 us, more than a call: so not every call reads it."""

CHANNEL_END_GRACE_S: Final = 1.0
"""An instance whose channel ended is about to exit; one that has not by then closed it in error."""


class HostListener(Protocol):
    """Who is told. Called on the loop, never from inside a call to the host."""

    def ready(self, instance: InstanceId, starting_ms: float, init_ms: float) -> None: ...

    def answered(
        self,
        instance: InstanceId,
        request_id: RequestId,
        failed: bool,
        body: bytes,
        tail: bytes,
        running_ms: float,
    ) -> None:
        """`body` is the function's answer or, if it failed, Lambda's error JSON."""

    def exited(self, instance: InstanceId, reason: str, error: bytes) -> None:
        """It is certainly gone. `error` is Lambda's error JSON where the function is at fault, else empty."""

    def lost(self, why: str) -> None:
        """No instance can be started any more: the worker has to end, and start again."""


class State(Enum):
    STARTING = "starting"
    INITIALISING = "initialising"
    IDLE = "idle"
    BUSY = "busy"
    STOPPING = "stopping"


@dataclass(slots=True)
class Call:
    request_id: RequestId
    timeout_s: float
    began: float


@dataclass(frozen=True, slots=True)
class Ending:
    """`reason` is one of init_error, init_timeout, crashed, killed, spawn_failed, package_missing."""

    reason: str
    error: bytes = b""


class Instance:
    def __init__(
        self,
        id_: InstanceId,
        definition: Definition,
        log: InstanceLog,
        listener: HostListener,
        init_limit_s: float,
    ) -> None:
        self.id = id_
        self.definition = definition
        self.state = State.STARTING
        self.killed = asyncio.Event()
        """Somebody wants it to end."""
        self._log = log
        self._listener = listener
        self._init_limit_s = init_limit_s
        self._loop = asyncio.get_running_loop()
        self._sandbox: Sandbox | None = None
        self._call: Call | None = None
        self._began = clock.monotonic_s()
        self._init_began = self._began
        self._init_ms: float | None = None
        """Until the first call has reported it."""
        self._timer: asyncio.TimerHandle | None = None
        self._ending: Ending | None = None
        """How it ends, where that is decided before its exit."""
        self._initialised = False
        self._broken = ""
        """What its runtime sent that no runtime sends."""
        self._peak_memory_mb = 0
        self._peak_memory_read_at = float("-inf")

    def attach(self, sandbox: Sandbox) -> None:
        """The process runs; its runtime will say when it initialises and when it is ready."""
        self._sandbox = sandbox
        self._output = Output(sandbox.output, self._log.output)
        self._channel = Channel(sandbox.channel, self._on_frame, self._on_broken, self._on_channel_end)
        if self.state is State.STOPPING:
            sandbox.kill()
        else:
            self._limit_init()

    def deliver(self, request_id: RequestId, event: bytes, timeout_s: float, tail: bool) -> None:
        """`event` is the whole frame. An instance that is just found dead answers when it is gone."""
        self._log.start(request_id, tail)
        self._call = Call(request_id, timeout_s, clock.monotonic_s())
        if self.state is State.IDLE:
            self.state = State.BUSY
            self._channel.send(event)

    def kill(self, why: str) -> bytes:
        """Ends it, whatever it does. Its running call is over and will not be answered.

        Returns the last of that call's log, if it was delivered with `tail`.
        """
        if self._ending is None:
            self._ending = Ending("killed")
        tail = b""
        if self._call is not None:
            timed_out = why == TIMED_OUT
            if timed_out:
                self._output.take()
                self._log.timed_out(self._call.timeout_s)
            tail, _ = self._close_call(self._call, "Status: timeout" if timed_out else "Status: error")
        self._stop()
        return tail

    def _stop(self) -> None:
        self.state = State.STOPPING
        self.killed.set()
        self._cancel_timer()
        if self._sandbox is not None:
            self._sandbox.kill()

    def _on_frame(self, head: list[object], body: bytes) -> None:
        kind = head[0]
        if self.state is State.BUSY and (kind == "answer" or kind == "error"):
            call = self._call
            if call is not None and len(head) == 2 and head[1] == call.request_id:
                self._answered(call, kind == "error", body)
                return
        if self.state is State.STOPPING:
            return  # too late
        if self.state is State.STARTING and head == ["initialising"]:
            self.state = State.INITIALISING
            self._init_began = clock.monotonic_s()
            self._limit_init()
        elif self.state is State.INITIALISING and head == ["ready"]:
            self._ready()
        elif self.state is State.INITIALISING and head == ["init_error"]:
            self._ending = Ending("init_error", body)
            self._stop()
        else:
            self._on_broken(f"{kind!r} while it was {self.state.value}")

    def _ready(self) -> None:
        self._cancel_timer()
        self.state = State.IDLE
        self._initialised = True
        now = clock.monotonic_s()
        self._init_ms = (now - self._init_began) * 1000
        self._listener.ready(self.id, (self._init_began - self._began) * 1000, self._init_ms)

    def _answered(self, call: Call, failed: bool, body: bytes) -> None:
        self._output.take()  # all that was printed before the answer is in the pipe by now
        tail, running_ms = self._close_call(call, "Status: error" if failed else "")
        self.state = State.IDLE
        self._listener.answered(self.id, call.request_id, failed, body, tail, running_ms)

    def _close_call(self, call: Call, status: str) -> tuple[bytes, float]:
        """The last of its log, if that was asked for, and how many milliseconds it ran."""
        self._call = None
        init_ms, self._init_ms = self._init_ms, None
        now = clock.monotonic_s()
        if self._sandbox is not None and now >= self._peak_memory_read_at + PEAK_MEMORY_EVERY_S:
            self._peak_memory_read_at = now
            self._peak_memory_mb = self._sandbox.peak_memory_mb()
        running_ms = (now - call.began) * 1000
        return self._log.end(running_ms, self._peak_memory_mb, init_ms, status), running_ms

    def _on_broken(self, what: str) -> None:
        if self.state is State.STOPPING:
            return
        self._broken = what
        self._log.line(
            f"[ERROR] The function disturbed its runtime, which sent {what}. The instance is killed."
        )
        _log.warning("instance_broke_its_channel", instance=self.id, function=self.definition.name, sent=what)
        self._stop()

    def _on_channel_end(self) -> None:
        if self.state is not State.STOPPING:
            self._cancel_timer()
            self._timer = self._loop.call_later(
                CHANNEL_END_GRACE_S, self._on_broken, "the end of its channel"
            )

    def _limit_init(self) -> None:
        self._cancel_timer()
        self._timer = self._loop.call_later(self._init_limit_s, self._init_took_too_long)

    def _init_took_too_long(self) -> None:
        self._ending = Ending("init_timeout", failures.timed_out("", self._init_limit_s))
        self._stop()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def exited(self, exit_: Exit) -> Ending:
        """It is gone. Answers the call that it was running, unless it was killed; says how it ended."""
        self._cancel_timer()
        self._channel.close()  # which may still bring the answer
        self._output.close()
        ending = self._ended_by(exit_)
        if ending.reason in ("init_error", "init_timeout"):
            status = "timeout" if ending.reason == "init_timeout" else "error"
            init_ms = (clock.monotonic_s() - self._init_began) * 1000
            self._log.line(f"INIT_REPORT Init Duration: {init_ms:.2f} ms\tPhase: init\tStatus: {status}")
        if self._call is not None and ending.reason == "crashed":
            self._crashed(self._call, exit_, ending.error)
        self._log.close()
        return ending

    def _ended_by(self, exit_: Exit) -> Ending:
        if self._ending is not None:
            return self._ending
        request_id = self._call.request_id if self._call is not None else ""
        reason = "crashed" if self._initialised else "init_error"
        if self._broken:
            return Ending(reason, failures.broken_channel(request_id, self._broken))
        if exit_.killed:
            return Ending("killed")  # by the watchdog, or because the spawner died
        return Ending(reason, failures.exited(request_id, exit_))

    def _crashed(self, call: Call, exit_: Exit, error: bytes) -> None:
        self._log.line(failures.exit_message(call.request_id, exit_))
        tail, running_ms = self._close_call(call, "Status: error")
        self._listener.answered(self.id, call.request_id, True, error, tail, running_ms)
