"""Sandboxes whose processes the spawner starts: plain ones, or ones that a program or the kernel shuts in."""

import asyncio
import os
import shutil
import signal
import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from lambent_proto.ids import InstanceId
from lambent_worker.sandbox import unasked
from lambent_worker.sandbox.api import CannotStart, Exit, Launch, Memory, SandboxSpec, View
from lambent_worker.sandbox.cgroups import Cgroup
from lambent_worker.sandbox.inside import connect_beside
from lambent_worker.sandbox.spawner import OPEN_FILES
from lambent_worker.sandbox.spawner_client import Spawned, Spawner

_KB_A_MB: Final = 1024
_MB: Final = 1024 * 1024
_STRAYS_END_WITHIN_S: Final = 5.0
_LOOK_AGAIN_S: Final = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What the spawner is to execute in place of a launch."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    keep: tuple[int, ...] = ()
    """Descriptors that it gets as 4, 5, ...; they are closed here once it has them."""
    open_files: int = OPEN_FILES
    """How many descriptors it may have, if this host lets it have so many."""
    confine: Mapping[str, Any] | None = None
    """What `confine.py` does to it before it executes."""


class Place(ABC):
    """Where the processes of one instance run, and what is made for that."""

    view: View
    api: socket.socket | None
    cgroup: Cgroup | None
    overhead_mb: int = 0
    """Of the memory that the cgroup counts, what is not the instance's own."""

    @abstractmethod
    def start(self, launch: Launch) -> Start:
        """Raises CannotStart, OSError."""

    async def connect(self, port: int) -> socket.socket:
        """As Sandbox has it. Raises PermissionError, OSError."""
        return await connect_beside(self.api, port)

    def exit(self, exit_: Exit) -> Exit:
        """How the process that was launched ended, from how the one that was executed did."""
        return exit_

    @abstractmethod
    def remove(self) -> None:
        """Nothing of it is left on the host. Called once nothing runs there, in a thread."""


class SpawnedProcess:
    """One process group."""

    parked = False

    def __init__(
        self,
        place: Place,
        spawned: Spawned,
        channel: socket.socket | None,
        output: int,
        destroyed: asyncio.Event,
    ) -> None:
        """`destroyed` is set once its sandbox is to end."""
        self._place = place
        self._spawned = spawned
        self._destroyed = destroyed
        self.channel = channel
        self.output = output

    @property
    def pid(self) -> int:
        return self._spawned.pid

    async def wait(self) -> Exit:
        exit_ = await asyncio.shield(self._spawned.exited)
        if exit_.status == -signal.SIGKILL and self._destroyed.is_set():
            # Who was about to start when its sandbox was destroyed is ended with the strays, and the spawner
            # does not know why.
            exit_ = Exit(exit_.status, killed=True)
        return self._place.exit(exit_)


