"""A backend that cannot be misused: whatever fails destroys its sandbox, and what is dead stays dead.

All calls are made on the loop's thread; those of one sandbox that wait (`launch`, `clear`) take turns.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Self

from lambent_worker.sandbox.api import (
    Backend,
    CannotStart,
    Launch,
    Memory,
    Process,
    Protections,
    Sandbox,
    SandboxSpec,
    View,
)


class SafeSandbox:
    def __init__(self, inner: Sandbox, spec: SandboxSpec) -> None:
        self._inner = inner
        self._spec = spec
        self._dead = False
        self._frozen = False
        self._turn = asyncio.Lock()
        self._memory = Memory(0, 0)

    @property
    def view(self) -> View:
        return self._inner.view

    @property
    def api(self) -> socket.socket | None:
        return self._inner.api

    @property
    def api_address(self) -> str:
        return self._inner.api_address

    async def connect(self, port: int) -> socket.socket:
        """Raises PermissionError, OSError."""
        if self._dead:
            raise ConnectionRefusedError(f"the sandbox of {self._spec.instance} is destroyed")
        return await self._inner.connect(port)

    async def launch(self, launch: Launch) -> Process:
        """Raises CannotStart; then it is destroyed."""
        async with self._turn:
            if self._dead:
                raise CannotStart(f"the sandbox of {self._spec.instance} is destroyed")
            self.thaw()
            try:
                _check(launch)
                return await self._inner.launch(launch)
            except CannotStart:
                self.destroy()
                raise
            except OSError as error:
                self.destroy()
                raise CannotStart(f"{self._spec.instance} cannot start {launch.argv[0]}: {error}") from error

    async def clear(self) -> None:
        """Raises CannotStart; then it is destroyed."""
        async with self._turn:
            if self._dead:
                raise CannotStart(f"the sandbox of {self._spec.instance} is destroyed")
            self.thaw()
            try:
                await self._inner.clear()
            except (CannotStart, OSError) as error:
                self.destroy()
                raise CannotStart(f"the sandbox of {self._spec.instance} is not empty: {error}") from error

    def destroy(self) -> None:
        if not self._dead:
            self._dead = True
            self._inner.destroy()

    async def wait(self) -> None:
        await self._inner.wait()
        self._dead = True

    def freeze(self) -> None:
        if not self._dead and not self._frozen:
            self._frozen = True
            self._or_destroy(self._inner.freeze)

    def thaw(self) -> None:
        if not self._dead and self._frozen:
            self._frozen = False
            self._or_destroy(self._inner.thaw)

    def memory(self) -> Memory:
        """The last that was seen, once it is dead."""
        if not self._dead:
            try:
                self._memory = self._inner.memory()
            except OSError:
                self.destroy()
        return self._memory

    def _or_destroy(self, call: Callable[[], None]) -> None:
        try:
            call()
        except OSError:
            self.destroy()


class SafeBackend:
    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self._creating: set[asyncio.Future[Sandbox]] = set()

    def protections(self) -> Protections:
        return self._inner.protections()

    @property
    def snapshots(self) -> bool:
        return self._inner.snapshots

    def extend(self, valid_until: float) -> None:
        self._inner.extend(valid_until)

    async def lost(self) -> str:
        return await self._inner.lost()

    async def create(self, spec: SandboxSpec) -> SafeSandbox:
        """Raises CannotStart. If it is cancelled, a sandbox that is still to come is destroyed."""
        creating = asyncio.ensure_future(self._inner.create(spec))
        self._creating.add(creating)
        creating.add_done_callback(self._creating.discard)
        try:
            return SafeSandbox(await asyncio.shield(creating), spec)
        except asyncio.CancelledError:
            creating.add_done_callback(_destroy)
            raise
        except OSError as error:
            raise CannotStart(f"no sandbox for {spec.instance}: {error}") from error

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(CannotStart, OSError):
            await asyncio.gather(*self._creating)
        await self._inner.__aexit__(kind, error, trace)


def _destroy(creating: "asyncio.Future[Sandbox]") -> None:
    if not creating.cancelled() and creating.exception() is None:
        creating.result().destroy()


def _check(launch: Launch) -> None:
    """No program can be told of a zero byte, and bubblewrap would take what is behind it for an argument.

    Raises CannotStart."""
    if any("\0" in it for it in (*launch.argv, *launch.environment, *launch.environment.values())):
        raise CannotStart("an argument or an environment variable has a zero byte")
