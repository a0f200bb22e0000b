"""Makes a worker's sandboxes and all processes in them, and ends them all when the worker is in doubt.

A process of its own, `python -I -S -c PROGRAM FD`, single-threaded and standard library only: a worker has
threads of gRPC's and must never fork. FD is one end of a SOCK_SEQPACKET pair. Each packet is a JSON array:

    worker to fork server                          fork server to worker
    ["setup", settings]                            ["ready", facts]          all that was to be prepared is
    ["create", key, wanted]                        ["created", key, counters, zygote_bytes]
                                                     with the pidfd of its init, and the listener if wanted
    ["launch", key, process, argv, environment,    ["launched", process, pid, parked]
      folder, channel, parked, snapshot]             with the worker's ends of its output and channel
                                                   ["failed", key or process, why]
                                                   ["exited", process, status, killed]
    ["clear", key]                                 ["cleared", key]
    ["destroy", key]                               ["gone", key, killed]
    ["freeze", key], ["thaw", key]                 ["warning", text]
    ["extend", valid_until]

`status` is an exit code, or a signal's number made negative; `killed` says that a process or a sandbox ended
because of "clear" or "destroy", or of the watchdog. "gone" is said once the sandbox's init has been reaped,
which the kernel does last.

It is the watchdog that keeps the fleet's count right. No sandbox lives past `valid_until` (CLOCK_MONOTONIC
seconds: the worker's lease), whatever state the worker is in; nothing lives past the worker; and nothing
lives past the fork server, because every init and every zygote asks the kernel for SIGKILL when it dies.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import socket
import sys
import time
from collections import deque
from typing import Any, Final

from . import kernel, network
from .children import Children
from .footing import ROOT_OF_ITSELF, Footing, become_root
from .launching import Launcher
from .nest import REAPED_WITHIN_S, Nest
from .poll import Poll
from .prepared import Process, Program, Shell
from .preparing import Store

LONGEST_PACKET: Final = 192 * 1024
"""A launch carries argv and environment; Linux takes packets up to net.core.wmem_default, 212,992 bytes."""

COMMAND: Final = b"lambent-forkserver"

WORKER_FD: Final = 3
"""Where the fork server holds the worker's socket: the numbers that children of its fill are taken here."""

IGNORED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Meant for the worker, whose end is this process's end."""

REFILL_AFTER_S: Final = 0.02
"""How long nothing must have happened before the next shell is prepared, so that nobody waits for that."""


