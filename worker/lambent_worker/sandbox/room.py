"""Where all launches of one bubblewrap sandbox meet: a mount and a network namespace.

In the one is its `/tmp`, in the other its loopback and the listener of the Runtime API. Root makes both in a
thread, which ends at once. Another user needs a user namespace around them, into which no thread can go: a
process makes them, hands them over and ends. It imports the standard library only.
"""

import asyncio
import os
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from lambent_worker.sandbox import kernel
from lambent_worker.sandbox.root import bind
from lambent_worker.sandbox.shell import api_listener, write
from lambent_worker.sandbox.tmp_disk import discard

_NAMESPACES: Final = kernel.CLONE_NEWNS | kernel.CLONE_NEWNET
_INODES_A_MB: Final = 64
"""As many as an ext4 of that size has."""
_LEAST_INODES: Final = 1024
MAKE_LIMIT_S: Final = 10.0
_PACKAGES: Final = str(Path(kernel.__file__).parents[2])
_MAKER: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from lambent_worker.sandbox.room import main; main()"
)


class Room:
    def __init__(self, namespaces: Mapping[str, int], listener: socket.socket, disk: int | None) -> None:
        """`namespaces` by nsenter's names for them."""
        self._namespaces = namespaces
        self.listener = listener
        self._disk = disk

    @classmethod
    def as_root(cls, place: str, size_mb: int, disk: int | None, shown: Sequence[str]) -> Self:
        """`place` is an empty folder where every user can go; in the room it has `tmp`, and what is `shown`,
        to be read only, as `0`, `1`, ... `disk` is a mount for `tmp`, which becomes the room's; without one
        that is in memory. Raises OSError."""
        made: list[Self | OSError] = []

        def make() -> None:
            try:
                kernel.unshare(_NAMESPACES)
                _mount(place, "size=1m,mode=755")
                for number, path in enumerate(shown):
                    os.mkdir(f"{place}/{number}")
                    bind(path, f"{place}/{number}")
                os.mkdir(f"{place}/tmp")
                listener = _furnish(f"{place}/tmp", size_mb, disk)
                own = "/proc/thread-self/ns"
                made.append(cls({"net": _open(f"{own}/net"), "mount": _open(f"{own}/mnt")}, listener, disk))
            except OSError as error:
                made.append(error)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        room = made[0]
        if isinstance(room, OSError):
            _give_up(disk)
            raise room
        return room

    @classmethod
    async def as_user(cls, tmp: str, size_mb: int) -> Self:
        """For who is not root and needs nothing shown; `tmp` is an empty folder. Raises OSError."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            argv = (
                sys.executable,
                "-I",
                "-S",
                "-c",
                _MAKER,
                _PACKAGES,
                str(theirs.fileno()),
                tmp,
                f"{size_mb}",
            )
            pipe = asyncio.subprocess.PIPE
            maker = await asyncio.create_subprocess_exec(
                *argv, pass_fds=[theirs.fileno()], env={}, stdout=asyncio.subprocess.DEVNULL, stderr=pipe
            )
            theirs.close()
            try:
                async with asyncio.timeout(MAKE_LIMIT_S):
                    _, said = await maker.communicate()
            except TimeoutError:
                maker.kill()
                raise
            if maker.returncode:
                raise OSError(said.decode(errors="replace").strip().rpartition("\n")[2])
            _, fds, _, _ = socket.recv_fds(ours, 1, 4)
        listener, user, net, mount = fds
        for fd in fds:
            os.set_inheritable(fd, False)
        return cls({"user": user, "net": net, "mount": mount}, socket.socket(fileno=listener), None)

    def enter(self) -> tuple[str, ...]:
        """What runs a program in it, as arguments. The kernel lets who is not root look into this process for
        that only if it has not changed its user since it was executed."""
        own = f"/proc/{os.getpid()}/fd"
        options = [f"--{name}={own}/{fd}" for name, fd in self._namespaces.items()]
        return ("/usr/bin/nsenter", *options, "--preserve-credentials", "--")

    def close(self) -> None:
        for fd in self._namespaces.values():
            os.close(fd)
        _give_up(self._disk)


def main() -> None:
    """Of the process that makes a room for who is not root."""
    fd, tmp, size_mb = sys.argv[2:]
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER | _NAMESPACES)
    write("/proc/self/setgroups", b"deny")
    write("/proc/self/uid_map", b"%d %d 1" % (uid, uid))
    write("/proc/self/gid_map", b"%d %d 1" % (gid, gid))
    listener = _furnish(tmp, int(size_mb), None)
    listener.setblocking(False)
    namespaces = [_open(f"/proc/self/ns/{name}") for name in ("user", "net", "mnt")]
    with socket.socket(fileno=int(fd)) as given:
        socket.send_fds(given, [b"."], [listener.fileno(), *namespaces])


def _mount(target: str, options: str) -> None:
    """Seen in the room alone."""
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_SLAVE)
    kernel.mount("lambent", target, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)


def _furnish(tmp: str, size_mb: int, disk: int | None) -> socket.socket:
    if disk is not None:
        kernel.attach(disk, tmp)
    else:
        _mount(tmp, f"size={size_mb}m,mode=1777,nr_inodes={max(_LEAST_INODES, size_mb * _INODES_A_MB)}")
    return api_listener()


def _open(namespace: str) -> int:
    return os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)


def _give_up(disk: int | None) -> None:
    if disk is not None:
        with suppress(OSError):
            discard(disk)
        os.close(disk)
