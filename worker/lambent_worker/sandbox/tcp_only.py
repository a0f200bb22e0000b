"""A second system call filter, for sandboxes in the host's own network: of sockets, TCP alone.

Landlock knows TCP's ports, and nothing of UDP or of Unix sockets that have a path. Nor does it look at other
protocols that connect as TCP does, or at connections that are made by sending (MSG_FASTOPEN). Pairs of
sockets are made by another call, and stay.

And of limits its own alone: other processes of the same user, the worker perhaps, are in sight there.
"""

import platform
import struct
from typing import Final

_CALLS: Final = {
    "x86_64": {"socket": 41, "sendto": 44, "sendmsg": 46, "sendmmsg": 307, "prlimit64": 302},
    "aarch64": {"socket": 198, "sendto": 206, "sendmsg": 211, "sendmmsg": 269, "prlimit64": 261},
}
_FLAGS_OF: Final = {"sendto": 3, "sendmsg": 2, "sendmmsg": 3}
"""Which argument they are."""
_MSG_FASTOPEN: Final = 0x20000000
_AF_INET, _AF_INET6, _SOCK_STREAM, _TYPE_MASK, _IPPROTO_TCP = 2, 10, 1, 0xF, 6
_LOAD, _EQUAL, _BITS, _AND, _RETURN = 0x20, 0x15, 0x45, 0x54, 0x06
"""BPF: load a word, jump if equal, if any bit is set; and, return. From <linux/bpf_common.h>."""
_NUMBER, _ARGUMENTS = 0, 16
"""Where struct seccomp_data has the call's number, and the low half of the first of its arguments."""
_ALLOW, _REFUSE, _FORBID = 0x7FFF0000, 0x00050000 | 97, 0x00050000 | 1
"""SECCOMP_RET_ALLOW, and SECCOMP_RET_ERRNO with EAFNOSUPPORT and EPERM."""


def program() -> bytes:
    """For this machine. Raises LookupError for one that nobody knows."""
    calls = _CALLS[platform.machine()]
    instructions = [(_LOAD, 0, 0, _NUMBER)]
    for call, argument in _FLAGS_OF.items():
        instructions += [
            (_EQUAL, 0, 4, calls[call]),
            (_LOAD, 0, 0, _ARGUMENTS + 8 * argument),
            (_BITS, 0, 1, _MSG_FASTOPEN),
            (_RETURN, 0, 0, _REFUSE),
            (_RETURN, 0, 0, _ALLOW),
        ]
    instructions += [
        (_EQUAL, 0, 4, calls["prlimit64"]),
        (_LOAD, 0, 0, _ARGUMENTS),
        (_EQUAL, 1, 0, 0),
        (_RETURN, 0, 0, _FORBID),
        (_RETURN, 0, 0, _ALLOW),
        (_EQUAL, 0, 9, calls["socket"]),
        (_LOAD, 0, 0, _ARGUMENTS),
        (_EQUAL, 1, 0, _AF_INET),
        (_EQUAL, 0, 7, _AF_INET6),
        (_LOAD, 0, 0, _ARGUMENTS + 8),
        (_AND, 0, 0, _TYPE_MASK),
        (_EQUAL, 0, 4, _SOCK_STREAM),
        (_LOAD, 0, 0, _ARGUMENTS + 16),
        (_EQUAL, 1, 0, 0),
        (_EQUAL, 0, 1, _IPPROTO_TCP),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