class SpawnedSandbox:
    """A place, and the process groups that were launched there."""

    def __init__(self, spawner: Spawner, spec: SandboxSpec, place: Place) -> None:
        self._spawner = spawner
        self._spec = spec
        self._place = place
        self._launched: list[Spawned] = []
        self._launches = 0
        self._destroyed = asyncio.Event()
        self._removing = asyncio.Lock()
        self._removed = False
        self._peak_mb = 0

    @property
    def view(self) -> View:
        return self._place.view

    @property
    def api(self) -> socket.socket | None:
        return self._place.api

    @property
    def api_address(self) -> str:
        if self.api is None:
            return ""
        host, port = self.api.getsockname()
        return f"{host}:{port}"

    async def connect(self, port: int) -> socket.socket:
        return await self._place.connect(port)

    async def launch(self, launch: Launch) -> SpawnedProcess:
        """Raises CannotStart, or OSError if this process has no descriptors left."""
        if self._destroyed.is_set():
            raise CannotStart(f"the sandbox of {self._spec.instance} is destroyed")
        self._launches += 1
        key = f"{self._spec.instance}/{self._launches}"
        start = self._place.start(launch)
        channel, theirs = socket.socketpair() if launch.channel else (None, None)
        if channel is not None:
            unasked.refuse(channel)
        output, their_output = os.pipe()
        os.set_blocking(output, False)
        try:
            spawned = await self._spawner.start(
                key,
                start,
                output=their_output,
                channel=theirs.detach() if theirs else None,
                joins=self._place.cgroup.joins if self._place.cgroup else (),
            )
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
        return SpawnedProcess(self._place, spawned, channel, output, self._destroyed)

    def _ended(self, spawned: Spawned, exited: "asyncio.Future[Exit]") -> None:
        if exited.result().killed and spawned in self._launched:
            self._destroyed.set()  # by the watchdog: neither `clear` nor `destroy` was asked for

    async def clear(self) -> None:
        ended, self._launched = self._launched, []
        for spawned in ended:
            self._spawner.kill(spawned.key)
        await asyncio.gather(*(asyncio.shield(spawned.exited) for spawned in ended))
        await self._end_strays()

    def destroy(self) -> None:
        if self._removed:
            return
        self._destroyed.set()
        self.thaw()
        for spawned in self._launched:
            self._spawner.kill(spawned.key)

    async def _end_strays(self) -> None:
        """Those that left their process groups. The spawner has killed the others, and knows that it did.

        Raises CannotStart if one does not end.
        """
        cgroup = self._place.cgroup
        if cgroup is None or self._removed:
            return
        try:
            async with asyncio.timeout(_STRAYS_END_WITHIN_S):
                while cgroup.processes():
                    cgroup.kill()
                    await asyncio.sleep(_LOOK_AGAIN_S)
        except OSError as error:  # TimeoutError is one
            raise CannotStart(f"a process of {self._spec.instance} does not end: {error}") from error

    async def wait(self) -> None:
        """A sandbox without a process in it stands until it is destroyed, or the spawner is lost."""
        destroyed = asyncio.ensure_future(self._destroyed.wait())
        lost = asyncio.ensure_future(self._spawner.lost())
        await asyncio.wait((destroyed, lost), return_when=asyncio.FIRST_COMPLETED)
        for waiting in (destroyed, lost):
            waiting.cancel()
        await asyncio.gather(*(asyncio.shield(spawned.exited) for spawned in self._launched))
        async with self._removing:
            if not self._removed:
                with suppress(CannotStart):  # the next worker of this name ends them
                    await self._end_strays()
                self._removed = True
                await asyncio.to_thread(self._remove)

    def _remove(self) -> None:
        if self._place.cgroup is not None:
            with suppress(OSError):  # the next worker of this name sweeps it away
                self._place.cgroup.remove()
        self._place.remove()

    def freeze(self) -> None:
        """Plain processes have nobody to freeze them as a whole."""
        if self._place.cgroup is not None:
            self._place.cgroup.freeze()

    def thaw(self) -> None:
        if self._place.cgroup is not None:
            self._place.cgroup.thaw()

    def memory(self) -> Memory:
        """Without a cgroup, of the first processes of its groups: what those start is not counted."""
        if self._place.cgroup is not None:
            peak_mb = -(-self._place.cgroup.peak_bytes() // _MB) - self._place.overhead_mb
            return Memory(max(0, peak_mb), self._place.cgroup.oom_kills())
        self._peak_mb = max(self._peak_mb, sum(_peak_mb(spawned.pid) for spawned in self._launched))
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


def loopback_listener() -> socket.socket:
    """On a free port of this host's loopback."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener


def make_tmp(scratch: Path, instance: InstanceId, owner: int | None = None) -> Path:
    """An empty folder for `/tmp`, of the user `owner` if there is one. Raises OSError."""
    tmp = tmp_of(scratch, instance)
    tmp.mkdir(parents=True)
    tmp.chmod(0o1777 if owner is None else 0o700)
    if owner is not None:
        os.chown(tmp, owner, owner)
    return tmp


def tmp_of(scratch: Path, instance: InstanceId) -> Path:
    return scratch / quote(instance, safe="") / "tmp"


def remove_tmp(tmp: Path) -> None:
    with suppress(RecursionError):  # Python's rmtree gives up on very deep trees; the next worker tries again
        shutil.rmtree(tmp.parent, ignore_errors=True)


def empty(scratch: Path) -> None:
    """Its own folder alone is emptied: what a worker before this one left in it belongs to nobody."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True, exist_ok=True)


def in_memory(folder: Path) -> bool:
    """Whether what is written there is kept in memory alone."""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo") as mounts:  # proc(5) has its fields
        for fields in map(str.split, mounts):
            if fields[2] == number:
                return fields[fields.index("-") + 1] in ("tmpfs", "ramfs")
    return False
