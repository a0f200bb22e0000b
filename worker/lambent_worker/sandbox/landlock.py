"""The backend without privileges: Landlock, system call filters and resource limits on plain processes.

An instance sees the host's processes and network devices, and its files lie where the host has them: it can
only not use them. Where the worker is root each instance also has a user of its own, and a cgroup.
"""

import asyncio
import os
import platform
import socket
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from lambent_worker.sandbox import seccomp, tcp_only
from lambent_worker.sandbox.api import (
    PROTECTIONS,
    CannotStart,
    HostFiles,
    Launch,
    Protections,
    SandboxSpec,
    View,
)
from lambent_worker.sandbox.cgroups import Cgroup, Cgroups
from lambent_worker.sandbox.confine import landlock_version
from lambent_worker.sandbox.inside import connect_here
from lambent_worker.sandbox.preparing import PROCESSES, limits
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

READ: Final = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/alternatives",
    "/etc/java-17-openjdk",
    "/etc/mono",
    "/etc/passwd",
    "/etc/localtime",
    "/proc",
    "/dev/urandom",
    "/dev/random",
    "/dev/zero",
)
WRITE: Final = ("/dev/null", "/dev/full")

_LISTEN: Final = "0A"
"""State of a listening socket in /proc/net/tcp, proc(5)."""

MB: Final = 1024 * 1024
UIDS: Final = range(720_000, 724_096)


class Uids:
    """Users of the host's, each given to one instance at a time."""

    def __init__(self, files: HostFiles) -> None:
        needed = (files.scratch, files.runtimes, *files.prefixes)
        hidden = [it for it in needed if not _reachable(it)]
        self.why_not = ""
        """Why instances have no user of their own."""
        if os.geteuid() != 0:
            self.why_not = "only root can give each instance a user of its own"
        elif hidden:
            self.why_not = f"other users cannot reach {hidden[0]}: chmod o+x the folders that lead there"
        self._free = [] if self.why_not else list(reversed(UIDS))

    def take(self) -> int | None:
        """None where they have none. Raises CannotStart if all are taken."""
        if self.why_not:
            return None
        if not self._free:
            raise CannotStart(f"all {len(UIDS)} users for instances are in use")
        return self._free.pop()

    def give_back(self, uid: int | None) -> None:
        if uid is not None:
            self._free.append(uid)


def _reachable(folder: Path) -> bool:
    """Whether users other than its owner may go there."""
    return all(it.stat().st_mode & 0o001 for it in (folder, *folder.parents))


def _listeners(port: int) -> set[int]:
    """The users that have a socket which listens on that port, on any address of this host."""
    found = set()
    for name in ("tcp", "tcp6"):
        with suppress(FileNotFoundError), open(f"/proc/self/net/{name}") as table:
            for fields in map(str.split, table.readlines()[1:]):
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(int(fields[7]))
    return found


class LandlockPlace(Place):
    def __init__(self, files: HostFiles, spec: SandboxSpec, cgroup: Cgroup | None, uids: Uids) -> None:
        self.cgroup = cgroup
        self._uids = uids
        self._uid = uids.take()
        self._tmp = make_tmp(files.scratch, spec.instance, self._uid)
        self.api = loopback_listener() if spec.runtime_api else None
        self.view = View(
            task_root=str(spec.code),
            opt=str(spec.layers) if spec.layers else "/opt",
            runtime_dir=str(files.runtimes),
            tmp=str(self._tmp),
        )
        layers = [str(spec.layers)] if spec.layers else []
        machine = platform.machine()
        self._confine = {
            "uid": self._uid,
            "limits": {"RLIMIT_NPROC": PROCESSES, "RLIMIT_CORE": 0, "RLIMIT_FSIZE": spec.tmp_mb * MB},
            "read": [*READ, str(spec.code), str(files.runtimes), *layers, *map(str, files.prefixes)],
            "write": [*WRITE, str(self._tmp)],
            "ports": [self.api.getsockname()[1]] if self.api else [],
            "filters": [b64encode(it).decode() for it in (tcp_only.program(), seccomp.program(machine))],
        }
        if spec.network:
            self.remove()
            raise CannotStart("landlock cannot give an instance a network that is not the host's own")

    def start(self, launch: Launch) -> Start:
        return Start(
            argv=launch.argv,
            environment=launch.environment,
            folder=launch.folder,
            confine=self._confine,
        )

    async def connect(self, port: int) -> socket.socket:
        """To the instance's own user alone: the loopback is the host's, and other programs listen there."""
        if self._uid is None:
            raise PermissionError("without a user of its own it cannot be told what an instance listens on")
        if _listeners(port) != {self._uid}:
            raise ConnectionRefusedError(f"the instance does not listen on 127.0.0.1:{port}")
        return await connect_here(port)

    def remove(self) -> None:
        remove_tmp(self._tmp)
        self._uids.give_back(self._uid)


