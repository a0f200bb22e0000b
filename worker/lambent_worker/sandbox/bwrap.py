"""The backend for those who trust reviewed programs alone: bubblewrap, with util-linux's nsenter and setpriv.

Each launch is a bubblewrap of its own, with process, mount, ipc, uts, cgroup and user namespaces of its own.
Launches of one instance share its `/tmp`, its cgroup and its network namespace. Every namespace is named on
bubblewrap's command line: with `--unshare-all` it leaves out silently what the host refuses.
"""

import asyncio
import os
import platform
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from lambent_worker.sandbox import kernel, seccomp
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
from lambent_worker.sandbox.landlock import OF_CGROUPS, Uids
from lambent_worker.sandbox.preparing import limits
from lambent_worker.sandbox.root import SYSTEM, write_etc
from lambent_worker.sandbox.shell import api_listener
from lambent_worker.sandbox.spawned import Place, SpawnedSandbox, Start, empty, make_tmp, remove_tmp
from lambent_worker.sandbox.spawner_client import Spawner

VIEW: Final = View(task_root="/var/task", opt="/opt", runtime_dir="/var/runtime", tmp="/tmp")

NAMESPACES: Final = (
    "--unshare-user",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup",
)
_SIGNALS: Final = 128
SECCOMP_FD: Final = 4
"""The first of the descriptors that a launch keeps."""


class Network:
    """A network namespace with nothing in it but its loopback, and the listener of the Runtime API there."""

    def __init__(self) -> None:
        """Raises OSError where the worker is not root."""
        self._failure: OSError | None = None
        thread = threading.Thread(target=self._make)
        thread.start()
        thread.join()
        if self._failure is not None:
            raise self._failure

    def _make(self) -> None:
        """In a thread of its own, which is all that a namespace is entered by, and which ends at once."""
        try:
            kernel.unshare(kernel.CLONE_NEWNET)
            self.listener = api_listener()
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            self._failure = error


class BwrapPlace(Place):
    view = VIEW

    def __init__(
        self, files: HostFiles, spec: SandboxSpec, cgroup: Cgroup | None, uids: Uids, etc: Path
    ) -> None:
        self.cgroup = cgroup
        self._uids = uids
        self._uid = uids.take()
        self._network = Network() if os.geteuid() == 0 else None
        self.api = self._network.listener if self._network and spec.runtime_api else None
        if self._network and not spec.runtime_api:
            self._network.listener.close()
        self._tmp = make_tmp(files.scratch, spec.instance, self._uid)
        self._arguments = tuple(_arguments(files, spec, etc, self._tmp, own_network=self._network is None))

    def start(self, launch: Launch) -> Start:
        filter_ = os.memfd_create("seccomp")
        os.write(filter_, seccomp.program(platform.machine()))
        os.lseek(filter_, 0, os.SEEK_SET)
        environment = [it for name, value in launch.environment.items() for it in ("--setenv", name, value)]
        inner = (*self._arguments, *environment, "--chdir", launch.folder, "--", *launch.argv)
        return Start(argv=(*self._outer(), *inner), environment={}, folder="/", keep=(filter_,))

    def _outer(self) -> Iterable[str]:
        """What has to happen first as root: the network namespace, and the instance's own user."""
        if self._network is not None:
            yield from ("/usr/bin/nsenter", f"--net=/proc/{os.getpid()}/fd/{self._network.fd}", "--")
        if self._uid is not None:
            user = f"{self._uid}"
            yield from ("/usr/bin/setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--")

    def exit(self, exit_: Exit) -> Exit:
        """bubblewrap says of a signal what a shell does: 128 and its number."""
        by_signal = _SIGNALS < exit_.status <= _SIGNALS + 64
        return Exit(_SIGNALS - exit_.status, exit_.killed) if by_signal else exit_

    def remove(self) -> None:
        remove_tmp(self._tmp)
        self._uids.give_back(self._uid)
        if self._network is not None:
            os.close(self._network.fd)


