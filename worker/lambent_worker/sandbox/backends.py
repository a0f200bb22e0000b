"""The backends by the names that a worker's settings have for them."""

import os
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lambent_worker.sandbox import seccomp
from lambent_worker.sandbox.api import Backend, CannotStart, HostFiles, Parkable, Protections
from lambent_worker.sandbox.bwrap import BwrapBackend
from lambent_worker.sandbox.gvisor import GvisorBackend
from lambent_worker.sandbox.landlock import LandlockBackend
from lambent_worker.sandbox.namespaces import NamespacesBackend
from lambent_worker.sandbox.process import ProcessBackend


def backend(name: str, files: HostFiles, worker: str, parkables: Sequence[Parkable] = ()) -> Backend:
    """Not entered yet. `worker` is the worker's name. Raises CannotStart if there is no such backend."""
    match name:
        case "process":
            return ProcessBackend(files)
        case "namespaces":
            return NamespacesBackend(files, worker, parkables, seccomp=_filter())
        case "bwrap":
            return BwrapBackend(files, worker)
        case "gvisor":
            return GvisorBackend(files, worker)
        case "landlock":
            return LandlockBackend(files, worker)
        case _:
            raise CannotStart(f"this release has no backend {name}")


async def tried(name: str, worker: str, scratch: Path = Path("/var/tmp")) -> Protections:
    """What a backend gives on this host: it is started, asked and stopped. Takes about a second.

    `worker` is a name that no worker here has: a worker ends what one of its name has left behind. Raises
    CannotStart.
    """
    with tempfile.TemporaryDirectory(prefix=f"lambent-{worker}-", dir=scratch) as folder:
        os.chmod(folder, 0o755)  # backends whose instances have users of their own have to reach into it
        files = HostFiles(runtimes=_made(folder, "runtimes"), scratch=_made(folder, "scratch"))
        try:
            async with backend(name, files, worker) as it:
                return it.protections()
        except OSError as error:
            raise CannotStart(str(error)) from error


def _filter() -> bytes:
    try:
        return seccomp.program(platform.machine())
    except LookupError:
        return b""  # the backend says that nothing is filtered then


def _made(folder: str, name: str) -> Path:
    path = Path(folder) / name
    path.mkdir()
    return path
