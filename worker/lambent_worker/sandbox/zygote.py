"""A zygote: an interpreter that has imported what its runtime needs, and of which processes are forked.

How a runtime makes one: its folder holds copies of this file, of `kernel.py` and `entry.py` in one package,
and a program, the `argv` of a `Parkable`, that imports whatever all its processes will need and then does

    snapshot = zygote.serve(rehearse)
    main(3, snapshot)

`serve` returns in the processes alone: each in its shell, with nothing left of the zygote's power, after it
has read the frame ["specialise"] from its channel, descriptor 3; environment and folder are set. One that is
to be parked calls `rehearse` before: time that nobody waits for. The zygote itself runs no function's code,
has one thread, and holds no secret.

What it returns is None, but in a process that is to become a snapshot: there it is a `Snapshot`, to be called
once the function has been loaded. From then on that process is a zygote as well, of that function's alone,
and the call returns in the processes that are forked of it. A snapshot has run the function's code: whoever
talks to it believes nothing that it says.

The fork server talks to a zygote over descriptor 3, to a snapshot over 4, a SOCK_SEQPACKET socket. To a
zygote the first two packets are the seccomp programs of processes and of snapshots. After them each packet is
a JSON array. Orders are answered in order; what has exited is said between, before it is reaped.

    fork server to zygote                     zygote to fork server
                                              ["ready"]
    ["fork", uid, users, doors, parked]       ["forked", pid]    of a snapshot with a pidfd
      with so many descriptors of the shell   ["failed", why]            this time
      (`entry.enter`), output, channel,       ["refused", why]           and will not fork again
      cgroup joins                            ["exited", pid, status]
    ["snapshot"]                              the same
      with the shell's init, the user
      namespace of its instances, output,
      channel, control socket, cgroup joins
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
import time

from . import entry, kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

CONTROL_FD: Final = 3
LONGEST_PACKET: Final = 64 * 1024
MOST_DESCRIPTORS: Final = 16
LONGEST_FRAME: Final = 1024 * 1024
"""Of ["specialise"]: an environment is at most 4 KB of the function's, and some of the runtime's."""


class Refused(Exception):
    """It must not fork."""


class Snapshot:
    """What makes this process a zygote of its function's."""

    def __init__(self, system_calls: kernel.Filter) -> None:
        self._system_calls = system_calls

    def refusal(self) -> str:
        """Why this process must not be forked, or empty."""
        try:
            _check_threads()
        except Refused as refused:
            return str(refused)
        return ""

    def __call__(self, ready: Callable[[], None]) -> None:
        """Returns in the processes that are forked of this one, as `serve` does; `ready` is called before the
        first."""
        gc.collect()
        gc.freeze()
        _Zygote(entry.SNAPSHOT_FD, self._system_calls).serve(ready)
        specialise(entry.CHANNEL_FD)


