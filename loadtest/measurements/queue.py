"""A queue of many events, filled by many callers and drained, and what it costs.

It is the queue that runs in production, on a real disk, in a file or in a nats-server of its own, with a
dispatcher that answers at once. What a function takes is measured elsewhere.
"""

import asyncio
import contextlib
import dataclasses
import os
import resource
import shutil
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from lambent_chassis import clock
from lambent_frontend.calls import Answer, Call, Counted, Explained
from lambent_frontend.invoker import Invoker
from lambent_frontend.queue.core.verdict import Condition, Policy
from lambent_frontend.queue.jetstream import JetStreamStore
from lambent_frontend.queue.queue import Queue
from lambent_frontend.queue.records import Record
from lambent_frontend.queue.runner import Runner
from lambent_frontend.queue.sqlite import SqliteStore
from lambent_frontend.queue.store import Asked
from lambent_frontend.wire import new_request_id
from lambent_proto.definition import Definition
from lambent_proto.errors import LambentError
from lambent_proto.ids import FunctionName, RequestId
from lambent_proto.v1 import invoke_pb2
from loadtest.figures import Figures, Table
from loadtest.measurement import Measurement, Plan

FUNCTIONS: Final = 10
CALLERS: Final = 64
SAY_S: Final = 30.0
"""Between two lines that say how far it has come."""


@dataclass
class Measured:
    store: str
    events: int
    payload_bytes: int
    accepted_a_second: float
    commits: int
    """Of SQLite's file; of the copy where JetStream is the store."""
    drained_a_second: float
    cpu_us_to_accept: float
    cpu_us_to_drain: float
    disk_bytes_an_event: float
    """Of the store while all wait."""
    copy_bytes_an_event: float
    memory_mb_before: float
    memory_mb_full: float
    """With all of them waiting."""
    memory_mb_most: float
    server_memory_mb: float
    """Of nats-server, with all of them waiting."""
    first_run_ms: float
    """From the start over the full file to the first event run."""


class Everything:
    """Every function is there, nothing is configured, and every call is answered at once."""

    def __init__(self) -> None:
        self.counts: Counter[Counted] = Counter()
        self.answered = 0
        self.all_of = 0
        self.first = asyncio.Event()
        self.done = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def get(self, name: FunctionName) -> Definition:
        return Definition(
            name=name, revision="r", runtime="python3.11", handler="a.b", code_sha256="00", code_size=1
        )

    def resolve(self, name: FunctionName, qualifier: str, chance: float) -> Definition:
        return self.get(name)

    def policy(self, asked: Asked) -> Policy:
        return Policy()

    def targets(self, asked: Asked, condition: Condition) -> tuple[str, ...]:
        return ()

    async def deliver(self, lane: str, record: Record) -> None:
        raise NotImplementedError

    def under_way(self, request_id: RequestId) -> bool:
        return False

    def submit(self, call: Call, done: Callable[[Answer | LambentError], None]) -> None:
        answer = Answer(b"null", False, b"", "warm", "idle", "n", "i", 0.0, 0.0, 0.0, 0.0, "", "")
        self._loop.call_soon(self._answer, done, answer)

    def _answer(self, done: Callable[[Answer | LambentError], None], answer: Answer) -> None:
        done(answer)
        self.answered += 1
        self.first.set()
        if self.answered == self.all_of:
            self.done.set()

    def taken(self, request_id: RequestId, size: int) -> None:
        raise NotImplementedError

    def abandon(self, request_id: RequestId) -> None:
        raise NotImplementedError

    def explain(self, request_id: RequestId) -> Explained | None:
        return None


