"""A worker's hosts of instances without a fleet around them: what is measured below the network."""

import asyncio
import hashlib
import itertools
import json
import sys
import zipfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import obstore
from obstore.store import MemoryStore

from lambent_chassis import clock
from lambent_proto.definition import Definition
from lambent_proto.ids import FunctionName, InstanceId, RequestId
from lambent_worker.event import Event
from lambent_worker.host import InstanceHost
from lambent_worker.logs import FunctionLogs
from lambent_worker.packages import PackageCache
from lambent_worker.runtimes.registry import Runtimes
from lambent_worker.sandbox import backends
from lambent_worker.sandbox.api import Backend, HostFiles, Parkable
from loadtest.fleet import Off

ANSWER_WITHIN_S: Final = 60.0
PYTHON: Final = f"python3.{sys.version_info.minor}"
"""The runtime of this interpreter."""
ARN: Final = "arn:aws:lambda:us-east-1:000000000000:function:bench"


class Hall:
    """One host of instances, and what it has said of each. Listens to it (`HostListener`)."""

    def __init__(self, name: str, store: MemoryStore) -> None:
        self.name = name
        self.host: InstanceHost
        self.backend: Backend
        """Beneath the host, for sandboxes that hold no instance."""
        self.packages: PackageCache
        self._store = store
        self._numbers = itertools.count(1)
        self._ready: dict[InstanceId, asyncio.Future[float]] = {}
        self._answers: dict[InstanceId, asyncio.Future[bytes]] = {}
        self._gone: dict[InstanceId, asyncio.Future[str]] = {}

    async def deploy(self, package: bytes, runtime: str, handler: str, **fields: Any) -> Definition:
        sha256 = hashlib.sha256(package).hexdigest()
        await obstore.put_async(self._store, f"{sha256}.zip", package)
        return Definition(
            name=FunctionName("bench"),
            revision=sha256[:8],
            runtime=runtime,
            handler=handler,
            code_sha256=sha256,
            code_size=len(package),
            **fields,
        )

    def start(self, definition: Definition) -> InstanceId:
        loop = asyncio.get_running_loop()
        instance = InstanceId(f"{self.name}-{next(self._numbers)}")
        self._ready[instance] = loop.create_future()
        self._answers[instance] = loop.create_future()
        self._gone[instance] = loop.create_future()
        self.host.start(instance, definition)
        return instance

    async def ready(self, instance: InstanceId) -> float:
        """Milliseconds of its init. Raises Off if it ended instead."""
        async with asyncio.timeout(ANSWER_WITHIN_S):
            return await self._ready[instance]

    async def call(self, instance: InstanceId, event: object = None, timeout_s: float = 60.0) -> bytes:
        self._answers[instance] = asyncio.get_running_loop().create_future()
        deadline_ms = int((clock.unix_s() + timeout_s) * 1000)
        request = RequestId(f"{instance}-{next(self._numbers)}")
        told = Event(request, deadline_ms, ARN, "", json.dumps(event).encode())
        self.host.deliver(instance, told, timeout_s=timeout_s, tail=False)
        async with asyncio.timeout(ANSWER_WITHIN_S):
            return await self._answers[instance]

    async def first_answer_ms(self, definition: Definition) -> float:
        """From the wish for an instance to its first answer; then it is ended."""
        began = clock.monotonic_s()
        instance = self.start(definition)
        await self.ready(instance)
        await self.call(instance)
        took_ms = (clock.monotonic_s() - began) * 1000
        await self.end(instance)
        return took_ms

    async def end(self, instance: InstanceId) -> None:
        self.host.kill(instance)
        await self.gone(instance)

    async def gone(self, instance: InstanceId) -> str:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            reason = await self._gone[instance]
        for told in (self._ready, self._answers, self._gone):
            told.pop(instance, None)
        return reason

    def launched(self, runtime: str, kind: str) -> None:
        pass

    def ready_(self, instance: InstanceId, init_ms: float) -> None:
        if (told := self._ready.get(instance)) is not None and not told.done():
            told.set_result(init_ms)

    def answered(
        self,
        instance: InstanceId,
        request_id: RequestId,
        failed: bool,
        body: bytes,
        tail: bytes,
        running_ms: float,
    ) -> None:
        if not self._answers[instance].done():
            self._answers[instance].set_result(body)

    def exited(self, instance: InstanceId, reason: str, error: bytes) -> None:
        ready = self._ready[instance]
        if not ready.done():
            ready.set_exception(Off(f"{self.name}: an instance ended while it started: {reason} {error!r}"))
            ready.exception()
        self._gone[instance].set_result(reason)

    def lost(self, why: str) -> None:
        raise Off(f"{self.name}: {why}")


class _Listener:
    """A `HostListener` by the names that it has there."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall
        self.launched = hall.launched
        self.answered = hall.answered
        self.exited = hall.exited
        self.lost = hall.lost

    def begun(self, instance: InstanceId, request_id: RequestId, content_type: str) -> None:
        raise AssertionError("the answers are wanted whole")

    def part(self, instance: InstanceId, request_id: RequestId, data: bytes) -> None:
        raise AssertionError("the answers are wanted whole")

    def ready(self, instance: InstanceId, starting_ms: float, init_ms: float, restored: bool) -> None:
        self._hall.ready_(instance, init_ms)


@asynccontextmanager
async def hall(
    name: str, sandbox: str, folder: Path, runtimes: Runtimes, parked: int | None = None
) -> AsyncIterator[Hall]:
    """With the backend `sandbox`. `parked`: how many of each kind wait; None: no zygotes and none parked.

    Raises CannotStart where this host has no such backend.
    """
    store = MemoryStore()
    mine = folder / name
    runtimes.install(mine / "runtimes")
    files = HostFiles(runtimes=mine / "runtimes", prefixes=runtimes.prefixes, scratch=mine / "scratch")
    it = Hall(name, store)
    it.packages = PackageCache(mine / "packages", store)
    backend = backends.backend(sandbox, files, f"bench-{name}-{folder.name}", _parkables(runtimes, parked))
    async with (
        FunctionLogs(mine / "logs") as logs,
        InstanceHost(
            sandbox=backend,
            runtimes=runtimes.by_name,
            packages=it.packages,
            logs=logs,
            listener=_Listener(it),
        ) as host,
    ):
        it.host, it.backend = host, backend
        host.extend(clock.monotonic_s() + 3_600)
        yield it


def _parkables(runtimes: Runtimes, parked: int | None) -> Sequence[Parkable]:
    """Of a language that has several versions, the one that runs this, and others on demand alone."""
    if parked is None:
        return ()
    return [replace(it, count=min(it.count, parked) if parked else 0) for it in runtimes.parkables]


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    data = BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()