class ForkServer:
    def __init__(self, worker: socket.socket, wakeup: int, privileged: bool) -> None:
        self._worker = worker
        self._privileged = privileged
        self._wakeup = wakeup
        self._packet = bytearray(LONGEST_PACKET)
        """Kept, because so much memory anew for each packet is a mapping for each."""
        self._outbox: deque[tuple[bytes, list[int]]] = deque()
        self._poll = Poll()
        self._valid_until = 0.0
        self._over = False
        self._reaping = False
        """A snapshot has something to reap, which must not take long."""
        self._ready = False
        self._taken: dict[str, Shell] = {}
        self._connecting: dict[str, Shell] = {}
        """Complete but for their way to the network."""
        self._waiting: dict[str, dict[str, Any]] = {}
        """What was asked for and no shell was there for, oldest first."""
        self._poll.watch(wakeup, self._reap)

    def set_up(self, settings: dict[str, Any]) -> None:
        """Raises OSError."""
        self._slirp = settings["slirp"]
        footing = Footing(settings, self._privileged)
        self._facts = footing.facts
        children = Children(footing.plan, footing.instructions, footing.of_snapshots)
        self._launcher = Launcher(children, self._poll, self)
        self._store = Store(settings, children, self._launcher, self._poll, footing, self)
        gc.collect()
        gc.freeze()
        self._store.start_zygotes()

    def run(self) -> None:
        """Until the worker is gone; then nothing of it is left."""
        while not self._over:
            self._turn()
        for shell in self._store.all():
            shell.destroy()
        self._launcher.end()
        while self._reap_one(0):
            pass
        self._store.end()

    def _turn(self) -> None:
        self._poll.watch(self._worker.fileno(), self._take_packet, writable=bool(self._outbox))
        busy = self._poll.turn(self._patience_s())
        now = time.monotonic()
        if now >= self._valid_until:
            for shell in self._taken.values():
                shell.destroy()
        self._reaping = self._store.end_hanging(now)
        if not self._ready or not busy:
            self._store.prepare()
        if not self._ready and not self._store.preparing() and not self._store.lacks():
            self._ready = True
            self._say("ready", self._facts)
        self._send_outbox()

    def _patience_s(self) -> float | None:
        """How long nothing needs to be done unless somebody speaks."""
        if self._store.lacks() and not self._store.preparing():
            return REFILL_AFTER_S if self._ready else 0.0
        limits = [REAPED_WITHIN_S] if self._reaping else []
        if not all(shell.dying for shell in self._taken.values()):
            limits.append(self._valid_until - time.monotonic())
        return min(limits, default=None)

    def _take_packet(self) -> None:
        """Does what the worker asks for."""
        try:
            size = self._worker.recv_into(self._packet)
        except BlockingIOError:
            return
        except ConnectionError:
            size = 0
        match json.loads(self._packet[:size] or b"null"):
            case None:
                self._over = True
            case ["create", key, wanted]:
                self._create(key, wanted)
            case ["launch", key, process, argv, environment, folder, channel, parked, snapshot]:
                program = Program(argv, environment, folder, channel, parked)
                self._launch(key, Process(process), program, snapshot)
            case ["extend", valid_until]:
                self._valid_until = float(valid_until)
            case [verb, key]:
                self._change(verb, key)
            case unknown:
                raise ValueError(f"the worker sent {unknown!r}")

    def _change(self, verb: str, key: str) -> None:
        if verb == "destroy" and key in self._waiting:
            del self._waiting[key]
            self._say("failed", key, "it was destroyed before it was there")
        elif shell := self._taken.get(key) or self._connecting.get(key):
            {"destroy": shell.destroy, "clear": shell.clear, "freeze": shell.freeze, "thaw": shell.thaw}[
                verb
            ]()

    def _create(self, key: str, wanted: dict[str, Any]) -> None:
        if time.monotonic() >= self._valid_until:
            self._say("failed", key, "the worker's lease has run out, or was never given to the watchdog")
        else:
            self._launcher.hear_zygotes()  # a snapshot tells the worker that it is ready as well
            nest = self._store.nest(wanted["snapshot"])
            if not nest:
                self._say("failed", key, "its snapshot is gone")
            elif shell := self._store.take(nest, wanted["parked"]):
                self._give(shell, key, wanted)
            else:
                self._waiting[key] = wanted
                self._store.make(nest)

    def finished(self, shell: Shell) -> bool:
        """Somebody who was waiting for a shell gets this one; False if nobody was."""
        key = self._first_waiting(shell.nest)
        if key is None:
            return False
        self._give(shell, key, self._waiting.pop(key))
        return True

    def unfinished(self, nest: Nest, why: str) -> None:
        """A shell could not be made."""
        self.warn(why)
        key = self._first_waiting(nest)
        if key is not None:
            del self._waiting[key]
            self._say("failed", key, why)

    def _first_waiting(self, nest: Nest) -> str | None:
        return next((key for key, wanted in self._waiting.items() if wanted["snapshot"] == nest.name), None)

    def _give(self, shell: Shell, key: str, wanted: dict[str, Any]) -> None:
        shell.key = key
        try:
            if not shell.parked:
                self._foresee(shell, wanted["parked"])
            shared_bytes = self._store.fit(shell, wanted)
        except OSError as error:
            self._say("failed", key, str(error))
            shell.destroy()
            return
        if wanted["network"]:
            self._connect(shell, wanted["api"], shared_bytes)
        else:
            self._created(shell, wanted["api"], shared_bytes)

    def _connect(self, shell: Shell, api: bool, shared_bytes: int) -> None:
        def told() -> None:
            del self._connecting[shell.key]
            self._poll.forget(ready)
            connected = os.read(ready, 1) == b"1"
            os.close(ready)
            if connected and not shell.dying:
                self._created(shell, api, shared_bytes)
            else:
                self._say("failed", shell.key, "slirp4netns did not connect it: see the worker's output")
                shell.destroy()

        try:
            ready = network.connect(self._slirp, shell)
        except OSError as error:
            self._say("failed", shell.key, str(error))
            shell.destroy()
        else:
            self._connecting[shell.key] = shell
            self._poll.watch(ready, told)

    def _created(self, shell: Shell, api: bool, shared_bytes: int) -> None:
        self._taken[shell.key] = shell
        fds = [os.dup(shell.init)]
        if api and shell.listener is not None:
            fds.append(shell.listener)
            shell.listener = None
        shell.close_listener()
        counters = shell.cgroup.counters if shell.cgroup else None
        self._say("created", shell.key, counters, shared_bytes, fds=fds)

    def _foresee(self, shell: Shell, zygote: str) -> None:
        """What will be launched first is forked while the shell gets its files. Raises OSError."""
        process = Process()
        if self._launcher.fork(shell, process, zygote):
            shell.coming = process

    def _launch(self, key: str, process: Process, program: Program, snapshot: str) -> None:
        shell = self._taken.get(key)
        if not shell or shell.dying:
            self._say("failed", process.key, "the sandbox has been destroyed")
        elif snapshot:
            self._launch_snapshot(shell, process, program, snapshot)
        elif program.zygote and shell.parked:
            shell.parked.key, shell.parked.parked = process.key, True
            self.launched(shell, shell.parked)
        elif program.zygote and shell.coming and not shell.coming.key:
            shell.coming.key, shell.coming.program = process.key, program
        else:
            try:
                self._launcher.launch(shell, process, program)
            except OSError as error:
                self._say("failed", process.key, str(error))

    def _launch_snapshot(self, shell: Shell, process: Process, program: Program, name: str) -> None:
        try:
            nest = self._store.begin_snapshot(name, shell)
            if not self._launcher.snapshot(shell, process, nest, program.zygote):
                self._say("failed", process.key, "no zygote of its runtime could fork it")
        except OSError as error:
            self._say("failed", process.key, str(error))

    def taken(self, nest: Nest) -> None:
        self._store.taken(nest)

    def launched(self, shell: Shell, process: Process) -> None:
        if shell.coming is process:
            shell.coming = None
        if process.key:
            shell.parked = None if shell.parked is process else shell.parked
            fds, process.ends = process.ends, []
            if not self._privileged:  # numbers of processes are this pid namespace's, and the worker's others
                fds.append(_pidfd(process.pid))
            self._say("launched", process.key, process.pid, process.parked, fds=fds)
        elif shell.key:
            shell.parked = process
        else:
            self._store.park(shell, process)
        if shell.clearing:
            shell.clear()  # it came too late for its init to see it

    def failed(self, shell: Shell, process: Process, why: str) -> None:
        if process.key:
            self._say("failed", process.key, why)
        self._left(shell, process, why)

    def exited(self, shell: Shell, process: Process, status: int) -> None:
        if process.key:
            killed = (shell.destroyed or shell.clearing) and status == -signal.SIGKILL
            self._say("exited", process.key, status, killed)
        self._left(shell, process, f"its status was {status}")

    def _left(self, shell: Shell, process: Process, why: str) -> None:
        """A process is not in its shell any more, or never was."""
        process.close()
        if shell.coming is process:
            shell.coming = None
        if shell.parked is process:
            shell.parked = None
        if not shell.key:
            self._store.unpark(shell, why)
        self.emptied(shell)

    def emptied(self, shell: Shell) -> None:
        """Perhaps: its init has said so, or one of its processes has been reaped."""
        if shell.clearing and shell.empty and not shell.processes:
            shell.clearing = False
            self._say("cleared", shell.key)

    def _reap(self) -> None:
        os.read(self._wakeup, 4096)
        while self._reap_one(os.WNOHANG):
            pass

    def _reap_one(self, flags: int) -> bool:
        """Any child that has died; False if there is none."""
        try:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | flags)
        except ChildProcessError:
            return False
        if dead is None:
            return False
        self._launcher.hear_zygotes()  # who died in the same sandbox before it has been reported by now
        status = os.waitpid(dead.si_pid, 0)[1]
        self._launcher.ended(dead.si_pid, os.waitstatus_to_exitcode(status))
        if (shell := self._store.reaped(dead.si_pid)) and self._taken.pop(shell.key, None):
            self._say("gone", shell.key, shell.destroyed)
        return True

    def warn(self, text: str) -> None:
        self._say("warning", text)

    def _say(self, *message: object, fds: list[int] | None = None) -> None:
        self._outbox.append((json.dumps(message).encode(), fds or []))

    def _send_outbox(self) -> None:
        """Never waits for the worker: one that hangs must not stop the watchdog."""
        while self._outbox:
            packet, fds = self._outbox[0]
            try:
                socket.send_fds(self._worker, [packet], fds)
            except BlockingIOError:
                return
            except ConnectionError:
                pass  # it is gone, and the next look at its socket says so
            for fd in fds:
                os.close(fd)
            self._outbox.popleft()


def _pidfd(pid: int) -> int:
    """Of nobody if it has been reaped: it may have been killed at once, and its zygote was quicker."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)


def main(fd: int) -> None:
    privileged = os.geteuid() == 0 and sys.argv[-1] != ROOT_OF_ITSELF
    if os.geteuid():
        become_root()
    kernel.set_command_line(COMMAND)  # instances see it as that of their init
    os.dup2(fd, WORKER_FD, inheritable=False)
    os.dup2(0, WORKER_FD + 1, inheritable=False)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    wakeup, wake = os.pipe()
    os.set_blocking(wakeup, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    worker = socket.socket(fileno=WORKER_FD)
    settings = json.loads(worker.recv(LONGEST_PACKET) or b"null")
    if settings is None:
        return
    worker.setblocking(False)
    server = ForkServer(worker, wakeup, privileged)
    try:
        server.set_up(settings)
    except OSError as error:
        socket.send_fds(worker, [json.dumps(["broken", str(error)]).encode()], [])
        return
    server.run()