async def measured(
    events: int, size: int, folder: Path, url: str, server: int, say: Callable[[str], None]
) -> Measured:
    """`url` and process id are those of nats-server; empty: SQLite's file is measured."""
    before = _memory_mb()
    everything = Everything()
    invoker = Invoker(everything, everything, waiting_s=30)

    async def opened() -> tuple[SqliteStore | JetStreamStore, Queue]:
        store: SqliteStore | JetStreamStore
        if url:
            store = await JetStreamStore.open([url], folder / "copy", "bench", most_bytes=20 * 10**9)
        else:
            store = SqliteStore.open(folder, most_bytes=10**12, spare_bytes=64_000_000)
        runner = Runner(
            store,
            invoker,
            everything,
            everything,
            everything.deliver,
            Counter(),
            now=clock.unix_s,
            most_in_lane=100,
        )
        if isinstance(store, JetStreamStore):
            store.tell(runner.more)
            await store.hold("bench")
        return store, Queue(store, invoker, runner, now=clock.unix_s, results_s=3600, given_up_s=3600)

    store, queue = await opened()
    began, cpu = time.monotonic(), time.process_time()
    await _fill(queue, events, b"1" * size)
    accepted_s, accepting_s = time.monotonic() - began, time.process_time() - cpu
    commits, full, served = store.commits, _memory_mb(), _memory_mb(server) if url else 0.0
    say(f"  taken: {events / accepted_s:,.0f} a second, {full:.0f} MB")
    await store.close()
    disk, copied = _disk_bytes(folder / "nats" if url else folder), _disk_bytes(folder / "copy")
    everything.all_of = events
    began, cpu = time.monotonic(), time.process_time()
    store, queue = await opened()
    running = asyncio.create_task(queue.run())
    await everything.first.wait()
    first_s = time.monotonic() - began
    say(f"  the first one ran {first_s:.1f} s after the start over them")
    while not everything.done.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SAY_S):
                await everything.done.wait()
        a_second = everything.answered / (time.monotonic() - began - first_s)
        say(f"  {everything.answered:,} run, {a_second:,.0f} a second, {_memory_mb():.0f} MB")
    queue.take_no_more()
    await queue.stop(60)
    drained_s, draining_s = time.monotonic() - began, time.process_time() - cpu
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    left = await store.lanes()
    await store.close()
    assert not left, f"not drained: {left}"
    return Measured(
        store="jetstream" if url else "sqlite",
        events=events,
        payload_bytes=size,
        accepted_a_second=events / accepted_s,
        commits=commits,
        drained_a_second=events / drained_s,
        cpu_us_to_accept=accepting_s / events * 1e6,
        cpu_us_to_drain=draining_s / events * 1e6,
        disk_bytes_an_event=disk / events,
        copy_bytes_an_event=copied / events,
        memory_mb_before=before,
        memory_mb_full=full,
        memory_mb_most=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        server_memory_mb=served,
        first_run_ms=first_s * 1000,
    )


@contextmanager
def _served(folder: Path) -> Iterator[tuple[str, int]]:
    """A nats-server's URL and its process id."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["nats-server", "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            yield f"nats://127.0.0.1:{port}", server.pid
        finally:
            server.terminate()


async def _fill(queue: Queue, events: int, payload: bytes) -> None:
    """By callers each of which waits for its answer before it sends the next."""
    numbers = iter(range(events))

    async def call() -> None:
        for number in numbers:
            request = invoke_pb2.InvokeRequest(function_name=f"f{number % FUNCTIONS}", payload=payload)
            await queue.take(request, new_request_id())

    async with asyncio.TaskGroup() as callers:
        for _ in range(CALLERS):
            callers.create_task(call())


def _disk_bytes(folder: Path) -> int:
    return sum(it.stat().st_size for it in folder.rglob("*") if it.is_file())


def _memory_mb(process: int | str = "self") -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    events: int = 20_000
    size: int = 100
    """Bytes of an event."""
    stores: str = "sqlite"
    """`sqlite`, `jetstream`, for which a nats-server is started, or both with a + between them."""
    folder: str = ""
    """On the disk to measure; else a temporary one."""


def run(setup: Setup, plan: Plan) -> Figures:
    found = Figures()
    rows = []
    for store in setup.stores.split("+"):
        plan.say(f"{setup.events:,} events in {store}")
        it = _one(store, setup, plan.say)
        rows.append([store, *(f"{getattr(it, name):,.0f}" for name in COLUMNS)])
        key = "queue" if store == "sqlite" else f"queue_{store}"
        found.flat[f"{key}_accepted_per_s"] = round(it.accepted_a_second)
        found.flat[f"{key}_drained_per_s"] = round(it.drained_a_second)
    heads = [name.replace("_", " ") for name in COLUMNS]
    found.tables.append(Table(("store", *heads), rows))
    return found


def _one(store: str, setup: Setup, say: Callable[[str], None]) -> Measured:
    where = Path(tempfile.mkdtemp(dir=setup.folder or None))
    served = _served(where / "nats") if store == "jetstream" else contextlib.nullcontext(("", 0))
    try:
        with served as (url, server):
            return uvloop.run(measured(setup.events, setup.size, where, url, server, say))
    finally:
        shutil.rmtree(where)


COLUMNS: Final = tuple(it.name for it in dataclasses.fields(Measured) if it.name != "store")

MEASUREMENT: Final = Measurement(
    name="queue",
    title="Asynchronous calls",
    says="""\
A [queue](async.md) is filled by 64 callers with events for ten functions, is opened anew, and is drained by
a dispatcher that answers at once. It is the one that runs in production, on a real disk.""",
    takes_s=(35, 10),
    run=run,
    full=Setup(),
    quick=Setup(events=2_000),
)
