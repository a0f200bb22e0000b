"""What a process takes from itself before it executes a runtime, where it has no namespaces to be shut in.

Landlock for files and TCP, system call filters for everything else, resource limits, and another user where
it may. Standard library only; it runs in a child of the spawner's.
"""

import ctypes
import os
import resource
import struct
from base64 import b64decode
from typing import Any, Final

from lambent_worker.sandbox import kernel

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""System calls, with one number on all machines."""
_VERSION: Final = 1
_PATH_BENEATH, _NET_PORT = 1, 2
_CONNECT_TCP: Final = 1 << 1
_SCOPE_ABSTRACT_UNIX, _SCOPE_SIGNAL = 1, 2
_READ: Final = 1 << 0 | 1 << 2 | 1 << 3
"""Execute, read files, read folders."""
_ON_FILES: Final = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
"""What can be allowed for a file itself."""
_FS_BITS: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights on files each version knows; later ones as many as the fifth. From <linux/landlock.h>."""

NET_FROM, SCOPES_FROM = 4, 6
"""Landlock versions that know TCP ports, and signals and abstract sockets."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def landlock_version() -> int:
    """0 if this kernel has none, or it is switched off."""
    return max(0, _call(_CREATE_RULESET, 0, 0, _VERSION))


def confine(settings: dict[str, Any]) -> None:
    """Raises OSError. What is in `settings`:

    `uid`: the user and group to become, or None; `limits`: resource limits by name; `read` and `write`:
    paths; `ports`: TCP ports that may be connected to; `filters`: system call filters in base64.
    """
    for name, value in settings["limits"].items():
        number = getattr(resource, name)
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (value, value))
    if (uid := settings["uid"]) is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    elif os.geteuid() == 0:
        kernel.drop_bounding_set()
        kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    _landlock(settings["read"], settings["write"], settings["ports"])
    for instructions in settings["filters"]:
        kernel.Filter(b64decode(instructions)).load()


def _landlock(read: list[str], write: list[str], ports: list[int]) -> None:
    version = landlock_version()
    files = (1 << _FS_BITS[min(version, 5)]) - 1 if version else 0
    net = _CONNECT_TCP if version >= NET_FROM else 0
    scopes = _SCOPE_ABSTRACT_UNIX | _SCOPE_SIGNAL if version >= SCOPES_FROM else 0
    size = 8 if version < NET_FROM else 16 if version < SCOPES_FROM else 24
    attributes = struct.pack("=QQQ", files, net, scopes)[:size]
    ruleset = _checked(_call(_CREATE_RULESET, attributes, size, 0), "landlock_create_ruleset")
    for paths, allowed in ((read, _READ), (write, files)):
        for path in paths:
            _allow(ruleset, path, allowed & files)
    if net:
        for port in ports:
            rule = struct.pack("=QQ", _CONNECT_TCP, port)
            _checked(_call(_ADD_RULE, ruleset, _NET_PORT, rule, 0), "landlock_add_rule")
    _checked(_call(_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)


def _allow(ruleset: int, path: str, allowed: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # not every host has each of them
    try:
        if not os.path.isdir(path):
            allowed &= _ON_FILES
        rule = struct.pack("=Qi", allowed, fd)
        _checked(_call(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0), f"landlock_add_rule {path}")
    finally:
        os.close(fd)


def _call(number: int, *arguments: int | bytes) -> int:
    made = [ctypes.c_long(it) if isinstance(it, int) else ctypes.c_char_p(it) for it in arguments]
    return int(_libc.syscall(ctypes.c_long(number), *made))


def _checked(result: int, call: str) -> int:
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{call}: {os.strerror(errno)}")
    return result
