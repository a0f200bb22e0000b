"""Calls that are made when they are due, whatever has become of those before them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from lambent.client import Client
from lambent.invocation_stream import InvocationStream
from lambent.loadtest.engine import when_due
from lambent_chassis.clock import monotonic_s
from lambent_proto.errors import LambentError

WITHIN_S: Final = 900.0
"""How long a call may wait and run, if nothing else is said: what is slow is to be seen, not cut off."""


@dataclass(frozen=True, slots=True)
class Due:
    at: float
    """Seconds from the beginning."""
    function: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    due: Due
    sent_at: float
    answered_at: float
    """Both in seconds from the beginning."""
    explanation: Any
    """None if it failed."""


@dataclass(slots=True)
class Gathered:
    answers: list[Answered] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def late_s(self) -> list[float]:
        """How much later than due each call was sent: the caller's own fault."""
        return [it.sent_at - it.due.at for it in self.answers]


async def make(endpoint: str, calls: Sequence[Due], within_s: float = WITHIN_S) -> Gathered:
    """All of them over one stream; `calls` are in the order of their times."""
    gathered = Gathered()
    async with Client(endpoint) as client, client.stream() as stream, asyncio.TaskGroup() as tasks:
        began = monotonic_s()
        await when_due(
            calls, began, lambda due: tasks.create_task(_call(stream, due, began, within_s, gathered))
        )
    return gathered


async def _call(
    stream: InvocationStream, due: Due, began: float, within_s: float, gathered: Gathered
) -> None:
    sent_at = monotonic_s() - began
    try:
        done = await stream.invoke(due.function, due.payload, timeout_s=within_s)
    except LambentError as error:
        gathered.failures.append(f"{type(error).__name__}: {error}")
        return
    if done.function_error:
        gathered.failures.append(done.payload.decode(errors="replace"))
        return
    gathered.answers.append(Answered(due, sent_at, monotonic_s() - began, done.explanation))
