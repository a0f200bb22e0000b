"""What this host can do for sandboxes: each block is tried in a throw-away process, no version is believed.

Without root, what needs it is tried in a user namespace, as the backend does. Nothing is left of a try; only
where a cgroup of v2 has been delegated to this user, its processes may be in a child of it afterwards.
"""

import ctypes
import fcntl
import os
import platform
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

from lambent_worker.sandbox import kernel, seccomp
from lambent_worker.sandbox.cgroups import Cgroups
from lambent_worker.sandbox.tmp_disk import TmpDisks

_TRY_S: Final = 5.0
_SOMEBODY: Final = 64_999
"""A user that no host has: what is tried as it, is tried as nobody in particular."""

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
"""From <linux/sockios.h> and <linux/if.h>."""
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446
_LANDLOCK_VERSION: Final = 1
_LANDLOCK_READ_FILE: Final = 1 << 2
"""From <linux/landlock.h>."""


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    detail: str
    """What was found, or why it does not work."""
    protects: tuple[str, ...]
    """Of `api.PROTECTIONS`: those that need it, in one backend or another."""

    @property
    def row(self) -> tuple[str, str, str, str]:
        """For a table: name, whether it works, what needs it, detail."""
        return self.name, "yes" if self.ok else "no", ", ".join(self.protects), self.detail


Block = Callable[[], str]
"""Says what it found. Raises OSError if it does not work."""


def probe(scratch: Path = Path("/var/tmp")) -> list[Check]:
    """Takes about a second. `scratch` is on the disk whose loop devices are tried. Needs a single thread."""
    return [
        *(_checked(name, protects, partial(_in_child, block)) for name, protects, block in _BLOCKS),
        *_cgroup_checks(),
        _checked("/tmp on disk", ("tmp_on_disk", "disk_limit"), partial(_tmp_disk, scratch)),
        *(_checked(name, protects, tool) for name, protects, tool in _TOOLS),
    ]


def _checked(name: str, protects: tuple[str, ...], block: Block) -> Check:
    try:
        return Check(name, True, block(), protects)
    except (OSError, LookupError) as error:
        return Check(name, False, _why(error), protects)


