"""One instance whose process is played by the test: what happens when things come in an awkward order."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lambent_proto.definition import Definition
from lambent_proto.ids import FunctionName, InstanceId, RequestId
from lambent_worker.channel import frame
from lambent_worker.instance import Ending, Instance
from lambent_worker.logs import FunctionLogs
from lambent_worker.sandbox.api import Exit

REQUEST = RequestId("r-1")


class Played:
    """A sandbox without a process: the test has its ends."""

    pid = 1

    def __init__(self) -> None:
        self.channel, self.inside = socket.socketpair()
        self.output, self.printing = os.pipe()
        self.channel.setblocking(False)
        os.set_blocking(self.output, False)
        self.kills = 0

    def kill(self) -> None:
        self.kills += 1

    async def wait(self) -> Exit:
        raise NotImplementedError

    def peak_memory_mb(self) -> int:
        return 9

    def close(self) -> None:
        self.inside.close()
        os.close(self.printing)


class Heard:
    def __init__(self) -> None:
        self.answers: list[tuple[bool, bytes, bytes]] = []
        self.is_ready = asyncio.Event()
        self.is_answered = asyncio.Event()

    def ready(self, instance: InstanceId, starting_ms: float, init_ms: float) -> None:
        self.is_ready.set()

    def answered(
        self,
        instance: InstanceId,
        request_id: RequestId,
        failed: bool,
        body: bytes,
        tail: bytes,
        running_ms: float,
    ) -> None:
        self.answers.append((failed, body, tail))
        self.is_answered.set()

    def exited(self, instance: InstanceId, reason: str, error: bytes) -> None:
        raise AssertionError("the host says that, not the instance")

    def lost(self, why: str) -> None:
        raise AssertionError("the host says that, not the instance")


class Busy:
    """An instance that runs a call."""

    def __init__(self, instance: Instance, played: Played, heard: Heard) -> None:
        self.instance = instance
        self.played = played
        self.heard = heard


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
    async with FunctionLogs(tmp_path) as logs:
        heard, played, id_ = Heard(), Played(), InstanceId("i-1")
        instance = Instance(id_, definition, logs.of(definition, id_), heard, init_limit_s=30)
        instance.attach(played)
        played.inside.sendall(frame(["initialising"]) + frame(["ready"]))
        await heard.is_ready.wait()
        instance.deliver(REQUEST, frame(["event", REQUEST, 0, "", ""], b"{}"), 3.0, tail=True)
        yield Busy(instance, played, heard)
        played.close()


async def test_output_that_is_seen_after_the_answer_belongs_to_the_call(busy: Busy) -> None:
    """The loop may find the socket ready before the pipe, although the function printed first."""
    answer = frame(["answer", REQUEST], b"1")
    busy.played.inside.sendall(answer[:3])
    os.write(busy.played.printing, b"printed\n")
    busy.played.inside.sendall(answer[3:])
    await busy.heard.is_answered.wait()
    [(failed, body, tail)] = busy.heard.answers
    assert (failed, body) == (False, b"1")
    assert tail.split(b"\n")[1] == b"printed"
    busy.instance.kill("evicted")
    busy.instance.exited(Exit(-9, killed=True))


async def test_an_answer_that_is_read_after_the_exit_counts(busy: Busy) -> None:
    """The spawner may tell the exit before the loop has looked at the socket."""
    busy.played.inside.sendall(frame(["answer", REQUEST], b'"done"'))
    ending = busy.instance.exited(Exit(7, killed=False))
    [(failed, body, _)] = busy.heard.answers
    assert (failed, body) == (False, b'"done"')
    assert ending.reason == "crashed"
    assert b"exit status 7" in ending.error


async def test_an_answer_after_the_kill_does_not_count(busy: Busy) -> None:
    """Its call has been decided: timed out, or lost with the worker's lease."""
    busy.played.inside.sendall(frame(["answer", REQUEST], b"1"))
    tail = busy.instance.kill("timed_out")
    assert b"Task timed out after 3.00 seconds" in tail
    assert busy.played.kills == 1
    assert busy.instance.exited(Exit(-9, killed=True)) == Ending("killed")
    assert busy.heard.answers == []


async def test_half_an_answer_is_none(busy: Busy) -> None:
    busy.played.inside.sendall(frame(["answer", REQUEST], b"12345")[:-1])
    ending = busy.instance.exited(Exit(-11, killed=False))
    [(failed, body, _)] = busy.heard.answers
    assert failed
    assert body == ending.error
    assert b"signal: segmentation fault" in body
