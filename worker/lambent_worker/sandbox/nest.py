"""Where shells are made: on the host, or within the shell of a snapshot whose processes they are to hold.

A snapshot runs a function's code and forks all instances of it, so it must be able to enter their shells, and
nothing else. Therefore

1. all namespaces of those shells belong to a user namespace that is the snapshot's, and their pid namespaces
   are children of its own;
2. in that user namespace the snapshot has the capabilities that it takes to enter them. Its own shell belongs
   to the host, as all shells do, and there it has none;
3. a block of the host's users is mapped there, which no other function's instances ever have.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Final

from . import kernel
from .entry import DOORS, INSIDE_GID, INSIDE_UID

if TYPE_CHECKING:
    from .prepared import Shell

UIDS: Final = 4096
"""Users of the host's for the shells on it: the most that a worker can have, snapshots among them."""

MOST_SNAPSHOTS: Final = 32
UIDS_A_SNAPSHOT: Final = 1024
"""The most instances that can be forked of one."""

FIRST_PID: Final = 30_000
"""Of a snapshot in its pid namespace, far from what its instances have in theirs: many libraries know by
another process id that they have been forked, and must not go on as they were."""

REAPED_WITHIN_S: Final = 2.0
"""So long after a shell has been told to end it is gone, or else its snapshot hangs and is ended with it."""

ALL_UIDS: Final = UIDS + MOST_SNAPSHOTS * UIDS_A_SNAPSHOT
"""Of one worker: first those of shells on the host, then a block for each snapshot."""


class Uids:
    """Users of the host's, each for one shell that exists. An ordinary user has only itself, called 0."""

    def __init__(self, first: int, count: int, privileged: bool) -> None:
        self.first = first
        self.count = count
        self._free = list(range(first + count - 1, first - 1, -1))
        self._privileged = privileged

    def take(self) -> int:
        """Raises OSError if there is none left."""
        if not self._privileged:
            return 0
        if not self._free:
            raise OSError("all users that instances may have are in use")
        return self._free.pop()

    def give_back(self, uid: int) -> None:
        if self._privileged:
            self._free.append(uid)


class Nest:
    def __init__(self, name: str, uids: Uids, size: int) -> None:
        self.name = name
        """The snapshot's; empty on the host."""
        self.uids = uids
        self.size = size
        """How many empty shells wait."""
        self.pool: list[Shell] = []
        self.shells: set[Shell] = set()
        """All in it whose init has not been reaped."""
        self.failing = False
        """The last one could not be made: none is until somebody asks."""
        self.shell: Shell | None = None
        """The snapshot's; None on the host."""
        self.users = -1
        """The user namespace that its shells belong to, where there is a snapshot."""

    def settle(self, shell: Shell) -> None:
        """Within that shell. Raises OSError."""
        uids = self.uids
        of_instances = f"{uids.first} {uids.first} {uids.count}\n"
        self.users = user_namespace(
            f"{INSIDE_UID} {shell.uid} 1\n{of_instances}", f"{INSIDE_GID} {shell.uid} 1\n{of_instances}"
        )
        number_processes_from(FIRST_PID, shell.init)
        self.shell = shell
        shell.holds = self

    def overdue(self, now: float) -> bool:
        """A shell in it should be gone: its snapshot, which has to reap what it has forked, does not."""
        return any(shell.dying and now >= shell.dying_since + REAPED_WITHIN_S for shell in self.shells)

    def close(self) -> None:
        if self.users >= 0:
            os.close(self.users)
            self.users = -1


def user_namespace(uid_map: str, gid_map: str) -> int:
    """A new one, which belongs to the caller's user. Raises OSError."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            kernel.unshare(kernel.CLONE_NEWUSER)
            os.write(tell, b"1")
            signal.pause()
        finally:
            os._exit(1)
    os.close(tell)
    try:
        if not os.read(told, 1):
            raise OSError("a snapshot's user namespace cannot be made")
        for name, text in (("uid_map", uid_map), ("gid_map", gid_map)):
            with open(f"/proc/{pid}/{name}", "w") as file:
                file.write(text)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(told)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def number_processes_from(first: int, init: int) -> None:
    """The next ones in the pid namespace of the process behind the pidfd `init`, where the kernel can do it.

    Raises OSError.
    """
    own = os.pidfd_open(os.getpid())
    pid = -1
    try:
        kernel.setns(init, kernel.CLONE_NEWPID)
        pid = os.fork()
        if pid == 0:
            with open("/proc/sys/kernel/ns_last_pid", "w") as file:
                file.write(str(first - 1))
    finally:
        if pid == 0:
            os._exit(0)
        kernel.setns(own, kernel.CLONE_NEWPID)
        os.close(own)
    os.waitpid(pid, 0)


def doors(pid: int) -> tuple[int, ...]:
    """Of the shell whose init that is, for whom may not look at its init (`entry.enter`). Raises OSError."""
    return tuple(os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in DOORS)
