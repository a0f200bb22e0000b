"""Runs one part as a process: its event loop, its signals, its end.

SIGTERM and SIGINT stop it cleanly, a second one of either at once. It is crash-only: whatever fails
unexpectedly, in the part itself, in a task or in a callback, is logged and ends the process with exit code 1;
somebody starts it again, and its state comes back from etcd and from the other parts.
"""

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import structlog
import uvloop

from lambent_chassis import core_dumps, logs
from lambent_chassis.settings import BadSettings, Settings

_log = structlog.get_logger()

NOTIFY_SOCKET: Final = "NOTIFY_SOCKET"
"""The variable that says where systemd is told of a unit of `Type=notify`."""

FAILED: Final = 1
SIGNALLED: Final = 128
"""As shells have it: this and the number of the signal."""

_PR_SET_PDEATHSIG: Final = 1
"""From <linux/prctl.h>."""


class Started(Protocol):
    """Called once, when the part serves. Its addresses, `host:port` each, are for people and tools."""

    def __call__(self, **addresses: str) -> None: ...


Run = Callable[[Started], Awaitable[None]]
"""A part: serves until it is cancelled, and then stops cleanly."""


def serve(part: str, settings: Settings, run: Run) -> int:
    """Runs a part until its end and returns the exit code of the process.

    Raises BadSettings where a file that a setting names cannot be used.
    """
    core_dumps.forbid()
    logs.configure(settings.log_level, settings.log_format, part=part, name=settings.name)
    _allow_many_open_files()

    def started(**addresses: str) -> None:
        words = [f"lambent {part} {settings.name} ready", *(f"{key}={at}" for key, at in addresses.items())]
        sys.stdout.write(" ".join(words) + "\n")
        sys.stdout.flush()
        _notify_systemd()

    return uvloop.run(_Process().live(run(started)))


def die_with(parent: int) -> None:
    """From now on the kernel kills this process when its parent, given by its id, ends; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel was told
        os._exit(FAILED)


class _Process:
    """The life of one part in its event loop."""

    def __init__(self) -> None:
        self._part: asyncio.Future[None] | None = None
        self._stopping = False
        self._failed = False

    async def live(self, part: Awaitable[None]) -> int:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_exception)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        self._part = asyncio.ensure_future(part)
        try:
            await self._part
        except asyncio.CancelledError:
            if not (self._stopping or self._failed):
                raise
        except Exception as error:  # noqa: BLE001 - the outermost edge: log it and end
            if isinstance(first := _first(error), BadSettings):
                raise first from None
            _log.error("part_failed", reason=_reason(error), exc_info=error)
            self._failed = True
        if self._failed:
            return FAILED
        if not self._stopping:
            _log.error("part_ended", reason="it ended without having been told to")
            return FAILED
        _log.info("stopped")
        return 0

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stopping:
            os._exit(SIGNALLED + number)
        _log.info("stopping", signal=number.name)
        self._stopping = True
        self._end()

    def _on_exception(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What nobody caught: the loop cannot say to whom it matters, so it ends the process.

        Not so for a transport's or an accepting socket's OSError: that is one connection's trouble.
        """
        error = context.get("exception")
        harmless = error is None or (isinstance(error, OSError) and "future" not in context)
        event = "connection_trouble" if harmless else "part_failed"
        _log.error(event, reason=_reason(error) or context["message"], exc_info=error)
        if not harmless:
            self._failed = True
            self._end()

    def _end(self) -> None:
        if self._part is not None:
            self._part.cancel()


def _reason(error: BaseException | None) -> str:
    error = _first(error)
    return f"{type(error).__name__}: {error}" if error else ""


def _first(error: BaseException | None) -> BaseException | None:
    """Of a task group's failure, what failed first in it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _notify_systemd() -> None:
    """For units of `Type=notify`: sd_notify(3). Where nobody asked to be told, nobody is."""
    if address := os.environ.get(NOTIFY_SOCKET):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.sendto(b"READY=1", "\0" + address[1:] if address.startswith("@") else address)


def _allow_many_open_files() -> None:
    """Connections and instances take them; the usual soft limit of 1,024 is for the sake of old programs."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
