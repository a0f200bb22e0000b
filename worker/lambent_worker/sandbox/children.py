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
from .prepared import Process, Shell, Zygote
from .shell import Plan

ZYGOTE_ENVIRONMENT: Final = {
    "LANG": "en_US.UTF-8",
    "LD_LIBRARY_PATH": "/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""What it imports shall start no threads: who has threads must not fork. The loader reads its path once."""


class Children:
    def __init__(self, plan: Plan, instructions: bytes) -> None:
        self.plan = plan
        self._instructions = instructions
        self._own = os.pidfd_open(os.getpid())

    def shell(self, uid: int, cgroup: Cgroup | None, tmp_mb: int) -> Shell:
        """Its control socket says when it is finished. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        kernel.unshare(kernel.CLONE_NEWPID)
        pid = self._forked()
        if pid == 0:
            init.run(self.plan, theirs, cgroup.joins if cgroup else (), tmp_mb, uid)
        theirs.close()
        return Shell(uid, pid, ours, cgroup, tmp_mb)

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
        ours.send(self._instructions)
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
            entry.enter(shell.init, shell.joins(), shell.uid, self.plan.users)
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
