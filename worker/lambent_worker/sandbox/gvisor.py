"""The backend with a kernel for each instance: gVisor's runsc, which answers system calls itself.

Each launch is a container of its own; those of one instance share its `/tmp`, its cgroup and its network
namespace. What instances see is mounted in a mount namespace of the backend's, of which each instance has a
copy: so runsc has one file system to serve beside `/tmp`, and nothing is mounted in the host's own namespace.
Needs root, and a runsc that knows `--pass-fd`: Debian has one in bookworm-backports.
"""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from lambent_chassis import clock
from lambent_proto.ids import InstanceId
from lambent_worker.sandbox import kernel, root
from lambent_worker.sandbox.api import (
    CHANNEL_FD,
    PROTECTIONS,
    CannotStart,
    Exit,
    HostFiles,
    Launch,
    Protections,
    SandboxSpec,
    View,
)
from lambent_worker.sandbox.cgroups import Cgroup, Cgroups
from lambent_worker.sandbox.entry import INSIDE_GID, INSIDE_UID
from lambent_worker.sandbox.landlock import OF_CGROUPS
from lambent_worker.sandbox.preparing import limits
from lambent_worker.sandbox.shell import api_listener
from lambent_worker.sandbox.spawned import Place, SpawnedSandbox, Start, empty
from lambent_worker.sandbox.spawner import OPEN_FILES
from lambent_worker.sandbox.spawner_client import Spawner
from lambent_worker.sandbox.tmp_disk import TmpDisks, discard

VIEW: Final = View(task_root="/var/task", opt="/opt", runtime_dir="/var/runtime", tmp="/tmp")

PLATFORMS: Final = ("systrap", "ptrace")
"""How runsc catches system calls, best first. `kvm` is not tried: where it fails it hangs."""

FIRST_UID: Final = 730_000
UIDS: Final = 4_096
"""Of the host's. Each instance has two at a time: its own, and one for the root of its user namespace."""

TRIAL_LIMIT_S: Final = 20.0
TRIAL_TMP_MB: Final = 1
TRIAL_BYTES: Final = 10_000_000
TRIAL: Final = (
    f"head -c {TRIAL_BYTES} /dev/zero > /tmp/full 2> /dev/null; stat -c %s /tmp/full >&3; uname -r >&3"
)

SENTRY_MB: Final = 16
"""What runsc itself takes of an instance's memory; measured (n = 20): 15.6 to 17.5 MB."""

HOST_FILES: Final = 1 << 18
"""Descriptors that runsc may have: it holds one for each file that a function has looked at lately."""

_SIGNALS: Final = 128
"""Added to a signal's number in an exit status."""
_LOST: Final = 128
"""Of a runsc that could not start a container, or has lost its kernel."""
_TMPFS_INODES_A_MB: Final = 64


class Ids:
    """Pairs of users of the host's, each given to one instance at a time."""

    def __init__(self) -> None:
        self._free = list(range(FIRST_UID + UIDS - 2, FIRST_UID - 2, -2))

    def take(self) -> int:
        """The first of two. Raises CannotStart if all are taken."""
        if not self._free:
            raise CannotStart(f"all {UIDS} users for instances are in use")
        return self._free.pop()

    def give_back(self, first: int) -> None:
        self._free.append(first)


class Mounts:
    """What all instances see, in a mount namespace that nobody is in."""

    def __init__(self, files: HostFiles, name: str) -> None:
        """Raises OSError. On the host all that is seen of it is an empty folder `name` in `/run`, where the
        users that instances have can go whatever leads to `scratch`."""
        self.root = f"/run/{name}"
        os.makedirs(self.root, mode=0o755, exist_ok=True)
        self.fd: int = _in_thread(self._make, files)

    def close(self) -> None:
        os.close(self.fd)
        with suppress(OSError):  # another worker of this name uses it
            os.rmdir(self.root)

    def _make(self, files: HostFiles) -> int:
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_SLAVE)
        kernel.mount("lambent", self.root, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=16m,mode=755")
        root.furnish(self.root, str(files.runtimes), [str(it) for it in files.prefixes])
        return os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)


class Room:
    """The mount and the network namespace of one instance, and the listener of the Runtime API there."""

    def __init__(self, mounts: Mounts, spec: SandboxSpec, disks: TmpDisks | None) -> None:
        """Raises OSError."""
        self._mounts = mounts
        self.disk = disks.make(spec.tmp_mb) if disks else None
        try:
            self.listener, self.net, self.mnt = _in_thread(self._make, spec)
        except OSError:
            self._close_disk()
            raise

    def _make(self, spec: SandboxSpec) -> tuple[Any, int, int]:
        kernel.unshare(kernel.CLONE_FS)
        kernel.setns(self._mounts.fd, kernel.CLONE_NEWNS)
        kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWNET)
        top = self._mounts.root
        root.bind(str(spec.code), top + VIEW.task_root)
        if spec.layers is not None:
            root.bind(str(spec.layers), top + VIEW.opt)
        if self.disk is not None:
            kernel.attach(self.disk, top + VIEW.tmp)
        else:
            options = f"size={spec.tmp_mb}m,mode=1777,nr_inodes={spec.tmp_mb * _TMPFS_INODES_A_MB}"
            kernel.mount("tmp", top + VIEW.tmp, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)
        listener = api_listener()
        net = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        return listener, net, os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def enter(self) -> tuple[str, ...]:
        """What runs a program in it, as arguments."""
        own = f"/proc/{os.getpid()}/fd"
        return ("/usr/bin/nsenter", f"--net={own}/{self.net}", f"--mount={own}/{self.mnt}", "--")

    def close(self) -> None:
        os.close(self.net)
        os.close(self.mnt)
        self._close_disk()

    def _close_disk(self) -> None:
        if self.disk is not None:
            with suppress(OSError):
                discard(self.disk)
            os.close(self.disk)


