"""Sandboxes of the namespaces backend, for tests to run things in."""

import asyncio
import contextlib
import itertools
import json
import os
import platform
import shutil
import sys
import textwrap
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from lambent_chassis import clock
from lambent_proto.ids import InstanceId
from lambent_worker import sandbox
from lambent_worker.sandbox.api import Exit, HostFiles, Launch, Parkable, SandboxSpec
from lambent_worker.sandbox.namespaces import NamespacesBackend, NamespacesProcess, NamespacesSandbox
from lambent_worker.sandbox.seccomp import program

LONG_S = 3_600.0

PYTHON = Path(os.path.realpath(sys.executable))
"""Outside of any virtual environment."""
PREFIX = Path(sys.base_prefix).resolve()

ZYGOTE = """
import os, sys, threading
sys.path.insert(0, "/var/runtime/test")
from zygote_package import zygote
if "with-threads" in sys.argv:
    threading.Thread(target=threading.Event().wait, daemon=True).start()
snapshot = zygote.serve()
if snapshot:
    exec(os.environ["CODE"])
    snapshot(lambda: os.write(3, b"ready"))
os.write(3, f"{os.environ['WHO']} {os.getcwd()}".encode())
for order in iter(lambda: os.read(3, 4096).decode(), ""):
    exec(order)
"""
"""A zygote whose processes say who they are and then do as they are told."""


KILLER = """
import os
old = set(os.listdir("/proc"))
print("ready", flush=True)
while True:
    for pid in set(os.listdir("/proc")) - old:
        try:
            os.kill(int(pid), 9)
        except (OSError, ValueError):
            pass
"""
"""A program that kills every process that comes after it."""


class Stage:
    def __init__(self, backend: NamespacesBackend, folder: Path) -> None:
        self.backend = backend
        self.code = folder / "code"
        self.layers = folder / "layers"
        self._numbers = itertools.count(1)

    async def sandbox(self, **fields: Any) -> NamespacesSandbox:
        instance = InstanceId(f"i-{next(self._numbers)}")
        spec: dict[str, Any] = {"instance": instance, "code": self.code, "memory_mb": 256, **fields}
        async with asyncio.timeout(20):
            return await self.backend.create(SandboxSpec(**spec))


async def shell(place: NamespacesSandbox, command: str) -> tuple[Exit, str]:
    """Runs a shell command in it, to its end: how it ended, and what it had printed by then."""
    return await _ended(await started(place, "/bin/sh", "-c", command))


async def python(place: NamespacesSandbox, code: str) -> tuple[Exit, str]:
    return await _ended(await started(place, str(PYTHON), "-I", "-S", "-c", textwrap.dedent(code)))


async def _ended(process: NamespacesProcess) -> tuple[Exit, str]:
    async with asyncio.timeout(30):
        exit_ = await process.wait()
    output = b""
    with contextlib.suppress(BlockingIOError):  # what it has started may have the other end still
        while part := os.read(process.output, 65536):
            output += part
    os.close(process.output)
    return exit_, output.decode()


async def printed(process: NamespacesProcess) -> str:
    """What it has printed, as soon as that is something."""
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(BlockingIOError):
                return os.read(process.output, 4096).decode()
            await asyncio.sleep(0.01)


def let_go(process: NamespacesProcess) -> None:
    """Closes what is the caller's."""
    os.close(process.output)
    if process.channel:
        process.channel.close()


async def started(
    place: NamespacesSandbox, *argv: str, folder: str = "/tmp", channel: bool = False
) -> NamespacesProcess:
    environment = {"PATH": "/usr/bin:/bin"}
    async with asyncio.timeout(20):
        return await place.launch(Launch(argv=argv, environment=environment, folder=folder, channel=channel))


async def destroyed(place: NamespacesSandbox) -> None:
    place.destroy()
    async with asyncio.timeout(20):
        await place.wait()


def parkable(name: str = "py", *arguments: str, count: int = 1) -> Parkable:
    argv = (str(PYTHON), "-I", "-S", "-B", "/var/runtime/test/entry.py", *arguments)
    return Parkable(name=name, argv=argv, zygote=True, count=count)


async def parked(place: NamespacesSandbox, name: str = "py") -> NamespacesProcess:
    """What a launch gives that may take a zygote's process, and says its WHO if it is executed instead."""
    code = "import os; os.write(3, b'executed')"
    argv = (str(PYTHON), "-I", "-S", "-c", code)
    async with asyncio.timeout(20):
        return await place.launch(Launch(argv=argv, environment={}, folder="/tmp", channel=True, parked=name))


async def specialised(process: NamespacesProcess, who: str, **variables: str) -> str:
    head = json.dumps(["specialise"]).encode()
    body = json.dumps({"environment": {"WHO": who, **variables}, "folder": "/var/task"}).encode()
    size = 2 + len(head) + len(body)
    assert process.channel
    process.channel.send(size.to_bytes(4, "big") + len(head).to_bytes(2, "big") + head + body)
    return await heard(process)


async def heard(process: NamespacesProcess) -> str:
    assert process.channel
    async with asyncio.timeout(20):
        return (await asyncio.get_running_loop().sock_recv(process.channel, 4096)).decode()


def interpreter_of_all() -> str | None:
    """One of the version of this one that any user of this host may execute."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for path in (PYTHON, Path("/usr/bin", name)):
        if path.exists() and all(folder.stat().st_mode & 0o005 == 0o005 for folder in path.parents):
            return str(path)
    return None


def host_files(folder: Path) -> HostFiles:
    """What the workers of all tests share: a runtime folder with a zygote in it."""
    package = folder / "runtimes" / "test" / "zygote_package"
    package.mkdir(parents=True, exist_ok=True)
    for name in ("__init__", "zygote", "entry", "kernel"):
        shutil.copy(Path(sandbox.__path__[0]) / f"{name}.py", package)
    (package.parent / "entry.py").write_text(ZYGOTE)
    (folder / "code").mkdir(exist_ok=True)
    (folder / "code" / "app.py").write_text("the code of a function")
    (folder / "layers").mkdir(exist_ok=True)
    (folder / "layers" / "lib.py").write_text("the code of a layer")
    for path in (folder, *folder.parents):
        if path.is_relative_to("/tmp") and path != Path("/tmp"):
            mode = path.stat().st_mode
            if mode & 0o555 != 0o555:
                path.chmod(mode | 0o555)  # pytest's are its user's alone
    return HostFiles(runtimes=folder / "runtimes", prefixes=(PREFIX,), scratch=folder / "scratch")


def backend(
    files: HostFiles, name: str, parkables: Sequence[Parkable] = (), **fields: Any
) -> NamespacesBackend:
    machine = platform.machine()
    return NamespacesBackend(
        files,
        name,
        parkables,
        seccomp=program(machine),
        of_snapshots=program(machine, "-snapshot"),
        **{"pool": 1, **fields},
    )


@asynccontextmanager
async def stage(
    folder: Path, parkables: Sequence[Parkable] = (), *, lease_s: float = LONG_S, **fields: Any
) -> AsyncIterator[Stage]:
    async with backend(host_files(folder), f"test-{os.getpid()}", parkables, **fields) as it:
        it.extend(clock.monotonic_s() + lease_s)
        yield Stage(it, folder)


def status_of(text: str) -> Mapping[str, str]:
    """The lines of a /proc/PID/status."""
    return {
        name: " ".join(value.split())
        for name, _, value in (line.partition(":") for line in text.splitlines())
    }
