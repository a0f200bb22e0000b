"""The worker's side of the spawner: a process of its own that starts, kills and reaps instances."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from lambent_worker.sandbox import spawner
from lambent_worker.sandbox.api import CannotStart, Exit

if TYPE_CHECKING:
    from lambent_worker.sandbox.spawned import Start

STOP_LIMIT_S: Final = 10.0
"""How long the spawner may take to end all instances and itself before it is killed."""


class Spawned:
    """One process group that the spawner started."""

    def __init__(self, key: str, pid: int, pidfd: int, exited: asyncio.Future[Exit]) -> None:
        self.key = key
        self.pid = pid
        self.pidfd = pidfd
        """The process itself, whatever happens to the number."""
        self.exited = exited


class Spawner:
    """Starts the spawner's process on entry; on exit, kills and reaps all that it started.

    If the spawner dies, so do its instances: they are reported as exited once the kernel says so, and `lost`
    returns. There is no second one: the worker ends, and starts again whole.
    """

    def __init__(self, *, confines: bool = False) -> None:
        """With `confines` it can confine what it starts."""
        self._confines = confines
        self._loop = asyncio.get_running_loop()
        self._starting: dict[str, asyncio.Future[Spawned]] = {}
        self._processes: dict[str, Spawned] = {}
        self._outbox: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._lost: asyncio.Future[str] = self._loop.create_future()
        self._closing = False

    async def __aenter__(self) -> Self:
        self._launch()
        return self

    def _launch(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        packages = [str(Path(spawner.__file__).parents[2])] if self._confines else []
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", spawner.__file__, str(theirs.fileno()), *packages],
                pass_fds=[theirs.fileno()],
                env={},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # who reads the worker's own sees its end by that
                start_new_session=True,  # Ctrl-C is for the worker, which ends its instances in order
            )
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket.fileno(), self._on_readable)

    @property
    def pid(self) -> int:
        return self._child.pid

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)  # the spawner ends everything, then its end closes
        try:
            await asyncio.to_thread(self._child.wait, STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            await asyncio.to_thread(self._child.wait)
        if self._socket.fileno() >= 0:
            self._on_readable()  # to the end, which the loop may not have seen yet
        await asyncio.gather(*(process.exited for process in self._processes.values()))

    async def start(
        self,
        key: str,
        start: "Start",
        *,
        output: int,
        channel: int | None = None,
        joins: tuple[int, ...] = (),
    ) -> Spawned:
        """Raises CannotStart. `output`, `channel` and what `start` keeps are closed in any case."""
        given = (output, *(() if channel is None else (channel,)), *start.keep)
        fds = (*given, *(os.dup(join) for join in joins))
        how = {
            "channel": channel is not None,
            "keep": len(start.keep),
            "joins": len(joins),
            "open_files": start.open_files,
            "confine": start.confine,
        }
        what = ["start", key, start.argv, dict(start.environment), start.folder, how]
        packet = json.dumps(what).encode()
        if self._lost.done() or self._closing or len(packet) > spawner.LONGEST_PACKET:
            for fd in fds:
                os.close(fd)
            size = f"arguments and environment take {len(packet)} of at most {spawner.LONGEST_PACKET} bytes"
            raise CannotStart(
                size if not self._lost.done() and not self._closing else "the spawner has ended"
            )
        started: asyncio.Future[Spawned] = self._loop.create_future()
        self._starting[key] = started
        self._send(packet, fds)
        return await started

    def kill(self, key: str) -> None:
        self._send(json.dumps(["kill", key]).encode())

    def extend(self, valid_until: float) -> None:
        """No instance lives past this monotonic second, unless it is extended again."""
        self._send(json.dumps(["extend", valid_until]).encode())

    async def lost(self) -> str:
        """Returns once the spawner has died although nobody asked it to."""
        return await asyncio.shield(self._lost)

    def _send(self, packet: bytes, fds: tuple[int, ...] = ()) -> None:
        self._outbox.append((packet, fds))
        if len(self._outbox) == 1:
            self._send_outbox()

    def _send_outbox(self) -> None:
        while self._outbox:
            packet, fds = self._outbox[0]
            try:
                socket.send_fds(self._socket, [packet], fds)
            except BlockingIOError:
                self._loop.add_writer(self._socket.fileno(), self._send_outbox)
                return
            except OSError:
                pass  # the spawner is dead, which its socket's end tells
            for fd in fds:
                os.close(fd)
            self._outbox.popleft()
        self._loop.remove_writer(self._socket.fileno())

    def _on_readable(self) -> None:
        while True:
            try:
                packet, fds = spawner.received(self._socket, fds=1)
            except BlockingIOError:
                return
            except ConnectionError:
                packet = b""
            if not packet:
                self._on_end()
                return
            self._take(json.loads(packet), fds)

    def _take(self, message: list[object], fds: list[int]) -> None:
        match message:
            case ["started", str(key), int(pid)]:
                process = Spawned(key, pid, fds[0], self._loop.create_future())
                self._processes[key] = process
                self._starting.pop(key).set_result(process)
            case ["failed", str(key), str(why)]:
                self._starting.pop(key).set_exception(CannotStart(why))
            case ["exited", str(key), int(status), bool(killed)]:
                self._exited(self._processes[key], Exit(status, killed))
            case _:
                raise ValueError(f"the spawner sent {message!r}")

    def _exited(self, process: Spawned, exit_: Exit) -> None:
        del self._processes[process.key]
        os.close(process.pidfd)
        process.exited.set_result(exit_)

    def _on_end(self) -> None:
        """The spawner is gone. The kernel kills its children; their own children are for us to kill."""
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        for started in self._starting.values():
            started.set_exception(CannotStart("the spawner has ended"))
        self._starting.clear()
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            self._loop.add_reader(process.pidfd, self._ended_without_spawner, process)
        if not self._closing:
            self._lost.set_result("the spawner's process has died")

    def _ended_without_spawner(self, process: Spawned) -> None:
        self._loop.remove_reader(process.pidfd)
        self._exited(process, Exit(-signal.SIGKILL, killed=True))
