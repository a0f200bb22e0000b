"""The backend without privileges: Landlock, system call filters and resource limits on plain processes.

An instance sees the host's processes and network devices, and its files lie where the host has them: it can
only not use them. Of the network it has one TCP port, the Runtime API's, and nobody can connect to it. Where
the worker is root each instance also has a user of its own, and a cgroup. On entry a process that is shut in
like an instance tries all that is claimed (`attempts.py`).
"""

import asyncio
import json
import os
import platform
import socket
import sys
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from lambent_chassis.core_dumps import NO_CORE
from lambent_proto.ids import InstanceId
from lambent_worker.sandbox import attempts, seccomp, tcp_only
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
from lambent_worker.sandbox.confine import NET_FROM, landlock_version
from lambent_worker.sandbox.preparing import PROCESSES, limits
from lambent_worker.sandbox.spawned import (
    Place,
    SpawnedSandbox,
    Start,
    empty,
    in_memory,
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

MB: Final = 1024 * 1024

BEYOND_MB: Final = 512
"""What one process may have beside the function's memory where no cgroup counts that. Much of what runtimes
ask the kernel for they never touch: a JVM with a heap of 100 MB asks for more than 128."""

TRIAL_LIMIT_S: Final = 20.0

UIDS: Final = range(720_000, 724_096)


class Uids:
    """Users of the host's, each given to one instance at a time."""

    def __init__(self, *needed: Path) -> None:
        """They have none if they could not go to one of these folders."""
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
        limits = {"RLIMIT_NPROC": PROCESSES, "RLIMIT_CORE": NO_CORE, "RLIMIT_FSIZE": spec.tmp_mb * MB}
        if cgroup is None:
            limits["RLIMIT_DATA"] = (spec.memory_mb + BEYOND_MB) * MB
        self.confine = {
            "uid": self._uid,
            "limits": limits,
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
            confine=self.confine,
        )

    async def connect(self, port: int) -> socket.socket:
        """Never possible."""
        raise PermissionError("with landlock nothing in an instance may listen: choose another sandbox")

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
        self._version = landlock_version()
        if not self._version:
            raise CannotStart("this kernel has no Landlock, or it is switched off (the lsm= boot parameter)")
        self._cgroups = await asyncio.to_thread(Cgroups.detect)
        if self._cgroups.given:
            await asyncio.to_thread(self._cgroups.sweep, self._parent)
        await asyncio.to_thread(empty, self._files.scratch)
        self._files.scratch.chmod(0o711)
        self._uids = Uids(self._files.scratch, self._files.runtimes, *self._files.prefixes)
        self._on_disk = not await asyncio.to_thread(in_memory, self._files.scratch)
        self._possible = await self._trial()
        self._spawner = await Spawner(confines=True).__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._spawner.__aexit__(kind, error, trace)

    async def _trial(self) -> Mapping[str, str]:
        """By protection, what an instance could do in spite of it. Raises CannotStart."""
        secret = self._files.scratch / "secret"
        secret.touch()
        secret.chmod(0o666)
        spec = SandboxSpec(instance=InstanceId("trial"), code=self._files.runtimes, memory_mb=128)
        place = LandlockPlace(self._files, spec, None, self._uids)
        settings = {"confine": place.confine, "secret": str(secret), "worker": os.getpid()}
        packages = str(Path(attempts.__file__).parents[2])
        argv = (sys.executable, "-I", "-S", attempts.__file__, packages)
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe, env={})
        try:
            async with asyncio.timeout(TRIAL_LIMIT_S):
                said, why_not = await child.communicate(json.dumps(settings).encode())
        except TimeoutError:
            child.kill()
            raise CannotStart(f"what landlock gives was not tried out within {TRIAL_LIMIT_S:g} s") from None
        finally:
            place.remove()
            secret.unlink()
        if child.returncode:
            reason = why_not.decode(errors="replace").strip().rpartition("\n")[2]
            raise CannotStart(f"a process cannot be shut in by Landlock here: {reason}")
        found: Mapping[str, str] = json.loads(said)
        return found

    def protections(self) -> Protections:
        why = {
            "disk_limit": "Landlock does not count what is written: only one file's size is limited",
            "own_kernel": "instances share the host's kernel",
        }
        if self._uids.why_not:
            why["own_user"] = self._uids.why_not
        if self._version < NET_FROM:
            why["network"] = f"Landlock {self._version} knows no TCP ports, {NET_FROM} does"
        if not self._on_disk:
            why["tmp_on_disk"] = "the worker's data folder is in memory itself"
        for name, what in self._possible.items():
            why.setdefault(name, f"tried it: {what}")
        for capability, protection in OF_CGROUPS.items():
            if capability not in self._cgroups.given:
                why[protection] = self._cgroups.why.get(capability, "no cgroup")
        if "pids" in self._cgroups.given:
            why.pop("process_limit", None)
        return Protections("landlock", frozenset(PROTECTIONS) - why.keys(), why)

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
