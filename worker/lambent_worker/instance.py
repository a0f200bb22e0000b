"""One instance on this worker: its life from start to exit, and the one call that it may be running.

    starting ──launched──▶ initialising ──ready──▶ idle ⇄ busy ──▶ stopping ──▶ gone
                                                    └───────┴── crash, timeout: the runtime alone ends

A runtime that crashed, or was ended because its call took too long, is launched again in the same sandbox
when the next call comes, within that call's time: what Lambda calls a reset. Until then none runs there.
"""

import asyncio
import json
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

import structlog

from lambent_chassis import clock
from lambent_proto.definition import Definition
from lambent_proto.ids import InstanceId, RequestId
from lambent_worker import failures
from lambent_worker.environment import environment, start_of
from lambent_worker.event import Event
from lambent_worker.extensions import ExtensionProcesses
from lambent_worker.flow import Flow
from lambent_worker.logs import InstanceLog
from lambent_worker.run import Run
from lambent_worker.runtime_api.extensions import Facts
from lambent_worker.runtime_api.server import RuntimeApi
from lambent_worker.runtime_api.telemetry import Telemetry
from lambent_worker.runtimes.api import Runtime
from lambent_worker.sandbox.api import CannotStart, Exit, Launch, Sandbox

_log = structlog.get_logger()

MEMORY_EVERY_S: Final = 1.0
"""Reading it takes 30 us, more than a call: so not every call reads it."""


_STATUS: Final = {"success": "", "error": "Status: error", "timeout": "Status: timeout"}
"""How a call went, as the log says it. A `failure`, where the runtime has ended, is said as an error."""

SHUTDOWN_S: Final = 2.0
"""Lambda's, for an instance with external extensions."""


class HostListener(Protocol):
    """Who is told. Called on the loop, never from inside a call to the host."""

    def launched(self, runtime: str, kind: str) -> None:
        """A runtime was started; `kind` is one of those that `metrics` names."""

    def ready(self, instance: InstanceId, starting_ms: float, init_ms: float, restored: bool) -> None:
        """`restored`: it was forked of a snapshot."""

    def begun(self, instance: InstanceId, request_id: RequestId, content_type: str) -> None:
        """Its answer is streamed, to a caller who wants that: parts follow, and `answered` as their end."""

    def part(self, instance: InstanceId, request_id: RequestId, data: bytes) -> None:
        """The next bytes of it."""

    def answered(
        self,
        instance: InstanceId,
        request_id: RequestId,
        failed: bool,
        body: bytes,
        tail: bytes,
        running_ms: float,
    ) -> None:
        """`body` is the function's answer or, if it failed, Lambda's error JSON; nothing if it was streamed
        and has not failed."""

    def exited(self, instance: InstanceId, reason: str, error: bytes) -> None:
        """It is certainly gone. `error` is Lambda's error JSON where the function is at fault, else empty."""

    def lost(self, why: str) -> None:
        """No instance can be started any more: the worker has to end, and start again."""


class State(Enum):
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    STOPPING = "stopping"


@dataclass(slots=True)
class Call:
    request_id: RequestId
    event: Event
    timeout_s: float
    began: float


@dataclass(frozen=True, slots=True)
class Ending:
    """`reason` is one of init_error, crashed, killed, spawn_failed, package_missing, runtime_missing,
    environment_not_opened."""

    reason: str
    error: bytes = b""


