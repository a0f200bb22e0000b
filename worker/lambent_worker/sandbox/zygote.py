"""A zygote: an interpreter that has imported what its runtime needs, and of which processes are forked.

How a runtime makes one: its folder holds copies of this file, of `kernel.py` and `entry.py` in one package,
and a program, the `argv` of a `Parkable`, that imports whatever all its processes will need and then does

    zygote.serve()
    main(3)

`serve` returns in the processes alone: each in its shell, with nothing left of the zygote's power, after it
has read the frame ["specialise"] from its channel, descriptor 3; environment and folder are set. The zygote
itself runs no function's code, has one thread, and holds no secret.

The fork server talks to it over descriptor 3, a SOCK_SEQPACKET socket. The first packet is the seccomp
program. After it each packet is a JSON array. Orders are answered in order; what has exited is said between.

    fork server to zygote                     zygote to fork server
                                              ["ready"]
    ["fork", uid, users]                      ["forked", pid]
      with the descriptors of the shell's     ["refused", why]
      init, output, channel, cgroup joins     ["exited", pid, status]    before it is reaped
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
    from typing import Final

CONTROL_FD: Final = 3
LONGEST_PACKET: Final = 64 * 1024
MOST_DESCRIPTORS: Final = 16
LONGEST_FRAME: Final = 1024 * 1024
"""Of ["specialise"]: an environment is at most 4 KB of the function's, and some of the runtime's."""


class Refused(Exception):
    """It must not fork."""


class _Zygote:
    def __init__(self) -> None:
        self._control = socket.socket(fileno=CONTROL_FD)
        self._system_calls = kernel.Filter(self._control.recv(LONGEST_PACKET))
        entry.give_up_groups_and_limits()
        self._own = os.pidfd_open(os.getpid())
        self._wakeup, wake = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._poll = select.poll()
        self._poll.register(self._control, select.POLLIN)
        self._poll.register(self._wakeup, select.POLLIN)

    def serve(self) -> None:
        """Returns in children alone."""
        self._say("ready")
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
        _, uid, users = json.loads(packet)
        try:
            pid = self._fork(fds[0])
        except (OSError, Refused) as error:
            pid = -1
            self._say("refused", str(error))
        if pid == 0:
            self._become(fds, uid, users)
            return True
        if pid > 0:
            self._say("forked", pid)
        for fd in fds:
            os.close(fd)
        return False

    def _fork(self, init: int) -> int:
        threads = os.stat("/proc/self/task").st_nlink - 2
        if threads != 1:  # a lock that another one holds would be held in the child for ever
            raise Refused(f"the zygote has {threads} threads")
        kernel.setns(init, kernel.CLONE_NEWPID)
        try:
            pid = os.fork()
        except OSError:
            pid = -1
        if pid:
            kernel.setns(self._own, kernel.CLONE_NEWPID)
        if pid < 0:
            raise Refused("its pid namespace takes no process any more")
        return pid

    def _become(self, fds: list[int], uid: int, users: bool) -> None:
        init, output, channel, *joins = fds
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            entry.enter(init, joins, uid, users)
            self._control.detach()
            entry.arrange(output, channel)
            os.chdir("/")
            kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
            entry.give_up(self._system_calls)
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
            killed = dead.si_code != os.CLD_EXITED
            self._say("exited", dead.si_pid, -dead.si_status if killed else dead.si_status)
            os.waitpid(dead.si_pid, 0)

    def _say(self, *message: object) -> None:
        self._control.send(json.dumps(message).encode())


def serve() -> None:
    """Returns in a child that has been specialised; never in the zygote."""
    gc.collect()
    gc.freeze()
    _Zygote().serve()
    specialise(CONTROL_FD)


def specialise(channel: int) -> None:
    """Waits to be told whom this process is for; a channel that ends instead ends the process."""
    frame = _exactly(channel, int.from_bytes(_exactly(channel, 4), "big"))
    head = 2 + int.from_bytes(frame[:2], "big")
    told = json.loads(frame[head:])
    os.environ.clear()
    os.environ.update(told["environment"])
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
