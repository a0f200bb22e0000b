"""What a runtime is: how a function of its language is started, and what of the host it needs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from lambent_worker.sandbox.api import Parkable

READ_WHEN_EXECUTED: Final = ("LD_", "MALLOC_", "GLIBC_TUNABLES", "LC_", "LANG")
"""How variables begin that the C library reads when a program starts: for a parked process too early."""


@dataclass(frozen=True, slots=True)
class Bytecode:
    """What packages are compiled with on a worker."""

    python: str
    """The interpreter's path."""
    tag: str
    """Its cache tag, which files of bytecode have in their names: `cpython-311`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """A runtime that this host can run. Paths in `argv` and `environment` are as an instance sees them."""

    name: str
    """As Lambda writes it, with the version that is here: `python3.11`, `nodejs20.x`, `provided.al2023`."""
    family: str
    """The folder it is described in, `python`, which also runs as the newest of its kind."""
    version: str
    """What the host's interpreter calls itself, for people to read."""
    argv: Callable[["Start"], tuple[str, ...]]
    environment: Callable[["Start"], Mapping[str, str]] = lambda start: {}
    """Added to what every instance gets; the function's own variables win."""
    prefixes: tuple[Path, ...] = ()
    """Host folders outside `/usr` that hold its interpreter."""
    frames: bool = False
    """It is ours and speaks frames on its channel; else it speaks to the Runtime API."""
    parkable: Parkable | None = None
    bytecode: Bytecode | None = None
    """Made of its packages; None where there is nothing to make."""

    def parked(self, memory_mb: int, variables: Mapping[str, str]) -> str:
        """Name of what is parked of it that suits a function with so much memory and these variables of its
        own, or empty."""
        it = self.parkable
        if it is None or it.memory_mb not in (0, memory_mb):
            return ""
        if any(name.startswith(READ_WHEN_EXECUTED) for name in variables):
            return ""
        suits = all(variables.get(name, value) == value for name, value in it.settled.items())
        return it.name if suits else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a start depends on, apart from the runtime."""

    runtime_dir: str
    """LAMBDA_RUNTIME_DIR as the instance sees it, where the runtime has a folder of its family's name."""
    task_root: str
    opt: str
    handler: str
    memory_mb: int

    @property
    def environment(self) -> dict[str, str]:
        """What every function has, unless it says otherwise, and interpreters read when they start."""
        return {
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "PATH": f"/usr/local/bin:/usr/bin:/bin:{self.opt}/bin",
            "LD_LIBRARY_PATH": f"{self.runtime_dir}/lib:{self.task_root}:{self.task_root}/lib:{self.opt}/lib",
        }


def parked_start(memory_mb: int) -> Start:
    """Of a process that does not know its function yet, in a sandbox that has Lambda's own folders."""
    return Start(
        runtime_dir="/var/runtime", task_root="/var/task", opt="/opt", handler="", memory_mb=memory_mb
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """A runtime that this host cannot run."""

    name: str
    family: str
    why: str
    """What is missing, and how to get it."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a family found on this host."""

    available: tuple[Runtime, ...] = ()
    unavailable: tuple[Unavailable, ...] = ()
    files: tuple[Path, ...] = field(default_factory=tuple)
    """What of its folder (or what it has compiled into the worker's data folder) goes to
    LAMBDA_RUNTIME_DIR/FAMILY in every instance: files and folders, each copied there by its name."""


class Family(Protocol):
    """What each folder of `runtimes` offers as `family`."""

    name: str

    def find(self, build: Path) -> Found:
        """Looks at this host. `build` is a folder of the worker's that is this family's: what has to be
        compiled for this host goes there, once. Takes its time: called in a thread."""
