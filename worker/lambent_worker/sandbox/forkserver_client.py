"""The worker's side of the fork server: its process, and what it is asked and says."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from lambent_worker.sandbox import forkserver
from lambent_worker.sandbox.api import CannotStart

STOP_LIMIT_S: Final = 10.0
"""How long the fork server may take to end all sandboxes and itself before it is killed."""

MOST_DESCRIPTORS: Final = 3

_ROOM: Final = Path(__file__).parents[2]
_PROGRAM: Final = (
    f"import sys; sys.path.insert(0, {str(_ROOM)!r})\n"
    "from lambent_worker.sandbox.forkserver import main; main(int(sys.argv[1]))"
)


def end_earlier(note: Path) -> None:
    """Ends the fork server that `note` names, if it is still there: one that hangs outlives its worker."""
    with contextlib.suppress(OSError, ValueError):
        pid, started = note.read_text().split()
        if _started(int(pid)) == started and forkserver.COMMAND in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(int(pid), signal.SIGKILL)


def note_own(note: Path, pid: int) -> None:
    """For `end_earlier`."""
    note.write_text(f"{pid} {_started(pid)}")


def _started(pid: int) -> str:
    """When, in ticks since the boot: with it a number means one process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


class Answer(Protocol):
    def abandon(self) -> None:
        """Nobody waits for it any more."""


class ForkServer:
    """One fork server. All that it says goes to `said` at once and in order, with descriptors to keep.

    What `said` makes of an answer is what whoever has asked gets.
    """

    def __init__(
        self, settings: Mapping[str, Any], said: Callable[[list[Any], list[int]], Answer | None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._said = said
        self._asked: dict[str, asyncio.Future[Any]] = {}
        self._outbox: deque[bytes] = deque()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """Its end of the socket is closed."""
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _PROGRAM, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the worker, which ends its instances in order
            )
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket.fileno(), self._on_readable)
        self.tell(dict(settings))

    @property
    def pid(self) -> int:
        return self._child.pid

    async def ask(self, key: str, *message: object) -> Any:
        """Sends a message, and returns the answer about `key`. Raises CannotStart.

        If this is cancelled, the answer is abandoned when it comes.
        """
        if self.ended.done():
            raise CannotStart("the fork server has ended")
        packet = json.dumps(message).encode()
        if len(packet) > forkserver.LONGEST_PACKET:
            most = forkserver.LONGEST_PACKET
            raise CannotStart(f"arguments and environment take {len(packet)} of at most {most} bytes")
        answer = self._asked[key] = self._loop.create_future()
        self._send(packet)
        return await answer

    def tell(self, *message: object) -> None:
        self._send(json.dumps(message[0] if isinstance(message[0], dict) else message).encode())

    async def stop(self) -> None:
        """Ends all sandboxes, and itself."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        try:
            await asyncio.to_thread(self._child.wait, STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            await asyncio.to_thread(self._child.wait)
        if not self.ended.done():
            self._on_readable()  # to the end, which the loop may not have seen yet

    def _send(self, packet: bytes) -> None:
        self._outbox.append(packet)
        if len(self._outbox) == 1:
            self._send_outbox()

    def _send_outbox(self) -> None:
        while self._outbox and not self.ended.done():
            try:
                self._socket.send(self._outbox[0])
            except BlockingIOError:
                self._loop.add_writer(self._socket.fileno(), self._send_outbox)
                return
            except OSError:
                pass  # it is dead, which its socket's end tells
            self._outbox.popleft()
        if not self.ended.done():
            self._loop.remove_writer(self._socket.fileno())

    def _on_readable(self) -> None:
        while True:
            try:
                packet, fds, _, _ = socket.recv_fds(self._socket, forkserver.LONGEST_PACKET, MOST_DESCRIPTORS)
            except BlockingIOError:
                return
            except ConnectionError:
                packet, fds = b"", []
            if not packet:
                self._on_end()
                return
            for fd in fds:
                os.set_inheritable(fd, False)  # Python 3.11 takes MSG_CMSG_CLOEXEC here and ignores it
            self._take(json.loads(packet), fds)

    def _take(self, message: list[Any], fds: list[int]) -> None:
        answer = self._said(message, fds)
        if message[0] not in ("created", "launched", "failed"):
            return
        asked = self._asked.pop(message[1])
        if not asked.done():
            if answer:
                asked.set_result(answer)
            else:
                asked.set_exception(CannotStart(message[2]))
        elif answer:
            answer.abandon()

    def _on_end(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self.ended.set_result(None)
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(CannotStart("the fork server has ended"))
        self._asked.clear()