class Instance:
    def __init__(
        self,
        id_: InstanceId,
        definition: Definition,
        runtime: Runtime,
        log: InstanceLog,
        listener: HostListener,
        init_limit_s: float,
    ) -> None:
        self.extensions: tuple[str, ...] = ()
        """File names of its external ones; known before `live`."""
        self.provisioned = False
        """It is one of those that its version has ready; known before `live`."""
        self.snapshot = ""
        """Name of that which it is forked of, if it is; known before `live`."""
        self.id = id_
        self.definition = definition
        self.runtime = runtime
        self.state = State.STARTING
        self.killed = asyncio.Event()
        """Somebody wants it to end."""
        self._log = log
        self._listener = listener
        self._init_limit_s = init_limit_s
        self._loop = asyncio.get_running_loop()
        self._sandbox: Sandbox | None = None
        self._run: Run | None = None
        self._early: list[tuple[list[object], bytes]] = []
        """What the Runtime API heard of the next run, which is about to begin."""
        self._call: Call | None = None
        self._began = clock.monotonic_s()
        self._init_began = self._began
        self._init_ms: float | None = None
        """Until the next call has reported it."""
        self._restored = False
        """It was forked of a snapshot, and `_init_ms` is what that took."""
        self._announced = False
        """It was said to be ready: from then on failures are those of calls, not of the start."""
        self._timer: asyncio.TimerHandle | None = None
        self._ending: Ending | None = None
        """How it ends, where that is decided before its exit."""
        self._api: RuntimeApi | None = None
        """Where the runtime, or extensions, are to find the Runtime API; as long as the sandbox."""
        self._telemetry: Telemetry | None = None
        """None once init has ended and nobody wants it."""
        self._wanted = asyncio.Event()
        """A runtime shall run here."""
        self._memory_read_at = float("-inf")
        self._peak_mb = 0
        self._oom_kills = 0
        self._idle_since = 0.0

    async def live(self, sandbox: Sandbox) -> Ending:
        """From the first launch until nothing of the sandbox is left."""
        self._sandbox = sandbox
        if self.state is State.STOPPING:
            sandbox.destroy()
        self._wanted.set()
        driving = asyncio.ensure_future(self._drive(sandbox))
        try:
            await sandbox.wait()
        finally:
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)
        if self._ending is None and self._run is not None:
            await self._ended_with_sandbox(self._run)
        return self._gone()

    def _initialization(self) -> str:
        if self.provisioned:
            return "provisioned-concurrency"
        return "snap-start" if self.snapshot else "on-demand"

    def without_snapshot(self, why: str) -> str:
        """It is started as others are: there is none, which is said in its log."""
        self._log.line(f"[WARN] SnapStart is not used: {why}")
        return ""

    async def _ended_with_sandbox(self, run: Run) -> None:
        """Nobody wanted that, unless the exit says so: it was forked of a snapshot that is gone."""
        exit_ = await run.exit()
        self._after(run, exit_)
        if not exit_.killed and self._ending is None:
            self._ending = Ending("crashed")

    async def _drive(self, sandbox: Sandbox) -> None:
        """Launches a runtime whenever one is wanted, stays with it to its end, and cleans up behind it."""
        if sandbox.api is not None:
            send = self._send_frame if self.runtime.frames else None
            self._api = RuntimeApi(sandbox.api, self._on_api_frame, self._facts(), sandbox.connect, send)
        view = sandbox.view
        start = start_of(self.definition, view)
        launch = Launch(
            argv=self.runtime.argv(start),
            environment=environment(
                self.definition,
                self.runtime,
                view,
                sandbox.api_address,
                self.id,
                clock.unix_s(),
                initialization=self._initialization(),
            ),
            folder=view.task_root,
            channel=self.runtime.frames,
            parked=self.snapshot
            or self.runtime.parked(self.definition.memory_mb, self.definition.environment),
        )
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._one_run(sandbox, launch)
            except CannotStart as failed:
                self._not_started(str(failed))
                return

    async def _one_run(self, sandbox: Sandbox, launch: Launch) -> None:
        self._early.clear()
        if self._api is not None:
            self._api.restart()
            self._telemetry = self._api.telemetry
        extensions = ExtensionProcesses(self._extension_printed, self._extension_exited)
        try:
            await extensions.launch(sandbox, self.extensions, launch.environment)
            await self._one_runtime(sandbox, launch)
        finally:
            extensions.close()

    async def _one_runtime(self, sandbox: Sandbox, launch: Launch) -> None:
        launched_at = clock.monotonic_s()
        process = await sandbox.launch(launch)
        kind = "again" if self._announced else "parked" if process.parked else "new"
        self._listener.launched(self.runtime.name, kind)
        on_frame = self._on_frame if self._api is None else self._on_channel_frame
        run = self._run = Run(process, self._printed, on_frame, self._on_broken, self._api)
        if process.parked and self.snapshot:
            run.restoring_since = launched_at
            self._log.line(f"RESTORE_START Runtime Version: {self.runtime.name}")
        if process.parked:
            run.specialise(json.dumps({"environment": launch.environment, "folder": launch.folder}).encode())
        self._limit_init()
        if not self.runtime.frames:
            self._on_frame(run, ["initialising"], b"")
        early, self._early = self._early, []
        for head, body in early:
            self._on_api_frame(head, body)
        try:
            exit_ = await run.ended()
            if exit_ is not None:
                self._after(run, exit_)
            await sandbox.clear()
            if exit_ is None:  # it was told to end
                self._after(run, await process.wait())
        except CannotStart:  # what was left of it could not be ended otherwise
            self._end_as(Ending("crashed"))
        finally:
            run.close()

    def _not_started(self, why: str) -> None:
        if self.state is not State.STOPPING:
            _log.error("sandbox_not_started", instance=self.id, function=self.definition.name, why=why)
            self._end_as(Ending("spawn_failed"))

    def deliver(self, event: Event, timeout_s: float, tail: bool) -> None:
        """An instance that is just found dead answers when it is gone."""
        self._log.start(event.request_id, tail)
        if self._telemetry is not None:
            self._telemetry.call_started(event.request_id)
        self._call = Call(event.request_id, event, timeout_s, clock.monotonic_s())
        if self.state is not State.IDLE:
            return
        self.state = State.BUSY
        if self._run is not None and self._run.ready:
            if self._run.frozen and self._sandbox is not None:
                self._run.frozen = False
                self._sandbox.thaw()
            self._run.send(event)
        else:
            self._wanted.set()

    def taken(self, request_id: RequestId, size: int) -> None:
        """Its caller has taken so much of the call's streamed answer, if that still runs."""
        if (flow := self._flow(request_id)) is not None:
            flow.taken(size)
            self._flows()

    def unheard(self, request_id: RequestId) -> None:
        """Nobody waits for the call's streamed answer any more: it is finished, and its parts are dropped."""
        if (flow := self._flow(request_id)) is not None:
            flow.unheard()
            self._flows()

    def _flow(self, request_id: RequestId) -> Flow | None:
        call = self._call
        return call.event.flow if call is not None and call.request_id == request_id else None

    def _flows(self) -> None:
        if self._api is not None:
            self._api.flows()

    def kill(self, *, graceful: bool = False) -> None:
        """Ends it, whatever it does. Its running call is over and will not be answered.

        With `graceful` its extensions are told first, and have SHUTDOWN_S for what they do then.
        """
        if self._call is not None:
            self._close_call(self._call, "failure")
        if self._telemetry is not None:
            self._telemetry.flush()
        deadline_ms = int((clock.unix_s() + SHUTDOWN_S) * 1000)
        if graceful and self._api is not None and self._api.extensions.shut_down("spindown", deadline_ms):
            self._stop_as(Ending("killed"))
            self._timer = self._loop.call_later(SHUTDOWN_S, self._destroy)
        else:
            self._end_as(Ending("killed"))

    def time_out(self) -> bytes:
        """Its call has taken too long: ends the runtime. Returns the last of the call's log, if wanted."""
        call = self._call
        if call is None:
            return b""
        if self._run is not None:
            self._run.take_output()
        self._log.timed_out(call.timeout_s)
        tail, _ = self._close_call(call, "timeout")
        self._to_idle()
        self._end_run()
        return tail

    def freeze_if_idle(self, since: float) -> None:
        """Stops its processes until the next call, if none came since that monotonic second."""
        run = self._run
        if self._sandbox is None or run is None or not run.ready or run.frozen:
            return
        if self.state is State.IDLE and self._idle_since <= since:
            run.frozen = True
            self._sandbox.freeze()

    def _end_as(self, ending: Ending) -> None:
        self._stop_as(ending)
        self._destroy()

    def _stop_as(self, ending: Ending) -> None:
        if self._ending is None:
            self._ending = ending
        self.state = State.STOPPING
        self.killed.set()
        self._cancel_timer()

    def _destroy(self) -> None:
        if self._sandbox is not None:
            self._sandbox.destroy()

    def _end_run(self) -> None:
        """Ends the runtime and all that it started. What it says from now on is nobody's."""
        self._cancel_timer()
        if self._run is not None:
            self._run.end()
            self._run = None

    def _facts(self) -> Facts:
        definition = self.definition
        return Facts(
            name=definition.name,
            version=definition.version,
            handler=definition.handler,
            memory_mb=definition.memory_mb,
            external=frozenset(self.extensions),
            initialization=self._initialization(),
        )

    def _printed(self, data: bytes) -> None:
        self._log.output(data)
        if self._telemetry is not None:
            self._telemetry.output("function", data)

    def _extension_printed(self, data: bytes) -> None:
        self._log.output(data)
        if self._telemetry is not None:
            self._telemetry.output("extension", data)

    def _send_frame(self, event: Event) -> None:
        if self._run is not None:
            self._run.send_frame(event)

    def _on_channel_frame(self, run: Run, head: list[object], body: bytes) -> None:
        """Of a runtime of ours that has extensions: those decide with it when the next event may come."""
        if run is not self._run or self._api is None:
            return
        if head == ["ready"] and run.initialising:
            self._api.waits()
            return
        self._on_frame(run, head, body)
        if head[0] in ("answer", "error"):
            self._api.waits()

    def _on_api_frame(self, head: list[object], body: bytes) -> None:
        if self.state is State.STOPPING or head[0] == "settled":
            return
        if self._run is None:  # a quick one speaks before it is known here that it was started
            self._early.append((head, body))
            return
        if head[0] == "extension_error":
            request_id = self._call.request_id if self._call is not None else ""
            self._runtime_failed(failures.extension_failed(request_id, *map(str, head[1:])))
            self._end_run()
        elif head[0] in ("begun", "part"):
            self._streamed(head, body)
        else:
            self._on_frame(self._run, head, body)

    def _streamed(self, head: list[object], body: bytes) -> None:
        """Said by the API alone, which says it in time: a runtime on its channel has no such frames."""
        call = self._call
        if call is None or self.state is not State.BUSY or head[1] != call.request_id:
            return
        if head[0] == "begun":
            self._listener.begun(self.id, call.request_id, str(head[2]))
        else:
            self._listener.part(self.id, call.request_id, body)

    def _extension_exited(self, name: str, exit_: Exit, left: int) -> None:
        """It belongs to the function, which fails with it, unless it was told of the end."""
        if self.state is State.STOPPING:
            if not left:
                self._destroy()
        elif self._run is not None:
            request_id = self._call.request_id if self._call is not None else ""
            self._runtime_failed(failures.extension_crashed(request_id, name, exit_))
            self._end_run()

    def _on_frame(self, run: Run, head: list[object], body: bytes) -> None:
        if run is not self._run or self.state is State.STOPPING:
            return  # too late
        kind = head[0]
        call = self._call
        if (
            (kind == "answer" or kind == "error")
            and run.ready
            and call is not None
            and self.state is State.BUSY
        ):
            if len(head) == 2 and head[1] == call.request_id:
                self._answered(run, call, kind == "error", body)
                return
        elif head == ["initialising"] and not run.initialising:
            run.initialising = True
            self._init_began = clock.monotonic_s()
            if self._telemetry is not None:
                self._telemetry.init_started("invoke" if self._announced else "init")
            self._limit_init()
            return
        elif head == ["ready"] and run.initialising and not run.ready:
            self._ready(run)
            return
        elif head == ["init_error"] and run.initialising and not run.ready:
            self._init_failed(run, body)
            return
        doing = self.state.value if run.ready else "initialising" if run.initialising else "starting"
        self._on_broken(run, f"{kind!r} while it was {doing}")

    def _ready(self, run: Run) -> None:
        self._cancel_timer()
        run.ready = True
        now = clock.monotonic_s()
        init_ms = self._init_ms = (now - self._init_began) * 1000
        self._restored = run.restoring_since is not None
        if run.restoring_since is not None:
            self._init_ms = (now - run.restoring_since) * 1000
            self._log.line(f"RESTORE_REPORT Restore Duration: {self._init_ms:.2f} ms")
        if self._telemetry is not None:
            self._telemetry.init_ended("success", self._init_ms)
            if not self._telemetry.subscribed:
                self._telemetry = None
        if self._call is not None:
            run.send(self._call.event)
        else:
            self._announce(init_ms)

    def _announce(self, init_ms: float) -> None:
        if not self._announced:
            self._announced = True
            self._to_idle()
            self._listener.ready(self.id, (self._init_began - self._began) * 1000, init_ms, self._restored)

    def _init_failed(self, run: Run, error: bytes) -> None:
        """Where it was started for nobody in particular the instance ends; else the call that waits fails."""
        run.take_output()
        self._report_init("error")
        if self._announced:
            self._fail_call(error)
            self._end_run()
        else:
            self._end_as(Ending("init_error", error))

    def _init_took_too_long(self) -> None:
        """Lambda's suppressed init: it is stopped, and begins again within the next call's own time."""
        if self._announced or self.state is State.STOPPING:
            return  # the call's timeout counts
        self._report_init("timeout")
        self._end_run()
        self._announce(self._init_limit_s * 1000)

    def _report_init(self, status: str) -> None:
        init_ms = (clock.monotonic_s() - self._init_began) * 1000
        self._log.line(f"INIT_REPORT Init Duration: {init_ms:.2f} ms\tPhase: init\tStatus: {status}")
        if self._telemetry is not None:
            self._telemetry.init_ended(status, init_ms)

    def _answered(self, run: Run, call: Call, failed: bool, body: bytes) -> None:
        run.take_output()  # all that was printed before the answer is in the pipe by now
        tail, running_ms = self._close_call(call, *(("error", body) if failed else ("success",)))
        self._to_idle()
        self._listener.answered(self.id, call.request_id, failed, body, tail, running_ms)

    def _fail_call(self, error: bytes) -> None:
        """Answers the running call, if there is one, with Lambda's error JSON."""
        if (call := self._call) is not None:
            if self._run is not None:
                self._run.take_output()
            tail, running_ms = self._close_call(call, "failure", error)
            self._to_idle()
            self._listener.answered(self.id, call.request_id, True, error, tail, running_ms)

    def _to_idle(self) -> None:
        if self.state is not State.STOPPING:
            self.state = State.IDLE
            self._idle_since = clock.monotonic_s()

    def _close_call(self, call: Call, status: str, error: bytes = b"") -> tuple[bytes, float]:
        """The last of its log, if that was asked for, and how many milliseconds it ran."""
        self._call = None
        init_ms, self._init_ms = self._init_ms, None
        now = clock.monotonic_s()
        if self._sandbox is not None and now >= self._memory_read_at + MEMORY_EVERY_S:
            self._memory_read_at = now
            self._peak_mb = self._sandbox.memory().peak_mb
        running_ms = (now - call.began) * 1000
        if self._telemetry is not None:
            self._telemetry.call_ended(call.request_id, status, error, running_ms, self._peak_mb, init_ms)
        said = _STATUS.get(status, "Status: error")
        tail = self._log.end(running_ms, self._peak_mb, init_ms, said, restored=self._restored)
        return tail, running_ms

    def _on_broken(self, run: Run, what: str) -> None:
        if run is not self._run or self.state is State.STOPPING:
            return
        request_id = self._call.request_id if self._call is not None else ""
        self._log.line(
            f"[ERROR] The function disturbed its runtime, which sent {what}. The runtime is ended."
        )
        _log.warning("runtime_was_disturbed", instance=self.id, function=self.definition.name, sent=what)
        self._runtime_failed(failures.broken_channel(request_id, what))
        self._end_run()

    def _after(self, run: Run, exit_: Exit) -> None:
        """A run has ended. What it was at fault for is answered, unless that was decided before."""
        run.close()  # which may still bring the answer
        if run is not self._run:
            return
        self._cancel_timer()
        self._run = None
        if self.state is State.STOPPING or exit_.killed:
            return
        out_of_memory = self._was_out_of_memory()
        if self._call is not None and run.holds_event:
            self._wanted.set()  # it ended over an earlier call: this one is for the next runtime
            return
        request_id = self._call.request_id if self._call is not None else ""
        if self._call is not None:
            self._log.line(failures.exit_message(request_id, exit_))
        self._runtime_failed(failures.exited(request_id, exit_, out_of_memory=out_of_memory))

    def _was_out_of_memory(self) -> bool:
        if self._sandbox is None:
            return False
        before, self._oom_kills = self._oom_kills, self._sandbox.memory().oom_kills
        return self._oom_kills > before

    def _runtime_failed(self, error: bytes) -> None:
        if self._announced:
            self._fail_call(error)
        else:
            self._report_init("error")
            self._end_as(Ending("init_error", error))

    def _limit_init(self) -> None:
        self._cancel_timer()
        if not self._announced:
            self._timer = self._loop.call_later(self._init_limit_s, self._init_took_too_long)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _gone(self) -> Ending:
        """Nothing of it is left. Answers the call that it was running, unless that was decided before."""
        self._cancel_timer()
        ending = self._ending
        if self._api is not None:
            self._api.close()
        if self._run is not None:
            self._run.close()
            self._run = None
        if ending is None:
            ending = Ending("killed")  # by the watchdog, or because the sandboxes' own process died
        self._log.close()
        return ending
