"""What each protection of a sandbox costs by itself: how much longer a child lives that makes it, and ends.

A child forks, does the one thing, and exits; beside it, in turns, one that does nothing. What the kernel
takes back only later, such as network namespaces, is not in it.
"""

import os
import platform
import signal
import statistics
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from lambent_chassis.clock import monotonic_s
from lambent_worker.sandbox import entry, kernel, seccomp
from lambent_worker.sandbox.cgroups import Cgroups, Limits
from lambent_worker.sandbox.confine import confine
from lambent_worker.sandbox.shell import api_listener
from lambent_worker.sandbox.tmp_disk import TmpDisks

Step = Callable[[], None]

UID: Final = 799_999
_MOUNTED: Final = kernel.MS_NOSUID | kernel.MS_NODEV


def costs(count: int) -> dict[str, float]:
    """Microseconds, by what it is. Needs root."""
    filter_ = kernel.Filter(seccomp.program(platform.machine()))
    with tempfile.TemporaryDirectory(prefix="lambent-protections-") as folder:
        steps: dict[str, Step] = {
            "nothing": lambda: None,
            "user namespace": lambda: kernel.unshare(kernel.CLONE_NEWUSER),
            "process namespace, for its child": _child_in_process_namespace,
            "mount namespace": lambda: kernel.unshare(kernel.CLONE_NEWNS),
            "ipc namespace": lambda: kernel.unshare(kernel.CLONE_NEWIPC),
            "uts namespace": lambda: kernel.unshare(kernel.CLONE_NEWUTS),
            "cgroup namespace": lambda: kernel.unshare(kernel.CLONE_NEWCGROUP),
            "network namespace, loopback, listener": _network,
            "own /tmp, in memory": lambda: _tmpfs(folder),
            "own user": _own_user,
            "capabilities": _capabilities,
            "system call filter": lambda: _filter(filter_),
            "Landlock": lambda: _landlock(folder),
        }
        found = {name: _longer(steps["nothing"], step, count) for name, step in steps.items()}
        del found["nothing"]
        found["cgroups, with limits"] = _cgroups(count)
        with suppress(OSError):
            found["own /tmp, on disk"] = _disk(Path(folder), count)
    return found


def _longer(nothing: Step, step: Step, count: int) -> float:
    differences = []
    for _ in range(count):
        empty_s = _life_s(nothing)
        differences.append(_life_s(step) - empty_s)
    return statistics.median(differences) * 1e6


def _life_s(step: Step) -> float:
    began = monotonic_s()
    pid = os.fork()
    if pid == 0:
        try:
            step()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    if status:
        raise OSError(f"a step failed with status {os.waitstatus_to_exitcode(status)}")
    return monotonic_s() - began


def _child_in_process_namespace() -> None:
    kernel.unshare(kernel.CLONE_NEWPID)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _network() -> None:
    kernel.unshare(kernel.CLONE_NEWNET)
    api_listener()


def _tmpfs(folder: str) -> None:
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmp", folder, "tmpfs", _MOUNTED, "size=512m")


def _own_user() -> None:
    entry.give_up_groups_and_limits()
    entry.become(UID, UID)


def _capabilities() -> None:
    kernel.drop_bounding_set()
    kernel.drop_capabilities()


def _filter(filter_: kernel.Filter) -> None:
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    filter_.load()


def _landlock(folder: str) -> None:
    confine(
        {"uid": None, "limits": {}, "read": ["/usr", "/proc"], "write": [folder], "ports": [], "filters": []}
    )


def _cgroups(count: int) -> float:
    cgroups = Cgroups.detect()
    parent = f"lambent-protections-{os.getpid()}"
    times = []
    try:
        for number in range(count):
            began = monotonic_s()
            cgroup = cgroups.make(parent, f"{number}")
            cgroup.limit(Limits(memory_bytes=128 << 20, cpus=1.0, cpu_weight=1.0, processes=100))
            pid = os.fork()
            if pid == 0:
                for join in cgroup.joins:
                    os.write(join, b"0")
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(pid, 0)
            cgroup.remove()
            times.append(monotonic_s() - began)
    finally:
        cgroups.sweep(parent)
    return (statistics.median(times) - statistics.median(_life_s(lambda: None) for _ in range(count))) * 1e6


def _disk(folder: Path, count: int) -> float:
    disks = TmpDisks.open(folder)
    times = []
    for _ in range(count):
        began = monotonic_s()
        os.close(disks.make(512))
        times.append(monotonic_s() - began)
    return statistics.median(times) * 1e6
