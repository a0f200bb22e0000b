"""What an instance must not be able to do where no namespace hides it, tried by a process confined like one.

`python -I -S attempts.py PACKAGES`, with one JSON object on standard input: `confine`, the settings of an
instance for `confine.py`; `secret`, a file of the worker's that everybody may read and write; and `worker`,
the worker's process id. It prints one: by protection, what could be done in spite of it. Standard library
only.
"""

import ctypes
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

_MSG_FASTOPEN: Final = 0x20000000
_IPPROTO_MPTCP: Final = 262
_PR_SET_DUMPABLE: Final = 4
_CLONE_NEWUSER: Final = 0x10000000
_PIDFD_GETFD: Final = 438

Attempt = tuple[str, str, Callable[[], object]]
"""The protection it is about, what it is, and what succeeds if it is possible."""


def main(packages: str) -> None:
    sys.path.insert(0, packages)
    from lambent_worker.sandbox.confine import confine

    settings = json.load(sys.stdin)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        neighbour, ready = _neighbour(confine, settings["confine"])
        try:
            os.read(ready, 1)
            confine(settings["confine"])
            attempts = _attempts(settings, neighbour, listener.getsockname())
            sys.stdout.write(json.dumps(_succeeded(attempts)))
        finally:
            os.close(ready)  # which ends the neighbour, whom this process cannot reach any more


def _neighbour(confine: Callable[[dict[str, Any]], None], settings: dict[str, Any]) -> tuple[int, int]:
    """Another instance, of the same user. It ends with the pipe that is returned."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            ours.close()
            confine(settings)
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)  # as whatever has been executed is
            theirs.send(b"r")
            theirs.recv(1)
        os._exit(0)
    theirs.close()
    return pid, ours.detach()


def _attempts(settings: dict[str, Any], neighbour: int, address: tuple[str, int]) -> list[Attempt]:
    secret, worker = settings["secret"], settings["worker"]
    libc = ctypes.CDLL(None, use_errno=True)
    return [
        ("files", "a file of the host's was read", lambda: open(secret).close()),
        ("files", "a file of the host's was written", lambda: open(secret, "a").close()),
        ("files", "a file of the host's was cut short", lambda: os.truncate(secret, 0)),
        ("files", "a folder of the host's was listed", lambda: os.listdir(os.path.dirname(secret))),
        ("environment", "another instance's was read", lambda: _read(f"/proc/{neighbour}/environ")),
        ("memory", "another instance's was opened", lambda: _read(f"/proc/{neighbour}/mem")),
        (
            "events",
            "another instance's descriptors were seen",
            lambda: os.readlink(f"/proc/{neighbour}/fd/0"),
        ),
        ("events", "one of them was taken", lambda: _taken(libc, neighbour)),
        ("worker", "the mode of a file of the worker's was changed", lambda: os.chmod(secret, 0o666)),
        ("worker", "the worker's environment was read", lambda: _read(f"/proc/{worker}/environ")),
        ("worker", "the worker was sent a signal", lambda: os.kill(worker, 0)),
        ("worker", "the worker's limits were read", lambda: resource.prlimit(worker, resource.RLIMIT_NOFILE)),
        ("network", "a TCP port of the host's was reached", lambda: _connected(address)),
        ("network", "one was reached by MPTCP", lambda: _connected(address, _IPPROTO_MPTCP)),
        (
            "network",
            "one was reached by TCP Fast Open",
            lambda: socket.socket().sendto(b".", _MSG_FASTOPEN, address),
        ),
        ("network", "there is UDP", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
        ("network", "there are Unix sockets with a path", lambda: socket.socket(socket.AF_UNIX)),
        ("network", "it listened on all addresses of the host", lambda: socket.create_server(("", 0))),
        ("syscalls", "a user namespace was made", lambda: _call(libc.unshare, _CLONE_NEWUSER)),
        ("process_limit", "a process was started beyond the limit", _fork_beyond_the_limit),
    ]


def _succeeded(attempts: list[Attempt]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, what, attempt in attempts:
        if _possible(attempt):
            found[name] = f"{found[name]}; {what}" if name in found else what
    return found


def _possible(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


def _read(path: str) -> None:
    with open(path, "rb", buffering=0) as file, suppress(OSError):
        file.read(1)  # that it could be opened is enough


def _taken(libc: Any, pid: int) -> None:
    _call(libc.syscall, _PIDFD_GETFD, os.pidfd_open(pid), 0, 0)


def _connected(address: tuple[str, int], protocol: int = 0) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol) as sock:
        sock.connect(address)


def _fork_beyond_the_limit() -> None:
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    if os.fork() == 0:
        os._exit(0)


def _call(function: Any, *arguments: int) -> None:
    if function(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "")


if __name__ == "__main__":
    signal.alarm(10)  # whatever happens, it ends
    main(sys.argv[1])
