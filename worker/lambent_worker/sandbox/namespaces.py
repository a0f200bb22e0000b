"""The default backend: each instance in namespaces of its own, prepared by our own fork server.

A sandbox is a shell (`shell.py`) that the fork server (`forkserver.py`) had ready; the function's files were
mounted into it from outside. Needs Linux 5.12 or newer.
"""

import asyncio
import itertools
import os
import platform
import shutil
import signal
import socket
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import Any, Final, Self

import structlog

from lambent_worker.sandbox.api import (
    PROTECTIONS,
    CannotStart,
    Exit,
    HostFiles,
    Launch,
    Memory,
    Parkable,
    Protections,
    SandboxSpec,
    View,
)
from lambent_worker.sandbox.forkserver_client import ForkServer, end_earlier, note_own
from lambent_worker.sandbox.inside import connect_beside
from lambent_worker.sandbox.shell import API_PORT

_log = structlog.get_logger()

VIEW: Final = View(task_root="/var/task", opt="/opt", runtime_dir="/var/runtime", tmp="/tmp")

FIRST_UID: Final = 2_000_000_000
"""Above what useradd, subordinate ids and systemd give out, below 2^31."""

POOL: Final = 4
"""Empty sandboxes that wait for an instance."""

READY_LIMIT_S: Final = 60.0
"""How long the fork server may take until everything is prepared."""

CLEAR_LIMIT_S: Final = 5.0
"""How long the processes of a sandbox may take to die before it is destroyed."""

_BY_CGROUP: Final = {"memory_limit": "memory", "cpu_limit": "cpu", "process_limit": "pids"}
_ALWAYS: Final = frozenset(
    {"files", "environment", "memory", "events", "worker", "network", "disk_limit", "kill_all"}
)
_MB: Final = 1 << 20


class NamespacesProcess:
    def __init__(self, pid: int, parked: bool, channel: socket.socket | None, output: int) -> None:
        self.pid = pid
        self.parked = parked
        self.channel = channel
        self.output = output
        self.exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    async def wait(self) -> Exit:
        return await asyncio.shield(self.exited)

    def abandon(self) -> None:
        os.close(self.output)
        if self.channel:
            self.channel.close()


