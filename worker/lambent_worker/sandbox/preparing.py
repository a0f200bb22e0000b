"""Keeps shells ready, and shells with a parked process in them, so that nobody has to wait for one."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

from . import kernel
from . import shell as init
from .cgroups import Cgroup, Limits
from .children import Children
from .footing import Footing
from .launching import Launcher
from .nest import MOST_SNAPSHOTS, UIDS, UIDS_A_SNAPSHOT, Nest, Uids
from .poll import Poll
from .prepared import Process, Program, Shell
from .root import READ_ONLY

PARKED_OF_SNAPSHOT: Final = 2
"""Processes that are forked of a snapshot before anybody needs them: so a start waits for little more than
the function's own hooks."""

MOST_ENDED: Final = 3
"""After so many parked processes of a kind have ended no more of it are parked."""

PROCESSES: Final = 1024
"""Processes and threads of one sandbox, Lambda's."""

MB_A_CPU: Final = 1769
"""Lambda's: a function of so much memory has one CPU."""

LEAST_BYTES: Final = 16 << 20
"""What a process forked of a zygote may use for itself, however little its function has."""


def limits(memory_mb: int, shared_bytes: int) -> Limits:
    share = memory_mb / MB_A_CPU
    return Limits(
        memory_bytes=max(LEAST_BYTES, (memory_mb << 20) - shared_bytes),
        cpus=max(1.0, share),
        cpu_weight=share,
        processes=PROCESSES,
    )


class Listener(Protocol):
    def finished(self, shell: Shell) -> bool:
        """Whether somebody was waiting for it and has taken it."""

    def unfinished(self, nest: Nest, why: str) -> None: ...

    def emptied(self, shell: Shell) -> None:
        """Its init has seen no other process in it."""

    def warn(self, text: str) -> None: ...


