"""A second system call filter, for sandboxes in the host's own network: of it, TCP connections they open.

Landlock knows TCP's ports, and nothing of the rest of the network. What it misses is refused here: other
kinds of sockets (UDP, Unix sockets that have a path, MPTCP and SMC, which connect to TCP's ports as well), a
connection that comes about by its first message (TCP Fast Open), and listening, on whatever address. Pairs of
sockets are made by another call, and stay.

And of limits its own alone: other processes of the same user, the worker perhaps, are in sight there.
"""

import errno
import platform
import struct
from typing import Final, NamedTuple

_LOAD, _EQUAL, _AND, _RETURN = 0x20, 0x15, 0x54, 0x06
"""BPF: load a word, jump if equal, and with a constant, return. From <linux/bpf_common.h>."""
_NUMBER, _ARGUMENTS = 0, 16
"""Where struct seccomp_data has the call's number, and its arguments of 8 bytes, low half first."""
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
"""SECCOMP_RET_ALLOW, and SECCOMP_RET_ERRNO for an error number."""

_AF_INET, _AF_INET6, _SOCK_STREAM, _IPPROTO_TCP = 2, 10, 1, 6
_MSG_FASTOPEN: Final = 0x20000000
_TCP_ULP: Final = 31
"""An option that makes another kind of socket of one of TCP's."""
_ALL: Final = 0xFFFFFFFF

_NUMBERS: Final = {
    "x86_64": {
        "socket": 41,
        "sendto": 44,
        "sendmsg": 46,
        "listen": 50,
        "setsockopt": 54,
        "prlimit64": 302,
        "sendmmsg": 307,
    },
    "aarch64": {
        "socket": 198,
        "listen": 201,
        "sendto": 206,
        "setsockopt": 208,
        "sendmsg": 211,
        "prlimit64": 261,
        "sendmmsg": 269,
    },
}


class _Rule(NamedTuple):
    call: str
    argument: int
    mask: int
    values: tuple[int, ...]
    allowed: bool
    """Whether it is these that may be, or all others."""
    refusal: int


_RULES: Final = (
    _Rule("socket", 0, _ALL, (_AF_INET, _AF_INET6), True, errno.EAFNOSUPPORT),
    _Rule("socket", 1, 0xF, (_SOCK_STREAM,), True, errno.EAFNOSUPPORT),
    _Rule("socket", 2, _ALL, (0, _IPPROTO_TCP), True, errno.EPROTONOSUPPORT),
    _Rule("sendto", 3, _MSG_FASTOPEN, (0,), True, errno.EOPNOTSUPP),
    _Rule("sendmsg", 2, _MSG_FASTOPEN, (0,), True, errno.EOPNOTSUPP),
    _Rule("sendmmsg", 3, _MSG_FASTOPEN, (0,), True, errno.EOPNOTSUPP),
    _Rule("setsockopt", 2, _ALL, (_TCP_ULP,), False, errno.ENOPROTOOPT),
    _Rule("listen", 0, 0, (), True, errno.EPERM),
    _Rule("prlimit64", 0, _ALL, (0,), True, errno.EPERM),
)


def program() -> bytes:
    """For this machine. Raises LookupError for one that nobody knows."""
    numbers = _NUMBERS[platform.machine()]
    instructions = [it for rule in _RULES for it in _compiled(rule, numbers[rule.call])]
    instructions.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)


def _compiled(rule: _Rule, number: int) -> list[tuple[int, int, int, int]]:
    """Goes on behind itself where it has nothing against a call."""
    left = len(rule.values)
    if rule.allowed:
        tests = [(_EQUAL, left - index, 0, value) for index, value in enumerate(rule.values)]
    else:
        others = [int(index == left - 1) for index in range(left)]
        tests = [(_EQUAL, left - 1 - index, others[index], it) for index, it in enumerate(rule.values)]
    refuse = (_RETURN, 0, 0, _REFUSE | rule.refusal)
    checks = [(_LOAD, 0, 0, _ARGUMENTS + 8 * rule.argument), (_AND, 0, 0, rule.mask), *tests, refuse]
    return [(_LOAD, 0, 0, _NUMBER), (_EQUAL, 0, len(checks), number), *checks]