class _Zygote:
    def __init__(
        self, control: int, system_calls: kernel.Filter, of_snapshots: kernel.Filter | None = None
    ) -> None:
        """A snapshot itself without `of_snapshots`."""
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, control)
        self._system_calls = system_calls
        self._of_snapshots = of_snapshots
        self.parked = False
        """In a process: nobody waits for it yet."""
        self.snapshot: Snapshot | None = None
        """Set in a process that is to become one."""
        self._children: set[int] = set()
        self._own = os.pidfd_open(os.getpid())
        self._wakeup, wake = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._poll = select.poll()
        self._poll.register(self._control, select.POLLIN)
        self._poll.register(self._wakeup, select.POLLIN)

    def serve(self, ready: Callable[[], None] = lambda: None) -> None:
        """Returns in children alone."""
        self._say("ready")
        ready()
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._wakeup:
                    os.read(fd, 4096)
                    self._reap()
                elif self._is_child_of_order():
                    return

    def _is_child_of_order(self) -> bool:
        packet, fds, _, _ = socket.recv_fds(self._control, LONGEST_PACKET, MOST_DESCRIPTORS)
        if not packet:
            os._exit(0)  # the fork server is gone
        order, *arguments = json.loads(packet)
        try:
            pid = self._fork(fds[0])
        except Refused as error:
            pid = -1
            self._say("refused", str(error))
        except OSError as error:  # the shell has ended meanwhile
            pid = -1
            self._say("failed", str(error))
        if pid == 0:
            self._become(order, fds, *arguments)
            return True
        if pid > 0:
            self._forked(pid)
        for fd in fds:
            os.close(fd)
        return False

    def _fork(self, pid_namespace: int) -> int:
        _check_threads()
        kernel.setns(pid_namespace, kernel.CLONE_NEWPID)
        try:
            pid = os.fork()
        except OSError:
            pid = -1
        if pid and self._of_snapshots:  # a snapshot has no way back, and needs none
            kernel.setns(self._own, kernel.CLONE_NEWPID)
        if pid < 0:
            raise OSError("its pid namespace takes no process any more")
        return pid

    def _forked(self, pid: int) -> None:
        self._children.add(pid)
        if self._of_snapshots:
            self._say("forked", pid)
        else:
            pidfd = os.pidfd_open(pid)
            socket.send_fds(self._control, [json.dumps(["forked", pid]).encode()], [pidfd])
            os.close(pidfd)

    def _become(
        self,
        order: str,
        fds: list[int],
        uid: int = 0,
        users: bool = False,
        doors: int = 1,
        parked: bool = False,
    ) -> None:
        self.parked = parked
        output = fds[2 if order == "snapshot" else doors]
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._control.detach()
            if order == "snapshot":
                assert self._of_snapshots
                self.snapshot = Snapshot(self._system_calls)
                entry.become_snapshot(fds[0], fds[1], fds[5:], fds[2:5], self._of_snapshots)
            else:
                entry.enter(fds[:doors], fds[doors + 2 :], uid, users)
                entry.arrange(output, fds[doors + 1])
                os.chdir("/")
                entry.give_up(self._system_calls)
                kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
        except BaseException as error:  # noqa: BLE001 - half of a sandbox must run nothing
            os.write(output, f"the sandbox cannot be entered: {error}\n".encode())
            os._exit(1)

    def _reap(self) -> None:
        while True:
            try:
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if dead is None:
                return
            if dead.si_pid in self._children:  # and not one that a function started while it was imported
                self._children.discard(dead.si_pid)
                killed = dead.si_code != os.CLD_EXITED
                self._say("exited", dead.si_pid, -dead.si_status if killed else dead.si_status)
            os.waitpid(dead.si_pid, 0)

    def _say(self, *message: object) -> None:
        self._control.send(json.dumps(message).encode())


def _check_threads() -> None:
    """Raises Refused."""
    threads = os.stat("/proc/self/task").st_nlink - 2
    if threads != 1:  # a lock that another one holds would be held in the child for ever
        raise Refused(f"it has {threads} threads")


def serve(rehearse: Callable[[], None] = lambda: None) -> Snapshot | None:
    """Returns in a child that has been specialised; never in the zygote."""
    control = socket.socket(fileno=CONTROL_FD)
    filters = [kernel.Filter(control.recv(LONGEST_PACKET)) for _ in range(2)]
    entry.give_up_groups_and_limits()
    gc.collect()
    gc.freeze()
    zygote = _Zygote(control.detach(), *filters)
    zygote.serve()
    if zygote.parked:
        rehearse()
    specialise(entry.CHANNEL_FD)
    return zygote.snapshot


def specialise(channel: int) -> None:
    """Waits to be told whom this process is for; a channel that ends instead ends the process."""
    frame = _exactly(channel, int.from_bytes(_exactly(channel, 4), "big"))
    head = 2 + int.from_bytes(frame[:2], "big")
    told = json.loads(frame[head:])
    zone = os.environ.get("TZ")
    os.environ.clear()
    os.environ.update(told["environment"])
    if os.environ.get("TZ") != zone:
        time.tzset()
    os.chdir(told["folder"])


def _exactly(channel: int, size: int) -> bytes:
    data = b""
    while len(data) < min(size, LONGEST_FRAME):
        chunk = os.read(channel, size - len(data))
        if not chunk:
            sys.exit(0)
        data += chunk
    return data