def _in_thread(make: Any, *arguments: Any) -> Any:
    """Calls it in a thread of its own, which is all that enters a namespace, and which ends at once."""
    with ThreadPoolExecutor(1) as once:
        return once.submit(make, *arguments).result()


class GvisorPlace(Place):
    view = VIEW
    overhead_mb = SENTRY_MB

    def __init__(
        self, backend: "GvisorBackend", spec: SandboxSpec, cgroup: Cgroup | None, folder: Path
    ) -> None:
        """Raises CannotStart, OSError."""
        self.cgroup = cgroup
        self._runsc = backend.runsc
        self._mounts = backend.mounts
        self._ids = backend.ids
        self._launches = 0
        self._oom_kills = 0
        self._first = self._ids.take()
        self._folder = folder
        try:
            folder.mkdir(mode=0o700)
            self._room = Room(backend.mounts, spec, backend.disks)
        except OSError:
            self._ids.give_back(self._first)
            raise
        self.api = self._room.listener if spec.runtime_api else None
        if self.api is None:
            self._room.listener.close()

    def start(self, launch: Launch) -> Start:
        self._launches += 1
        bundle = self._folder / f"{self._launches}"
        bundle.mkdir()
        config = _config(launch, self._mounts.root, self._first)
        (bundle / "config.json").write_text(json.dumps(config))
        run = self._runsc.run(self._folder, bundle, f"{self._launches}", channel=launch.channel)
        argv = (*self._room.enter(), *run)
        return Start(argv=argv, environment={}, folder="/", open_files=HOST_FILES)

    def exit(self, exit_: Exit) -> Exit:
        """runsc says of a signal what a shell does: 128 and its number."""
        if exit_.status == _LOST and self._out_of_memory():
            return Exit(-signal.SIGKILL, exit_.killed)
        by_signal = _SIGNALS < exit_.status <= _SIGNALS + 64
        return Exit(_SIGNALS - exit_.status, exit_.killed) if by_signal else exit_

    def _out_of_memory(self) -> bool:
        """The host's kernel has ended the one in here since this was asked last."""
        before, now = self._oom_kills, self.cgroup.oom_kills() if self.cgroup else 0
        self._oom_kills = now
        return now > before

    def remove(self) -> None:
        self._room.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._ids.give_back(self._first)


class Runsc:
    """How the runsc of this host is called."""

    def __init__(self, path: str, platform: str) -> None:
        self.platform = platform
        self._path = path

    def run(self, state: Path, bundle: Path, name: str, *, channel: bool) -> tuple[str, ...]:
        return (
            *(self._path, f"--root={state}", f"--platform={self.platform}", "--network=host"),
            *("--ignore-cgroups", "--overlay2=none", "run", f"--bundle={bundle}"),
            *([f"--pass-fd={CHANNEL_FD}:{CHANNEL_FD}"] if channel else []),
            name,
        )


def _config(launch: Launch, root: str, first: int) -> Mapping[str, Any]:
    """An OCI bundle's config.json. Users inside are the two of the host's from `first` on."""
    process = {
        "user": {"uid": INSIDE_UID, "gid": INSIDE_GID},
        "args": launch.argv,
        "env": [f"{name}={value}" for name, value in launch.environment.items()],
        "cwd": launch.folder,
        "noNewPrivileges": True,
        "capabilities": {},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": OPEN_FILES, "soft": OPEN_FILES}],
    }
    tmp = {
        "destination": VIEW.tmp,
        "type": "bind",
        "source": root + VIEW.tmp,
        "options": ["rw", "nosuid", "nodev"],
    }
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": root, "readonly": True},
        "hostname": "sandbox",
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}, tmp],
        "linux": {
            "namespaces": [{"type": it} for it in ("pid", "mount", "ipc", "uts", "user")],
            "uidMappings": _mapped(INSIDE_UID, first),
            "gidMappings": _mapped(INSIDE_GID, first),
        },
    }


def _mapped(inside: int, first: int) -> list[Mapping[str, int]]:
    return [
        {"containerID": inside, "hostID": first, "size": 1},
        {"containerID": 0, "hostID": first + 1, "size": 1},
    ]


