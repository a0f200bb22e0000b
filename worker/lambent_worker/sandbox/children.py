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
    "TZ": ":UTC",
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
        disk = self._disk(nest, tmp_mb)
        tmp = None
        try:
            tmp = None if disk is None else mount_again(disk)
            if nest.shell:
                pid = self._init_within(nest.shell, nest.users, theirs, joins, (tmp_mb, tmp), uid)
            else:
                pid = self._init(theirs, joins, tmp_mb, tmp, uid)
            ours.setblocking(False)
            return Shell(nest, uid, pid, ours, cgroup, tmp_mb, disk)
        except OSError:
            ours.close()
            if disk is not None:
                os.close(disk)
            raise
        finally:
            theirs.close()
            if tmp is not None:
                os.close(tmp)

    def _disk(self, nest: Nest, tmp_mb: int) -> int | None:
        """For its /tmp, if the fork server has one, and without making one unless nobody else can."""
        disks = self.plan.disks
        if not disks:
            return None
        disk = disks.take_spare(tmp_mb)
        return disks.make(tmp_mb) if disk is None and nest.shell else disk

    def _init(
        self, control: socket.socket, joins: tuple[int, ...], tmp_mb: int, tmp: int | None, uid: int
    ) -> int:
        """Its pid. Raises OSError."""
        kernel.unshare(kernel.CLONE_NEWPID)
        pid = self._forked()
        if pid == 0:
            init.run(self.plan, control, joins, tmp_mb, tmp, uid)
        return pid

    def _init_within(
        self,
        outer: Shell,
        users: int,
        control: socket.socket,
        joins: tuple[int, ...],
        tmp: tuple[int, int | None],
        uid: int,
    ) -> int:
        """Its pid. Raises OSError.

        Waits for the process that makes it, which runs no function's code and which no function can stop.
        """
        told, tell = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with told:
            with tell:
                kernel.setns(outer.init, kernel.CLONE_NEWPID)
                if self._forked() == 0:
                    init.run_within(self.plan, (control, tell), joins, *tmp, uid, (outer.init, users))
            why, fds, _, _ = socket.recv_fds(told, init.LONGEST_WORD, 1)
        if not fds:
            raise OSError(f"a sandbox cannot be made: {why.decode() or 'its maker has died'}")
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
