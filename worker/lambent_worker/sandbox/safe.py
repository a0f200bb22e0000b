"""A backend that cannot be misused: whatever fails destroys its sandbox, and what is dead stays dead.

All calls are made on the loop's thread, one at a time; the only thing that waits, `start`, may be cancelled.
"""

import asyncio
import contextlib
import socket
from types import TracebackType
from typing import Self

from lambent_worker.sandbox.api import (
    Backend,
    CannotStart,
    Exit,
    Files,
    Protections,
    Sandbox,
    SandboxSpec,
    View,
)


class SafeSandbox:
    def __init__(self, inner: Sandbox) -> None:
        self._inner = inner
        self._dead = False
        self._peak_memory_mb = 0

    @property
    def pid(self) -> int:
        return self._inner.pid

    @property
    def channel(self) -> socket.socket:
        return self._inner.channel

    @property
    def output(self) -> int:
        return self._inner.output

    def kill(self) -> None:
        if not self._dead:
            self._dead = True
            self._inner.kill()

    async def wait(self) -> Exit:
        exit_ = await self._inner.wait()
        self._dead = True
        return exit_

    def peak_memory_mb(self) -> int:
        """The last that was seen, once it is dead."""
        if not self._dead:
            try:
                self._peak_memory_mb = self._inner.peak_memory_mb()
            except OSError:
                self.kill()
        return self._peak_memory_mb


class SafeBackend:
    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self._starting: set[asyncio.Future[Sandbox]] = set()

    def protections(self) -> Protections:
        return self._inner.protections()

    def view(self, files: Files) -> View:
        return self._inner.view(files)

    def extend(self, valid_until: float) -> None:
        self._inner.extend(valid_until)

    async def lost(self) -> str:
        return await self._inner.lost()

    async def start(self, spec: SandboxSpec) -> SafeSandbox:
        """Raises CannotStart. If it is cancelled, a sandbox that is still to come is killed."""
        starting = asyncio.ensure_future(self._inner.start(spec))
        self._starting.add(starting)
        starting.add_done_callback(self._starting.discard)
        try:
            return SafeSandbox(await asyncio.shield(starting))
        except asyncio.CancelledError:
            starting.add_done_callback(_destroy)
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
            await asyncio.gather(*self._starting)
        await self._inner.__aexit__(kind, error, trace)


def _destroy(starting: "asyncio.Future[Sandbox]") -> None:
    if not starting.cancelled() and starting.exception() is None:
        starting.result().kill()