class GvisorBackend:
    snapshots = False

    def __init__(self, files: HostFiles, name: str) -> None:
        """`name` is the worker's."""
        self._files = files
        self._parent = f"lambent-{name}"
        self._made = 0
        self._why: dict[str, str] = {}
        """By protection, what the host lacks."""
        self.ids = Ids()
        self.disks: TmpDisks | None = None

    async def __aenter__(self) -> Self:
        """Raises CannotStart where runsc cannot do what is needed."""
        path = shutil.which("runsc")
        if path is None:
            raise CannotStart("there is no runsc on the PATH: install gVisor's runsc")
        if os.geteuid() != 0:
            raise CannotStart("only root can give an instance a network namespace that runsc works in")
        self._cgroups = await asyncio.to_thread(Cgroups.detect)
        if self._cgroups.given:
            await asyncio.to_thread(self._cgroups.sweep, self._parent)
        await asyncio.to_thread(empty, self._files.scratch)
        try:
            self.disks = await asyncio.to_thread(TmpDisks.open, self._files.scratch)
        except OSError as error:
            self._why["tmp_on_disk"] = str(error)
        self.mounts = await asyncio.to_thread(Mounts, self._files, self._parent)
        self._spawner = await Spawner().__aenter__()
        try:
            await self._choose_platform(path)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._spawner.__aexit__(kind, error, trace)
        self.mounts.close()

    async def _choose_platform(self, path: str) -> None:
        """The first that a container really runs on. Raises CannotStart."""
        self._spawner.extend(clock.monotonic_s() + TRIAL_LIMIT_S * len(PLATFORMS))
        failures = []
        for platform in PLATFORMS:
            self.runsc = Runsc(path, platform)
            if not (why := await self._trial()):
                self._spawner.extend(clock.monotonic_s())
                return
            failures.append(f"{platform}: {why}")
        raise CannotStart(f"runsc cannot run a container here. {'; '.join(failures)}")

    async def _trial(self) -> str:
        """Why no container can be run this way; empty if one can. Finds out what is protected."""
        spec = SandboxSpec(
            instance=InstanceId("trial"), code=self._files.runtimes, memory_mb=128, tmp_mb=TRIAL_TMP_MB
        )
        launch = Launch(argv=("/bin/sh", "-c", TRIAL), environment={"PATH": "/usr/bin:/bin"}, folder=VIEW.tmp)
        sandbox = await self.create(spec)
        try:
            async with asyncio.timeout(TRIAL_LIMIT_S):
                process = await sandbox.launch(launch)
                exit_ = await process.wait()
        except TimeoutError:
            return f"nothing ran within {TRIAL_LIMIT_S:g} s"
        finally:
            sandbox.destroy()
            await sandbox.wait()
        said = _rest(process.output)
        os.close(process.output)
        assert process.channel is not None, "it was wanted"
        with process.channel as channel:
            told = _rest(channel.fileno())
        return self._found(exit_, told.split(), said)

    def _found(self, exit_: Exit, told: list[str], said: str) -> str:
        if exit_.status or len(told) != 2:
            if "pass-fd" in said:
                return "this runsc is too old, it does not know --pass-fd: Debian 12 has one in its backports"
            return said.strip().rpartition("\n")[2] or f"it ended with status {exit_.status}"
        written, release = told
        if int(written) >= TRIAL_BYTES:
            self._why["disk_limit"] = "the limit of `/tmp` was tried, and did not hold"
        if release == os.uname().release:
            self._why["own_kernel"] = f"in a container runs the host's kernel {release}"
        return ""

    def protections(self) -> Protections:
        why = dict(self._why)
        for capability, protection in (*OF_CGROUPS.items(), ("pids", "process_limit")):
            if capability not in self._cgroups.given:
                why[protection] = self._cgroups.why.get(capability, "no cgroup")
        return Protections("gvisor", frozenset(PROTECTIONS) - why.keys(), why)

    def extend(self, valid_until: float) -> None:
        self._spawner.extend(valid_until)

    async def lost(self) -> str:
        return await self._spawner.lost()

    async def create(self, spec: SandboxSpec) -> SpawnedSandbox:
        """Raises CannotStart, or OSError if the disk is full, or not to be written to."""
        if spec.network:
            raise CannotStart("with gvisor no instance has a network: choose the namespaces sandbox")
        self._made += 1
        cgroup = None
        if self._cgroups.given:
            cgroup = self._cgroups.make(self._parent, f"{self._made}")
            cgroup.limit(limits(spec.memory_mb + SENTRY_MB, shared_bytes=0))
        folder = self._files.scratch / f"{self._made}"
        try:
            place = await asyncio.to_thread(GvisorPlace, self, spec, cgroup, folder)
        except BaseException:
            if cgroup is not None:
                cgroup.remove()
            raise
        return SpawnedSandbox(self._spawner, spec, place)


def _rest(fd: int) -> str:
    """What is there to be read of a pipe or socket that does not block."""
    data = b""
    with suppress(BlockingIOError):
        while part := os.read(fd, 65536):
            data += part
    return data.decode(errors="replace")
