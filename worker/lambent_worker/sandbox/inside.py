"""A connection to a port on an instance's own loopback, made by the worker, which is outside of it."""

import asyncio
import errno
import fcntl
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from lambent_worker.sandbox import kernel

CONNECT_LIMIT_S: Final = 1.0
"""For a line of waiting connections that nobody takes from. Whoever listens is on this machine."""

_SIOCGSKNS: Final = 0x894C
"""From <linux/sockios.h>: the network namespace of a socket, as a descriptor."""


async def connect_here(port: int) -> socket.socket:
    """To the host's own loopback. Raises OSError if nobody listens there."""
    return await _connected(socket.socket(socket.AF_INET, socket.SOCK_STREAM), port)


async def connect_beside(other: socket.socket | None, port: int) -> socket.socket:
    """To the loopback of the network namespace that `other` is in.

    Raises PermissionError where the worker is not root, OSError if nobody listens or `other` is closed.
    """
    if other is None or other.fileno() < 0:
        raise OSError(errno.EBADF, "the sandbox has no network to connect in")
    once = ThreadPoolExecutor(1)  # a thread of its own is all that enters, and it ends at once
    made = asyncio.get_running_loop().run_in_executor(once, _make, os.dup(other.fileno()))
    once.shutdown(wait=False)
    return await _connected(await made, port)


async def _connected(sock: socket.socket, port: int) -> socket.socket:
    sock.setblocking(False)
    try:
        async with asyncio.timeout(CONNECT_LIMIT_S):
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return sock


def _make(other: int) -> socket.socket:
    try:
        namespace: int = fcntl.ioctl(other, _SIOCGSKNS)
    finally:
        os.close(other)
    try:
        kernel.setns(namespace, kernel.CLONE_NEWNET)
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    finally:
        os.close(namespace)
