"""A shell: the empty, finished sandbox that waits for an instance, and its init, the first process in it.

The init makes the namespaces, then gives up all power, and runs no function's code. It lives as long as the
shell: when it dies the kernel kills everything else in its pid namespace, and only then can it be reaped. It
adopts and reaps what instances leave behind. When its control socket ends, so does it: nothing outlives the
fork server. On that socket it says

    ready      with the listener of the Runtime API, and the mount of /tmp if that is on a new disk
    cleared    after a `clear`, once it has ended every other process and none is left, not even a zombie

or why it could not make the shell.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import time
from contextlib import suppress
from typing import Final, NoReturn

from . import entry, kernel
from .tmp_disk import TmpDisks

API_PORT: Final = 9001
"""Of the listener on 127.0.0.1 in each shell."""

DEFAULT_TMP_MB: Final = 512
"""Of /tmp in a shell that nobody has asked for yet: Lambda's default."""

READY, CLEAR, CLEARED = b"ready", b"clear", b"cleared"
LONGEST_WORD: Final = 4096

HOST_NAME: Final = b"sandbox"
_SIOCSIFFLAGS, _IFF_UP_AND_RUNNING = 0x8914, 0x41
"""From <linux/sockios.h> and <linux/if.h>."""

_OOM_SCORE: Final = b"-900"
"""The kernel shall end a function, and not the shell around it, where this may be said to it."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.0003, 0.02
"""Between two looks at whether the killed are gone."""


class Plan:
    """What all shells of a fork server have in common."""

    def __init__(
        self,
        root: int,
        system_calls: kernel.Filter,
        disks: TmpDisks | None,
        users: bool,
        privileged: bool,
    ) -> None:
        self.root = root
        """The mount namespace that `root.build` made."""
        self.system_calls = system_calls
        self.disks = disks
        """For /tmp; None if this host can have it in memory alone."""
        self.users = users
        """Whether each has a user namespace."""
        self.privileged = privileged
        """Whether each has a user of the host's of its own."""


def run(
    plan: Plan, control: socket.socket, joins: tuple[int, ...], tmp_mb: int, tmp: int | None, uid: int
) -> NoReturn:
    """In a child of the fork server's that is the first process of a new pid namespace.

    `tmp` is the mount of a disk that was kept for /tmp. The fork server makes it: here, where each page of
    memory must be copied before it is used, that takes ten times as long.
    """
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whom nobody waits for leaves no zombie
        disk = plan.disks.make(tmp_mb) if plan.disks and tmp is None else tmp
        for join in joins:
            os.write(join, b"0")
        _spare_from_oom()
        kernel.setns(plan.root, kernel.CLONE_NEWNS)
        _become_init(plan, control, disk, tmp_mb, uid, known=disk is tmp)
    except Exception as error:  # noqa: BLE001 - whatever it is, the fork server must hear of it
        control.send(str(error).encode())
    finally:
        os._exit(1)


def run_within(
    plan: Plan,
    sockets: tuple[socket.socket, socket.socket],
    joins: tuple[int, ...],
    tmp_mb: int,
    tmp: int | None,
    uid: int,
    outer: tuple[int, int],
) -> NoReturn:
    """In a child of the fork server's that is in the pid namespace of another shell: makes one within it.

    `outer` is a pidfd of that one's init, and the user namespace that this one is to belong to. The first of
    the sockets is the control socket; on the other one it says a pidfd of the init, or why there is none.
    Until then it has the host's root user, which is nobody there: no process of a function's can stop it.
    """
    control, tell = sockets
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        for join in joins:
            os.write(join, b"0")
        _spare_from_oom()
        kernel.setns(outer[0], kernel.CLONE_NEWNS)
        kernel.setns(outer[1], kernel.CLONE_NEWUSER)
        pid, pidfd = kernel.clone(kernel.CLONE_NEWPID | kernel.CLONE_PARENT)
        if pid:
            socket.send_fds(tell, [b"made"], [pidfd])
            os._exit(0)
        tell = control
        _become_init(plan, control, tmp, tmp_mb, uid, known=True)
    except Exception as error:  # noqa: BLE001 - whatever it is, the fork server must hear of it
        tell.send(str(error).encode())
    finally:
        os._exit(1)


def _become_init(
    plan: Plan, control: socket.socket, disk: int | None, tmp_mb: int, uid: int, *, known: bool = False
) -> None:
    """`known`: the fork server has the disk already, or there is none."""
    _make(disk, tmp_mb)
    listener = api_listener()
    fds = [listener.fileno()] if disk is None or known else [listener.fileno(), disk]
    _close_all_but(control.fileno(), *fds)  # of the fork server's there may be more than it may open itself
    _drop(plan, uid)
    entry.give_up(plan.system_calls)
    socket.send_fds(control, [READY], fds)
    for fd in fds:
        os.close(fd)
    _serve(control)


def _make(disk: int | None, tmp_mb: int) -> None:
    """Around it is the mount namespace that it is to have a copy of."""
    kernel.unshare(entry.NAMESPACES)
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    mount_tmp(disk, tmp_mb)
    os.chdir("/")
    kernel.set_host_name(HOST_NAME)


def mount_tmp(disk: int | None, size_mb: int) -> None:
    """A disk that was made for it, or memory. Not more files than an ext4 of that size could hold."""
    if disk is None:
        options = f"size={size_mb}m,mode=1777,nr_inodes={max(1024, size_mb * 64)}"
        kernel.mount("tmp", "/tmp", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)
    else:
        kernel.attach(disk, "/tmp")


def api_listener() -> socket.socket:
    """Of the Runtime API, in the caller's network namespace, whose loopback is brought up."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    fcntl.ioctl(listener, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP_AND_RUNNING))
    listener.bind(("127.0.0.1", API_PORT))
    listener.listen(128)
    listener.setblocking(False)
    return listener


def _spare_from_oom() -> None:
    with suppress(PermissionError):
        write("/proc/self/oom_score_adj", _OOM_SCORE)


def _drop(plan: Plan, uid: int) -> None:
    entry.give_up_groups_and_limits()
    if not plan.users:
        kernel.drop_bounding_set()
    if plan.privileged:
        entry.become(uid, uid)
    if plan.users:
        _make_users(uid)
        kernel.drop_bounding_set()  # only here, as a new user namespace begins with a full one
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)  # what runs as the same user shall not look into it
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)


def _make_users(uid: int) -> None:
    """The last namespace, so that the others belong to the host's user namespace and not to this one."""
    kernel.unshare(kernel.CLONE_NEWUSER)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    write("/proc/self/setgroups", b"deny")
    write("/proc/self/uid_map", b"%d %d 1" % (entry.INSIDE_UID, uid))
    write("/proc/self/gid_map", b"%d %d 1" % (entry.INSIDE_GID, uid))


def write(path: str, text: bytes) -> None:
    file = os.open(path, os.O_WRONLY)
    try:
        os.write(file, text)
    finally:
        os.close(file)


def _close_all_but(*fds: int) -> None:
    after = 0
    for fd in (*sorted(fds), 1 << 30):
        os.closerange(after, fd)
        after = fd + 1


def _serve(control: socket.socket) -> None:
    while control.recv(16) == CLEAR:
        _end_all()
        control.send(CLEARED)


def _end_all() -> None:
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            return
        except PermissionError:
            pass  # somebody is about to enter, and not yet ours
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
