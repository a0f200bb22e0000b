"""The development backend: instances are plain processes of the worker's user. It isolates nothing."""

import asyncio
import socket
from types import TracebackType
from typing import Self

from lambent_worker.sandbox.api import PROTECTIONS, HostFiles, Launch, Protections, SandboxSpec, View
from lambent_worker.sandbox.cgroups import Cgroup
from lambent_worker.sandbox.inside import connect_here
from lambent_worker.sandbox.spawned import (
    Place,
    SpawnedSandbox,
    Start,
    empty,
    loopback_listener,
    make_tmp,
    remove_tmp,
)
from lambent_worker.sandbox.spawner_client import Spawner


class PlainPlace(Place):
    """A folder for `/tmp`; everything else is the host's own."""

    cgroup: Cgroup | None = None

    def __init__(self, files: HostFiles, spec: SandboxSpec) -> None:
        self.api = loopback_listener() if spec.runtime_api else None
        self._tmp = make_tmp(files.scratch, spec.instance)
        self.view = View(
            task_root=str(spec.code),
            opt=str(spec.layers) if spec.layers else "/opt",
            runtime_dir=str(files.runtimes),
            tmp=str(self._tmp),
        )

    def start(self, launch: Launch) -> Start:
        return Start(argv=launch.argv, environment=launch.environment, folder=launch.folder)

    async def connect(self, port: int) -> socket.socket:
        return await connect_here(port)

    def remove(self) -> None:
        remove_tmp(self._tmp)


class ProcessBackend:
    """Starts instances as plain processes."""

    def __init__(self, files: HostFiles) -> None:
        self._files = files

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(empty, self._files.scratch)
        self._spawner = await Spawner().__aenter__()
        return self

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

    async def create(self, spec: SandboxSpec) -> SpawnedSandbox:
        """Raises OSError if the disk is full, or not to be written to."""
        return SpawnedSandbox(self._spawner, spec, PlainPlace(self._files, spec))
