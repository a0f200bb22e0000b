"""The wrapper round every backend: whatever fails destroys its sandbox, and what is dead stays dead."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from lambent_proto.ids import InstanceId
from lambent_worker.sandbox.api import (
    LEVELS,
    PROTECTIONS,
    CannotStart,
    Launch,
    Memory,
    Process,
    Protections,
    SandboxSpec,
    View,
)
from lambent_worker.sandbox.safe import SafeBackend, SafeSandbox

SPEC = SandboxSpec(instance=InstanceId("i"), code=Path("/c"), memory_mb=128)
LAUNCH = Launch(argv=("a",), environment={}, folder="/")


class Scripted:
    """A sandbox, and the backend that creates it, that fail as told."""

    api, api_address, snapshots = None, "", False
    view = View(task_root="/var/task", opt="/opt", runtime_dir="/var/runtime", tmp="/tmp")

    def __init__(self) -> None:
        self.did: list[str] = []
        self.fails: dict[str, Exception] = {}
        self.may_create = asyncio.Event()
        self.may_create.set()
        self.gone = asyncio.Event()

    def _do(self, what: str) -> None:
        self.did.append(what)
        if error := self.fails.get(what):
            raise error

    async def connect(self, port: int) -> socket.socket:
        raise PermissionError

    async def launch(self, launch: Launch) -> Process:
        self._do("launch")
        raise AssertionError("no test gets that far")

    async def clear(self) -> None:
        self._do("clear")

    def destroy(self) -> None:
        self._do("destroy")

    async def wait(self) -> None:
        await self.gone.wait()

    def freeze(self) -> None:
        self._do("freeze")

    def thaw(self) -> None:
        self._do("thaw")

    def memory(self) -> Memory:
        self._do("memory")
        return Memory(5, 0)

    def protections(self) -> Protections:
        return Protections("scripted", given=frozenset({"files"}))

    async def create(self, spec: SandboxSpec) -> "Scripted":
        await self.may_create.wait()
        self._do("create")
        return self

    snapshots = False

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


@contextmanager
def cannot_start(why: str) -> Iterator[None]:
    with pytest.raises(CannotStart, match=why):
        yield


async def test_it_is_destroyed_once() -> None:
    inner = Scripted()
    sandbox = SafeSandbox(inner, SPEC)
    sandbox.destroy()
    sandbox.destroy()
    assert inner.did == ["destroy"]


async def test_the_dead_are_not_asked() -> None:
    """What it held may be another's by now."""
    inner = Scripted()
    sandbox = SafeSandbox(inner, SPEC)
    assert sandbox.memory() == Memory(5, 0)
    inner.gone.set()
    await sandbox.wait()
    inner.did.clear()
    assert sandbox.memory() == Memory(5, 0)
    sandbox.freeze()
    sandbox.destroy()
    with cannot_start("destroyed"):
        await sandbox.launch(LAUNCH)
    with cannot_start("destroyed"):
        await sandbox.clear()
    assert inner.did == []


@pytest.mark.parametrize("what", ["memory", "freeze", "clear", "launch"])
async def test_one_that_fails_is_destroyed(what: str) -> None:
    inner = Scripted()
    inner.fails[what] = OSError(5, "broken")
    sandbox = SafeSandbox(inner, SPEC)
    match what:
        case "memory":
            assert sandbox.memory() == Memory(0, 0)
        case "freeze":
            sandbox.freeze()
        case "clear":
            with cannot_start("broken"):
                await sandbox.clear()
        case _:
            with cannot_start("cannot start a: .*broken"):
                await sandbox.launch(LAUNCH)
    assert inner.did == [what, "destroy"]


@pytest.mark.parametrize(
    "launch",
    [
        Launch(argv=("a", "b\0c"), environment={}, folder="/"),
        Launch(argv=("a",), environment={"V": "x\0--bind\0/\0/mnt"}, folder="/"),
    ],
)
async def test_no_zero_byte_gets_to_a_backend(launch: Launch) -> None:
    """What is behind it would be bubblewrap's next argument."""
    inner = Scripted()
    with cannot_start("zero byte"):
        await SafeSandbox(inner, SPEC).launch(launch)
    assert inner.did == ["destroy"]


async def test_a_frozen_one_is_thawed_before_it_is_cleared() -> None:
    """What is frozen does not end."""
    inner = Scripted()
    sandbox = SafeSandbox(inner, SPEC)
    sandbox.freeze()
    sandbox.freeze()
    await sandbox.clear()
    assert inner.did == ["freeze", "thaw", "clear"]


async def test_a_creation_that_fails_has_one_kind_of_error() -> None:
    inner = Scripted()
    inner.fails["create"] = OSError(24, "Too many open files")
    with cannot_start(r"no sandbox for i: .*Too many open files"):
        await SafeBackend(inner).create(SPEC)


async def test_one_that_comes_after_its_creation_was_cancelled_is_destroyed() -> None:
    inner = Scripted()
    inner.may_create.clear()
    backend = SafeBackend(inner)
    creating = asyncio.ensure_future(backend.create(SPEC))
    await asyncio.sleep(0)
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    assert inner.did == []
    inner.may_create.set()
    async with backend:
        pass
    assert inner.did == ["create", "destroy"]


async def test_what_is_not_given_is_missing() -> None:
    protections = SafeBackend(Scripted()).protections()
    assert list(protections.missing) == [name for name in PROTECTIONS if name != "files"]


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_is_reached_when_everything_it_needs_is_given(level: str) -> None:
    """And no sooner: each protection that is taken away costs the level."""
    needs = LEVELS[level]
    assert Protections("b", needs).level == level
    for name in needs:
        assert Protections("b", needs - {name}).level != level


def test_what_a_level_needs_exists() -> None:
    assert all(needs <= set(PROTECTIONS) for needs in LEVELS.values())
