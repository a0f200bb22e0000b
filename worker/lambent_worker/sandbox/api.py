"""What every sandbox backend offers: a sandbox for one instance, processes in it, and the moment it is gone.

A sandbox outlives the processes in it: after a crash or a timeout `clear` ends what runs there, its `/tmp`
stays, and the runtime is launched in it again.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from lambent_proto.ids import InstanceId

CHANNEL_FD: Final = 3
"""A process's end of its channel, in every backend."""

PROTECTIONS: Final[Mapping[str, str]] = {
    "files": "an instance cannot read or write files of other instances or of the host",
    "environment": "an instance cannot read the environment of other instances",
    "memory": "an instance cannot read or write the memory of other instances",
    "events": "an instance cannot read or answer the events of other instances",
    "worker": "an instance cannot reach the worker's process, files or credentials",
    "network": "an instance reaches only the network addresses it was given",
    "syscalls": "an instance can use only those of the kernel's system calls that functions need",
    "memory_limit": "an instance cannot use more memory than its function may",
    "cpu_limit": "an instance cannot take the CPU of other instances",
    "process_limit": "an instance cannot start processes without end",
    "disk_limit": "an instance cannot fill the host's disk",
    "tmp_on_disk": "what an instance keeps in /tmp does not count as its memory",
    "kill_all": "a kill ends every process of an instance, also those that left its process group",
    "own_user": "each instance has a user of the host's of its own",
    "own_kernel": "an instance meets a kernel of its own before it meets the host's",
}
"""What a sandbox may protect from, by name, in the words an operator reads."""

LEVELS: Final[Mapping[str, frozenset[str]]] = {
    "none": frozenset(),
    "landlock": frozenset({"files", "syscalls", "process_limit"}),
    "namespaces-user": frozenset(
        {
            "files",
            "environment",
            "memory",
            "events",
            "worker",
            "network",
            "syscalls",
            "disk_limit",
            "kill_all",
        }
    ),
    "namespaces": frozenset(PROTECTIONS) - {"tmp_on_disk", "own_kernel"},
    "gvisor": frozenset(PROTECTIONS) - {"tmp_on_disk"},
}
"""Named levels of isolation, weakest first, and the protections that each needs to be reached."""


class CannotStart(Exception):
    """Nothing was started, and nothing is left of it. The message says why."""


