"""A load test by several processes: each makes its part of the calls, and their results become one.

A process is given its Task on its standard input and answers with pickled objects on its standard output:
READY, then a Progress from time to time, and its Results at the end. In between it is told when to begin.
"""

import asyncio
import os
import pickle
import signal
import struct
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, BinaryIO, Final, Self

import uvloop

from lambent.children import ending
from lambent.loadtest.engine import Progress
from lambent.loadtest.load import Load, Part
from lambent.loadtest.results import Results
from lambent.loadtest.run import Calls, Tick, run
from lambent_chassis.clock import monotonic_s
from lambent_chassis.serve import die_with
from lambent_proto.errors import Internal

READY: Final = "ready"

READY_S: Final = 60.0
"""How long the processes may take until all of them are ready: half a second of a CPU each."""

BEGIN_S: Final = 0.1
"""From the moment when all are told to begin until they do."""

_SIZE: Final = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Task:
    calls: Calls
    load: Load
    results: Results
    """To be filled."""
    drain_s: float
    part: Part


async def run_in_processes(
    calls: Calls, load: Load, results: Results, drain_s: float, tick: Tick, processes: int
) -> None:
    """As `run`. Raises Internal if one of the processes ends before its results are there."""
    loop = asyncio.get_running_loop()
    parts = [Part(number, processes) for number in range(processes)]
    generators = _Generators([await _Generator.start() for _ in parts], tick)
    try:
        await generators.ready([Task(calls, load, replace(results), drain_s, part) for part in parts])
        loop.add_signal_handler(signal.SIGINT, generators.interrupt)
        for its in await generators.results(monotonic_s() + BEGIN_S):
            results.merge(its)
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        await generators.end()
    if generators.stopped:
        results.stopped, results.interrupted = True, False


class _Generator:
    """One of the processes, as this one sees it."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> Self:
        """In a session of its own, so that Ctrl-C reaches this process alone, which tells them all."""
        command = (sys.executable, "-m", "lambent.loadtest.generators", str(os.getpid()))
        return cls(
            await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, start_new_session=True)
        )

    def send(self, message: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(_packed(message))

    async def next(self) -> Any:
        """What it says next. Raises Internal if it has ended."""
        assert self._process.stdout is not None
        try:
            (size,) = _SIZE.unpack(await self._process.stdout.readexactly(_SIZE.size))
            return pickle.loads(await self._process.stdout.readexactly(size))
        except asyncio.IncompleteReadError:
            code = await self._process.wait()
            raise Internal(f"a process that makes calls ended without its results ({ending(code)})") from None

    def signal(self, number: int) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def ended(self) -> None:
        await self._process.wait()


class _Generators:
    def __init__(self, started: Sequence[_Generator], tick: Tick) -> None:
        self._started = started
        self._tick = tick
        self._latest: dict[int, Progress] = {}
        self.stopped = False

    async def ready(self, tasks: Sequence[Task]) -> None:
        for it, task in zip(self._started, tasks, strict=True):
            it.send(task)
        try:
            async with asyncio.timeout(READY_S):
                for it in self._started:
                    await it.next()
        except TimeoutError:
            raise Internal(f"not all processes were ready within {READY_S:.0f} s: start fewer") from None

    async def results(self, begin: float) -> Sequence[Results]:
        for it in self._started:
            it.send(begin)
        return await asyncio.gather(*(self._result(*it) for it in enumerate(self._started)))

    async def _result(self, number: int, it: _Generator) -> Results:
        while not isinstance(message := await it.next(), Results):
            self._latest[number] = message
            if number == 0 and self._tick(reduce(Progress.merged, self._latest.values())):
                self.stopped = True
                self.interrupt()
        return message

    def interrupt(self) -> None:
        for it in self._started:
            it.signal(signal.SIGINT)

    async def end(self) -> None:
        """Whatever they are at: their results are there, or of no use."""
        for it in self._started:
            it.signal(signal.SIGKILL)
        for it in self._started:
            await it.ended()


def _packed(message: object) -> bytes:
    packed = pickle.dumps(message)
    return _SIZE.pack(len(packed)) + packed


# In one of them


def _say(message: object) -> None:
    sys.stdout.buffer.write(_packed(message))
    sys.stdout.buffer.flush()


def _told(file: BinaryIO) -> Any:
    (size,) = _SIZE.unpack(file.read(_SIZE.size))
    return pickle.loads(file.read(size))


def _tick(progress: Progress) -> bool:
    _say(progress)
    return False


async def _generate(task: Task) -> None:
    async def begin() -> float:
        _say(READY)
        return float(await asyncio.to_thread(_told, sys.stdin.buffer))

    await run(task.calls, task.load, task.results, task.drain_s, _tick, task.part, begin)
    _say(task.results)


if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # until there is a run to be ended
    uvloop.run(_generate(_told(sys.stdin.buffer)))
