"""The development backend: each instance is a plain process of the worker's own user. It isolates nothing."""

import asyncio
import os
import socket
from types import TracebackType
from typing import Final, Self

import structlog

from lambent_worker.sandbox.api import PROTECTIONS, Exit, Files, Protections, SandboxSpec, View
from lambent_worker.sandbox.spawner_client import Process, Spawner

_log = structlog.get_logger()

_KB_A_MB: Final = 1024


class ProcessSandbox:
    """One process group."""

    def __init__(self, spawner: Spawner, process: Process, channel: socket.socket, output: int) -> None:
        self._spawner = spawner
        self._process = process
        self.channel = channel
        self.output = output

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        self._spawner.kill(self._process.key)

    async def wait(self) -> Exit:
        return await asyncio.shield(self._process.exited)

    def peak_memory_mb(self) -> int:
        """Of its first process; what that one starts is not counted."""
        with open(f"/proc/{self.pid}/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return -(-int(line.split()[1]) // _KB_A_MB)
        return 0  # it is ending: a process without memory has no such line


class ProcessBackend:
    """Starts instances as plain processes. Says loudly, on entry, what that does not protect from."""

    async def __aenter__(self) -> Self:
        missing = {name: PROTECTIONS[name] for name in self.protections().missing}
        _log.warning("instances_are_not_isolated", backend="process", missing_protections=missing)
        self._spawner = await Spawner().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._spawner.__aexit__(kind, error, trace)

    def protections(self) -> Protections:
        return Protections("process", given=())

    def view(self, files: Files) -> View:
        """The host's own paths: nothing is moved, nothing is hidden."""
        return View(task_root=str(files.code), runtime_dir=str(files.runtime), tmp=str(files.tmp))

    def extend(self, valid_until: float) -> None:
        self._spawner.extend(valid_until)

    async def lost(self) -> str:
        return await self._spawner.lost()

    async def start(self, spec: SandboxSpec) -> ProcessSandbox:
        """Raises CannotStart, or OSError if this process has no descriptors left."""
        channel, their_channel = socket.socketpair()
        channel.setblocking(False)
        output, their_output = os.pipe()
        os.set_blocking(output, False)
        try:
            process = await self._spawner.start(
                spec.instance,
                spec.argv,
                spec.environment,
                spec.files.code,
                (their_channel.detach(), their_output),
            )
        except BaseException:
            channel.close()
            os.close(output)
            raise
        return ProcessSandbox(self._spawner, process, channel, output)
