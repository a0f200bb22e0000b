"""All instances of this worker, below its decisions: it starts, feeds and kills what it is told to.

Nothing here waits in a call: what takes time comes back through the listener. The watchdog beneath kills
every instance when `extend` is no longer called, whatever has become of this process.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import structlog

from lambent_chassis import clock
from lambent_proto.definition import Definition
from lambent_proto.ids import InstanceId, RequestId
from lambent_proto.sealed import CannotOpen
from lambent_worker import extensions, failures
from lambent_worker.compiled import Compiler, Job
from lambent_worker.event import Event
from lambent_worker.instance import Ending, HostListener, Instance
from lambent_worker.logs import FunctionLogs
from lambent_worker.packages import Held, PackageCache, PackageMissing
from lambent_worker.runtimes.api import Runtime
from lambent_worker.sandbox.api import Backend, CannotStart, Sandbox, SandboxSpec
from lambent_worker.sandbox.safe import SafeBackend
from lambent_worker.sealed_environment import Environments
from lambent_worker.snapshots import LoadFailed, Snapshots, Unsuitable

_log = structlog.get_logger()
Thing = TypeVar("Thing")

INIT_LIMIT_S: Final = 10.0
"""Lambda's, for the module of a function to be imported."""


FREEZE_AFTER_S: Final = 5.0
FREEZE_EVERY_S: Final = 1.0
"""How often idle instances are looked at."""