@dataclass(frozen=True, slots=True)
class Protections:
    """What a backend really gives on this host, tried out and not assumed."""

    backend: str
    given: frozenset[str]
    why_missing: Mapping[str, str] = field(default_factory=dict)
    """By protection: what the host lacks, or that this backend never gives it."""

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(name for name in PROTECTIONS if name not in self.given)

    @property
    def level(self) -> str:
        """The strongest level of which everything is given."""
        return [name for name, needs in LEVELS.items() if needs <= self.given][-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFiles:
    """What all instances of a worker see alike, as host paths, to be read only."""

    runtimes: Path
    """A folder with one folder for each runtime: LAMBDA_RUNTIME_DIR, `/var/runtime`."""
    prefixes: tuple[Path, ...] = ()
    """Folders outside `/usr` that hold interpreters; an instance sees each at its own path."""
    scratch: Path
    """Belongs to the backend: what it needs for instances, such as `/tmp`s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Where an instance sees what it was given."""

    task_root: str
    opt: str
    runtime_dir: str
    tmp: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    instance: InstanceId
    code: Path
    """Unpacked package: `/var/task`, to be read only."""
    layers: Path | None = None
    """All its layers merged: `/opt`, to be read only."""
    memory_mb: int
    tmp_mb: int = 512
    network: bool = False
    """Whether it may reach the network outside of the host, beside the Runtime API."""
    runtime_api: bool = False
    """Whether something in it will call the Runtime API: `Sandbox.api` is given."""
    parked: str = ""
    """Name of the `Parkable` that suits it, or empty. One that is parked is used if there is one."""
    snapshot: str = ""
    """Name of the snapshot that its first process, and others whose `Launch.parked` is that name, are forked
    of; empty without one. Code, layers and the size of `/tmp` are the snapshot's then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A process to start in a sandbox. Paths are those of the sandbox's view."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    """All of it: a process inherits nothing."""
    folder: str
    channel: bool = True
    """Whether it gets a channel as descriptor CHANNEL_FD."""
    parked: str = ""
    """As in SandboxSpec: the process may be a parked one, which executes nothing and waits on its channel to
    be told `environment` (see `Process.parked`)."""
    snapshot: str = ""
    """If not empty: the process, of the zygote that `parked` names, is to become a snapshot of that name.
    It is parked, and once it has said on its channel that it is ready, sandboxes may be created of it. They
    end when its own does. Only a backend whose `snapshots` is true can do it; one name is used once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parkable:
    """A process that a backend may start before anybody needs it.

    It waits on its channel for one frame `["specialise"]`, whose body is a JSON object
    `{"environment": {...}, "folder": "..."}`, and then goes on as if it had been launched so.
    """

    name: str
    argv: tuple[str, ...]
    """With `runtime_dir` as LAMBDA_RUNTIME_DIR `/var/runtime`."""
    zygote: bool = False
    """`argv` starts a zygote instead (`sandbox/zygote.py` has how it is talked to): each process is forked
    from it, in a moment, so that also what was not parked comes from there."""
    count: int = 1
    """How many wait."""
    memory_mb: int = 0
    """It suits functions with so much memory alone: its heap is settled when it starts. 0: it suits all."""
    settled: Mapping[str, str] = field(default_factory=dict)
    """Environment that it starts with and cannot change later: it suits no function that sets one of these
    variables otherwise. One that is empty is not there."""

    @property
    def environment(self) -> dict[str, str]:
        """To start it with, if it is no zygote: those have `ZYGOTE_ENVIRONMENT`."""
        return {name: value for name, value in self.settled.items() if value}


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended."""

    status: int
    """Exit code, or the number of the signal that ended it, made negative."""
    killed: bool
    """The platform ended it; the function did not."""


@dataclass(frozen=True, slots=True)
class Memory:
    peak_mb: int
    """Most that the sandbox has used so far, rounded up."""
    oom_kills: int
    """How many of its processes the kernel killed for being over its limit. 0 where nobody counts."""


class Process(Protocol):
    """A process in a sandbox. `channel` and `output` become the caller's to close."""

    @property
    def pid(self) -> int:
        """As the host counts."""

    @property
    def channel(self) -> socket.socket | None:
        """A stream socket to descriptor CHANNEL_FD inside; it does not block."""

    @property
    def output(self) -> int:
        """Reading end of the one pipe that standard output and error share, so that their order is kept."""

    @property
    def parked(self) -> bool:
        """It waits to be specialised."""

    async def wait(self) -> Exit:
        """Until it has ended, of itself or not, and has been reaped."""


class Sandbox(Protocol):
    """The place of one instance, with no process in it at first (or one that is parked)."""

    @property
    def view(self) -> View: ...

    @property
    def api(self) -> socket.socket | None:
        """A listening socket that does not block: whoever connects to `api_address` in the sandbox is in it.
        The caller's to close."""

    @property
    def api_address(self) -> str:
        """HOST:PORT for AWS_LAMBDA_RUNTIME_API; empty if `runtime_api` was not wanted."""

    async def connect(self, port: int) -> socket.socket:
        """Connects to who listens on that port of 127.0.0.1 inside; the socket does not block. Needs `api`.

        Raises PermissionError where this worker cannot do it at all, OSError if nobody listens."""

    async def launch(self, launch: Launch) -> Process:
        """Starts a process, beside others that may run there. Raises CannotStart."""

    async def clear(self) -> None:
        """Ends every process in it, and returns when none is left; its files stay. Raises CannotStart if that
        cannot be done: then it is destroyed."""

    def destroy(self) -> None:
        """Ends all its processes and itself; `wait` says when they are gone."""

    async def wait(self) -> None:
        """Until nothing of it is left: every process reaped, nothing mounted."""

    def freeze(self) -> None:
        """None of its processes runs until `thaw`. Where that cannot be done, nothing happens."""

    def thaw(self) -> None: ...

    def memory(self) -> Memory:
        """Raises OSError if it cannot be read any more."""


class Backend(Protocol):
    """A way to isolate instances. Used as a context manager; its end destroys all, and reaps it.

    On entry it tries out what this host can do, removes what an earlier worker of the same name left behind,
    and starts what waits for instances.
    """

    def protections(self) -> Protections: ...

    @property
    def snapshots(self) -> bool:
        """Whether `Launch.snapshot` may be used; known after entry."""

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """Raises CannotStart."""

    def extend(self, valid_until: float) -> None:
        """Past this monotonic second a watchdog destroys every sandbox, unless this is called again."""

    async def lost(self) -> str:
        """Returns, with the reason, once this backend has failed and can start nothing any more."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
