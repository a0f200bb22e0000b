"""What the fork server keeps of a shell, of a process in it, and of a zygote."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from . import kernel, unasked
from . import shell as init
from .cgroups import Cgroup
from .nest import Nest, doors
from .tmp_disk import discard, is_empty


class Program:
    """What a process is to be."""

    def __init__(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        folder: str,
        channel: bool = True,
        zygote: str = "",
    ) -> None:
        self.argv = argv
        self.environment = environment
        self.folder = folder
        self.channel = channel
        self.zygote = zygote
        """Who shall fork it if that is possible; then it waits to be specialised."""


class Process:
    def __init__(self, key: str = "") -> None:
        self.key = key
        """The worker's name for it; empty while it is parked."""
        self.pid = 0
        self.parked = False
        """Whether it was forked by a zygote, or parked, and so waits to be specialised."""
        self.program: Program | None = None
        """To be executed if the zygote that was told to fork it cannot."""
        self.ends: list[int] = []
        """The worker's ends of its output and channel, until the worker has them."""
        self.snapshot: Zygote | None = None
        """What it is to become."""
        self.failing: int | None = None
        """Where a process that has not executed its program yet says why it cannot."""

    def close(self) -> None:
        for fd in self.ends:
            os.close(fd)
        self.ends = []


class Shell:
    def __init__(
        self,
        nest: Nest,
        uid: int,
        pid: int,
        control: socket.socket,
        cgroup: Cgroup | None,
        tmp_mb: int,
        disk: int | None,
    ) -> None:
        self.nest = nest
        """Where it was made."""
        self.uid = uid
        """Its user of the host's, and group."""
        self.pid = pid
        """Of its init."""
        self.init = os.pidfd_open(pid)
        self.control = control
        self.cgroup = cgroup
        self.tmp_mb = tmp_mb
        self.key = ""
        """The worker's name for it, once it has been taken."""
        self.listener: int | None = None
        self.network: int | None = None
        """Whose end ends what connects it to the network."""
        self.disk = disk
        """Its /tmp, if that is on one."""
        self.processes: set[Process] = set()
        self.coming: Process | None = None
        """What a zygote is forking for whoever launches next."""
        self.parked: Process | None = None
        self.holds: Nest | None = None
        """What is made within it, if a snapshot is in it."""
        self.destroyed = False
        """Somebody wanted its end."""
        self.dying = False
        self.dying_since = 0.0
        """Monotonic second."""
        self.frozen = False
        self.clearing = False
        self.empty = False
        """Its init has said so since `clearing` began."""

    def destroy(self) -> None:
        if self.dying:
            return
        self.destroyed = self.dying = True
        self.dying_since = time.monotonic()
        for shell in {self, *(self.holds.shells if self.holds else ())}:
            shell.thaw()
        self.discard_tmp()
        self.disconnect()
        signal.pidfd_send_signal(self.init, signal.SIGKILL)

    def clear(self) -> None:
        self.thaw()
        self.clearing, self.empty = True, False
        with suppress(OSError):  # its init has died, which is noticed when it is reaped
            self.control.send(init.CLEAR)

    def freeze(self) -> None:
        if self.cgroup and not self.clearing:
            self.frozen = True
            self.cgroup.freeze()

    def thaw(self) -> None:
        if self.cgroup and self.frozen:
            self.frozen = False
            self.cgroup.thaw()

    def joins(self) -> tuple[int, ...]:
        return self.cgroup.joins if self.cgroup else ()

    @contextmanager
    def doors(self) -> Iterator[tuple[int, ...]]:
        """For the zygote that is to enter it. Raises OSError."""
        if not self.nest.shell:
            yield (self.init,)
            return
        opened = doors(self.pid)
        try:
            yield opened
        finally:
            for fd in opened:
                os.close(fd)

    def close(self) -> None:
        """Once its init has been reaped."""
        self.dying = True
        self.discard_tmp()
        self.close_tmp()
        self.disconnect()
        os.close(self.init)
        self.control.close()
        self.close_listener()
        for process in self.processes:
            process.close()

    def close_listener(self) -> None:
        if self.listener is not None:
            os.close(self.listener)
            self.listener = None

    def disconnect(self) -> None:
        """From the network: what connects it is in its cgroup, which is to be empty."""
        if self.network is not None:
            os.close(self.network)
            self.network = None

    def discard_tmp(self) -> None:
        """Unless nothing is in it."""
        if self.disk is not None and not is_empty(self.disk):
            with suppress(OSError):
                discard(self.disk)
            self.close_tmp()

    def close_tmp(self) -> None:
        if self.disk is not None:
            os.close(self.disk)
            self.disk = None

    def mount(self, home: int, mounts: Mapping[str, int]) -> None:
        """Attaches detached mounts. `home` is the caller's mount namespace. Raises OSError."""
        kernel.setns(self.init, kernel.CLONE_NEWNS)
        try:
            for target, fd in mounts.items():
                kernel.attach(fd, target)
        finally:
            kernel.setns(home, kernel.CLONE_NEWNS)

    def change_tmp(self, home: int, disk: int | None, size_mb: int) -> None:
        """For an empty one of another size. Raises OSError."""
        self.discard_tmp()
        self.close_tmp()
        self.disk, self.tmp_mb = disk, size_mb
        kernel.setns(self.init, kernel.CLONE_NEWNS)
        try:
            kernel.unmount("/tmp")
            init.mount_tmp(disk, size_mb)
        finally:
            kernel.setns(home, kernel.CLONE_NEWNS)


class Zygote:
    """Or a snapshot, which forks as one does, has a nest, and is believed about shells in that alone."""

    def __init__(
        self, name: str, pid: int, control: socket.socket, output: int | None, nest: Nest | None = None
    ) -> None:
        self.name = name
        self.pid = pid
        self.control = control
        self._output = output
        self.nest = nest
        self.children: dict[int, tuple[Shell, Process]] = {}
        """Of a snapshot, by their pids as it counts."""
        self.ready = False
        self.resident_bytes = 0
        self.orders: deque[tuple[Shell, Process]] = deque()
        """Forks that it was told to do and has not answered yet."""

    def close(self) -> str:
        """Returns the end of what it has printed, which may say why it died."""
        unasked.end(self.control)
        if self._output is None:
            return ""
        try:
            return os.read(self._output, 64 * 1024).decode(errors="replace")[-2000:]
        except BlockingIOError:
            return ""
        finally:
            os.close(self._output)
