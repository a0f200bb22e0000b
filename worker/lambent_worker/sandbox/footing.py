"""What a fork server stands on: the privileges it has or gives itself, and what this host lets it do."""

from __future__ import annotations

import os
import signal
import socket
import sys
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from . import kernel
from .cgroups import Cgroups
from .root import build
from .shell import DEFAULT_TMP_MB, Plan
from .tmp_disk import TmpDisks

UIDS: Final = 4096
"""Users of the host's that one worker may use, which is also the most instances that it can have."""


ROOT_OF_ITSELF: Final = "root-of-itself"


class Uids:
    """Users of the host's, each for one shell that exists. An ordinary user has only itself, called 0."""

    def __init__(self, first: int, privileged: bool) -> None:
        self._free = list(range(first + UIDS - 1, first - 1, -1))
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


class Footing:
    def __init__(self, settings: Mapping[str, Any], privileged: bool) -> None:
        """Ends what an earlier worker of that name has left. Raises OSError."""
        scratch = settings["scratch"]
        os.makedirs(scratch, exist_ok=True)
        self.parent = f"lambent-{settings['name']}"
        """Of all its cgroups."""
        self.cgroups = Cgroups.detect()
        self.cgroups.sweep(self.parent)
        self.uids = Uids(_claimed(settings["uid_base"]), privileged)
        self.instructions = b64decode(settings["seccomp"])
        users = not privileged or _can_make_user_namespaces(settings["uid_base"])
        disks, no_disks = _tmp_disks(scratch, privileged)
        root = build(scratch, settings["runtimes"], settings["prefixes"], with_proc=not privileged)
        self.plan = Plan(root, kernel.Filter(self.instructions), disks, users, privileged)
        self.facts = {
            "privileged": privileged,
            "users": users,
            "system_calls": bool(self.instructions),
            "cgroups": sorted(self.cgroups.given),
            "tmp_on_disk": disks is not None,
            "why": {**self.cgroups.why, "tmp_on_disk": no_disks},
        }


def become_root() -> NoReturn:
    """Of a user namespace, with a pid namespace: what an ordinary user needs to make all the others.

    Executes this program again, as the first process in that pid namespace, with ROOT_OF_ITSELF as its last
    argument: only so its memory, and that of what it forks, belongs to that user namespace, whose root may
    look into it. The process itself waits for it, and ends as it does. Raises OSError.
    """
    uid, gid = os.getuid(), os.getgid()
    kernel.unshare(kernel.CLONE_NEWUSER)
    for path, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{path}", "w") as file:
            file.write(text)
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWPID)
    pid = os.fork()
    if pid:
        os.closerange(0, 1 << 30)
        os._exit(os.waitpid(pid, 0)[1] and 1)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    os.execve(sys.executable, [*sys.orig_argv, ROOT_OF_ITSELF], {})


def _tmp_disks(folder: str, privileged: bool) -> tuple[TmpDisks | None, str]:
    """And why there are none."""
    if not privileged:
        return None, "only root can mount a file system from an image"
    try:
        disks = TmpDisks.open(folder)
        os.close(disks.make(DEFAULT_TMP_MB))  # which makes the template that all shells inherit
    except OSError as error:
        return None, str(error)
    return disks, ""


def _can_make_user_namespaces(uid: int) -> bool:
    """Whether the host lets somebody without privileges."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setresuid(uid, uid, uid)
            kernel.unshare(kernel.CLONE_NEWUSER)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def _claimed(first: int) -> int:
    """The first of UIDS users that no other worker of this host uses, from `first` on.

    A name in the abstract namespace of sockets is held until this process ends.
    """
    while True:
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0lambent-users-{first}")
        except OSError:
            claim.close()
            first += UIDS
        else:
            claim.detach()
            return first
