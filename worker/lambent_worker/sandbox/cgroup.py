"""One cgroup: what may be used by the processes in it, and how all of them are stopped or ended at once.

A process joins by writing `0` to each of `Cgroup.joins` itself. Any other way to move a process waits until
the kernel has held up every fork on the host: 5 to 20 ms, against 0.1 ms (measured on Linux 6.18).
"""

import errno
import os
import signal
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

from lambent_worker.sandbox.cgroup_trees import Tree, pids_in

_CPU_PERIOD_US: Final = 100_000
"""The kernel's default, as cpu.cfs_period_us and cpu.max have it."""
_LEAST_CPU_QUOTA_US: Final = 1_000
_REMOVE_WITHIN_S: Final = 0.5
"""A process that has been reaped may hold its cgroup for some milliseconds more."""
_RETRY_S: Final = 0.001


class Limits(NamedTuple):
    memory_bytes: int
    """Swap is not used at all."""
    cpus: float
    """CPU seconds a second, over a period of 0.1 s."""
    cpu_weight: float
    """The share under contention; 1.0 is what every process of the host has."""
    processes: int
    """Threads count as well."""


class Cgroup:
    """One cgroup in each tree; empty at first. Its files are opened once, so that `limit` is only writes."""

    def __init__(self, folders: Mapping[Tree, str], tree_of: Mapping[str, Tree]) -> None:
        self._folders = folders
        self._files: dict[str, int] = {}
        self._memory, self._cpu, self._pids, self._freezer = (
            tree_of.get(name) for name in ("memory", "cpu", "pids", "freeze")
        )
        self._killer = next((tree for tree in folders if tree.kills), None)
        try:
            self.joins: tuple[int, ...] = tuple(self._open(tree, tree.join) for tree in folders)
            """A process that writes b"0" to each of these descriptors is inside."""
            self.into: int | None = self._directory()
            """Where not None: a process cloned into this descriptor (CLONE_INTO_CGROUP) need not join, which
            would hold it up for 5 to 20 ms here."""
            self._open_limits()
        except OSError:
            self.close()
            raise

    def limit(self, limits: Limits) -> None:
        """May be called again. Raises OSError, for instance if more memory than that is used already."""
        self._limit_memory(limits.memory_bytes)
        quota = max(_LEAST_CPU_QUOTA_US, round(limits.cpus * _CPU_PERIOD_US))
        if self._cpu and self._cpu.version == 1:
            self._write(self._cpu, "cpu.cfs_quota_us", quota)
            self._write(self._cpu, "cpu.shares", max(2, round(1024 * limits.cpu_weight)))
        elif self._cpu:
            self._write(self._cpu, "cpu.max", f"{quota} {_CPU_PERIOD_US}")
            self._write(self._cpu, "cpu.weight", min(10_000, max(1, round(100 * limits.cpu_weight))))
        if self._pids:
            self._write(self._pids, "pids.max", limits.processes)

    def peak_bytes(self) -> int:
        """The most memory used since it was made or `reset_peak`, page cache included; 0 if nobody counts."""
        if not self._memory:
            return 0
        return int(self._read(self._memory, self._peak_file))

    @property
    def counters(self) -> tuple[str, str] | None:
        """Files with the peak of memory and with the count of OOM kills; None if nobody counts."""
        if not self._memory:
            return None
        name = "memory.oom_control" if self._memory.version == 1 else "memory.events"
        return (f"{self._folders[self._memory]}/{self._peak_file}", f"{self._folders[self._memory]}/{name}")

    def reset_peak(self) -> bool:
        """Whether the kernel can: v2 learned it with Linux 6.12."""
        if not self._memory or self._peak_file == "memory.current":
            return False
        try:
            self._write(self._memory, self._peak_file, 0)
        except OSError:
            return False
        return True

    def oom_kills(self) -> int:
        """How many of its processes the kernel has killed because of the memory limit."""
        if not self._memory:
            return 0
        name = "memory.oom_control" if self._memory.version == 1 else "memory.events"
        for line in self._read(self._memory, name).splitlines():
            key, _, value = line.partition(b" ")
            if key == b"oom_kill":
                return int(value)
        return 0

    def freeze(self) -> None:
        """None of its processes runs until `thaw`, from some microseconds later on."""
        self._set_frozen(True)

    def thaw(self) -> None:
        self._set_frozen(False)

    def kill(self) -> None:
        """Every process in it ends, frozen or not, and none of them can fork out of it. Does not wait."""
        if self._killer:
            self._write(self._killer, "cgroup.kill", 1)
        else:
            self.freeze()
            signal_all(self._folders.items())
        self.thaw()

    def processes(self) -> set[int]:
        """Process ids; where the kernel lists threads alone, thread ids."""
        return {pid for tree, folder in self._folders.items() for pid in pids_in(tree, folder)}

    def remove(self) -> None:
        """Closes it too. Its processes must be gone. Raises OSError if they are not within 0.5 s."""
        self.close()
        end = time.monotonic() + _REMOVE_WITHIN_S
        for folder in self._folders.values():
            while not removed(folder):
                if time.monotonic() > end:
                    raise OSError(errno.EBUSY, "there are still processes in this cgroup", folder)
                time.sleep(_RETRY_S)

    def close(self) -> None:
        """The cgroup stays, and limits whatever is in it."""
        files, self._files = self._files, {}
        for file in files.values():
            os.close(file)

    def _open_limits(self) -> None:
        memory = self._memory
        self._swap_file = self._peak_file = ""
        if memory and memory.version == 1:
            self._open(memory, "memory.limit_in_bytes")
            self._swap_file = self._open_first(memory, "memory.memsw.limit_in_bytes", "memory.swappiness")
            self._peak_file = self._open_first(memory, "memory.max_usage_in_bytes", "")
        elif memory:
            self._open(memory, "memory.max")
            self._swap_file = self._open_first(memory, "memory.swap.max", "")
            # Before Linux 5.19 the kernel keeps no peak. A peak is reset for the one descriptor alone.
            self._peak_file = self._open_first(memory, "memory.peak", "memory.current")
        if self._cpu:
            v1 = self._cpu.version == 1
            self._open(self._cpu, "cpu.cfs_quota_us" if v1 else "cpu.max")
            self._open(self._cpu, "cpu.shares" if v1 else "cpu.weight")
        if self._pids:
            self._open(self._pids, "pids.max")
        if self._freezer:
            self._open(self._freezer, self._freezer.freeze)
        if self._killer:
            self._open(self._killer, "cgroup.kill")

    def _limit_memory(self, size: int) -> None:
        if not self._memory:
            return
        if self._memory.version == 2:
            self._write(self._memory, "memory.max", size)
            if self._swap_file:
                self._write(self._memory, self._swap_file, 0)
            return
        if self._swap_file == "memory.swappiness":
            self._write(self._memory, self._swap_file, 0)
            self._write(self._memory, "memory.limit_in_bytes", size)
            return
        # Memory and swap together may never be less than memory: which goes first depends on the old limit.
        try:
            self._write(self._memory, "memory.limit_in_bytes", size)
            self._write(self._memory, self._swap_file, size)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._write(self._memory, self._swap_file, size)
            self._write(self._memory, "memory.limit_in_bytes", size)

    def _set_frozen(self, frozen: bool) -> None:
        if self._freezer and self._freezer.version == 1:
            self._write(self._freezer, "freezer.state", "FROZEN" if frozen else "THAWED")
        elif self._freezer:
            self._write(self._freezer, "cgroup.freeze", int(frozen))

    def _directory(self) -> int | None:
        """Of the one v2 tree that has everything."""
        match list(self._folders.items()):
            case [(Tree(version=2, threaded=False), folder)]:
                file = self._files["/"] = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                return file
            case _:
                return None

    def _open(self, tree: Tree, name: str, flags: int = os.O_WRONLY) -> int:
        path = f"{self._folders[tree]}/{name}"
        if path not in self._files:
            self._files[path] = os.open(path, flags | os.O_CLOEXEC)
        return self._files[path]

    def _open_first(self, tree: Tree, name: str, otherwise: str) -> str:
        flags = os.O_RDWR if name == "memory.peak" else os.O_WRONLY
        try:
            self._open(tree, name, flags)
        except FileNotFoundError:
            return otherwise
        except PermissionError:  # memory.peak before Linux 6.12
            self._open(tree, name, os.O_RDONLY)
        return name

    def _write(self, tree: Tree, name: str, value: object) -> None:
        os.write(self._files[f"{self._folders[tree]}/{name}"], str(value).encode())

    def _read(self, tree: Tree, name: str) -> bytes:
        path = f"{self._folders[tree]}/{name}"
        if name == "memory.peak":
            return os.pread(self._files[path], 4096, 0)
        with open(path, "rb") as file:
            return file.read()


def signal_all(folders: Iterable[tuple[Tree, str]]) -> None:
    """Until a look at the list shows nobody new: a process with SIGKILL before it does not fork any more."""
    folders = list(folders)
    killed: set[int] = set()
    while new := {pid for tree, folder in folders for pid in pids_in(tree, folder)} - killed:
        for pid in new:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed |= new


def removed(folder: str) -> bool:
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True
