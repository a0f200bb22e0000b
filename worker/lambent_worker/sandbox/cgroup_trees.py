"""The cgroup trees of this host: where they are mounted, and in which folder a worker may make its own.

v1 has a tree for each controller, v2 one for all. A host may have both; then v2 has none of the controllers
that limit anything. Its tree still freezes better than v1's, and joining costs as little if the cgroups in it
are *threaded*: otherwise joining holds up every fork on the host.
"""

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

_CONTROLLERS: Final = ("memory", "cpu", "pids")
CAPABILITIES: Final = (*_CONTROLLERS, "freeze", "kill")
"""What cgroups may be able to do."""

_LEAF: Final = "worker"
"""Where the processes of a delegated cgroup go: v2 gives controllers only to children of an empty one."""


def write(path: str, value: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, value.encode())
    finally:
        os.close(file)


class Tree(NamedTuple):
    """One hierarchy."""

    version: int
    mount: str
    top: str
    """Folder of the parents."""
    controllers: tuple[str, ...] = ()
    """v2: what the children of `top` are given."""
    threaded: bool = False
    kills: bool = False
    """cgroup.kill is there."""

    @property
    def join(self) -> str:
        return "tasks" if self.version == 1 else "cgroup.threads" if self.threaded else "cgroup.procs"

    @property
    def freeze(self) -> str:
        return "freezer.state" if self.version == 1 else "cgroup.freeze"

    @property
    def thawed(self) -> str:
        return "THAWED" if self.version == 1 else "0"

    def make_parent(self, parent: str) -> None:
        with suppress(FileExistsError):
            os.mkdir(f"{self.top}/{parent}")
        if self.threaded:
            write(f"{self.top}/{parent}/cgroup.type", "threaded")
        if self.controllers:
            _give(f"{self.top}/{parent}", self.controllers)

    def make(self, parent: str, name: str) -> str:
        folder = f"{self.top}/{parent}/{name}"
        os.mkdir(folder)
        if self.threaded:
            write(f"{folder}/cgroup.type", "threaded")
        return folder

    def leftovers(self, parent: str) -> Iterator[str]:
        """Cgroups of that name and all below, deepest first: wherever an earlier worker ran."""
        for folder, inner, _ in os.walk(self.mount):
            if parent in inner:
                for below, _, _ in os.walk(f"{folder}/{parent}", topdown=False):
                    yield below


def pids_in(tree: Tree, folder: str) -> list[int]:
    """Those in a threaded cgroup are thread ids, which a signal may be sent to just as well."""
    try:
        with open(f"{folder}/cgroup.threads" if tree.threaded else f"{folder}/cgroup.procs") as file:
            return [int(line) for line in file]
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):  # it has been removed
            return []
        raise


def find_trees() -> tuple[Mapping[str, list[Tree]], Mapping[str, str]]:
    """Trees for each of CAPABILITIES, the best first, and why there is none for the others."""
    v1, v2 = _mounts()
    own = _own_cgroups()
    found: dict[str, list[Tree]] = {}
    why: dict[str, str] = {}
    if v2:
        wanted = tuple(name for name in _CONTROLLERS if name not in v1)
        try:
            found = {name: [tree] for name, tree in _v2_tree(v2, own.get("", "/"), wanted).items()}
        except OSError as error:
            why = dict.fromkeys((*wanted, "freeze"), f"no cgroup can be made in {v2.point}: {error.strerror}")
    for capability, controller in (*((name, name) for name in _CONTROLLERS), ("freeze", "freezer")):
        if controller in v1:
            try:
                tree = _v1_tree(v1[controller], own.get(controller, "/"))
                found.setdefault(capability, []).append(tree)
            except OSError as error:
                why[capability] = f"no cgroup can be made in {v1[controller].point}: {error.strerror}"
    # Whatever tree they are in, processes can be ended by it.
    if able := [*found.get("freeze", ()), *(tree for trees in found.values() for tree in trees)]:
        found["kill"] = able
    elif why:
        why["kill"] = next(iter(why.values()))
    nothing = dict.fromkeys(CAPABILITIES, "this host has no cgroup tree that can do it")
    return found, {name: reason for name, reason in (nothing | why).items() if name not in found}


