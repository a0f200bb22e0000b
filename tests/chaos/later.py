"""Callers that have events run later: each that was taken has to run, however often."""

import asyncio
import random
from collections.abc import Sequence
from itertools import count
from typing import Final

from lambent.client import Client
from lambent_proto.errors import LambentError
from tests.chaos.callers import PAUSE_S, Callers
from tests.chaos.lives import Watched
from tests.e2e.load import eventually

NAME: Final = "later"
LIMIT: Final = 3
CALLERS: Final = 3
RUN_S: Final = 90.0
"""At the latest so long after all is whole everything that was taken has run: what a fault kept from running
is tried again after pauses that grow."""


class Later:
    def __init__(self, clients: Sequence[Client], callers: Callers, function: Watched) -> None:
        self.taken: list[str] = []
        self.function = function
        self._clients = clients
        self._callers = callers
        self._numbers = count(1)

    async def call_again_and_again(self, caller: int, dice: random.Random) -> None:
        client = self._clients[caller % len(self._clients)]
        while not self._callers.stopping:
            call = f"{NAME}.{next(self._numbers)}"
            try:
                await client.async_invocations.begin(NAME, {"call": call, "sleep": dice.uniform(0.02, 0.2)})
            except LambentError:  # nothing was promised
                await asyncio.sleep(PAUSE_S)
            else:
                self.taken.append(call)
                await asyncio.sleep(dice.uniform(0.1, 0.4))

    async def missing(self) -> list[str]:
        """Those that were taken and did not run to their end, after a while."""

        def left() -> list[str]:
            ended = {run.call for run in self.function.evidence.runs() if run.end < float("inf")}
            return [call for call in self.taken if call not in ended]

        try:
            await eventually(lambda: not left(), "all that was taken has run", within_s=RUN_S)
        except AssertionError:
            return left()
        return []
