"""The snapshots of this worker: one for each version of a function with SnapStart that has run here.

A snapshot is a process that has imported the function's code. It is made when the first instance of a
version starts, which waits for it, and stays for those to come. There are at most MOST: another one takes the
place of that which nobody has used for longest, and whose instances are gone. A snapshot that ends by itself,
of whatever its code does, takes its instances with it, and the next start makes another.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog

from lambent_chassis import clock
from lambent_proto.definition import Definition
from lambent_proto.ids import FunctionName, InstanceId, VersionKey
from lambent_worker import failures
from lambent_worker.environment import environment, start_of
from lambent_worker.logs import FunctionLogs, InstanceLog
from lambent_worker.packages import PackageCache, PackageMissing
from lambent_worker.run import Run
from lambent_worker.runtimes.api import Runtime
from lambent_worker.sandbox.api import CannotStart, Exit, Launch, Sandbox, SandboxSpec
from lambent_worker.sandbox.safe import SafeBackend

_log = structlog.get_logger()

MOST: Final = 16
"""Each has its function's memory, and two processes wait for instances of it."""

LOAD_LIMIT_S: Final = 130.0
"""Lambda's, for the code of a function with SnapStart to be imported and its hooks to run."""


class Unsuitable(Exception):
    """Instances of this function are started as others are. The message says why."""

    def __init__(self, why: str, *, always: bool = False) -> None:
        super().__init__(why)
        self.always = always
        """It is for what the function's code does, and the next attempt would fail as well."""


class LoadFailed(Exception):
    """The function's code, or a hook of it, has failed. `error` is Lambda's error JSON."""

    def __init__(self, error: bytes) -> None:
        super().__init__(error.decode(errors="replace"))
        self.error = error


class Snapshot:
    """In a sandbox of its own. `taken` is done once it can be forked, or says why it cannot."""

    def __init__(self, name: str, definition: Definition, runtime: Runtime, log: InstanceLog) -> None:
        self.name = name
        self.definition = definition
        self.runtime = runtime
        self.users = 0
        """Instances that are forked of it, or are about to be."""
        self.used_at = 0.0
        self.taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._log = log
        self._over = asyncio.Event()

    def end(self) -> None:
        self._over.set()

    async def live(self, sandbox: Sandbox) -> None:
        """Until nothing of it is left."""
        try:
            process = await sandbox.launch(self._launch(sandbox))
            run = Run(process, self._log.output, self._on_frame, self._on_broken)
            try:
                if not process.parked:
                    raise CannotStart("its runtime has no zygote")
                run.specialise(self._told(sandbox))
                await self._until_over(run)
            finally:
                sandbox.destroy()
                await sandbox.wait()
                run.close()
        except CannotStart as failed:
            self.fail(Unsuitable(str(failed)))
            sandbox.destroy()
            await sandbox.wait()
        finally:
            self.fail(Unsuitable("its process has ended"))
            self._log.close()

    async def _until_over(self, run: Run) -> None:
        ended = asyncio.ensure_future(run.ended())
        over = asyncio.ensure_future(self._over.wait())
        late = asyncio.get_running_loop().call_later(LOAD_LIMIT_S, self._is_late)
        try:
            await asyncio.wait((ended, over), return_when=asyncio.FIRST_COMPLETED)
            run.close()  # which may still bring why it has ended
            if ended.done() and (exit_ := ended.result()):
                self._exited(exit_)
        finally:
            late.cancel()
            for waiting in (ended, over):
                waiting.cancel()
            await asyncio.gather(ended, over, return_exceptions=True)

    def _is_late(self) -> None:
        if not self.taken.done():
            self._log.line(
                f"INIT_REPORT Init Duration: {LOAD_LIMIT_S * 1000:.2f} ms\tPhase: init\tStatus: timeout"
            )
            self.fail(LoadFailed(failures.load_took_too_long(LOAD_LIMIT_S)))
            self.end()

    def _exited(self, exit_: Exit) -> None:
        if not self.taken.done():
            self.fail(LoadFailed(failures.exited("", exit_)))

    def _launch(self, sandbox: Sandbox) -> Launch:
        return Launch(
            argv=self.runtime.argv(start_of(self.definition, sandbox.view)),
            environment={},
            folder=sandbox.view.task_root,
            parked=self.runtime.parked(self.definition.memory_mb, self.definition.environment),
            snapshot=self.name,
        )

    def _told(self, sandbox: Sandbox) -> bytes:
        told = environment(
            self.definition,
            self.runtime,
            sandbox.view,
            "",
            InstanceId(self.name),
            clock.unix_s(),
            initialization="snap-start",
        )
        return json.dumps({"environment": told, "folder": sandbox.view.task_root}).encode()

    def _on_frame(self, run: Run, head: list[object], body: bytes) -> None:
        run.take_output()
        if head == ["initialising"] and not run.initialising:
            run.initialising = True
        elif head == ["ready"] and run.initialising and not self.taken.done():
            self.taken.set_result(None)
        elif head == ["unsuitable"] and run.initialising:
            self.fail(Unsuitable(body.decode(errors="replace"), always=True))
        elif head == ["init_error"] and run.initialising:
            self.fail(LoadFailed(body))
        else:
            self._on_broken(run, f"{head[0]!r}")

    def _on_broken(self, run: Run, what: str) -> None:
        if not self.taken.done():
            self.fail(LoadFailed(failures.broken_channel("", what)))
        self.end()

    def fail(self, error: Exception) -> None:
        if not self.taken.done():
            self.taken.set_exception(error)
            self.taken.exception()  # perhaps nobody waits for it any more


