"""Descriptors that come with a message from whoever runs a function's code, and must not make us wait.

To close the last descriptor of a socket can wait for as long as who made it likes (SO_LINGER), and one for
which there is no room is closed by the kernel while we receive. So there is room for all, and none is closed
before it has been told not to linger. Standard library only.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

MOST: Final = 253
"""SCM_MAX_FD: the kernel sends no more with one message."""

_MOST_WAITING: Final = 512
"""Messages: more than a socket's buffer holds of the smallest."""
_SO_PASSRIGHTS: Final = 83
_NOT_AT_ALL: Final = struct.pack("ii", 0, 0)


def refuse(sock: socket.socket) -> None:
    """What the other end of a pair sends takes no descriptors along. Linux 6.16 is the first that can."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)


def may_come(sock: socket.socket) -> bool:
    """Whether descriptors may: then nothing but `receive` may read it."""
    try:
        return sock.getsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS) != 0
    except OSError:
        return True


def receive(sock: socket.socket, size: int) -> tuple[bytes, list[int]]:
    """As `recv`, and what came along."""
    data, fds, _, _ = socket.recv_fds(sock, size, MOST, socket.MSG_CMSG_CLOEXEC)
    return data, fds


def end(sock: socket.socket) -> None:
    """Closes it, with whatever it has not been read of, without waiting."""
    with suppress(OSError), sock:
        sock.setblocking(False)
        sock.shutdown(socket.SHUT_RD)  # nothing follows
        for _ in range(_MOST_WAITING):
            _, fds = receive(sock, 64 * 1024)
            close(fds)


def close(fds: Iterable[int]) -> None:
    """Without waiting."""
    for fd in fds:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            os.close(fd)
            continue
        with socket.socket(fileno=fd) as sock, suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOT_AT_ALL)
