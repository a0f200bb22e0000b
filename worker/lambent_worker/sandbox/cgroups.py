"""Control groups: how much instances may use, and how all processes of one are stopped or ended at once.

What works is tried out, never read off the host's version: v1, v2, and hosts with both. Standard library
only, and no threads: the processes that start instances use it.
"""

import errno
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, NoReturn, Self

from lambent_worker.sandbox.cgroup import Cgroup, Limits, removed, signal_all
from lambent_worker.sandbox.cgroup_trees import Tree, find_trees, write

__all__ = ["Cgroup", "Cgroups", "Limits"]

_SWEEP_WITHIN_S: Final = 10.0
_DIES_WITHIN_S: Final = 2.0
_RETRY_S: Final = 0.001


class Cgroups:
    """What this host's cgroups can do for instances."""

    def __init__(self, tree_of: Mapping[str, Tree], why: Mapping[str, str]) -> None:
        self._tree_of = tree_of
        self._trees = tuple(dict.fromkeys(tree_of.values()))
        self._parents: set[str] = set()
        self.given = frozenset(tree_of)
        """Of `cgroup_trees.CAPABILITIES`."""
        self.why = why
        """By capability: why it is not given."""

    @classmethod
    def detect(cls) -> Self:
        """Tries each capability: makes a throw-away cgroup, limits it, puts a child in it, and kills that."""
        found, missing = find_trees()
        why = dict(missing)
        tree_of: dict[str, Tree] = {}
        for capability, trees in found.items():
            for tree in trees:
                if not (reason := _fault(cls({capability: tree}, {}))):
                    tree_of[capability] = tree
                    break
                why.setdefault(capability, reason)
        return cls(tree_of, {name: reason for name, reason in why.items() if name not in tree_of})

    def make(self, parent: str, name: str) -> Cgroup:
        """Raises OSError, for instance FileExistsError; nothing is left then."""
        if parent not in self._parents:
            for tree in self._trees:
                tree.make_parent(parent)
            self._parents.add(parent)
        folders: dict[Tree, str] = {}
        try:
            for tree in self._trees:
                folders[tree] = tree.make(parent, name)
            return Cgroup(folders, self._tree_of)
        except OSError:
            for folder in folders.values():
                os.rmdir(folder)
            raise

    def sweep(self, parent: str) -> None:
        """Kills every process in cgroups under `parent` that an earlier worker left, and removes them.

        Raises OSError if a process does not die within 10 s.
        """
        self._parents.discard(parent)
        end = time.monotonic() + _SWEEP_WITHIN_S
        while folders := [(tree, folder) for tree in self._trees for folder in tree.leftovers(parent)]:
            signal_all(folders)
            for tree, folder in folders:
                # What the v1 freezer has frozen dies only when it is thawed.
                with suppress(OSError):
                    write(f"{folder}/{tree.freeze}", tree.thawed)
            if not [folder for _, folder in folders if not removed(folder)]:
                return
            if time.monotonic() > end:
                raise OSError(errno.EBUSY, "processes of an earlier worker do not die", folders[0][1])
            time.sleep(_RETRY_S)


def _fault(cgroups: Cgroups) -> str:
    """Why what these cgroups say they give does not work; empty if it does."""
    parent = f"lambent-probe-{os.getpid()}"
    try:
        cgroup = cgroups.make(parent, "probe")
        try:
            cgroup.limit(Limits(memory_bytes=64 << 20, cpus=0.5, cpu_weight=0.5, processes=16))
            return _child_fault(cgroup)
        finally:
            cgroup.close()
    except OSError as error:
        return f"tried it, and failed: {error}"
    finally:
        with suppress(OSError):
            cgroups.sweep(parent)


def _child_fault(cgroup: Cgroup) -> str:
    joined, tell = os.pipe()
    child = os.fork()
    if child == 0:
        _join_and_wait(cgroup.joins, tell)
    try:
        os.close(tell)
        if refusal := os.read(joined, 100).decode():
            return f"a process cannot join a cgroup: {refusal}"
        if child not in cgroup.processes():
            return "a process that joined a cgroup is not in it"
        cgroup.freeze()
        cgroup.kill()
        return "" if _ends(child) else "a process did not end when its cgroup was killed"
    finally:
        os.close(joined)
        with suppress(ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _join_and_wait(joins: tuple[int, ...], tell: int) -> NoReturn:
    try:
        for join in joins:
            os.write(join, b"0")
        os.close(tell)
    except OSError as error:
        os.write(tell, str(error).encode()[:100])
    while True:
        signal.pause()


def _ends(child: int) -> bool:
    """Leaves it to be reaped."""
    end = time.monotonic() + _DIES_WITHIN_S
    while time.monotonic() < end:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return True
        time.sleep(_RETRY_S)
    return False