def _arguments(
    files: HostFiles, spec: SandboxSpec, etc: Path, tmp: Path, *, own_network: bool
) -> Iterable[str]:
    yield from (str(shutil.which("bwrap")), *NAMESPACES, *(["--unshare-net"] if own_network else []))
    yield from ("--die-with-parent", "--new-session", "--hostname", "sandbox", "--clearenv")
    yield from ("--uid", f"{INSIDE_UID}", "--gid", f"{INSIDE_GID}", "--cap-drop", "ALL")
    yield from ("--seccomp", f"{SECCOMP_FD}")
    for path in SYSTEM:
        if os.path.islink(path):
            yield from ("--symlink", os.readlink(path), path)
        elif os.path.isdir(path):
            yield from ("--ro-bind", path, path)
    for prefix in files.prefixes:
        yield from ("--ro-bind", str(prefix), str(prefix))
    yield from ("--ro-bind", str(etc), "/etc", "--proc", "/proc", "--dev", "/dev")
    yield from ("--ro-bind", str(files.runtimes), VIEW.runtime_dir, "--bind", str(tmp), VIEW.tmp)
    yield from ("--ro-bind", str(spec.code), VIEW.task_root)
    if spec.layers is not None:
        yield from ("--ro-bind", str(spec.layers), VIEW.opt)
    yield from ("--remount-ro", "/")


class BwrapBackend:
    snapshots = False

    def __init__(self, files: HostFiles, name: str) -> None:
        """`name` is the worker's."""
        self._files = files
        self._parent = f"lambent-{name}"
        self._made = 0

    async def __aenter__(self) -> Self:
        """Raises CannotStart where bubblewrap cannot do what is needed."""
        if shutil.which("bwrap") is None:
            raise CannotStart("there is no bwrap on the PATH: install bubblewrap")
        self._cgroups = await asyncio.to_thread(Cgroups.detect)
        if self._cgroups.given:
            await asyncio.to_thread(self._cgroups.sweep, self._parent)
        await asyncio.to_thread(empty, self._files.scratch)
        self._files.scratch.chmod(0o711)
        self._uids = Uids(self._files)
        self._etc = self._files.scratch / "etc"
        self._etc.mkdir()
        await asyncio.to_thread(write_etc, str(self._etc))
        self._spawner = await Spawner().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._spawner.__aexit__(kind, error, trace)

    def protections(self) -> Protections:
        root = os.geteuid() == 0
        given = {"files", "environment", "memory", "events", "worker", "network", "syscalls", "kill_all"}
        given |= {"tmp_on_disk"} | ({"own_user"} if not self._uids.why_not else set())
        why = {
            "own_user": self._uids.why_not,
            "own_kernel": "instances share the host's kernel",
            "disk_limit": "bubblewrap limits no folder of the host's: `/tmp` is one",
        }
        for capability, protection in (*OF_CGROUPS.items(), ("pids", "process_limit")):
            if capability in self._cgroups.given:
                given.add(protection)
            elif protection not in given:
                why[protection] = self._cgroups.why.get(capability, "no cgroup")
        if not root:
            why["runtime_api"] = "only root can give an instance the Runtime API in its own network"
        missing = {name: why.get(name, "not with bubblewrap") for name in PROTECTIONS if name not in given}
        return Protections("bwrap", frozenset(given), missing)

    def extend(self, valid_until: float) -> None:
        self._spawner.extend(valid_until)

    async def lost(self) -> str:
        return await self._spawner.lost()

    async def create(self, spec: SandboxSpec) -> SpawnedSandbox:
        """Raises CannotStart, or OSError if the disk is full, or not to be written to."""
        if spec.network:
            raise CannotStart("with bwrap no instance has a network: choose the namespaces sandbox")
        if spec.runtime_api and os.geteuid() != 0:
            raise CannotStart(
                "only root can give an instance the Runtime API in its own network: "
                "with bwrap an ordinary user runs Python functions without extensions"
            )
        cgroup = None
        if self._cgroups.given:
            self._made += 1
            cgroup = self._cgroups.make(self._parent, f"{self._made}")
            cgroup.limit(limits(spec.memory_mb, shared_bytes=0))
        try:
            place = BwrapPlace(self._files, spec, cgroup, self._uids, self._etc)
        except (CannotStart, OSError):
            if cgroup is not None:
                cgroup.remove()
            raise
        return SpawnedSandbox(self._spawner, spec, place)