class _Mount(NamedTuple):
    point: str
    root: str
    """Which cgroup is seen there."""

    def folder(self, cgroup: str) -> str:
        if self.root != "/" and (cgroup + "/").startswith(self.root + "/"):
            cgroup = cgroup[len(self.root) :]
        return f"{self.point}/{cgroup}".rstrip("/").replace("//", "/")


def _mounts() -> tuple[dict[str, _Mount], _Mount | None]:
    """Of v1 by controller, and of v2."""
    v1: dict[str, _Mount] = {}
    v2: _Mount | None = None
    with open("/proc/self/mountinfo") as file:
        for line in file:
            before, _, after = line.rstrip("\n").partition(" - ")
            kind, _, options = after.split(" ", 2)
            _, _, _, root, point, *_ = before.split(" ")
            if kind == "cgroup":
                for option in options.split(","):
                    v1.setdefault(option, _Mount(point, root))
            elif kind == "cgroup2":
                v2 = v2 or _Mount(point, root)
    return v1, v2


def _own_cgroups() -> dict[str, str]:
    """The cgroup of this process by v1 controller; that of v2 under the empty name."""
    own: dict[str, str] = {}
    with open("/proc/self/cgroup") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            own |= dict.fromkeys(controllers.split(","), path)
    return own


def _v1_tree(mount: _Mount, own: str) -> Tree:
    tops = dict.fromkeys((mount.point, mount.folder(own)))
    return _first_that_works(Tree(version=1, mount=mount.point, top=top) for top in tops)


def _v2_tree(mount: _Mount, own: str, wanted: tuple[str, ...]) -> dict[str, Tree]:
    """With every controller of `wanted` that it has."""
    inner = mount.folder(own)
    if not (controllers := tuple(name for name in wanted if name in _listed(mount.point, "controllers"))):
        # A process may join a threaded cgroup only from the cgroup that this one is in.
        tree = _first_that_works([Tree(version=2, mount=mount.point, top=inner, threaded=True)])
        return {"freeze": tree}
    if os.path.basename(inner) == _LEAF:  # an earlier start has put us there
        inner = os.path.dirname(inner)
    tops = dict.fromkeys((mount.point, inner))
    tree = _first_that_works(
        Tree(version=2, mount=mount.point, top=top, controllers=controllers) for top in tops
    )
    return dict.fromkeys((*controllers, "freeze"), tree)


def _first_that_works(trees: Iterable[Tree]) -> Tree:
    """With what the kernel's files in a new cgroup say that it can do. Raises OSError if none works."""
    failure = OSError(errno.ENOENT, "there is none")
    for tree in trees:
        name = f"lambent-try-{os.getpid()}"
        try:
            if tree.controllers:
                _give(tree.top, tree.controllers)
            tree.make_parent(name)
        except OSError as error:
            failure = error
        else:
            return tree._replace(kills=not tree.threaded and os.path.exists(f"{tree.top}/{name}/cgroup.kill"))
        finally:
            with suppress(OSError):
                os.rmdir(f"{tree.top}/{name}")
    raise failure


def _listed(folder: str, what: str) -> list[str]:
    with open(f"{folder}/cgroup.{what}") as file:
        return file.read().split()


def _give(folder: str, controllers: tuple[str, ...]) -> None:
    """Lets children of a cgroup have controllers. Its own processes go to a child first if needed."""
    if set(controllers) <= set(_listed(folder, "subtree_control")):
        return
    value = " ".join(f"+{name}" for name in controllers)
    try:
        write(f"{folder}/cgroup.subtree_control", value)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        with suppress(FileExistsError):
            os.mkdir(f"{folder}/{_LEAF}")
        for pid in _listed(folder, "procs"):
            with suppress(ProcessLookupError):
                write(f"{folder}/{_LEAF}/cgroup.procs", pid)
        write(f"{folder}/cgroup.subtree_control", value)
