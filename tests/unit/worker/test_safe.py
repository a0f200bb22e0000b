"""The wrapper round every backend: whatever fails destroys its sandbox, and what is dead stays dead."""

import asyncio
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from lambent_proto.ids import InstanceId
from lambent_worker.sandbox.api import (
    PROTECTIONS,
    CannotStart,
    Exit,
    Files,
    Protections,
    SandboxSpec,
    View,
)
from lambent_worker.sandbox.safe import SafeBackend, SafeSandbox

FILES = Files(code=Path("/c"), runtime=Path("/r"), tmp=Path("/t"))
SPEC = SandboxSpec(instance=InstanceId("i"), argv=("a",), environment={}, files=FILES, memory_mb=128)


class Scripted:
    """A sandbox, and the backend that starts it, that fail as told."""

    pid, output = 1, 0
    channel: socket.socket

    def __init__(self) -> None:
        self.kills = 0
        self.memory: int | OSError = 5
        self.start_error: Exception | None = None
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    def kill(self) -> None:
        self.kills += 1

    async def wait(self) -> Exit:
        return await self.exit

    def peak_memory_mb(self) -> int:
        if isinstance(self.memory, OSError):
            raise self.memory
        return self.memory

    def protections(self) -> Protections:
        return Protections("scripted", given=("files",))

    def view(self, files: Files) -> View:
        return View(task_root=str(files.code), runtime_dir="/r", tmp="/t")

    async def start(self, spec: SandboxSpec) -> "Scripted":
        await self.may_start.wait()
        if self.start_error is not None:
            raise self.start_error
        return self

    def extend(self, valid_until: float) -> None:
        self.valid_until = valid_until

    async def lost(self) -> str:
        return "gone"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


async def test_it_is_killed_once() -> None:
    inner = Scripted()
    sandbox = SafeSandbox(inner)
    sandbox.kill()
    sandbox.kill()
    assert inner.kills == 1


async def test_the_dead_are_not_asked() -> None:
    """Their process number may be another's by now."""
    inner = Scripted()
    sandbox = SafeSandbox(inner)
    assert sandbox.peak_memory_mb() == 5
    inner.exit.set_result(Exit(0, killed=False))
    assert await sandbox.wait() == Exit(0, killed=False)
    inner.memory = OSError("must not be asked")
    assert sandbox.peak_memory_mb() == 5
    sandbox.kill()
    assert inner.kills == 0


async def test_one_that_fails_is_killed() -> None:
    inner = Scripted()
    sandbox = SafeSandbox(inner)
    inner.memory = OSError("broken")
    assert sandbox.peak_memory_mb() == 0
    assert inner.kills == 1


async def test_a_start_that_fails_has_one_kind_of_error() -> None:
    inner = Scripted()
    inner.start_error = OSError(24, "Too many open files")
    with pytest.raises(CannotStart, match=r"no sandbox for i: .*Too many open files"):
        await SafeBackend(inner).start(SPEC)


async def test_one_that_comes_after_its_start_was_cancelled_is_killed() -> None:
    inner = Scripted()
    inner.may_start.clear()
    backend = SafeBackend(inner)
    starting = asyncio.ensure_future(backend.start(SPEC))
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert inner.kills == 0
    inner.may_start.set()
    async with backend:
        pass
    assert inner.kills == 1


async def test_what_is_not_given_is_missing() -> None:
    protections = SafeBackend(Scripted()).protections()
    assert set(protections.missing) == set(PROTECTIONS) - {"files"}
    assert list(protections.missing) == [name for name in PROTECTIONS if name != "files"]
