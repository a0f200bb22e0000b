"""What every sandbox backend offers: start one instance, kill it, and say when it is certainly gone."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from lambent_proto.ids import InstanceId

CHANNEL_FD: Final = 3
"""The instance's end of its channel, in every backend."""

PROTECTIONS: Final[Mapping[str, str]] = {
    "files": "an instance cannot read or write files of other instances or of the host",
    "environment": "an instance cannot read the environment of other instances",
    "memory": "an instance cannot read or write the memory of other instances",
    "events": "an instance cannot read or answer the events of other instances",
    "worker": "an instance cannot reach the worker's process, files or credentials",
    "network": "an instance reaches only the network addresses it was given",
    "memory_limit": "an instance cannot use more memory than its function may",
    "cpu_limit": "an instance cannot take the CPU of other instances",
    "process_limit": "an instance cannot start processes without end",
    "disk_limit": "an instance cannot fill the host's disk",
    "kill_all": "a kill ends every process of an instance, also those that left its process group",
}
"""What a sandbox may protect from, by name, in the words an operator reads."""


class CannotStart(Exception):
    """The sandbox was not started, and nothing of it is left. The message says why."""


@dataclass(frozen=True, slots=True)
class Protections:
    backend: str
    given: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(name for name in PROTECTIONS if name not in self.given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What the host gives to an instance, as host paths."""

    code: Path
    """Unpacked package, to be read only: LAMBDA_TASK_ROOT."""
    runtime: Path
    """What runs the function, to be read only: LAMBDA_RUNTIME_DIR."""
    tmp: Path
    """Its own empty folder, to write to: /tmp."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Where an instance sees what it was given."""

    task_root: str
    runtime_dir: str
    tmp: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    instance: InstanceId
    argv: tuple[str, ...]
    """Paths in it, as in `environment`, are those of the backend's `view` of `files`."""
    environment: Mapping[str, str]
    """All of it: an instance inherits nothing."""
    files: Files
    memory_mb: int


@dataclass(frozen=True, slots=True)
class Exit:
    """How the first process of a sandbox ended. All of its processes have been reaped."""

    status: int
    """Exit code, or the number of the signal that ended it, made negative."""
    killed: bool
    """The platform ended it; the function did not."""


class Sandbox(Protocol):
    """One started instance. The worker's ends, `channel` and `output`, become the caller's to close."""

    @property
    def pid(self) -> int: ...

    @property
    def channel(self) -> socket.socket:
        """A stream socket to descriptor CHANNEL_FD inside; it does not block."""

    @property
    def output(self) -> int:
        """Reading end of the one pipe that standard output and error share, so that their order is kept."""

    def kill(self) -> None:
        """Ends all its processes; `wait` says when they are gone."""

    async def wait(self) -> Exit:
        """Until it has ended, of itself or not, and has been reaped."""

    def peak_memory_mb(self) -> int:
        """Most memory it has used so far, in MB, rounded up."""


class Backend(Protocol):
    """A way to isolate instances. Used as a context manager; its end kills and reaps all it started."""

    def protections(self) -> Protections: ...

    def view(self, files: Files) -> View: ...

    async def start(self, spec: SandboxSpec) -> Sandbox:
        """Raises CannotStart."""

    def extend(self, valid_until: float) -> None:
        """Past this monotonic second a watchdog kills every instance, unless this is called again."""

    async def lost(self) -> str:
        """Returns, with the reason, once this backend has failed and can start nothing any more."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
