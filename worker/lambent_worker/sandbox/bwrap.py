"""The backend for those who trust reviewed programs alone: bubblewrap, with util-linux's nsenter and setpriv.

Rules:

1. Each launch is a bubblewrap with process, mount, ipc, uts, cgroup and user namespaces of its own. Those of
   one instance share its `/tmp`, its cgroup and its network namespace (`room.py`).
2. Every namespace is named: with `--unshare-all` bubblewrap leaves out silently what the host refuses.
3. What bubblewrap is told it reads from a descriptor: a command line with the function's environment in it
   could be read by everybody on the host.
4. No `--new-session`: the spawner has made a session already, without a terminal, and a launch is gone when
   nothing is left of its process group. The first process inside, with which all others end, is in it.
5. On entry a sandbox is tried out, and only what it gave is claimed (`trial.py`).
"""

import asyncio
import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from lambent_chassis import clock
from lambent_worker.sandbox import seccomp
from lambent_worker.sandbox.api import (
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
from lambent_worker.sandbox.landlock import Uids
from lambent_worker.sandbox.preparing import limits
from lambent_worker.sandbox.room import Room
from lambent_worker.sandbox.root import DEVICES, LINKS, SYSTEM, write_etc
from lambent_worker.sandbox.spawned import Place, SpawnedSandbox, Start, empty, make_tmp, remove_tmp, tmp_of
from lambent_worker.sandbox.spawner_client import Spawner
from lambent_worker.sandbox.tmp_disk import TmpDisks
from lambent_worker.sandbox.trial import Trial

VIEW: Final = View(task_root="/var/task", opt="/opt", runtime_dir="/var/runtime", tmp="/tmp")

NAMESPACES: Final = (
    "--unshare-user",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup",
)
_SIGNALS: Final = 128
SECCOMP_FD, ARGUMENTS_FD = 4, 5
"""Those that a launch keeps; bubblewrap closes both once it has read them."""


class BwrapPlace(Place):
    view = VIEW

    def __init__(
        self, backend: "BwrapBackend", spec: SandboxSpec, cgroup: Cgroup | None, uid: int | None, room: Room
    ) -> None:
        self.cgroup = cgroup
        self.uid = uid
        self._room = room
        self._backend = backend
        self._spec = spec
        self._arguments = tuple(_arguments(backend, spec))
        self.api = room.listener if spec.runtime_api else None
        if self.api is None:
            room.listener.close()

    def start(self, launch: Launch) -> Start:
        environment = [it for name, value in launch.environment.items() for it in ("--setenv", name, value)]
        arguments = (*self._arguments, *environment, "--chdir", launch.folder)
        filter_ = _file("seccomp", seccomp.program(platform.machine()))
        told = _file("arguments", b"".join(it.encode() + b"\0" for it in arguments))
        bwrap = (str(shutil.which("bwrap")), "--args", f"{ARGUMENTS_FD}", "--", *launch.argv)
        return Start(argv=(*self._outer(), *bwrap), environment={}, folder="/", keep=(filter_, told))

    def _outer(self) -> Iterable[str]:
        """What has to happen first: into the room, and, by root, the instance's own user."""
        yield from self._room.enter()
        if self.uid is not None:
            user = f"{self.uid}"
            yield from ("/usr/bin/setpriv", "--reuid", user, "--regid", user, "--clear-groups")
            yield from ("--pdeathsig", "kill", "--")  # which another user's id has undone

    def exit(self, exit_: Exit) -> Exit:
        """bubblewrap says of a signal what a shell does: 128 and its number."""
        by_signal = _SIGNALS < exit_.status <= _SIGNALS + 64
        return Exit(_SIGNALS - exit_.status, exit_.killed) if by_signal else exit_

    def remove(self) -> None:
        self._room.close()
        self._backend.remove_tmp(self._spec)
        self._backend.uids.give_back(self.uid)


def _file(name: str, content: bytes) -> int:
    fd = os.memfd_create(name)
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _arguments(backend: "BwrapBackend", spec: SandboxSpec) -> Iterable[str]:
    shown = backend.shown(spec)
    yield from (*NAMESPACES, "--die-with-parent", "--hostname", "sandbox", "--clearenv")
    yield from ("--uid", f"{INSIDE_UID}", "--gid", f"{INSIDE_GID}", "--cap-drop", "ALL")
    yield from ("--seccomp", f"{SECCOMP_FD}")
    for path in SYSTEM:
        if os.path.islink(path):
            yield from ("--symlink", os.readlink(path), path)
        elif os.path.isdir(path):
            yield from ("--ro-bind", path, path)
    yield from ("--proc", "/proc")
    for device in DEVICES:
        yield from ("--dev-bind", device, device)
    for link, target in LINKS.items():
        yield from ("--symlink", target, link)
    yield from ("--bind", str(backend.tmp_of(spec)), VIEW.tmp, "--dir", VIEW.opt)
    for inside, (_, source) in shown.items():
        yield from ("--ro-bind", source, inside)
    yield from ("--remount-ro", "/")


class BwrapBackend:
    snapshots = False

    def __init__(self, files: HostFiles, name: str) -> None:
        """`name` is the worker's."""
        self.files = files
        self.etc = files.scratch / "etc"
        self._parent = f"lambent-{name}"
        self._is_root = os.geteuid() == 0
        self._place = Path("/run") / self._parent
        """Where rooms show what their instances' users could not reach; on the host an empty folder."""
        self._made = 0
        self._disks: TmpDisks | None = None
        self._why: dict[str, str] = {"own_kernel": "instances share the host's kernel"}
        """By protection, what the host or bubblewrap lacks."""

    async def __aenter__(self) -> Self:
        """Raises CannotStart where bubblewrap cannot do what is needed."""
        if shutil.which("bwrap") is None:
            raise CannotStart("there is no bwrap on the PATH: install bubblewrap")
        self._cgroups = await asyncio.to_thread(Cgroups.detect)
        if self._cgroups.given:
            await asyncio.to_thread(self._cgroups.sweep, self._parent)
        await asyncio.to_thread(empty, self.files.scratch)
        self.files.scratch.chmod(0o711)
        self.uids = Uids()
        if self._is_root:
            self._place.mkdir(mode=0o755, exist_ok=True)
        self.etc.mkdir()
        await asyncio.to_thread(write_etc, str(self.etc))
        try:
            self._disks = await asyncio.to_thread(TmpDisks.open, self.files.scratch)
        except OSError as error:
            self._why["tmp_on_disk"] = str(error)
        self._spawner = await Spawner().__aenter__()
        try:
            await self._try_out()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._spawner.__aexit__(kind, error, trace)
        with suppress(OSError):  # another worker of this name uses it, or it was never made
            self._place.rmdir()

    async def _try_out(self) -> None:
        """Raises CannotStart if no process can be started."""
        trial = Trial(self.files, VIEW)
        self._spawner.extend(clock.monotonic_s() + trial.limit_s)
        try:
            sandbox = await self.create(trial.spec)
        except OSError as error:
            raise CannotStart(f"bubblewrap's namespaces cannot be made here: {error}") from error
        found = await trial.of(sandbox)
        self._spawner.extend(clock.monotonic_s())
        self._why |= found
        if self.uids.why_not:
            self._why["own_user"] = self.uids.why_not

    def protections(self) -> Protections:
        why = dict(self._why)
        for capability, protection in (
            ("memory", "memory_limit"),
            ("cpu", "cpu_limit"),
            ("pids", "process_limit"),
        ):
            if capability not in self._cgroups.given:
                why[protection] = self._cgroups.why.get(capability, "no cgroup")
        return Protections("bwrap", frozenset(PROTECTIONS) - why.keys(), why)

    def extend(self, valid_until: float) -> None:
        self._spawner.extend(valid_until)

    async def lost(self) -> str:
        return await self._spawner.lost()

    async def create(self, spec: SandboxSpec) -> SpawnedSandbox:
        """Raises CannotStart, or OSError if the disk is full, or not to be written to."""
        if spec.network:
            raise CannotStart("with bwrap no instance has a network: choose the namespaces sandbox")
        uid = self.uids.take()
        cgroup = None
        try:
            if self._cgroups.given:
                self._made += 1
                cgroup = self._cgroups.make(self._parent, f"{self._made}")
                cgroup.limit(limits(spec.memory_mb, shared_bytes=0))
            place = BwrapPlace(self, spec, cgroup, uid, await self._room(spec))
        except BaseException:
            self.uids.give_back(uid)
            if cgroup is not None:
                cgroup.remove()
            self.remove_tmp(spec)
            raise
        return SpawnedSandbox(self._spawner, spec, place)

    async def _room(self, spec: SandboxSpec) -> Room:
        if not self._is_root:
            return await Room.as_user(str(make_tmp(self.files.scratch, spec.instance)), spec.tmp_mb)
        disk = await asyncio.to_thread(self._disks.make, spec.tmp_mb) if self._disks else None
        shown = [path for path, _ in self.shown(spec).values()]
        return await asyncio.to_thread(Room.as_root, str(self._place), spec.tmp_mb, disk, shown)

    def shown(self, spec: SandboxSpec) -> Mapping[str, tuple[str, str]]:
        """What an instance reads, by its path there: where the host has it, and where the room."""
        paths = {"/etc": self.etc, VIEW.runtime_dir: self.files.runtimes, VIEW.task_root: spec.code}
        if spec.layers is not None:
            paths[VIEW.opt] = spec.layers
        paths |= {str(prefix): prefix for prefix in self.files.prefixes}
        return {
            inside: (str(path), f"{self._place}/{number}" if self._is_root else str(path))
            for number, (inside, path) in enumerate(paths.items())
        }

    def tmp_of(self, spec: SandboxSpec) -> Path:
        return self._place / "tmp" if self._is_root else tmp_of(self.files.scratch, spec.instance)

    def remove_tmp(self, spec: SandboxSpec) -> None:
        if not self._is_root:
            remove_tmp(self.tmp_of(spec))
