"""A second system call filter, for sandboxes in the host's own network: of sockets, TCP alone.

Landlock knows TCP's ports, and nothing of UDP or of Unix sockets that have a path. Pairs of sockets are made
by another call, and stay.
"""

import platform
import struct
from typing import Final

_SOCKET: Final = {"x86_64": 41, "aarch64": 198}
_AF_INET, _AF_INET6, _SOCK_STREAM, _TYPE_MASK = 2, 10, 1, 0xF
_LOAD, _EQUAL, _AND, _RETURN = 0x20, 0x15, 0x54, 0x06
"""BPF: load a word, jump if equal, and with a constant, return. From <linux/bpf_common.h>."""
_NUMBER, _FIRST, _SECOND = 0, 16, 24
"""Where struct seccomp_data has the call's number and the low halves of its first two arguments."""
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 97
"""SECCOMP_RET_ALLOW, and SECCOMP_RET_ERRNO with EAFNOSUPPORT."""


def program() -> bytes:
    """For this machine. Raises LookupError for one that nobody knows."""
    instructions = (
        (_LOAD, 0, 0, _NUMBER),
        (_EQUAL, 0, 6, _SOCKET[platform.machine()]),
        (_LOAD, 0, 0, _FIRST),
        (_EQUAL, 1, 0, _AF_INET),
        (_EQUAL, 0, 4, _AF_INET6),
        (_LOAD, 0, 0, _SECOND),
        (_AND, 0, 0, _TYPE_MASK),
        (_EQUAL, 0, 1, _SOCK_STREAM),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    )
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
