"""A host with real processes, and someone who listens to it."""

import asyncio
import atexit
import functools
import hashlib
import io
import itertools
import json
import os
import stat
import sys
import tempfile
import zipfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
from obstore.store import MemoryStore

from lambent_chassis import clock
from lambent_proto.definition import Definition, LayerVersion
from lambent_proto.ids import FunctionName, InstanceId, RequestId
from lambent_proto.tracing import made
from lambent_worker.event import Event
from lambent_worker.flow import Flow
from lambent_worker.host import FREEZE_AFTER_S, INIT_LIMIT_S, InstanceHost
from lambent_worker.logs import FunctionLogs
from lambent_worker.packages import PackageCache
from lambent_worker.runtimes.api import Runtime
from lambent_worker.runtimes.registry import Runtimes, discover
from lambent_worker.sandbox.api import HostFiles, Parkable
from tests.integration.worker import backends

LONG_S = 3_600.0

Files = Mapping[str, str] | Mapping[str, bytes] | Mapping[str, str | bytes]


@dataclass(frozen=True)
class Ready:
    instance: InstanceId
    starting_ms: float
    init_ms: float
    restored: bool = False


@dataclass(frozen=True)
class Answer:
    instance: InstanceId
    request_id: RequestId
    failed: bool
    body: bytes
    tail: bytes
    running_ms: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Begun:
    instance: InstanceId
    content_type: str


@dataclass(frozen=True)
class Part:
    instance: InstanceId
    data: bytes


@dataclass(frozen=True)
class Exited:
    instance: InstanceId
    reason: str
    error: bytes


@dataclass(frozen=True)
class Lost:
    why: str


