"""The calling half of every measurement: a closed loop, and what it says. Standard library only.

A calling process says `ready`; for each line `COUNT` on its standard input it makes so many calls, and
answers with one line of JSON, a `Round`. It ends with its input.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, TextIO

from loadtest.figures import percentile

PAYLOAD: Final = b'{"text":"%s"}' % (b"x" * 89)
"""100 bytes."""
EVENT: Final[dict[str, str]] = json.loads(PAYLOAD)


@dataclass(frozen=True, slots=True)
class Round:
    calls: int
    elapsed_s: float
    cpu_s: float
    """User and system, of the calling process."""
    p50_ms: float
    p99_ms: float


class NotAnEcho(Exception):
    """The answer is not what was sent."""


def checked(answer: Any) -> None:
    """Raises NotAnEcho."""
    if answer != EVENT:
        raise NotAnEcho(f"not an echo: {answer!r}")


def measured(calls: Callable[[int, list[float]], None]) -> None:
    """Serves this process's input. `calls` makes so many, and notes the seconds that each took."""
    with _output() as said:
        print("ready", file=said, flush=True)
        for line in sys.stdin:
            count, took_s = int(line), list[float]()
            cpu_s, began = time.process_time(), time.perf_counter()
            calls(count, took_s)
            elapsed_s, spent_s = time.perf_counter() - began, time.process_time() - cpu_s
            ms = [seconds * 1000 for seconds in took_s]
            done = Round(len(ms), elapsed_s, spent_s, percentile(ms, 0.5), percentile(ms, 0.99))
            print(json.dumps(asdict(done)), file=said, flush=True)


def measured_async(loop: asyncio.AbstractEventLoop, callers: "list[Callable[[], Awaitable[None]]]") -> None:
    """The same for one function of each call in flight, which makes one call."""

    async def one(call: Callable[[], Awaitable[None]], numbers: Iterator[int], took_s: list[float]) -> None:
        for _ in numbers:
            began = time.perf_counter()
            await call()
            took_s.append(time.perf_counter() - began)

    async def all_of(count: int, took_s: list[float]) -> None:
        numbers = iter(range(count))
        try:
            async with asyncio.TaskGroup() as group:
                for call in callers:
                    group.create_task(one(call, numbers, took_s))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    measured(lambda count, took_s: loop.run_until_complete(all_of(count, took_s)))


def _output() -> TextIO:
    """Standard output for us alone; what libraries print goes to standard error."""
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return said
