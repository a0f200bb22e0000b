"""The kernel's calls that Python has no name for. Each raises OSError with the name of the call.

Standard library only: it runs in the fork server and in zygotes as well.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Final

CLONE_FS: Final = 0x00000200
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
CLONE_PIDFD: Final = 0x00001000
CLONE_PARENT: Final = 0x00008000
"""From <linux/sched.h>."""

MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
MNT_DETACH: Final = 2
MOUNT_ATTR_RDONLY: Final = 1
MOUNT_ATTR_NOSUID: Final = 2
MOUNT_ATTR_NODEV: Final = 4
MOUNT_ATTR_NOEXEC: Final = 8
OPEN_TREE_CLONE: Final = 1
MOVE_MOUNT_F_EMPTY_PATH: Final = 4
"""From <linux/mount.h>."""

AT_FDCWD: Final = -100
AT_EMPTY_PATH: Final = 0x1000
AT_RECURSIVE: Final = 0x8000
"""From <linux/fcntl.h>."""

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_SECCOMP: Final = 22
PR_CAPBSET_DROP: Final = 24
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
SECCOMP_MODE_FILTER: Final = 2
"""From <linux/prctl.h> and <linux/seccomp.h>."""

CAP_SETGID: Final = 6
CAP_SETUID: Final = 7
CAP_SYS_CHROOT: Final = 18
CAP_SYS_ADMIN: Final = 21
"""From <linux/capability.h>."""

_CAPABILITY_VERSION_3: Final = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl
_prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
_mount = _libc.mount
_mount.argtypes = (*(ctypes.c_char_p,) * 3, ctypes.c_ulong, ctypes.c_char_p)


def _system_call(number: int, *types: Any) -> Callable[..., int]:
    """For those that the C library has no function for."""
    call = _libc["syscall"]  # each time another object, with types of its own
    call.restype = ctypes.c_long
    call.argtypes = (ctypes.c_long, *types)
    return lambda *arguments: call(number, *arguments)


_PIVOT_ROOT, _CAPSET, _CLONE = {"x86_64": (155, 126, 56), "aarch64": (41, 91, 220)}.get(
    platform.machine(), (-1, -1, -1)
)
_pivot_root = _system_call(_PIVOT_ROOT, ctypes.c_char_p, ctypes.c_char_p)
_capset = _system_call(_CAPSET, ctypes.c_void_p, ctypes.c_void_p)
_open_tree = _system_call(428, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_move_mount = _system_call(429, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_mount_setattr = _system_call(
    442, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_size_t
)


def _checked(result: int, call: str, about: str = "") -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{call}{about and ' ' + about}: {os.strerror(code)}")
    return result


def unshare(flags: int) -> None:
    _checked(_libc.unshare(flags), "unshare", hex(flags))


def setns(fd: int, flags: int) -> None:
    """`fd` is a namespace, or a pidfd of who is in the namespaces of `flags`."""
    _checked(_libc.setns(fd, flags), "setns", hex(flags))


def clone(flags: int) -> tuple[int, int]:
    """As os.fork, with CLONE_* and without Python's own preparations: for processes without threads that run
    no function's code. The child's pid and a pidfd of it, or zeros in the child."""
    pidfd = ctypes.c_int(0)
    call = ctypes.PyDLL(None, use_errno=True)["syscall"]  # which keeps the interpreter's lock over the call
    call.restype = ctypes.c_long
    call.argtypes = (ctypes.c_long, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_void_p, *(ctypes.c_ulong,) * 2)
    pid = call(_CLONE, flags | CLONE_PIDFD | signal.SIGCHLD, None, ctypes.addressof(pidfd), 0, 0)
    return _checked(pid, "clone", hex(flags)), pidfd.value if pid else 0


def pid_of(pidfd: int) -> int:
    """As the reader's /proc counts. 0 if that process has ended, or the descriptor is no pidfd."""
    with open(f"/proc/self/fdinfo/{pidfd}") as file:
        for line in file:
            if line.startswith("Pid:"):
                return max(0, int(line.split()[1]))
    return 0


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    _checked(
        _mount(source.encode(), target.encode(), kind and kind.encode(), flags, data.encode()),
        "mount",
        target,
    )


def unmount(target: str) -> None:
    """At once out of sight; gone when nobody uses it any more."""
    _checked(_libc.umount2(target.encode(), MNT_DETACH), "umount2", target)


def pivot_root(new: str, old: str) -> None:
    _checked(_pivot_root(new.encode(), old.encode()), "pivot_root", new)


class _MountAttributes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns"))


def set_mount(fd: int, path: str, set_: int, recursive: bool = False) -> None:
    """Adds MOUNT_ATTR_* to the mount at `path`, or at `fd` if that is empty."""
    attributes = _MountAttributes(set_, 0, 0, 0)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    result = _mount_setattr(fd, path.encode(), flags, ctypes.addressof(attributes), ctypes.sizeof(attributes))
    _checked(result, "mount_setattr", path)


def detached(path: str, attributes: int) -> int:
    """A mount of what is at `path` and mounted below it, for nobody to see until it is attached."""
    flags = OPEN_TREE_CLONE | AT_RECURSIVE | os.O_CLOEXEC
    fd = _checked(_open_tree(AT_FDCWD, path.encode(), flags), "open_tree", path)
    try:
        set_mount(fd, "", attributes, recursive=True)
    except OSError:
        os.close(fd)
        raise
    return fd


def attach(fd: int, target: str) -> None:
    result = _move_mount(fd, b"", AT_FDCWD, target.encode(), MOVE_MOUNT_F_EMPTY_PATH)
    _checked(result, "move_mount", target)


def set_host_name(name: bytes) -> None:
    _checked(_libc.sethostname(name, ctypes.c_size_t(len(name))), "sethostname")


def set_command_line(text: bytes) -> None:
    """What others see as the arguments of this process, and of those that it forks."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b") ")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end, 48 and 49 of proc(5)
    if 0 < start < end:
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, text, min(len(text), end - start - 1))


def prctl(option: int, argument: int, second: int = 0) -> int:
    return _checked(_prctl(option, argument, second, 0, 0), "prctl", str(option))


def _last_capability() -> int:
    try:
        with open("/proc/sys/kernel/cap_last_cap") as file:
            return int(file.read())
    except OSError:
        return 40  # CAP_CHECKPOINT_RESTORE, the newest since Linux 5.9


_CAPABILITIES: Final = range(_last_capability() + 1)
_header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)


def drop_bounding_set() -> None:
    for capability in _CAPABILITIES:
        if _prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            _checked(-1, "prctl", "PR_CAPBSET_DROP")


def drop_capabilities(keep: Sequence[int] = ()) -> None:
    """Those in `keep`, all below 32, stay effective, and are not passed on to what is executed."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    kept = sum(1 << capability for capability in keep)
    data = (ctypes.c_uint32 * 6)(kept, kept)  # effective, permitted and inheritable, then their upper halves
    _checked(_capset(_header, data), "capset")


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


class Filter:
    """A seccomp program in classic BPF, 8 bytes an instruction, kept ready to load."""

    def __init__(self, instructions: bytes) -> None:
        self._instructions = instructions
        self._program: Any = _Program(len(instructions) // 8, instructions)
        self._address = ctypes.addressof(self._program)

    def load(self) -> None:
        """Needs PR_SET_NO_NEW_PRIVS, or CAP_SYS_ADMIN."""
        if self._instructions:
            prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, self._address)