class Snapshots:
    """`close` is to be called before the backend ends."""

    def __init__(
        self, backend: SafeBackend, packages: PackageCache, logs: FunctionLogs, *, most: int = MOST
    ) -> None:
        self._backend = backend
        self._packages = packages
        self._logs = logs
        self._most = most
        self._numbers = itertools.count(1)
        self._snapshots: dict[VersionKey, Snapshot] = {}
        self._lives: dict[Snapshot, asyncio.Task[None]] = {}
        self._unsuitable: dict[FunctionName, tuple[VersionKey, Unsuitable]] = {}
        """Of each function the last version whose code is so."""
        self._told = False

    @asynccontextmanager
    async def of(self, definition: Definition, runtime: Runtime) -> AsyncIterator[str]:
        """The name of a snapshot to start an instance from, which stays until the `with` is left.

        Raises Unsuitable and LoadFailed. What it waits for goes on if it is cancelled.
        """
        snapshot = self._snapshot(definition, runtime)
        snapshot.users += 1
        try:
            await asyncio.shield(snapshot.taken)
            yield snapshot.name
        except Unsuitable as unsuitable:
            if unsuitable.always:
                self._unsuitable[definition.name] = (definition.key, unsuitable)
            raise
        finally:
            snapshot.users -= 1
            snapshot.used_at = clock.monotonic_s()

    async def close(self) -> None:
        for snapshot in self._lives:
            snapshot.end()
        await asyncio.gather(*self._lives.values())

    def _snapshot(self, definition: Definition, runtime: Runtime) -> Snapshot:
        if snapshot := self._snapshots.get(definition.key):
            return snapshot
        key, unsuitable = self._unsuitable.get(definition.name, ("", None))
        if unsuitable and key == definition.key:
            raise unsuitable
        if not self._backend.snapshots:
            self._tell_once()
            raise Unsuitable("this worker's sandboxes cannot be forked of a snapshot")
        if not runtime.parkable or not runtime.parkable.zygote:
            raise Unsuitable(f"{runtime.name} has no snapshots")
        if not runtime.parked(definition.memory_mb, definition.environment):
            raise Unsuitable("its environment has variables that are read only when a process is executed")
        self._make_room(definition)
        name = f"snapshot-{next(self._numbers)}"
        log = self._logs.of(definition, InstanceId(name))
        snapshot = self._snapshots[definition.key] = Snapshot(name, definition, runtime, log)
        self._lives[snapshot] = asyncio.ensure_future(self._live(snapshot))
        return snapshot

    def _make_room(self, definition: Definition) -> None:
        """Raises Unsuitable."""
        idle = [snapshot for snapshot in self._snapshots.values() if not snapshot.users]
        for snapshot in idle:
            other = snapshot.definition
            if (other.name, other.version) == (definition.name, definition.version):  # of an older revision
                self._forget(snapshot)
        if len(self._snapshots) < self._most:
            return
        if not idle:
            raise Unsuitable(f"{self._most} snapshots are in use here, and more are not kept")
        self._forget(min(idle, key=lambda snapshot: snapshot.used_at))

    def _forget(self, snapshot: Snapshot) -> None:
        """Nobody gets it any more."""
        key = snapshot.definition.key
        if self._snapshots.get(key) is snapshot:
            del self._snapshots[key]
        snapshot.end()

    async def _live(self, snapshot: Snapshot) -> None:
        definition = snapshot.definition
        try:
            with await self._packages.hold(definition.code_sha256, definition.layers) as held:
                spec = SandboxSpec(
                    instance=InstanceId(snapshot.name),
                    code=held.code,
                    layers=held.layers,
                    memory_mb=definition.memory_mb,
                    tmp_mb=definition.tmp_mb,
                    network=definition.network,
                )
                await snapshot.live(await self._backend.create(spec))
        except (CannotStart, PackageMissing) as failed:
            snapshot.fail(Unsuitable(str(failed)))
        finally:
            self._forget(snapshot)
            del self._lives[snapshot]
            _log.info("snapshot_gone", snapshot=snapshot.name, function=definition.name)

    def _tell_once(self) -> None:
        if not self._told:
            self._told = True
            _log.warning("no_snapshots", missing="functions with SnapStart are started as others are")
