"""Starts processes in shells, by a zygote or by execution, and knows whose each is when it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Sequence
from itertools import count
from typing import Any, Final, Protocol

from . import kernel, unasked
from . import zygote as contract
from .children import Children
from .nest import Nest
from .poll import Poll
from .prepared import Process, Program, Shell, Zygote

PACKETS_A_TURN: Final = 64
"""Of one snapshot, so that none can keep the fork server from its other work."""


class Listener(Protocol):
    def launched(self, shell: Shell, process: Process) -> None: ...

    def failed(self, shell: Shell, process: Process, why: str) -> None:
        """Nothing of it is left."""

    def exited(self, shell: Shell, process: Process, status: int) -> None: ...

    def taken(self, nest: Nest) -> None:
        """The snapshot of that nest can fork from now on."""

    def warn(self, text: str) -> None: ...


class Launcher:
    def __init__(self, children: Children, poll: Poll, listener: Listener) -> None:
        self._children = children
        self._poll = poll
        self._listener = listener
        self._zygotes: dict[str, Zygote] = {}
        self._programs: dict[str, Sequence[str]] = {}
        """Of zygotes, by name."""
        self._running: dict[int, tuple[Shell, Process]] = {}

    def start_zygote(self, name: str, argv: Sequence[str]) -> None:
        """Raises OSError."""
        zygote = self._children.zygote(name, argv)
        self._programs[name] = argv
        self._zygotes[name] = zygote
        self._poll.watch(zygote.control.fileno(), lambda: self._hear(zygote))

    def zygote(self, name: str) -> Zygote | None:
        """If it can fork."""
        zygote = self._zygotes.get(name)
        return zygote if zygote and zygote.ready else None

    def starting(self) -> bool:
        return any(not zygote.ready and not zygote.nest for zygote in self._zygotes.values())

    def launch(self, shell: Shell, process: Process, program: Program) -> None:
        """The listener is told what became of it. Raises OSError if this process has no descriptors left."""
        if not self.fork(shell, process, program.zygote, program):
            theirs = self._equip(shell, process, program.channel)
            try:
                self._execute(shell, process, program, theirs)
            finally:
                for fd in theirs:
                    os.close(fd)

    def fork(self, shell: Shell, process: Process, name: str, program: Program | None = None) -> bool:
        """Has it forked by a zygote; False if there is none that can. Raises OSError as `launch` does."""
        zygote = self.zygote(name)
        if not zygote:
            return False
        process.program = program
        theirs = self._equip(shell, process, channel=True)
        try:
            with shell.doors() as doors:
                parked = program is None
                order = ["fork", shell.uid, self._children.plan.users, len(doors), parked]
                return self._order(zygote, order, shell, process, [*doors, *theirs, *shell.joins()])
        finally:
            for fd in theirs:
                os.close(fd)

    def snapshot(self, shell: Shell, process: Process, nest: Nest, zygote_name: str) -> bool:
        """Has a zygote fork it a process that is to become the snapshot of that nest, and its zygote; False
        if there is none that can. Raises OSError as `launch` does."""
        zygote = self.zygote(zygote_name)
        if not zygote:
            return False
        process.program = None
        theirs = self._equip(shell, process, channel=True)
        ours, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with control:
            fds = [shell.init, nest.users, *theirs, control.fileno(), *shell.joins()]
            ordered = self._order(zygote, ["snapshot"], shell, process, fds)
        for fd in theirs:
            os.close(fd)
        if not ordered:
            ours.close()
            return False
        snapshot = self._zygotes[nest.name] = Zygote(nest.name, 0, ours, None, nest)
        process.snapshot = snapshot
        self._poll.watch(ours.fileno(), lambda: self._hear(snapshot))
        return True

    def _order(
        self, zygote: Zygote, order: list[Any], shell: Shell, process: Process, fds: list[int]
    ) -> bool:
        try:
            socket.send_fds(zygote.control, [json.dumps(order).encode()], fds)
        except (BlockingIOError, ConnectionError):
            shell.processes.discard(process)
            process.close()
            return False
        zygote.orders.append((shell, process))
        return True

    def _equip(self, shell: Shell, process: Process, channel: bool) -> list[int]:
        """Its ends of output and channel; the worker's are with the process. Raises OSError."""
        output, their_output = os.pipe()
        process.ends, theirs = [output], [their_output]
        try:
            if channel:
                ours, their_channel = socket.socketpair()
                unasked.refuse(ours)
                process.ends.append(ours.detach())
                theirs.append(their_channel.detach())
        except OSError:
            os.close(their_output)
            process.close()
            raise
        shell.processes.add(process)
        return theirs

    def _execute(self, shell: Shell, process: Process, program: Program, theirs: list[int]) -> None:
        inside = (theirs[0], theirs[1] if program.channel else None)
        try:
            self._children.program(shell, process, inside, program.argv, program.environment, program.folder)
        except OSError as error:
            self._failed(shell, process, str(error))
            return
        self._running[process.pid] = (shell, process)
        assert process.failing is not None
        self._poll.watch(process.failing, lambda: self._told(shell, process))

    def _told(self, shell: Shell, process: Process) -> None:
        """It executes its program, or has said why it cannot."""
        if process.failing is None:
            return
        try:
            why = os.read(process.failing, 4096).decode()
        except BlockingIOError:
            return
        self._poll.forget(process.failing)
        os.close(process.failing)
        process.failing = None
        if why:
            del self._running[process.pid]  # it is reaped as one that nobody knows
            self._failed(shell, process, why)
        else:
            self._listener.launched(shell, process)

    def _failed(self, shell: Shell, process: Process, why: str) -> None:
        shell.processes.discard(process)
        process.close()
        self._listener.failed(shell, process, why)

    def hear_zygotes(self) -> None:
        """What they have said so far: who dies with an init has been reported by its zygote before."""
        for zygote in list(self._zygotes.values()):
            self._hear(zygote)

    def _hear(self, zygote: Zygote) -> None:
        for _ in range(PACKETS_A_TURN) if zygote.nest else count():
            if zygote.control.fileno() < 0:
                return
            try:
                message, pidfds = _received(zygote.control)
            except BlockingIOError:
                return
            try:
                self._take(zygote, message, kernel.pid_of(pidfds[0]) if pidfds else 0)
            finally:
                unasked.close(pidfds)

    def _take(self, zygote: Zygote, message: Any, host_pid: int) -> None:
        """A snapshot runs a function's code and may say anything: it must not be able to disturb others."""
        match message:
            case ["ready"] if not zygote.ready:
                zygote.ready = True
                zygote.resident_bytes = resident_bytes(zygote.pid)
                if zygote.nest:
                    self._listener.taken(zygote.nest)
            case ["forked", int(pid)] if zygote.orders:
                self._forked(zygote, pid, host_pid)
            case ["failed", str(why)] if zygote.orders:
                self._without(*zygote.orders.popleft(), why)
            case ["refused", str(why)]:
                self._give_up(zygote, why)
            case ["exited", int(pid), int(status)] if not zygote.nest:
                self.ended(pid, status)
            case ["exited", int(pid), int(status)] if pid in zygote.children:
                shell, process = zygote.children.pop(pid)
                shell.processes.discard(process)
                self._listener.exited(shell, process, status)
            case None:
                self._give_up(zygote, "it has died", restart=zygote.ready)
            case _:
                self._give_up(zygote, "it said what no zygote says", restart=zygote.ready)

    def _forked(self, zygote: Zygote, pid: int, host_pid: int) -> None:
        shell, process = zygote.orders.popleft()
        process.parked = True
        if zygote.nest:
            process.pid = host_pid
            zygote.children[pid] = (shell, process)
        else:
            process.pid = pid
            self._running[pid] = (shell, process)
        if process.snapshot:
            process.snapshot.pid = pid
        self._listener.launched(shell, process)

    def _give_up(self, zygote: Zygote, why: str, restart: bool = False) -> None:
        """What it was to fork is executed instead. With a snapshot, all that was forked of it ends."""
        if zygote.nest:
            self._give_up_snapshot(zygote, zygote.nest, why)
            return
        os.kill(zygote.pid, signal.SIGKILL)  # it has not been reaped yet: see `ended`
        self._abandon(zygote, why, restart)

    def _abandon(self, zygote: Zygote, why: str, restart: bool) -> None:
        self._poll.forget(zygote.control.fileno())
        del self._zygotes[zygote.name]
        self._listener.warn(f"the zygote {zygote.name} is not used any more: {why} {zygote.close()}")
        for shell, process in zygote.orders:
            self._without(shell, process, why)
        if restart:
            self.start_zygote(zygote.name, self._programs[zygote.name])

    def _give_up_snapshot(self, snapshot: Zygote, nest: Nest, why: str) -> None:
        self._poll.forget(snapshot.control.fileno())
        del self._zygotes[snapshot.name]
        snapshot.close()
        if nest.shell:
            nest.shell.destroy()
        for shell, process in snapshot.orders:
            self._failed(shell, process, f"its snapshot is gone: {why}")

    def _without(self, shell: Shell, process: Process, why: str) -> None:
        """No zygote has forked it."""
        process.close()
        if process.program and not shell.dying:  # whose descriptors may be another's by now
            process.program.zygote = ""
            try:
                self.launch(shell, process, process.program)
            except OSError as error:
                self._failed(shell, process, str(error))
        else:
            self._failed(shell, process, why)

    def ended(self, pid: int, status: int) -> None:
        """A child of this process or of a zygote has ended."""
        for zygote in list(self._zygotes.values()):
            if (
                zygote.pid == pid and not zygote.nest
            ):  # what it has just forked may hold its socket open for a while
                self._abandon(zygote, "it has died", restart=zygote.ready)
        if pid not in self._running:
            return
        shell, process = self._running[pid]
        self._told(shell, process)
        if self._running.pop(pid, None):
            shell.processes.discard(process)
            self._listener.exited(shell, process, status)

    def end(self) -> None:
        """Kills all zygotes. Their processes, which die with their inits, become this process's to reap."""
        for zygote in self._zygotes.values():
            if not zygote.nest:
                os.kill(zygote.pid, signal.SIGKILL)
        self._zygotes.clear()


def _received(control: socket.socket) -> tuple[Any, list[int]]:
    """A message, None at the end, and what came with it; False if it is none. Raises BlockingIOError."""
    try:
        packet, fds = unasked.receive(control, contract.LONGEST_PACKET)
    except ConnectionError:
        return None, []
    try:
        return json.loads(packet) if packet else None, fds
    except (ValueError, RecursionError):
        return False, fds


def resident_bytes(pid: int) -> int:
    """0 if it has ended."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
