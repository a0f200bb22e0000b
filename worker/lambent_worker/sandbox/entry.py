"""How a process enters a shell, the empty sandbox that waits for an instance, and gives up all its power.

It runs in a child of the fork server or of a zygote, which already is in the shell's pid namespace, with what
its parent may. Step by step it loses all of that, and the system calls that it needed for it come last.
Standard library only; no other module of Lambent's but `kernel`.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal

from . import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

INSIDE_UID: Final = 993
INSIDE_GID: Final = 990
"""Lambda's sbx_user1051, as an instance sees itself where it has a user namespace."""

OPEN_FILES: Final = 1024
"""RLIMIT_NOFILE of an instance, Lambda's."""

NO_CORE: Final = 1
"""RLIMIT_CORE: as `lambent_chassis.core_dumps` has it, where the worker was started without."""

CHANNEL_FD: Final = 3
TELL_FD: Final = 4
"""Where a child that is about to execute a program says why it cannot. It closes when it can."""

SNAPSHOT_FD: Final = 4
"""Where a snapshot has the socket over which it is told to fork."""

FORKING: Final = (kernel.CAP_SYS_ADMIN, kernel.CAP_SYS_CHROOT, kernel.CAP_SETUID, kernel.CAP_SETGID)
"""What it takes to enter a shell, and to take on its user."""

NAMESPACES: Final = (
    kernel.CLONE_NEWNS
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWCGROUP
)
"""A shell's, beside its pid namespace, which only a parent can choose, and its user namespace."""

DOORS: Final = ("pid", "net", "ipc", "uts", "cgroup", "mnt", "user")
"""What /proc calls the namespaces of a shell, in the order in which they have to be entered one by one: the
last one takes away the power over the others."""

_RESET: Final = (signal.SIGCHLD, signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def enter(doors: Sequence[int], joins: Sequence[int], uid: int, users: bool) -> None:
    """Into the cgroups behind `joins` and the namespaces behind `doors`.

    Those are a pidfd of the shell's init alone, or else its pid namespace, in which this process already is,
    and one namespace after the other. `uid` is the shell's user of the host's, and group; `users` says
    whether the shell has a user namespace, in which that one is INSIDE_UID. Afterwards the process has that
    user, and power in the shell alone. What runs in the shell already may stop it anywhere on its way, but
    cannot look into it: not until all is given up and it executes a program, or allows that.
    """
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    for join in joins:
        os.write(join, b"0")
    if len(doors) == 1:
        kernel.setns(doors[0], NAMESPACES | (kernel.CLONE_NEWUSER if users else 0))
    for namespace in doors[1:]:
        kernel.setns(namespace, 0)
    kernel.drop_bounding_set()
    become(*((INSIDE_UID, INSIDE_GID) if users else (uid, uid)))


def give_up_groups_and_limits() -> None:
    # In a user namespace of an ordinary user that is not allowed. Who is meant to have a user of the host's
    # and may not do this fails a moment later, in `become`.
    with contextlib.suppress(PermissionError):
        os.setgroups([])
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    core = min(NO_CORE, hard) if hard != resource.RLIM_INFINITY else NO_CORE
    resource.setrlimit(resource.RLIMIT_CORE, (core, core))


def become(uid: int, gid: int) -> None:
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def give_up(system_calls: kernel.Filter) -> None:
    """All capabilities, new privileges, and in the end the system calls that no function needs."""
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    system_calls.load()


def become_snapshot(
    init: int, users: int, joins: Sequence[int], fds: Sequence[int], system_calls: kernel.Filter
) -> None:
    """Into the shell behind the pidfd `init`, where a function's code is to run before its instances do.

    In the user namespace `users`, to which the shells of those belong and its own does not, it keeps the
    power to enter them, and none elsewhere. `fds` are its output, its channel, and the control socket.
    """
    for join in joins:
        os.write(join, b"0")
    kernel.setns(init, NAMESPACES)
    kernel.setns(users, kernel.CLONE_NEWUSER)
    kernel.drop_bounding_set()
    become(INSIDE_UID, INSIDE_GID)
    output, channel, control = fds
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.dup2(os.dup(control), SNAPSHOT_FD, inheritable=False)
    os.dup2(channel, CHANNEL_FD)
    os.closerange(SNAPSHOT_FD + 1, 1 << 30)
    os.chdir("/")
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    kernel.drop_capabilities(keep=FORKING)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    system_calls.load()


def arrange(output: int, channel: int | None, keep: int = CHANNEL_FD) -> None:
    """Descriptors 0 to 3 as an instance has them, 0 is nothing to be read already.

    CHANNEL_FD is in use, so the others are above it. What is between it and `keep` stays open.
    """
    os.dup2(output, 1)
    os.dup2(output, 2)
    if channel is None:
        os.close(CHANNEL_FD)
    else:
        os.dup2(channel, CHANNEL_FD)
    os.closerange(keep + 1, 1 << 30)


def reset_signals() -> None:
    """For a program that is about to be executed: what is ignored here would be ignored there."""
    signal.set_wakeup_fd(-1)
    for number in _RESET:
        signal.signal(number, signal.SIG_DFL)