def _why(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _in_child(block: Block) -> str:
    """What it says in a process of its own, which ends then. Raises OSError with what it raised there."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told)
        _say(block, tell)
    os.close(tell)
    try:
        ready, _, _ = select.select([told], [], [], _TRY_S)
        answer = os.read(told, 4096).decode() if ready else f"-did not end within {_TRY_S:.0f} s"
    finally:
        os.close(told)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if not answer.startswith("+"):
        raise OSError(answer[1:] or "the process that tried it died")
    return answer[1:]


def _say(block: Block, tell: int) -> NoReturn:
    try:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        answer = "+" + block()
    except BaseException as error:  # noqa: BLE001 - it is said to the parent, who raises
        answer = f"-{_why(error)}"
    os.write(tell, answer.encode()[:4096])
    os._exit(0)


def _unshare(flags: int) -> None:
    """As root, or in a user namespace of its own in which it is root."""
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        kernel.unshare(flags)
        return
    kernel.unshare(flags | kernel.CLONE_NEWUSER)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # who was root before does not own its /proc/self otherwise
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        Path(f"/proc/self/{name}").write_text(text)


def _user_namespace() -> str:
    if os.geteuid() == 0:
        os.setresgid(_SOMEBODY, _SOMEBODY, _SOMEBODY)
        os.setresuid(_SOMEBODY, _SOMEBODY, _SOMEBODY)
    _unshare(kernel.CLONE_NEWUSER)
    return "a plain user may make one"


def _pid_namespace() -> str:
    _unshare(kernel.CLONE_NEWPID)
    if (inside := _in_child(lambda: str(os.getpid()))) != "1":
        raise OSError(f"the first process in it has number {inside}")
    return ""


def _mount_namespace() -> str:
    _unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWPID)
    return _in_child(_own_root)


def _own_root() -> str:
    scratch = tempfile.gettempdir()
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("none", scratch, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m")
    os.chdir(scratch)
    os.mkdir("proc")
    kernel.mount("proc", "proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    kernel.pivot_root(".", ".")
    kernel.unmount(".")
    os.chdir("/")
    processes = [name for name in os.listdir("/proc") if name.isdigit()]
    if os.listdir("/") != ["proc"] or processes != ["1"]:
        raise OSError("the host's files or processes are still to be seen in it")
    return "pivot_root, tmpfs, own /proc"


def _ipc_namespace() -> str:
    _unshare(kernel.CLONE_NEWIPC)
    return ""


def _uts_namespace() -> str:
    _unshare(kernel.CLONE_NEWUTS)
    kernel.set_host_name(b"lambent")
    return ""


def _cgroup_namespace() -> str:
    _unshare(kernel.CLONE_NEWCGROUP)
    return ""


def _network_namespace() -> str:
    _unshare(kernel.CLONE_NEWNET)
    with socket.socket() as it:
        _, flags = struct.unpack("16sH22x", fcntl.ioctl(it, _SIOCGIFFLAGS, struct.pack("16sH22x", b"lo", 0)))
        fcntl.ioctl(it, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | _IFF_UP))
        it.bind(("127.0.0.1", 9001))
    return "own loopback"


def _mount_calls() -> str:
    _unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    scratch = tempfile.gettempdir()
    kernel.attach(kernel.detached("/usr", kernel.MOUNT_ATTR_RDONLY), scratch)
    if not os.statvfs(scratch).f_flag & os.ST_RDONLY:
        raise OSError("what was mounted to be read only can be written to")
    return "open_tree, mount_setattr, move_mount"


def _no_new_privileges() -> str:
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    return ""


def _system_call_filter() -> str:
    program = seccomp.program(platform.machine())
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.Filter(program).load()
    try:
        kernel.unshare(kernel.CLONE_NEWUSER)
    except PermissionError:
        return f"{len(program) // 8} instructions for {platform.machine()}"
    raise OSError("a call that it refuses was let through")


def _landlock() -> str:
    call = ctypes.CDLL(None, use_errno=True).syscall
    version = call(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_VERSION)
    handled = ctypes.c_uint64(_LANDLOCK_READ_FILE)
    rules = call(_LANDLOCK_CREATE_RULESET, ctypes.byref(handled), ctypes.c_size_t(8), 0)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if rules < 0 or call(_LANDLOCK_RESTRICT_SELF, rules, 0) < 0:
        raise OSError(os.strerror(ctypes.get_errno()))
    with suppress(PermissionError):
        Path("/proc/self/status").read_bytes()
        raise OSError("a file could be read that it forbids")
    return f"ABI {version}"


def _own_users() -> str:
    os.setgroups([])
    os.setresgid(_SOMEBODY, _SOMEBODY, _SOMEBODY)
    os.setresuid(_SOMEBODY, _SOMEBODY, _SOMEBODY)
    with suppress(PermissionError):
        os.setuid(0)
        raise OSError("a process that gave root up could take it again")
    return ""


_BLOCKS: Final[tuple[tuple[str, tuple[str, ...], Block], ...]] = (
    ("user namespace", (), _user_namespace),
    ("process namespace", ("environment", "memory", "worker", "kill_all"), _pid_namespace),
    ("mount namespace", ("files", "worker", "disk_limit"), _mount_namespace),
    ("IPC namespace", ("memory",), _ipc_namespace),
    ("UTS namespace", (), _uts_namespace),
    ("cgroup namespace", (), _cgroup_namespace),
    ("network namespace", ("network", "events"), _network_namespace),
    ("detached mounts", ("files",), _mount_calls),
    ("no new privileges", ("worker", "syscalls"), _no_new_privileges),
    ("system call filter", ("syscalls",), _system_call_filter),
    ("Landlock", ("files",), _landlock),
    ("own users", ("own_user",), _own_users),
)

_CGROUPS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("memory", ("memory_limit",)),
    ("cpu", ("cpu_limit",)),
    ("pids", ("process_limit",)),
    ("freeze", ()),
    ("kill", ("kill_all",)),
)


def _cgroup_checks() -> Iterator[Check]:
    cgroups = Cgroups.detect()
    for capability, protects in _CGROUPS:
        ok = capability in cgroups.given
        yield Check(f"cgroup: {capability}", ok, cgroups.why.get(capability, ""), protects)


def _tmp_disk(scratch: Path) -> str:
    TmpDisks.open(scratch)
    return "ext4 on a loop device"


def _ran(*command: str, package: str) -> str:
    """The first line of what it says of itself."""
    if not shutil.which(command[0]):
        raise OSError(f"not on the PATH ({package})")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TRY_S, check=False)
    except subprocess.TimeoutExpired:
        raise OSError(f"did not end within {_TRY_S:.0f} s") from None
    if done.returncode:
        raise OSError((done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1])
    return (done.stdout.strip() or "it runs").splitlines()[0]


def _bubblewrap() -> str:
    namespaces = (
        ("user", "pid", "ipc", "uts", "cgroup", "net") if os.geteuid() else ("pid", "ipc", "uts", "net")
    )
    # --unshare-all would leave out in silence what does not work.
    unshare = (f"--unshare-{name}" for name in namespaces)
    _ran("bwrap", *unshare, "--ro-bind", "/", "/", "--proc", "/proc", "true", package="Debian: bubblewrap")
    return _ran("bwrap", "--version", package="")


def _gvisor() -> str:
    rootless = ("--rootless",) if os.geteuid() else ()
    _ran("runsc", *rootless, "--network=none", "--ignore-cgroups", "do", "true", package="gVisor: runsc")
    return _ran("runsc", "--version", package="")


def _slirp4netns() -> str:
    return _ran("slirp4netns", "--version", package="Debian: slirp4netns")


_TOOLS: Final[tuple[tuple[str, tuple[str, ...], Block], ...]] = (
    ("bwrap", (), _bubblewrap),
    ("runsc", ("own_kernel",), _gvisor),
    ("slirp4netns", (), _slirp4netns),
)
