"""Processes that others are made of: each is started, watched, kept running, and stopped."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from lambent_chassis.clock import monotonic_s
from lambent_chassis.etcd import EtcdBinary, EtcdNotStarted, EtcdServer, Tls
from lambent_chassis.serve import NOTIFY_SOCKET

READY_S: Final = 90.0
"""One that ends is noticed at once, so that only one that hangs is waited for this long. On a host whose
cores are all busy a worker that tries its sandbox out was seen to take more than 25."""

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
STEADY_S: Final = 30.0
"""A child that ran this long is started again without the pause that it had earned before."""

STOP_S: Final = {"frontend": 15.0, "placement": 15.0, "worker": 45.0}
"""After this long SIGTERM is followed by SIGKILL; a frontend takes five seconds for its calls alone. A worker
takes 30, its `drain_s`, while a frontend that is not of this `up` is linked to it; else it is quick."""

_LOG_TAIL: Final = 8
_LOG_WIDTH: Final = 2_000
"""How much of the log is shown to people: lines, and characters of each, without what a log has for tools."""
_FOR_TOOLS: Final = {"at", "exception", "level", "name", "part"}


class NotStarted(Exception):
    """A child ended, or was not ready in time. The message names it, with the end of its log."""


class Child(Protocol):
    """One process; a new one each time it is started."""

    name: str
    log: Path | None
    """None: what it says goes where this process says its own."""

    async def start(self) -> None:
        """Returns when it serves; raises NotStarted."""

    async def ended(self) -> int:
        """Waits for the end of the process, and returns its exit code: below zero, the number of a signal."""

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not help; nothing if it does not run."""

    def facts(self) -> dict[str, Any]:
        """For tools: name, pid, addresses and files. The pid is 0 while it does not run."""


class PartChild:
    """A frontend, a placement or a worker: `lambent PART --config FILE`.

    It is in a session of its own, so that Ctrl-C reaches `up` alone, which stops all in order; and it ends
    when `up` does, however that is.
    """

    def __init__(
        self, part: str, name: str, config: Path | None, log: Path | None, environment: Mapping[str, str]
    ) -> None:
        """Without `config` the environment says all. systemd hears of this process alone."""
        self.part = part
        self.name = name
        self.log = log
        self.stop_s = STOP_S[part]
        """What it is given to stop."""
        self._config = config
        self._environment = {key: value for key, value in environment.items() if key != NOTIFY_SOCKET}
        self._process: Process | None = None
        self._addresses: dict[str, str] = {}

    async def start(self) -> None:
        config = ("--config", str(self._config)) if self._config else ()
        try:
            with contextlib.ExitStack() as open_files:
                log = open_files.enter_context(self.log.open("ab")) if self.log else None
                self._process = process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "lambent", self.part, *config),
                    *("--die-with-parent", str(os.getpid())),
                    stdin=DEVNULL,
                    stdout=PIPE,
                    stderr=log,
                    env=self._environment,
                    start_new_session=True,
                )
        except OSError as error:  # no process, no memory, or no room for its log
            raise NotStarted(f"{self.name} did not start: {error.strerror}.") from error
        try:
            async with asyncio.timeout(READY_S):
                self._addresses = await _ready(process)
        except (TimeoutError, EOFError):
            code = process.returncode if process.returncode is not None else await self._killed()
            raise NotStarted(f"{self.name} did not start ({ending(code)}). {last_lines(self.log)}") from None

    async def ended(self) -> int:
        assert self._process is not None, "it was started"
        return await self._process.wait()

    async def stop(self) -> None:
        if self._process is not None:
            await _stop(self._process, self.stop_s)

    async def _killed(self) -> int:
        await self.stop()
        return await self.ended()

    def facts(self) -> dict[str, Any]:
        process = self._process
        return {
            "part": self.part,
            "name": self.name,
            "pid": process.pid if process is not None and process.returncode is None else 0,
            "addresses": self._addresses,
            "config": str(self._config or ""),
            "log": str(self.log or ""),
        }


class EtcdChild:
    """The metadata store, at the same address each time it is started."""

    part = name = "etcd"

    def __init__(self, binary: EtcdBinary, data: Path, tls: Tls | None = None) -> None:
        self.binary = binary
        self._tls = tls
        self.log: Path | None = data / "etcd.log"
        self._data = data
        self._server: EtcdServer | None = None
        self._running = False

    @property
    def endpoint(self) -> str:
        """Empty before the first start."""
        return self._server.endpoint if self._server else ""

    async def start(self) -> None:
        port = int(self.endpoint.rpartition(":")[2] or 0)
        try:
            self._server = await EtcdServer.start(self.binary, self._data, port, self._tls)
        except (EtcdNotStarted, OSError) as error:
            raise NotStarted(str(error)) from error
        self._running = True

    async def ended(self) -> int:
        assert self._server is not None, "it was started"
        code = await self._server.exited()
        self._running = False
        return code

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()

    def facts(self) -> dict[str, Any]:
        return {
            "part": self.part,
            "name": self.name,
            "pid": self._server.pid if self._server and self._running else 0,
            "addresses": {"client": self.endpoint},
            "log": str(self.log),
        }


async def keep(child: Child, say: Callable[[str], None], changed: Callable[[], None]) -> None:
    """Starts it again whenever it has ended, and says so. Never returns; `changed` is called whenever its
    `facts` are others."""
    pause_s = FIRST_PAUSE_S
    while True:
        since = monotonic_s()
        code = await child.ended()
        changed()
        say(f"{child.name} ended ({ending(code)}). {last_lines(child.log)}")
        pause_s = FIRST_PAUSE_S if monotonic_s() - since > STEADY_S else pause_s
        pause_s = await _start_again(child, pause_s, say)
        changed()
        say(f"{child.name} runs again.")


async def _start_again(child: Child, pause_s: float, say: Callable[[str], None]) -> float:
    """Tries until it serves; returns the pause to make before the next time."""
    while True:
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        try:
            await child.start()
        except NotStarted as error:
            say(f"{error}\nTrying again in {pause_s:g} s.")
        else:
            return pause_s


def ending(code: int) -> str:
    """An exit code for people."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"


def last_lines(log: Path | None) -> str:
    if log is None:
        return "Its log says why."
    lines = log.read_text(errors="replace").splitlines()[-_LOG_TAIL:] if log.exists() else []
    if not lines:
        return f"{log} is empty."
    return "\n".join([f"The end of {log}:", *(f"  {_for_people(line)}" for line in lines)])


def _for_people(line: str) -> str:
    """A line of a log in JSON, as words: what happened, why, and where; another one as it is."""
    try:
        fields = json.loads(line)
        words = [fields["level"], fields.pop("event")]
    except (ValueError, KeyError, TypeError):
        return line[:_LOG_WIDTH]
    words += [f"{key}={value}" for key, value in fields.items() if key not in _FOR_TOOLS]
    return " ".join(map(str, words))[:_LOG_WIDTH]


async def _ready(process: Process) -> dict[str, str]:
    """Waits for the line `lambent PART NAME ready key=host:port ...`; EOFError if the process ends first."""
    assert process.stdout is not None, "it is a pipe"
    line = await process.stdout.readline()
    if not line:
        await process.wait()
        raise EOFError
    return dict(word.split("=", 1) for word in line.decode().split() if "=" in word)


async def _stop(process: Process, within_s: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(within_s):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
