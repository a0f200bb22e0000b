"""Starts, ends and reaps a worker's instances, and ends them all when the worker is in doubt.

A process of its own, `python -I -S spawner.py FD`, single-threaded and standard library only: a worker has
threads of gRPC's and must never fork. FD is one end of a SOCK_SEQPACKET pair. Each packet is a JSON array:

    worker to spawner                            spawner to worker
    ["start", key, argv, environment, folder,    ["started", key, pid]       with the process's pidfd
      how] with descriptors, see `How`           ["failed", key, why]
    ["kill", key]                                ["exited", key, status, killed]
    ["extend", valid_until]

`status` is an exit code, or a signal's number made negative. "exited" is said once the process has been
reaped and nothing of its process group is left; `killed` says that it ended because the spawner killed it.

It is the watchdog that keeps the fleet's count right. Nothing lives past `valid_until` (CLOCK_MONOTONIC
seconds: the worker's lease), whatever state the worker is in; nothing lives past the worker; and nothing
lives past the spawner, because every instance asks the kernel for SIGKILL when its parent dies.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Final, NoReturn

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
"""From <linux/prctl.h>."""

LONGEST_PACKET: Final = 192 * 1024
"""A start carries argv and environment; Linux takes packets up to net.core.wmem_default, 212,992 bytes."""

MOST_FDS: Final = 32

GROUP_CHECK_S: Final = 0.02
"""How soon to look again whether the last process of a killed group is gone, where no SIGCHLD tells."""

OPEN_FILES: Final = 1024
"""RLIMIT_NOFILE of an instance, Lambda's."""

IGNORED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Meant for the worker, whose end is this process's end."""

_libc = ctypes.CDLL(None, use_errno=True)