class Recorder:
    """Keeps what the host says, in order."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[Ready | Begun | Part | Answer | Exited | Lost] = asyncio.Queue()
        self.launches: list[tuple[str, str]] = []

    def launched(self, runtime: str, kind: str) -> None:
        self.launches.append((runtime, kind))

    def ready(self, instance: InstanceId, starting_ms: float, init_ms: float, restored: bool) -> None:
        self.said.put_nowait(Ready(instance, starting_ms, init_ms, restored))

    def begun(self, instance: InstanceId, request_id: RequestId, content_type: str) -> None:
        self.said.put_nowait(Begun(instance, content_type))

    def part(self, instance: InstanceId, request_id: RequestId, data: bytes) -> None:
        self.said.put_nowait(Part(instance, data))

    def answered(
        self,
        instance: InstanceId,
        request_id: RequestId,
        failed: bool,
        body: bytes,
        tail: bytes,
        running_ms: float,
    ) -> None:
        self.said.put_nowait(Answer(instance, request_id, failed, body, tail, running_ms))

    def exited(self, instance: InstanceId, reason: str, error: bytes) -> None:
        self.said.put_nowait(Exited(instance, reason, error))

    def lost(self, why: str) -> None:
        self.said.put_nowait(Lost(why))


def zipped(files: Files, mode: int = 0o644) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFREG | mode) << 16
            archive.writestr(info, text)
    return data.getvalue()


class Scene:
    def __init__(self, host: InstanceHost, logs: FunctionLogs, store: MemoryStore, folder: Path) -> None:
        self.host = host
        self.logs = logs
        self.folder = folder
        self.recorder = Recorder()
        self.protections: frozenset[str] = frozenset()
        self._store = store
        self._numbers = itertools.count(1)

    async def deploy(
        self,
        files: str | Files,
        handler: str = "app.handler",
        runtime: str = "python3.11",
        mode: int = 0o644,
        **fields: Any,
    ) -> Definition:
        """A function from its files; a lone text is app.py."""
        data = zipped({"app.py": files} if isinstance(files, str) else files, mode)
        sha256 = hashlib.sha256(data).hexdigest()
        await obstore.put_async(self._store, f"{sha256}.zip", data)
        return Definition(
            name=FunctionName("fn"),
            revision="1",
            runtime=runtime,
            handler=handler,
            code_sha256=sha256,
            code_size=len(data),
            **fields,
        )

    async def layer(self, files: Files) -> LayerVersion:
        """A layer from its files, all of them executable."""
        data = zipped(files, mode=0o755)
        sha256 = hashlib.sha256(data).hexdigest()
        await obstore.put_async(self._store, f"{sha256}.zip", data)
        return LayerVersion(name="layer", version=1, code_sha256=sha256, code_size=len(data))

    async def hears(self) -> Ready | Begun | Part | Answer | Exited | Lost:
        async with asyncio.timeout(30):
            return await self.recorder.said.get()

    def start(self, definition: Definition) -> InstanceId:
        instance = InstanceId(f"i-{next(self._numbers)}")
        self.host.start(instance, definition)
        return instance

    async def started(self, files: str | Files, **fields: Any) -> InstanceId:
        """Deploys, starts, and waits until it is ready."""
        instance = self.start(await self.deploy(files, **fields))
        said = await self.hears()
        assert isinstance(said, Ready), said
        return instance

    def deliver(
        self,
        instance: InstanceId,
        event: Any = None,
        *,
        raw: bytes | None = None,
        arn: str = "arn:aws:lambda:us-east-1:000000000000:function:fn",
        client_context: str = "",
        timeout_s: float = 3.0,
        tail: bool = True,
        flow: Flow | None = None,
    ) -> RequestId:
        request = RequestId(f"0f8fad5b-d9cb-469f-a165-{next(self._numbers):012}")
        body = json.dumps(event).encode() if raw is None else raw
        deadline_ms = int((clock.unix_s() + timeout_s) * 1000)
        told = Event(request, deadline_ms, arn, client_context, body, flow, made(request))
        self.host.deliver(instance, told, timeout_s=timeout_s, tail=tail)
        return request

    async def call(self, instance: InstanceId, event: Any = None, **fields: Any) -> Answer:
        request = self.deliver(instance, event, **fields)
        said = await self.hears()
        assert isinstance(said, Answer), said
        assert said.request_id == request
        return said

    async def failed_init(self, files: str | Files, **fields: Any) -> Exited:
        self.start(await self.deploy(files, **fields))
        said = await self.hears()
        assert isinstance(said, Exited), said
        return said


@functools.cache
def runtimes_here() -> Runtimes:
    """Looked for once in a test run: it takes a second, and a few more where something is to be compiled."""
    build = tempfile.TemporaryDirectory(prefix="lambent-build-")
    atexit.register(build.cleanup)
    return discover(Path(build.name))


@asynccontextmanager
async def scene(
    folder: Path,
    *,
    backend: backends.Make = backends.process,
    runtimes: Sequence[Runtime] = (),
    parkables: Sequence[Parkable] | None = None,
    lease_s: float = LONG_S,
    init_limit_s: float = INIT_LIMIT_S,
    freeze_after_s: float = FREEZE_AFTER_S,
) -> AsyncIterator[Scene]:
    store = MemoryStore()
    async with FunctionLogs(folder / "logs") as logs:
        packages = PackageCache(folder / "packages", store)
        recorder = Recorder()
        here = runtimes_here()
        here.install(folder / "runtimes")
        files = HostFiles(runtimes=folder / "runtimes", prefixes=here.prefixes, scratch=folder / "scratch")
        sandbox = backend(files, here.parkables if parkables is None else parkables)
        async with InstanceHost(
            sandbox=sandbox,
            runtimes={**here.by_name, **{it.name: it for it in runtimes}},
            packages=packages,
            logs=logs,
            listener=recorder,
            init_limit_s=init_limit_s,
            freeze_after_s=freeze_after_s,
        ) as host:
            host.extend(clock.monotonic_s() + lease_s)
            it = Scene(host, logs, store, folder)
            it.recorder = recorder
            it.protections = sandbox.protections().given
            yield it


def host_files(folder: Path) -> HostFiles:
    prefixes = tuple({Path(sys.base_prefix), Path(sys.prefix)})
    return HostFiles(runtimes=folder / "runtimes", prefixes=prefixes, scratch=folder / "scratch")


def alive(pid: int) -> bool:
    """Whether a process runs: a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def exists(pid: int) -> bool:
    """Whether there is such a process, were it a zombie."""
    return Path(f"/proc/{pid}").exists()


async def until(true: Callable[[], bool], within_s: float = 20.0) -> None:
    """For what tells nobody when it has happened, such as the end of a process that is not ours."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110 - the kernel has no event to wait for
            await asyncio.sleep(0.01)


def children_of(pid: int) -> list[int]:
    return [
        int(name)
        for name in os.listdir("/proc")
        if name.isdigit() and _parent(int(name)) == pid and alive(int(name))
    ]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