class LandlockBackend:
    snapshots = False

    def __init__(self, files: HostFiles, name: str) -> None:
        """`name` is the worker's."""
        self._files = files
        self._parent = f"lambent-{name}"
        self._made = 0

    async def __aenter__(self) -> Self:
        """Raises CannotStart where the kernel has no Landlock."""
        if not landlock_version():
            raise CannotStart("this kernel has no Landlock, or it is switched off (the lsm= boot parameter)")
        self._cgroups = await asyncio.to_thread(Cgroups.detect)
        if self._cgroups.given:
            await asyncio.to_thread(self._cgroups.sweep, self._parent)
        await asyncio.to_thread(empty, self._files.scratch)
        self._files.scratch.chmod(0o711)
        self._uids = Uids(self._files)
        self._spawner = await Spawner(confines=True).__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._spawner.__aexit__(kind, error, trace)

    def protections(self) -> Protections:
        own_user = not self._uids.why_not
        given = {"files", "environment", "memory", "events", "syscalls", "process_limit", "tmp_on_disk"}
        why = {
            "disk_limit": "Landlock does not count what is written: only one file's size is limited",
            "own_kernel": "instances share the host's kernel",
            "own_user": self._uids.why_not,
            "network": "an instance may listen on the host's addresses",
            "worker": "without a user of its own an instance may change the modes of the worker's files",
        }
        given |= {"own_user", "worker"} if own_user else set()
        for capability, protection in OF_CGROUPS.items():
            if capability in self._cgroups.given:
                given.add(protection)
            else:
                why[protection] = self._cgroups.why.get(capability, "no cgroup")
        missing = {name: why.get(name, "not with Landlock") for name in PROTECTIONS if name not in given}
        return Protections("landlock", frozenset(given), missing)

    def extend(self, valid_until: float) -> None:
        self._spawner.extend(valid_until)

    async def lost(self) -> str:
        return await self._spawner.lost()

    async def create(self, spec: SandboxSpec) -> SpawnedSandbox:
        """Raises CannotStart, or OSError if the disk is full, or not to be written to."""
        cgroup = self._cgroup(spec.memory_mb)
        try:
            place = LandlockPlace(self._files, spec, cgroup, self._uids)
        except (CannotStart, OSError):
            if cgroup is not None:
                cgroup.remove()
            raise
        return SpawnedSandbox(self._spawner, spec, place)

    def _cgroup(self, memory_mb: int) -> Cgroup | None:
        if not self._cgroups.given:
            return None
        self._made += 1
        cgroup = self._cgroups.make(self._parent, f"{self._made}")
        cgroup.limit(limits(memory_mb, shared_bytes=0))
        return cgroup


OF_CGROUPS: Final[Mapping[str, str]] = {
    "memory": "memory_limit",
    "cpu": "cpu_limit",
    "kill": "kill_all",
}
"""Which protection each capability of cgroups gives."""