class Instance:
    """One process group whose leader this process started."""

    def __init__(self, key: str, pid: int) -> None:
        self.key = key
        self.pid = pid
        self.killed = False
        self.status: int | None = None
        """Of the leader, once it has been reaped."""

    def kill(self) -> None:
        self.killed = True
        self.signal_group()

    def signal_group(self) -> bool:
        """SIGKILL to everyone in the group; False if nobody is left in it."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True


class Spawner:
    def __init__(self, worker: socket.socket, wakeup: int) -> None:
        self._worker = worker
        self._wakeup = wakeup
        self._instances: dict[str, Instance] = {}
        self._leaders: dict[int, Instance] = {}
        self._ending: list[Instance] = []
        """Reaped, but others of its group are not gone yet."""
        self._outbox: deque[tuple[bytes, list[int]]] = deque()
        self._valid_until = 0.0
        self._poll = select.poll()
        self._poll.register(wakeup, select.POLLIN)

    def run(self) -> None:
        """Until the worker is gone; then nothing of it is left."""
        while self._turn():
            pass
        self._kill_all()
        end_all_children()

    def _kill_all(self) -> None:
        for instance in self._instances.values():
            if not instance.killed:
                instance.kill()

    def _turn(self) -> bool:
        self._poll.register(self._worker, select.POLLIN | (select.POLLOUT if self._outbox else 0))
        ready = self._poll.poll(self._patience_ms())
        if time.monotonic() >= self._valid_until:
            self._kill_all()
        for fd, events in ready:
            if fd == self._wakeup:
                os.read(self._wakeup, 4096)
            elif events & ~select.POLLOUT and not self._take_packet():
                return False
        self._reap()
        self._send_outbox()
        return True

    def _patience_ms(self) -> float | None:
        """How long nothing needs to be looked at unless somebody speaks."""
        if self._ending:
            return GROUP_CHECK_S * 1000
        if not any(not instance.killed for instance in self._instances.values()):
            return None
        return max(0.0, self._valid_until - time.monotonic()) * 1000

    def _take_packet(self) -> bool:
        """Does what the worker asks for; False once the worker is gone."""
        try:
            packet, fds = received(self._worker, fds=MOST_FDS)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        if not packet:
            return False
        match json.loads(packet):
            case ["start", key, argv, environment, folder, how]:
                self._start(key, argv, environment, folder, How(how, fds))
            case ["kill", key]:
                if instance := self._instances.get(key):
                    instance.kill()
            case ["extend", valid_until]:
                self._valid_until = float(valid_until)
            case unknown:
                raise ValueError(f"the worker sent {unknown!r}")
        for fd in fds:
            os.close(fd)
        return True

    def _start(self, key: str, argv: list[str], environment: dict[str, str], folder: str, how: "How") -> None:
        if not how.complete:
            self._say("failed", key, "the spawner has no descriptors left: raise its limit of open files")
            return
        if time.monotonic() >= self._valid_until:
            self._say("failed", key, "the worker's lease has run out, or was never given to the watchdog")
            return
        try:
            pid = launch(argv, environment, folder, how)
        except OSError as error:
            self._say("failed", key, f"{argv[0]} cannot be started: {error}")
            return
        instance = Instance(key, pid)
        self._instances[key] = self._leaders[pid] = instance
        self._say("started", key, pid, fd=os.pidfd_open(pid))

    def _reap(self) -> None:
        for pid in dead_children():
            leader = self._leaders.pop(pid, None)
            if leader:
                leader.signal_group()  # while it is a zombie, nobody else can have its number
                self._ending.append(leader)
            _, status = os.waitpid(pid, 0)  # or it was an orphan that an instance left behind
            if leader:
                leader.status = os.waitstatus_to_exitcode(status)
        gone = [instance for instance in self._ending if not instance.signal_group()]
        for instance in gone:
            self._ending.remove(instance)
            del self._instances[instance.key]
            killed = instance.killed and instance.status == -signal.SIGKILL
            self._say("exited", instance.key, instance.status, killed)
        if gone and not self._instances:
            kill_all(living_children())  # orphans that left their group, so nobody knows whose they were

    def _say(self, *message: object, fd: int | None = None) -> None:
        self._outbox.append((json.dumps(message).encode(), [] if fd is None else [fd]))

    def _send_outbox(self) -> None:
        """Never waits for the worker: one that hangs must not stop the watchdog."""
        while self._outbox:
            packet, fds = self._outbox[0]
            try:
                socket.send_fds(self._worker, [packet], fds)
            except BlockingIOError:
                return
            except ConnectionError:
                self._outbox.clear()
                return
            for fd in fds:
                os.close(fd)
            self._outbox.popleft()


def received(sock: socket.socket, fds: int) -> tuple[bytes, list[int]]:
    """One packet, and the descriptors that came with it, which no child shall inherit."""
    packet, came, _, _ = socket.recv_fds(sock, LONGEST_PACKET, fds)
    for fd in came:
        os.set_inheritable(fd, False)  # Python 3.11 takes MSG_CMSG_CLOEXEC here and ignores it
    return packet, came


class How:
    """What a process gets besides what it executes.

    The descriptors come in this order: its output, which it gets as 1 and 2; its channel, if it has one, as
    3; `keep` others as 4, 5, ...; and `joins` of cgroups that it joins. Standard input is empty, and nothing
    else that is open here is open there.
    """

    def __init__(self, how: dict[str, Any], fds: list[int]) -> None:
        channel, keep, joins = how["channel"], how["keep"], how["joins"]
        self.complete = len(fds) == 1 + channel + keep + joins
        self.fds = fds
        self.numbers = [1, *([3] if channel else []), *range(4, 4 + keep)]
        """Of the descriptors that it gets, in their order."""
        self.joins = fds[len(self.numbers) :]
        self.open_files: int = how["open_files"]
        self.confine: dict[str, Any] | None = how["confine"]


def launch(argv: list[str], environment: dict[str, str], folder: str, how: How) -> int:
    """Starts a process in a session of its own; raises OSError if it cannot be executed."""
    parent = os.getpid()
    told, tell = os.pipe()
    try:
        pid = os.fork()
        if pid == 0:
            become(argv, environment, folder, how, tell, parent)
    finally:
        os.close(tell)
        with os.fdopen(told, "rb") as pipe:
            why = pipe.read()  # ends when the program runs: its copy of `tell` closes on execution
    if why:
        os.waitpid(pid, 0)
        raise OSError(why.decode())
    return pid


def become(
    argv: list[str], environment: dict[str, str], folder: str, how: How, tell: int, parent: int
) -> NoReturn:
    """Turns the new process into the program, or writes to `tell` why it cannot be."""
    try:
        for join in how.joins:
            os.write(join, b"0")
        # Away from the numbers that are given out below.
        given = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 32) for fd in how.fds[: len(how.numbers)]]
        tell = fcntl.fcntl(tell, fcntl.F_DUPFD_CLOEXEC, 32)
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGPIPE, *IGNORED):
            signal.signal(number, signal.SIG_DFL)
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)  # the spawner died before the kernel was told
        files = min(how.open_files, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for fd, number in zip(given, how.numbers, strict=True):
            os.dup2(fd, number)
        os.dup2(1, 2)
        os.chdir(folder)
        if how.confine is not None:
            confined(how.confine)
        os.execve(argv[0], argv, environment)
    except OSError as error:
        os.write(tell, str(error.strerror or error).encode())
    os._exit(127)


def confined(settings: dict[str, Any]) -> None:
    """What else the process loses before it executes. Raises OSError."""
    from lambent_worker.sandbox.confine import confine  # `main` has imported it, where it is needed

    confine(settings)
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # which another user's id has undone


def dead_children() -> Iterator[int]:
    """Children that have died, each still a zombie; the caller reaps it before it asks for the next."""
    while True:
        try:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if dead is None:
            return
        yield dead.si_pid


def living_children() -> Iterator[int]:
    own = str(os.getpid())
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat") as stat:
                state, parent = stat.read().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # it has ended meanwhile
        if parent == own and state != "Z":
            yield int(name)


def end_all_children() -> None:
    """Kills and reaps every child, and every orphan that falls to this process while it does so."""
    while True:
        kill_all(living_children())
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def kill_all(pids: Iterator[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def main(fd: int, confines: str = "") -> None:
    """With `confines`, the folder that holds Lambent's packages, processes can be confined."""
    if confines:
        sys.path.insert(0, confines)
    os.set_inheritable(fd, False)
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    wakeup, wake = os.pipe()
    os.set_blocking(wakeup, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    worker = socket.socket(fileno=fd)
    worker.setblocking(False)
    Spawner(worker, wakeup).run()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
