"""All instances of this worker, below its decisions: it starts, feeds and kills what it is told to.

Nothing here waits in a call: what takes time comes back through the listener. The watchdog beneath kills
every instance when `extend` is no longer called, whatever has become of this process.
"""

import asyncio
import compileall
import shutil
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import structlog

from lambent_chassis import clock
from lambent_proto.definition import Definition
from lambent_proto.ids import InstanceId, RequestId
from lambent_worker import bootstrap, failures
from lambent_worker.channel import event_frame
from lambent_worker.environment import RUNTIME_PACKAGE, command, environment
from lambent_worker.instance import TIMED_OUT, Ending, HostListener, Instance
from lambent_worker.logs import FunctionLogs
from lambent_worker.packages import PackageCache, PackageMissing
from lambent_worker.sandbox.api import Backend, CannotStart, Files, SandboxSpec
from lambent_worker.sandbox.safe import SafeBackend

_log = structlog.get_logger()

INIT_LIMIT_S: Final = 10.0
"""Lambda's, for the module of a function to be imported."""


class InstanceHost:
    """Used as a context manager; on exit it kills all instances, and returns when they have been reaped."""

    def __init__(
        self,
        *,
        sandbox: Backend,
        packages: PackageCache,
        logs: FunctionLogs,
        scratch: Path,
        node_name: str,
        listener: HostListener,
        init_limit_s: float = INIT_LIMIT_S,
    ) -> None:
        self._sandbox = SafeBackend(sandbox)
        self._packages = packages
        self._logs = logs
        self._scratch = scratch
        self._runtime = scratch / "runtime"
        self._node_name = node_name
        self._listener = listener
        self._init_limit_s = init_limit_s
        self._instances: dict[InstanceId, Instance] = {}
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._prepare_scratch)
        await self._sandbox.__aenter__()
        await self._tasks.__aenter__()
        self._watch = self._tasks.create_task(self._watch_sandbox())
        return self

    def _prepare_scratch(self) -> None:
        """Its own folder alone is emptied: what a worker before this one left in it belongs to nobody."""
        for name in ("runtime", "instances"):
            shutil.rmtree(self._scratch / name, ignore_errors=True)
        (self._scratch / "instances").mkdir(parents=True)
        target = self._runtime / RUNTIME_PACKAGE
        shutil.copytree(bootstrap.__path__[0], target, ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(str(target), quiet=1)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.cancel()
        for instance in self._instances.values():
            instance.kill("the worker stops")
        try:
            await self._tasks.__aexit__(None, None, None)
        finally:
            await self._sandbox.__aexit__(kind, error, trace)

    def start(self, instance: InstanceId, definition: Definition) -> None:
        """Fetches the package, starts a sandbox, initialises: `ready` or `exited` follows."""
        if instance in self._instances:
            raise ValueError(f"{instance} was started before")
        log = self._logs.of(definition, instance)
        it = Instance(instance, definition, log, self._listener, self._init_limit_s)
        self._instances[instance] = it
        self._tasks.create_task(self._live(it))

    def deliver(
        self,
        instance: InstanceId,
        request_id: RequestId,
        body: bytes,
        *,
        arn: str,
        timeout_s: float,
        client_context: str,
        tail: bool,
    ) -> None:
        """Hands an event to an idle instance: `answered` follows, or `exited` if it is killed meanwhile.

        `timeout_s` is only told to the function: it is the caller who kills an instance that takes longer.
        `client_context` is JSON, or empty. With `tail` the answer brings the last of the call's log.
        """
        deadline_ms = int((clock.unix_s() + timeout_s) * 1000)
        event = event_frame(request_id, deadline_ms, arn, client_context, body)
        self._instances[instance].deliver(request_id, event, timeout_s, tail)

    def kill(self, instance: InstanceId, why: str) -> None:
        """`exited` follows, unless the instance is gone already; a call it was running is not answered."""
        if it := self._instances.get(instance):
            it.kill(why)

    def time_out(self, instance: InstanceId, request_id: RequestId, timeout_s: float) -> tuple[bytes, bytes]:
        """Kills an instance whose call takes too long; returns that call's error and the last of its log."""
        it = self._instances.get(instance)
        tail = it.kill(TIMED_OUT) if it is not None else b""
        return self.timed_out_body(request_id, timeout_s), tail

    @staticmethod
    def timed_out_body(request_id: RequestId, timeout_s: float) -> bytes:
        """Lambda's error for a call that took longer than its function may."""
        return failures.timed_out(request_id, timeout_s)

    def extend(self, valid_until: float) -> None:
        """No instance lives past this monotonic second, unless it is extended again.

        Before the first call nothing can be started.
        """
        self._sandbox.extend(valid_until)

    async def _watch_sandbox(self) -> None:
        self._listener.lost(await self._sandbox.lost())

    async def _live(self, it: Instance) -> None:
        """The whole life of an instance."""
        folder = self._scratch / "instances" / quote(it.id, safe="")
        ending = await self._run(it, folder)
        del self._instances[it.id]
        _log.info("instance_exited", instance=it.id, function=it.definition.name, reason=ending.reason)
        self._listener.exited(it.id, ending.reason, ending.error)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _run(self, it: Instance, folder: Path) -> Ending:
        try:
            code = await self._fetched(it)
            if code is None:
                return Ending("killed")
            sandbox = await self._sandbox.start(self._spec(it, code, folder))
        except PackageMissing as missing:
            _log.error("package_missing", instance=it.id, function=it.definition.name, why=str(missing))
            return Ending("package_missing")
        except (CannotStart, OSError) as failed:  # OSError: the disk is full, or not to be written to
            _log.error("sandbox_not_started", instance=it.id, function=it.definition.name, why=str(failed))
            return Ending("spawn_failed")
        it.attach(sandbox)
        return it.exited(await sandbox.wait())

    async def _fetched(self, it: Instance) -> Path | None:
        """The unpacked package; None if the instance is killed before it is there."""
        fetching = asyncio.ensure_future(self._packages.fetch(it.definition.code_sha256))
        killed = asyncio.ensure_future(it.killed.wait())
        await asyncio.wait((fetching, killed), return_when=asyncio.FIRST_COMPLETED)
        killed.cancel()
        if fetching.done():
            return fetching.result()
        fetching.cancel()
        return None

    def _spec(self, it: Instance, code: Path, folder: Path) -> SandboxSpec:
        tmp = folder / "tmp"
        tmp.mkdir(parents=True)
        tmp.chmod(0o1777)
        files = Files(code=code, runtime=self._runtime, tmp=tmp)
        view = self._sandbox.view(files)
        return SandboxSpec(
            instance=it.id,
            argv=command(view),
            environment=environment(it.definition, view, it.id, clock.unix_s()),
            files=files,
            memory_mb=it.definition.memory_mb,
        )