class Store:
    def __init__(
        self,
        settings: Mapping[str, Any],
        children: Children,
        launcher: Launcher,
        poll: Poll,
        footing: Footing,
        listener: Listener,
    ) -> None:
        self._parent = footing.parent
        uids = footing.uids
        self._host = Nest("", uids, settings["pool"])
        self._nests = {"": self._host}
        """By the names of the snapshots in them."""
        self._blocks = [uids.first + UIDS + n * UIDS_A_SNAPSHOT for n in range(MOST_SNAPSHOTS)]
        """First users of those that no snapshot has."""
        self._parkables: dict[str, Any] = {parkable["name"]: parkable for parkable in settings["parkables"]}
        self._children = children
        self._launcher = launcher
        self._poll = poll
        self._cgroups = footing.cgroups
        self._listener = listener
        self._home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        self._made = 0
        self._shells: dict[int, Shell] = {}
        """Every one whose init has not been reaped, by its pid."""
        self._making: set[Shell] = set()
        self._parking: dict[Shell, str] = {}
        """Those in which a process is started that is to be parked, and its name."""
        self._parked: dict[str, list[Shell]] = {name: [] for name in self._parkables}
        self._ended = dict.fromkeys(self._parkables, 0)
        """How many parked processes have ended, instead of being taken, one after another."""

    def start_zygotes(self) -> None:
        for name, parkable in self._parkables.items():
            if parkable["zygote"]:
                self._launcher.start_zygote(name, parkable["argv"])

    def nest(self, name: str) -> Nest | None:
        """That of a snapshot which can fork, or the host."""
        return self._nests.get(name) if not name or self._launcher.zygote(name) else None

    def begin_snapshot(self, name: str, shell: Shell) -> Nest:
        """A nest in that shell, for the process that is to become the snapshot. Raises OSError."""
        if name in self._nests or not self._blocks:
            raise OSError(f"there is a snapshot {name} already, or there are {MOST_SNAPSHOTS}")
        uids = Uids(self._blocks.pop(), UIDS_A_SNAPSHOT, privileged=True)
        nest = self._nests[name] = Nest(name, uids, size=0)
        try:
            nest.settle(shell)
        except OSError:
            self._end_nest(nest)
            raise
        return nest

    def taken(self, nest: Nest) -> None:
        """Its snapshot: processes of it can be parked."""
        self._parkables[nest.name] = {"zygote": True, "count": PARKED_OF_SNAPSHOT}
        self._parked[nest.name] = []
        self._ended[nest.name] = 0

    def _end_nest(self, nest: Nest) -> None:
        """Nothing is in it any more."""
        for of_snapshots in (self._nests, self._parkables, self._parked, self._ended):
            of_snapshots.pop(nest.name, None)
        self._blocks.append(nest.uids.first)
        nest.close()

    def end_hanging(self, now: float) -> bool:
        """Ends snapshots that do not reap what they have forked; whether there may be others soon."""
        waited_for = False
        for nest in self._nests.values():
            if nest.shell and not nest.shell.dying:
                waited_for = waited_for or any(shell.dying for shell in nest.shells)
                if nest.overdue(now):
                    nest.shell.destroy()
        return waited_for

    def take(self, nest: Nest, parkable: str) -> Shell | None:
        """One with that process in it if there is one, else an empty one, else none."""
        if shells := self._parked.get(parkable):
            self._ended[parkable] = 0
            return shells.pop()
        return nest.pool.pop() if nest.pool else None

    def lacks(self) -> bool:
        """Whether something should be prepared."""
        return self._wants_shell(self._host) or self._unparked() is not None

    def _wants_shell(self, nest: Nest) -> bool:
        return not nest.failing and len(nest.pool) < nest.size

    def preparing(self) -> bool:
        return bool(self._making or self._parking or self._launcher.starting())

    def prepare(self) -> None:
        """The next thing, if nothing is being prepared already."""
        if self.preparing() or not self.lacks():
            return
        name = self._unparked()
        nest = self._nest_of(name)
        if name is not None and nest.pool:
            self._park(nest.pool.pop(), name)
        else:
            self.make(nest)

    def _nest_of(self, parkable: str | None) -> Nest:
        return self._nests.get(parkable or "", self._host)

    def make(self, nest: Nest) -> None:
        """Begins to make a shell; `finished` or `unfinished` follows."""
        uid = cgroup = None
        try:
            uid = nest.uids.take()
            self._made += 1
            cgroup = self._cgroups.make(self._parent, f"s{self._made}") if self._cgroups.given else None
            tmp_mb = nest.shell.tmp_mb if nest.shell else init.DEFAULT_TMP_MB
            shell = self._children.shell(nest, uid, cgroup, tmp_mb)
        except OSError as error:
            self._give_back(nest, uid, cgroup)
            self._fail(nest, str(error))
            return
        self._shells[shell.pid] = shell
        self._making.add(shell)
        nest.shells.add(shell)
        self._poll.watch(shell.control.fileno(), lambda: self._hear(shell))

    def fit(self, shell: Shell, wanted: Mapping[str, Any]) -> int:
        """Gives the shell its limits and files. Raises OSError.

        Returns what it uses of a zygote's memory, in bytes: that is not counted as its own.
        """
        zygote = self._launcher.zygote(wanted["parked"])
        shared = zygote.resident_bytes if zygote else 0
        memory_mb, tmp_mb = wanted["memory_mb"], wanted["tmp_mb"]
        if shell.cgroup:
            shell.cgroup.limit(limits(memory_mb, shared))
        mounts: dict[str, int] = {}
        try:
            for target, path in wanted["mounts"].items():
                mounts[target] = kernel.detached(path, READ_ONLY)
            shell.mount(self._home, mounts)
        finally:
            for fd in mounts.values():
                os.close(fd)
        if tmp_mb != shell.tmp_mb:
            disks = self._children.plan.disks
            shell.change_tmp(self._home, disks.make(tmp_mb) if disks else None, tmp_mb)
        return shared

    def _unparked(self) -> str | None:
        """Name of a process of which one more should be parked."""
        for name, shells in self._parked.items():
            parkable = self._parkables[name]
            possible = not parkable["zygote"] or self._launcher.zygote(name) is not None
            possible = possible and not self._nest_of(name).failing
            if possible and len(shells) < parkable["count"] and self._ended[name] < MOST_ENDED:
                return name
        return None

    def _park(self, shell: Shell, name: str) -> None:
        self._parking[shell] = name
        parkable = self._parkables[name]
        try:
            if not parkable["zygote"]:
                self._launcher.launch(
                    shell, Process(), Program(parkable["argv"], parkable["environment"], "/")
                )
            elif not self._launcher.fork(shell, Process(), name):
                self.unpark(shell, "its zygote does not answer")
        except OSError as error:
            self.unpark(shell, str(error))

    def park(self, shell: Shell, process: Process) -> None:
        """It has been launched to be parked."""
        name = self._parking.pop(shell)
        shell.parked = process
        if not shell.dying:
            self._parked[name].append(shell)

    def unpark(self, shell: Shell, why: str) -> None:
        """Its process could not be launched, or has ended."""
        name = self._parking.pop(shell, "")
        for parked, shells in self._parked.items():
            name = parked if shell in shells else name
        if name:
            self._ended[name] += 1
            self._listener.warn(f"a parked process, {name}, has ended: {why}")
        self._forget(shell)
        shell.destroy()

    def _forget(self, shell: Shell) -> None:
        self._parking.pop(shell, None)
        for shelf in (shell.nest.pool, *self._parked.values()):
            with suppress(ValueError):
                shelf.remove(shell)

    def _hear(self, shell: Shell) -> None:
        try:
            word, fds, _, _ = socket.recv_fds(shell.control, init.LONGEST_WORD, 2)
        except BlockingIOError:
            return
        except ConnectionError:
            word = b""
        if word == init.READY:
            shell.listener = fds[0]
            if len(fds) > 1:
                shell.disk = fds[1]
            self._making.discard(shell)
            shell.nest.failing = False
            if not self._listener.finished(shell):
                shell.nest.pool.append(shell)
        elif word == init.CLEARED:
            shell.empty = True
            self._listener.emptied(shell)
        else:
            self._poll.forget(shell.control.fileno())
            if shell in self._making:
                self._making.discard(shell)
                self._fail(shell.nest, f"a sandbox cannot be made: {word.decode() or 'its init has died'}")

    def _fail(self, nest: Nest, why: str) -> None:
        nest.failing = True
        self._listener.unfinished(nest, why)

    def reaped(self, pid: int) -> Shell | None:
        """The shell whose init that was: nothing is left in it any more."""
        shell = self._shells.pop(pid, None)
        if not shell:
            return None
        self._poll.forget(shell.control.fileno())
        if shell in self._making:
            self._making.discard(shell)
            self._fail(shell.nest, "a sandbox cannot be made: its init has died")
        self._forget(shell)
        shell.nest.shells.discard(shell)
        self._keep_tmp(shell)
        shell.close()
        self._give_back(shell.nest, shell.uid, shell.cgroup)
        for nest in list(self._nests.values()):
            if nest.shell is shell:
                self._end_nest(nest)
        return shell

    def _keep_tmp(self, shell: Shell) -> None:
        disks = self._children.plan.disks
        with suppress(OSError):
            if disks and shell.disk is not None and disks.keep(shell.disk, shell.tmp_mb):
                shell.disk = None

    def _give_back(self, nest: Nest, uid: int | None, cgroup: Cgroup | None) -> None:
        if uid is not None:
            nest.uids.give_back(uid)
        if cgroup:
            with suppress(OSError):
                cgroup.remove()

    def end(self) -> None:
        """Once every shell is gone: the parent of their cgroups goes too."""
        with suppress(OSError):  # what cannot be removed is the next worker's to sweep
            self._cgroups.sweep(self._parent)

    def all(self) -> list[Shell]:
        return list(self._shells.values())