class NamespacesSandbox:
    view = VIEW

    def __init__(
        self,
        server: ForkServer,
        key: str,
        init: int,
        counters: Sequence[str] | None,
        shared_bytes: int,
        api: socket.socket | None,
        pids_are_ours: bool,
    ) -> None:
        self._server = server
        self._key = key
        self._numbers = itertools.count(1)
        self._counters = counters
        self._shared_bytes = shared_bytes
        self._pids_are_ours = pids_are_ours
        self._cleared: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.init = init
        """A pidfd. When that process has ended, so have all others in the sandbox."""
        self.api = api
        self.api_address = f"127.0.0.1:{API_PORT}" if api else ""
        self.processes: dict[str, NamespacesProcess] = {}

    async def connect(self, port: int) -> socket.socket:
        return await connect_beside(self.api, port)

    async def launch(self, launch: Launch) -> NamespacesProcess:
        key = f"{self._key}/{next(self._numbers)}"
        environment = dict(launch.environment)
        process: NamespacesProcess = await self._server.ask(
            key,
            *(
                "launch",
                self._key,
                key,
                launch.argv,
                environment,
                launch.folder,
                launch.channel,
                launch.parked,
                launch.snapshot,
            ),
        )
        return process

    def launched(self, message: list[Any], fds: list[int]) -> NamespacesProcess:
        """The fork server says so."""
        _, key, pid, parked = message
        output, *others = fds
        os.set_blocking(output, False)
        if not self._pids_are_ours:
            pid = _pid(others.pop())
        channel = None
        if others:
            channel = socket.socket(fileno=others[0])
            channel.setblocking(False)
        process = self.processes[key] = NamespacesProcess(pid, parked, channel, output)
        return process

    def exited(self, key: str, exit_: Exit) -> None:
        self.processes.pop(key).exited.set_result(exit_)

    async def clear(self) -> None:
        self._cleared = asyncio.get_running_loop().create_future()
        self._server.tell("clear", self._key)
        try:
            async with asyncio.timeout(CLEAR_LIMIT_S):
                await self._cleared
        except TimeoutError:
            self.destroy()
            raise CannotStart(f"processes of this sandbox did not die within {CLEAR_LIMIT_S:g} s") from None

    def cleared(self) -> None:
        if self._cleared and not self._cleared.done():
            self._cleared.set_result(None)

    def destroy(self) -> None:
        self._server.tell("destroy", self._key)

    def abandon(self) -> None:
        """Who wanted it has gone, and had it destroyed."""
        if self.api:
            self.api.close()

    async def wait(self) -> None:
        await asyncio.shield(self._gone)

    def gone(self, killed: bool) -> None:
        """It has been destroyed, or else ended with the snapshot that it was forked of."""
        os.close(self.init)
        if self._cleared and not self._cleared.done():
            self._cleared.set_exception(CannotStart("the sandbox has ended"))
        for key in list(self.processes):
            self.exited(key, Exit(-signal.SIGKILL, killed))
        self._gone.set_result(None)

    def freeze(self) -> None:
        self._server.tell("freeze", self._key)

    def thaw(self) -> None:
        self._server.tell("thaw", self._key)

    def memory(self) -> Memory:
        if not self._counters:
            peak = sum(_peak_bytes(process.pid) for process in self.processes.values())
            return Memory(peak_mb=-(-peak // _MB), oom_kills=0)
        with open(self._counters[0]) as file:
            peak = int(file.read()) + self._shared_bytes
        with open(self._counters[1]) as file:
            counts = dict(line.split() for line in file)
        return Memory(peak_mb=-(-peak // _MB), oom_kills=int(counts["oom_kill"]))


def _pid(pidfd: int) -> int:
    """As this process counts; 0 once it has been reaped."""
    with open(f"/proc/self/fdinfo/{pidfd}") as info:
        pid = next((int(line.split()[1]) for line in info if line.startswith("Pid:")), 0)
    os.close(pidfd)
    return max(0, pid)


def _peak_bytes(pid: int) -> int:
    """Of one process, where no cgroup counts them all."""
    with suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0  # it is ending, or gone: a process without memory has no such line


class NamespacesBackend:
    """`name` is the worker's: what an earlier one of that name has left on this host is ended on entry.

    `seccomp` is the program that allows what functions need; an empty one allows everything. `of_snapshots`
    is the one for snapshots, which fork; with an empty one there are none.
    """

    def __init__(
        self,
        files: HostFiles,
        name: str,
        parkables: Sequence[Parkable] = (),
        *,
        uid_base: int = FIRST_UID,
        pool: int = POOL,
        seccomp: bytes,
        of_snapshots: bytes = b"",
    ) -> None:
        self._settings = {
            "name": name,
            "scratch": str(files.scratch),
            "runtimes": str(files.runtimes),
            "prefixes": [str(prefix) for prefix in files.prefixes],
            "parkables": [asdict(it) | {"environment": it.environment} for it in parkables],
            "uid_base": uid_base,
            "pool": pool,
            "seccomp": b64encode(seccomp).decode(),
            "of_snapshots": b64encode(of_snapshots).decode(),
            "slirp": shutil.which("slirp4netns") or "",
        }
        self._note = files.scratch.with_name(f"{files.scratch.name}.forkserver")
        self._numbers = itertools.count(1)
        self._sandboxes: dict[str, NamespacesSandbox] = {}
        self._closing = False

    async def __aenter__(self) -> Self:
        """Raises CannotStart if this host cannot do it at all."""
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[dict[str, Any]] = loop.create_future()
        self._lost: asyncio.Future[str] = loop.create_future()
        end_earlier(self._note)
        self._server = ForkServer(self._settings, self._said)
        note_own(self._note, self._server.pid)
        self._server.ended.add_done_callback(lambda _: self._on_end())
        try:
            async with asyncio.timeout(READY_LIMIT_S):
                self._facts = await self._ready
        except BaseException:
            await self._server.stop()
            raise
        if not self._facts["users"]:
            _log.warning("no_user_namespaces", backend="namespaces", missing="a user namespace per instance")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        await self._server.stop()
        await asyncio.gather(*(sandbox.wait() for sandbox in self._sandboxes.values()))

    @property
    def pid(self) -> int:
        """Of the fork server."""
        return self._server.pid

    def protections(self) -> Protections:
        facts = self._facts
        why = {"own_kernel": "this backend shares the host's kernel with its instances"}
        for protection, capability in _BY_CGROUP.items():
            if capability not in facts["cgroups"]:
                why[protection] = facts["why"][capability]
        if not facts["system_calls"]:
            why["syscalls"] = f"no list of system calls is known for {platform.machine()}"
        if not facts["privileged"]:
            why["own_user"] = "the worker does not run as root: all instances have the worker's user"
        if not facts["tmp_on_disk"]:
            why["tmp_on_disk"] = facts["why"]["tmp_on_disk"]
        return Protections("namespaces", frozenset(PROTECTIONS) - why.keys(), why)

    @property
    def snapshots(self) -> bool:
        """They need users of the host's, a whole block of them, and user namespaces that map it."""
        return bool(self._facts["privileged"] and self._facts["users"] and self._settings["of_snapshots"])

    def extend(self, valid_until: float) -> None:
        self._server.tell("extend", valid_until)

    async def lost(self) -> str:
        return await asyncio.shield(self._lost)

    async def create(self, spec: SandboxSpec) -> NamespacesSandbox:
        if spec.network and not self._settings["slirp"]:
            raise CannotStart("it wants a network, for which slirp4netns must be on the worker's PATH")
        key = f"{spec.instance}#{next(self._numbers)}"
        mounts = {} if spec.snapshot else {VIEW.task_root: str(spec.code)}  # it has them from the snapshot
        if spec.layers and not spec.snapshot:
            mounts[VIEW.opt] = str(spec.layers)
        wanted = {
            "mounts": mounts,
            "memory_mb": spec.memory_mb,
            "tmp_mb": spec.tmp_mb,
            "network": spec.network,
            "api": spec.runtime_api,
            "parked": spec.snapshot or spec.parked,
            "snapshot": spec.snapshot,
        }
        try:
            sandbox: NamespacesSandbox = await self._server.ask(key, "create", key, wanted)
        except asyncio.CancelledError:
            self._server.tell("destroy", key)
            raise
        return sandbox

    def _created(self, message: list[Any], fds: list[int]) -> NamespacesSandbox:
        _, key, counters, shared_bytes = message
        init, *listeners = fds
        api = socket.socket(fileno=listeners[0]) if listeners else None
        privileged = self._facts["privileged"]
        sandbox = NamespacesSandbox(self._server, key, init, counters, shared_bytes, api, privileged)
        self._sandboxes[key] = sandbox
        return sandbox

    def _said(self, message: list[Any], fds: list[int]) -> NamespacesSandbox | NamespacesProcess | None:
        match message:
            case ["created", *_]:
                return self._created(message, fds)
            case ["launched", str(key), *_]:
                return self._sandboxes[key.rpartition("/")[0]].launched(message, fds)
            case ["exited", str(key), int(status), bool(killed)]:
                self._sandboxes[key.rpartition("/")[0]].exited(key, Exit(status, killed))
            case ["cleared", str(key)]:
                self._sandboxes[key].cleared()
            case ["gone", str(key), bool(killed)]:
                self._sandboxes.pop(key).gone(killed)
            case ["ready" | "broken", told]:
                self._prepared(told)
            case ["warning", str(text)]:
                _log.warning("sandboxes", text=text)
            case _:
                pass  # "failed", which the client hands to whoever has asked
        return None

    def _prepared(self, told: dict[str, Any] | str) -> None:
        if self._ready.done():
            return
        if isinstance(told, str):
            self._ready.set_exception(CannotStart(told))
        else:
            self._ready.set_result(told)

    def _on_end(self) -> None:
        """The fork server is gone, and every init dies with it; the kernel says when."""
        if not self._ready.done():
            self._ready.set_exception(CannotStart("the fork server's process has died"))
        loop = asyncio.get_running_loop()
        for key, sandbox in self._sandboxes.items():
            loop.add_reader(sandbox.init, self._ended_without_server, key)
        if not self._closing:
            self._lost.set_result("the fork server's process has died")

    def _ended_without_server(self, key: str) -> None:
        sandbox = self._sandboxes.pop(key)
        asyncio.get_running_loop().remove_reader(sandbox.init)
        sandbox.gone(killed=True)
