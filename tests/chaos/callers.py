"""Callers that do not stop calling, and what became of each call."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

from lambent.client import Client
from lambent.invocation_stream import GRACE_S
from lambent_chassis.clock import monotonic_s
from lambent_proto.errors import LambentError

DEADLINE_S: Final = 6.0
LATE_S: Final = GRACE_S + 1.0
"""At the latest so long after its deadline a call has its one outcome: where its frontend hangs, the client's
own. The second is for this process, which shares two cores with the fleet."""

ANSWERED_LATE_S: Final = 1.0
"""An answer is never given later after its deadline."""

PAUSE_S: Final = 0.05
"""After a call that failed."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call as its caller saw it."""

    id: str
    function: str
    frontend: int
    """The number of the one that was asked."""
    begin: float
    end: float
    error: str
    """The class of the error; empty if it was answered."""

    @property
    def late(self) -> bool:
        return self.over_s > LATE_S or (not self.error and self.over_s > ANSWERED_LATE_S)

    @property
    def over_s(self) -> float:
        """How long after its deadline it had its outcome; negative: before."""
        return self.end - self.begin - DEADLINE_S

    def told(self) -> str:
        took = f"{self.end - self.begin:.1f} s of {DEADLINE_S:g}"
        return f"call {self.id} to frontend {self.frontend + 1} had its outcome late: {took} ({self.error})"

    def ok_since(self, at: float) -> bool:
        """It began after then, and was answered."""
        return self.begin > at and not self.error


@dataclass(slots=True)
class Callers:
    clients: Sequence[Client]
    calls: list[Call]
    _numbers: "count[int]"
    stopping: bool = False

    @classmethod
    def of(cls, clients: Sequence[Client]) -> "Callers":
        return cls(clients, [], count(1))

    async def call_again_and_again(self, function: str, caller: int, dice: random.Random) -> None:
        frontend = caller % len(self.clients)
        while not self.stopping:
            call = await self._one(frontend, function, dice.uniform(0.02, 0.3))
            self.calls.append(call)
            if call.error:
                await asyncio.sleep(PAUSE_S)

    async def _one(self, frontend: int, function: str, sleep: float) -> Call:
        number, begin, error = f"{function}.{next(self._numbers)}", monotonic_s(), ""
        try:
            await self.clients[frontend].invoke(
                function, {"call": number, "sleep": sleep}, timeout_s=DEADLINE_S
            )
        except LambentError as failed:
            error = type(failed).__name__
        return Call(number, function, frontend, begin, monotonic_s(), error)
