"""The three kinds of children that the fork server has: inits of shells, zygotes, and programs in shells."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Final

from . import entry, kernel
from . import shell as init
from .cgroups import Cgroup
from .nest import Nest
from .prepared import Process, Shell, Zygote
from .shell import Plan
from .tmp_disk import mount_again

ZYGOTE_ENVIRONMENT: Final = {
    "LANG": "en_US.UTF-8",
    "LD_LIBRARY_PATH": "/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""What it imports shall start no threads: who has threads must not fork. The loader reads its path once."""


class Children:
    def __init__(self, plan: Plan, instructions: bytes, of_snapshots: bytes) -> None:
        self.plan = plan
        self._instructions = (instructions, of_snapshots)
        self._own = os.pidfd_open(os.getpid())

    def shell(self, nest: Nest, uid: int, cgroup: Cgroup | None, tmp_mb: int) -> Shell:
        """Its control socket says when it is finished. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        joins = cgroup.joins if cgroup else ()
        disk = None
        try:
            if nest.shell:
                pid = self._init_within(nest.shell, nest.users, (ours, theirs), joins, tmp_mb, uid)
            else:
                disk, pid = self._init(theirs, joins, tmp_mb, uid)
            ours.setblocking(False)
            return Shell(nest, uid, pid, ours, cgroup, tmp_mb, disk)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()

    def _init(
        self, control: socket.socket, joins: tuple[int, ...], tmp_mb: int, uid: int
    ) -> tuple[int | None, int]:
        """A kept disk for its /tmp, if there was one, and its pid. Raises OSError."""
        disk = self.plan.disks.take_spare(tmp_mb) if self.plan.disks else None
        tmp = None
        try:
            tmp = None if disk is None else mount_again(disk)
            kernel.unshare(kernel.CLONE_NEWPID)
            pid = self._forked()
            if pid == 0:
                init.run(self.plan, control, joins, tmp_mb, tmp, uid)
            return disk, pid
        except OSError:
            if disk is not None:
                os.close(disk)
            raise
        finally:
            if tmp is not None:
                os.close(tmp)

    def _init_within(
        self,
        outer: Shell,
        users: int,
        control: tuple[socket.socket, socket.socket],
        joins: tuple[int, ...],
        tmp_mb: int,
        uid: int,
    ) -> int:
        """Its pid. Raises OSError.

        Waits for the process that makes it, which runs no function's code and which no function can stop.
        """
        ours, theirs = control
        disk = self.plan.disks.make(tmp_mb) if self.plan.disks else None
        try:
            kernel.setns(outer.init, kernel.CLONE_NEWPID)
            maker = self._forked()
            if maker == 0:
                init.run_within(self.plan, theirs, joins, (disk, tmp_mb), uid, outer.init, users)
        finally:
            if disk is not None:
                os.close(disk)
        theirs.close()
        word, fds, _, _ = socket.recv_fds(ours, init.LONGEST_WORD, 1)
        if not fds:
            raise OSError(f"a sandbox cannot be made: {word.decode() or 'its maker has died'}")
        try:
            return kernel.pid_of(fds[0])
        finally:
            os.close(fds[0])

    def zygote(self, name: str, argv: Sequence[str]) -> Zygote:
        """Its control socket says when it is ready. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        parent = os.getpid()
        output, their_output = os.pipe()  # of the kind that its processes get, since Python looks only once
        os.set_blocking(output, False)
        pid = os.fork()
        if pid == 0:
            self._become_zygote(theirs, their_output, argv, parent)
        theirs.close()
        os.close(their_output)
        for instructions in self._instructions:
            ours.send(instructions)
        return Zygote(name, pid, ours, output)

    def _become_zygote(self, control: socket.socket, output: int, argv: Sequence[str], parent: int) -> None:
        try:
            os.setsid()
            entry.reset_signals()
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)  # the fork server died before the kernel was told
            kernel.setns(self.plan.root, kernel.CLONE_NEWNS)
            kernel.unshare(entry.NAMESPACES & ~kernel.CLONE_NEWCGROUP)
            if self.plan.privileged:  # else it is there already
                kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
            os.chdir("/")
            entry.arrange(output, control.fileno())
            os.execve(argv[0], list(argv), ZYGOTE_ENVIRONMENT)
        except BaseException as error:  # noqa: BLE001 - the child must not go on as a fork server
            os.write(output, str(error).encode())
        finally:
            os._exit(1)

    def program(
        self,
        shell: Shell,
        process: Process,
        inside: tuple[int, int | None],
        argv: Sequence[str],
        environment: Mapping[str, str],
        folder: str,
    ) -> None:
        """Sets `process.pid`; `process.failing` ends once it executes, or says why not. Raises OSError.

        `inside` are the descriptors of its output and channel.
        """
        told, tell = os.pipe()
        os.set_blocking(told, False)
        try:
            kernel.setns(shell.init, kernel.CLONE_NEWPID)
            pid = self._forked()
            if pid == 0:
                self._become_program(shell, inside, argv, environment, folder, tell)
        except OSError:
            os.close(told)
            raise
        finally:
            os.close(tell)
        process.pid = pid
        process.failing = told

    def _become_program(
        self,
        shell: Shell,
        inside: tuple[int, int | None],
        argv: Sequence[str],
        environment: Mapping[str, str],
        folder: str,
        tell: int,
    ) -> None:
        try:
            os.dup2(tell, entry.TELL_FD, inheritable=False)
            os.setsid()
            entry.reset_signals()
            entry.give_up_groups_and_limits()
            entry.enter((shell.init,), shell.joins(), shell.uid, self.plan.users)
            entry.arrange(*inside, keep=entry.TELL_FD)
            os.chdir(folder)
            entry.give_up(self.plan.system_calls)
            os.execve(argv[0], list(argv), environment)
        except BaseException as error:  # noqa: BLE001 - the child must not go on as a fork server
            os.write(entry.TELL_FD, str(error).encode())
        finally:
            os._exit(127)

    def _forked(self) -> int:
        """Forks into the pid namespace that was chosen; the parent's next child is in the parent's again."""
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid:
                kernel.setns(self._own, kernel.CLONE_NEWPID)
        return pid
