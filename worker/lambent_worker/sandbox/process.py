"""The development backend: instances are plain processes of the worker's user. It isolates nothing."""

import asyncio
import os
import shutil
import socket
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import structlog

from lambent_worker.sandbox.api import (
    PROTECTIONS,
    CannotStart,
    Exit,
    HostFiles,
    Launch,
    Memory,
    Protections,
    SandboxSpec,
    View,
)
from lambent_worker.sandbox.spawner_client import Spawned, Spawner

_log = structlog.get_logger()

_KB_A_MB: Final = 1024


class ProcessProcess:
    """One process group."""

    parked = False

    def __init__(self, spawned: Spawned, channel: socket.socket | None, output: int) -> None:
        self._spawned = spawned
        self.channel = channel
        self.output = output

    @property
    def pid(self) -> int:
        return self._spawned.pid

    async def wait(self) -> Exit:
        return await asyncio.shield(self._spawned.exited)


class ProcessSandbox:
    """A folder for `/tmp`, and the process groups that were launched for one instance."""

    def __init__(self, spawner: Spawner, spec: SandboxSpec, view: View, tmp: Path) -> None:
        self.view = view
        self.api = _listener() if spec.runtime_api else None
        self._spawner = spawner
        self._spec = spec
        self._tmp = tmp
        self._launched: list[Spawned] = []
        self._launches = 0
        self._destroyed = asyncio.Event()
        self._peak_mb = 0

    @property
    def api_address(self) -> str:
        if self.api is None:
            return ""
        host, port = self.api.getsockname()
        return f"{host}:{port}"

    async def launch(self, launch: Launch) -> ProcessProcess:
        """Raises CannotStart, or OSError if this process has no descriptors left."""
        if self._destroyed.is_set():
            raise CannotStart(f"the sandbox of {self._spec.instance} is destroyed")
        self._launches += 1
        key = f"{self._spec.instance}/{self._launches}"
        channel, theirs = socket.socketpair() if launch.channel else (None, None)
        output, their_output = os.pipe()
        os.set_blocking(output, False)
        fds = (their_output,) if theirs is None else (their_output, theirs.detach())
        try:
            spawned = await self._spawner.start(key, launch.argv, launch.environment, launch.folder, fds)
        except BaseException:
            os.close(output)
            if channel is not None:
                channel.close()
            raise
        if channel is not None:
            channel.setblocking(False)
        self._launched.append(spawned)
        spawned.exited.add_done_callback(partial(self._ended, spawned))
        if self._destroyed.is_set():
            self._spawner.kill(spawned.key)
        return ProcessProcess(spawned, channel, output)

    def _ended(self, spawned: Spawned, exited: "asyncio.Future[Exit]") -> None:
        if exited.result().killed and spawned in self._launched:
            self._destroyed.set()  # by the watchdog: neither `clear` nor `destroy` was asked for

    async def clear(self) -> None:
        ended, self._launched = self._launched, []
        for spawned in ended:
            self._spawner.kill(spawned.key)
        await asyncio.gather(*(asyncio.shield(spawned.exited) for spawned in ended))

    def destroy(self) -> None:
        self._destroyed.set()
        for spawned in self._launched:
            self._spawner.kill(spawned.key)

    async def wait(self) -> None:
        """A sandbox without a process in it stands until it is destroyed, or the spawner is lost."""
        destroyed = asyncio.ensure_future(self._destroyed.wait())
        lost = asyncio.ensure_future(self._spawner.lost())
        await asyncio.wait((destroyed, lost), return_when=asyncio.FIRST_COMPLETED)
        for waiting in (destroyed, lost):
            waiting.cancel()
        await asyncio.gather(*(asyncio.shield(spawned.exited) for spawned in self._launched))
        await asyncio.to_thread(shutil.rmtree, self._tmp.parent, ignore_errors=True)

    def freeze(self) -> None:
        """Plain processes have nobody to freeze them as a whole."""

    def thaw(self) -> None:
        """As `freeze`."""

    def memory(self) -> Memory:
        """Of the first processes of its groups; what those start is not counted."""
        self._peak_mb = max([self._peak_mb, sum(_peak_mb(spawned.pid) for spawned in self._launched)])
        return Memory(self._peak_mb, oom_kills=0)


def _peak_mb(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return -(-int(line.split()[1]) // _KB_A_MB)
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it has ended
    return 0  # it is ending: a process without memory has no such line


def _listener() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener


class ProcessBackend:
    """Starts instances as plain processes. Says loudly, on entry, what that does not protect from."""

    def __init__(self, files: HostFiles) -> None:
        self._files = files

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._clean)
        self._spawner = await Spawner().__aenter__()
        return self

    def _clean(self) -> None:
        """Its own folder alone is emptied: what a worker before this one left in it belongs to nobody."""
        shutil.rmtree(self._files.scratch, ignore_errors=True)
        self._files.scratch.mkdir(parents=True)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._spawner.__aexit__(kind, error, trace)

    def protections(self) -> Protections:
        why = "a plain process is not shut in: choose another sandbox"
        return Protections("process", given=frozenset(), why_missing=dict.fromkeys(PROTECTIONS, why))

    def extend(self, valid_until: float) -> None:
        self._spawner.extend(valid_until)

    async def lost(self) -> str:
        return await self._spawner.lost()

    async def create(self, spec: SandboxSpec) -> ProcessSandbox:
        """Raises OSError if the disk is full, or not to be written to."""
        tmp = self._files.scratch / quote(spec.instance, safe="") / "tmp"
        tmp.mkdir(parents=True)
        tmp.chmod(0o1777)
        view = View(
            task_root=str(spec.code),
            opt=str(spec.layers) if spec.layers else "/opt",
            runtime_dir=str(self._files.runtimes),
            tmp=str(tmp),
        )
        return ProcessSandbox(self._spawner, spec, view, tmp)