class InstanceHost:
    """Used as a context manager; on exit it kills all instances, and returns when they have been reaped."""

    def __init__(
        self,
        *,
        sandbox: Backend,
        runtimes: Mapping[str, Runtime],
        packages: PackageCache,
        logs: FunctionLogs,
        listener: HostListener,
        init_limit_s: float = INIT_LIMIT_S,
        freeze_after_s: float = FREEZE_AFTER_S,
        environments: Environments | None = None,
    ) -> None:
        """An instance that has been idle for `freeze_after_s` gets no CPU until its next call."""
        self._sandbox = SafeBackend(sandbox)
        self._runtimes = runtimes
        self._packages = packages
        self._logs = logs
        self._listener = listener
        self._init_limit_s = init_limit_s
        self._freeze_after_s = freeze_after_s
        self._environments = environments or Environments()
        self.compiler = Compiler(packages.folders)
        self._snapshots = Snapshots(self._sandbox, packages, logs)
        self._instances: dict[InstanceId, Instance] = {}
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._sandbox.__aenter__()
        await self._tasks.__aenter__()
        await self.compiler.__aenter__()
        self._watches = [
            self._tasks.create_task(self._watch_sandbox()),
            self._tasks.create_task(self._freeze_idle()),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for watch in self._watches:
            watch.cancel()
        for instance in self._instances.values():
            instance.kill()
        await self.compiler.__aexit__(None, None, None)
        try:
            await self._tasks.__aexit__(None, None, None)
            await self._snapshots.close()
        finally:
            await self._sandbox.__aexit__(kind, error, trace)

    def start(self, instance: InstanceId, definition: Definition, *, provisioned: bool = False) -> None:
        """Fetches the package, starts a sandbox, initialises: `ready` or `exited` follows."""
        if instance in self._instances:
            raise ValueError(f"{instance} was started before")
        runtime = self._runtimes.get(definition.runtime)
        if runtime is None:
            _log.error(
                "runtime_missing", instance=instance, runtime=definition.runtime, function=definition.name
            )
            self._tasks.create_task(self._refuse(instance, Ending("runtime_missing")))
            return
        try:
            definition = self._environments.opened(definition)
        except CannotOpen as failed:
            _log.error("environment_not_opened", instance=instance, reason=str(failed))
            ending = Ending("environment_not_opened", failures.not_opened(str(failed)))
            self._tasks.create_task(self._refuse(instance, ending))
            return
        log = self._logs.of(definition, instance)
        it = Instance(instance, definition, runtime, log, self._listener, self._init_limit_s)
        it.provisioned = provisioned
        self._instances[instance] = it
        self._tasks.create_task(self._live(it))

    def deliver(self, instance: InstanceId, event: Event, *, timeout_s: float, tail: bool) -> None:
        """Hands an event to an idle instance: `answered` follows, or `exited` if it is killed meanwhile.

        It is the caller who ends a call that takes longer than `timeout_s` (`time_out`). With `tail` the
        answer brings the last of the call's log.
        """
        self._instances[instance].deliver(event, timeout_s, tail)

    def taken(self, instance: InstanceId, request_id: RequestId, size: int) -> None:
        """The caller has taken so many bytes of a streamed answer. No effect on one that is over."""
        if it := self._instances.get(instance):
            it.taken(request_id, size)

    def unheard(self, instance: InstanceId, request_id: RequestId) -> None:
        """Nobody waits for a streamed answer any more. The call goes on; no `part` follows."""
        if it := self._instances.get(instance):
            it.unheard(request_id)

    def kill(self, instance: InstanceId, *, graceful: bool = False) -> None:
        """`exited` follows, unless the instance is gone already; a call it was running is not answered.

        With `graceful` extensions have two seconds for their end.
        """
        if it := self._instances.get(instance):
            it.kill(graceful=graceful)

    def time_out(self, instance: InstanceId, request_id: RequestId, timeout_s: float) -> tuple[bytes, bytes]:
        """Ends the runtime whose call takes too long; returns that call's error and the last of its log.

        The instance stays, and takes the next event: its runtime is launched anew for that.
        """
        it = self._instances.get(instance)
        tail = it.time_out() if it is not None else b""
        return failures.timed_out(request_id, timeout_s), tail

    def extend(self, valid_until: float) -> None:
        """No instance lives past this monotonic second, unless it is extended again.

        Before the first call nothing can be started.
        """
        self._sandbox.extend(valid_until)

    async def _watch_sandbox(self) -> None:
        self._listener.lost(await self._sandbox.lost())

    async def _freeze_idle(self) -> None:
        while True:
            await asyncio.sleep(FREEZE_EVERY_S)
            since = clock.monotonic_s() - self._freeze_after_s
            for instance in self._instances.values():
                instance.freeze_if_idle(since)

    async def _refuse(self, instance: InstanceId, ending: Ending) -> None:
        self._listener.exited(instance, ending.reason, ending.error)

    async def _live(self, it: Instance) -> None:
        """The whole life of an instance."""
        ending = await self._run(it)
        del self._instances[it.id]
        _log.info("instance_exited", instance=it.id, function=it.definition.name, reason=ending.reason)
        self._listener.exited(it.id, ending.reason, ending.error)

    async def _run(self, it: Instance) -> Ending:
        try:
            held = await self._held(it)
        except PackageMissing as missing:
            _log.error("package_missing", instance=it.id, function=it.definition.name, why=str(missing))
            return Ending("package_missing")
        if held is None:
            return Ending("killed")
        with held:
            self._have_compiled(it, held)
            it.extensions = extensions.names(held.layers)
            if not it.definition.snapstart:
                return await self._run_in_sandbox(it, held)
            return await self._run_from_snapshot(it, held)

    def _have_compiled(self, it: Instance, held: Held) -> None:
        """In the background, for the instances after this one."""
        if (bytecode := it.runtime.bytecode) is not None:
            for name, shown in zip(held.names, ("/var/task", "/opt"), strict=False):
                self.compiler.want(Job(name, shown, bytecode))

    async def _run_from_snapshot(self, it: Instance, held: Held) -> Ending:
        async with AsyncExitStack() as stack:
            entering = stack.enter_async_context(self._snapshots.of(it.definition, it.runtime))
            try:
                name = await self._unless_killed(it, entering)
            except LoadFailed as failed:
                return Ending("init_error", failed.error)
            except Unsuitable as unsuitable:
                name = it.without_snapshot(str(unsuitable))
            if name is None:
                return Ending("killed")
            it.snapshot = name
            return await self._run_in_sandbox(it, held)

    async def _run_in_sandbox(self, it: Instance, held: Held) -> Ending:
        try:
            sandbox = await self._created(it, held)
        except CannotStart as failed:
            _log.error("sandbox_not_started", instance=it.id, function=it.definition.name, why=str(failed))
            return Ending("spawn_failed")
        return await it.live(sandbox)

    async def _created(self, it: Instance, held: Held) -> Sandbox:
        """Raises CannotStart."""
        if it.snapshot:
            try:
                return await self._sandbox.create(self._spec(it, held))
            except CannotStart as failed:  # it has just ended, or has no room for another instance
                it.snapshot = it.without_snapshot(str(failed))
        return await self._sandbox.create(self._spec(it, held))

    async def _held(self, it: Instance) -> Held | None:
        """Its code and layers; None if the instance is killed before they are there."""
        holding = self._packages.hold(it.definition.code_sha256, it.definition.layers)
        return await self._unless_killed(it, holding)

    async def _unless_killed(self, it: Instance, coming: Coroutine[Any, Any, Thing]) -> Thing | None:
        """None if the instance is killed before it is there."""
        task = asyncio.ensure_future(coming)
        killed = asyncio.ensure_future(it.killed.wait())
        await asyncio.wait((task, killed), return_when=asyncio.FIRST_COMPLETED)
        killed.cancel()
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return None

    def _spec(self, it: Instance, held: Held) -> SandboxSpec:
        return SandboxSpec(
            instance=it.id,
            code=held.code,
            layers=held.layers,
            memory_mb=it.definition.memory_mb,
            tmp_mb=it.definition.tmp_mb,
            network=it.definition.network,
            runtime_api=bool(it.extensions) or not it.runtime.frames,
            parked=it.runtime.parked(it.definition.memory_mb, it.definition.environment),
            snapshot=it.snapshot,
        )
