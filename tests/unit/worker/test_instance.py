"""One instance whose sandbox is played by the test: what happens when things come in an awkward order."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lambent_proto.definition import Definition
from lambent_proto.ids import FunctionName, InstanceId, RequestId
from lambent_worker.channel import frame
from lambent_worker.event import Event
from lambent_worker.instance import Ending, Instance
from lambent_worker.logs import FunctionLogs
from lambent_worker.runtimes.api import Runtime
from lambent_worker.sandbox.api import CannotStart, Exit, Launch, Memory, View

REQUEST = RequestId("r-1")
EVENT = Event(REQUEST, 0, "", "", b"{}")


class PlayedProcess:
    """The test has its ends."""

    pid = 1
    parked = False

    def __init__(self) -> None:
        self.channel, self.inside = socket.socketpair()
        self.output, self.printing = os.pipe()
        self.channel.setblocking(False)
        os.set_blocking(self.output, False)
        self.exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    async def wait(self) -> Exit:
        return await asyncio.shield(self.exit)

    def close(self) -> None:
        self.inside.close()
        os.close(self.printing)


class PlayedSandbox:
    """Launches processes that the test plays; a clear or destroy ends them."""

    api = None
    api_address = ""
    view = View(task_root="/var/task", opt="/opt", runtime_dir="/var/runtime", tmp="/tmp")

    def __init__(self) -> None:
        self.launched: asyncio.Queue[PlayedProcess] = asyncio.Queue()
        self.processes: list[PlayedProcess] = []
        self.destroyed = asyncio.Event()
        self.clears = 0
        self.oom_kills = 0

    async def connect(self, port: int) -> socket.socket:
        raise PermissionError

    async def launch(self, launch: Launch) -> PlayedProcess:
        if self.destroyed.is_set():
            raise CannotStart("destroyed")
        process = PlayedProcess()
        self.processes.append(process)
        self.launched.put_nowait(process)
        return process

    async def clear(self) -> None:
        self.clears += 1
        self._end()

    def destroy(self) -> None:
        self.destroyed.set()
        self._end()

    def _end(self) -> None:
        for process in self.processes:
            if not process.exit.done():
                process.exit.set_result(Exit(-9, killed=True))

    async def wait(self) -> None:
        await self.destroyed.wait()

    def freeze(self) -> None:
        pass

    def thaw(self) -> None:
        pass

    def memory(self) -> Memory:
        return Memory(9, self.oom_kills)


class Heard:
    def __init__(self) -> None:
        self.answers: asyncio.Queue[tuple[bool, bytes, bytes]] = asyncio.Queue()
        self.is_ready = asyncio.Event()
        self.launches: list[tuple[str, str]] = []

    def launched(self, runtime: str, kind: str) -> None:
        self.launches.append((runtime, kind))

    def ready(self, instance: InstanceId, starting_ms: float, init_ms: float, restored: bool) -> None:
        self.is_ready.set()

    def begun(self, instance: InstanceId, request_id: RequestId, content_type: str) -> None:
        raise AssertionError("nothing is streamed here")

    def part(self, instance: InstanceId, request_id: RequestId, data: bytes) -> None:
        raise AssertionError("nothing is streamed here")

    def answered(
        self,
        instance: InstanceId,
        request_id: RequestId,
        failed: bool,
        body: bytes,
        tail: bytes,
        running_ms: float,
    ) -> None:
        self.answers.put_nowait((failed, body, tail))

    def exited(self, instance: InstanceId, reason: str, error: bytes) -> None:
        raise AssertionError("the host says that, not the instance")

    def lost(self, why: str) -> None:
        raise AssertionError("the host says that, not the instance")


class Busy:
    """An instance that runs a call."""

    def __init__(
        self, instance: Instance, sandbox: PlayedSandbox, process: PlayedProcess, heard: Heard
    ) -> None:
        self.instance = instance
        self.sandbox = sandbox
        self.process = process
        self.heard = heard
        self.life: asyncio.Task[Ending]

    async def answer(self) -> tuple[bool, bytes, bytes]:
        async with asyncio.timeout(10):
            return await self.heard.answers.get()


@pytest.fixture
async def busy(tmp_path: Path) -> AsyncIterator[Busy]:
    definition = Definition(
        name=FunctionName("fn"),
        revision="1",
        runtime="python3.11",
        handler="a.b",
        code_sha256="",
        code_size=0,
    )
    runtime = Runtime(name="python3.11", family="python", version="", argv=lambda start: ("x",), frames=True)
    async with FunctionLogs(tmp_path) as logs:
        heard, sandbox, id_ = Heard(), PlayedSandbox(), InstanceId("i-1")
        instance = Instance(id_, definition, runtime, logs.of(definition, id_), heard, init_limit_s=30)
        life = asyncio.ensure_future(instance.live(sandbox))
        process = await sandbox.launched.get()
        process.inside.sendall(frame(["initialising"]) + frame(["ready"]))
        await heard.is_ready.wait()
        instance.deliver(EVENT, 3.0, tail=True)
        it = Busy(instance, sandbox, process, heard)
        it.life = life
        yield it
        instance.kill()
        await life
        for played in sandbox.processes:
            played.close()


async def test_output_that_is_seen_after_the_answer_belongs_to_the_call(busy: Busy) -> None:
    """The loop may find the socket ready before the pipe, although the function printed first."""
    answer = frame(["answer", REQUEST], b"1")
    busy.process.inside.sendall(answer[:3])
    os.write(busy.process.printing, b"printed\n")
    busy.process.inside.sendall(answer[3:])
    failed, body, tail = await busy.answer()
    assert (failed, body) == (False, b"1")
    assert tail.split(b"\n")[1] == b"printed"


async def test_an_answer_that_is_read_after_the_exit_counts(busy: Busy) -> None:
    """The exit may be told before the loop has looked at the socket."""
    busy.process.exit.set_result(Exit(7, killed=False))
    busy.process.inside.sendall(frame(["answer", REQUEST], b'"done"'))
    failed, body, _ = await busy.answer()
    assert (failed, body) == (False, b'"done"')


async def test_an_answer_after_the_timeout_does_not_count(busy: Busy) -> None:
    """Its call has been decided. The instance takes the next one, in a runtime that was launched for it."""
    busy.process.inside.sendall(frame(["answer", REQUEST], b"1"))
    tail = busy.instance.time_out()
    assert b"Task timed out after 3.00 seconds" in tail
    busy.instance.deliver(Event(RequestId("r-2"), 0, "", "", b"2"), 3.0, tail=False)
    process = await busy.sandbox.launched.get()
    assert busy.sandbox.clears == 1
    process.inside.sendall(frame(["initialising"]) + frame(["ready"]) + frame(["answer", "r-2"], b"2"))
    assert await busy.answer() == (False, b"2", b"")
    assert busy.heard.launches == [("python3.11", "new"), ("python3.11", "again")]


async def test_half_an_answer_is_none(busy: Busy) -> None:
    busy.process.inside.sendall(frame(["answer", REQUEST], b"12345")[:-1])
    busy.process.exit.set_result(Exit(-11, killed=False))
    failed, body, _ = await busy.answer()
    assert failed
    assert b"signal: segmentation fault" in body


async def test_a_kill_for_want_of_memory_is_called_that(busy: Busy) -> None:
    """Only where the kernel has counted one for this instance: a function may kill itself as well."""
    busy.sandbox.oom_kills = 1
    busy.process.exit.set_result(Exit(-9, killed=False))
    _, body, _ = await busy.answer()
    assert b'"errorType":"Runtime.OutOfMemory"' in body
    busy.instance.deliver(EVENT, 3.0, tail=False)
    process = await busy.sandbox.launched.get()
    process.exit.set_result(Exit(-9, killed=False))
    _, body, _ = await busy.answer()
    assert b'"errorType":"Runtime.ExitError"' in body


async def test_a_killed_instance_answers_nothing_more(busy: Busy) -> None:
    busy.process.inside.sendall(frame(["answer", REQUEST], b"1"))
    busy.instance.kill()
    assert await busy.life == Ending("killed")
    assert busy.heard.answers.empty()
