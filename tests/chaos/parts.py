"""Callers of a function that answers in parts, who look at every part that they get."""

import asyncio
import io
import random
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

from lambent.client import Client
from lambent_chassis.clock import monotonic_s
from lambent_proto.errors import LambentError
from tests.chaos.callers import DEADLINE_S, PAUSE_S, Call, Callers

NAME: Final = "parts"
LIMIT: Final = 2
CALLERS: Final = 3
SOURCE: Final = """
exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  for (let part = 0; part < event.parts; part++) {
    stream.write(`${part};`);
    await new Promise((go) => setTimeout(go, event.pause_ms));
  }
  stream.end();
});
"""


@dataclass(frozen=True, slots=True)
class Answer:
    call: str
    asked: int
    """Parts."""
    text: str
    whole: bool
    """It ended without an error."""

    @property
    def wrong(self) -> bool:
        """Parts are missing, at its end though nothing says so, or are not in their order."""
        due = "".join(f"{part};" for part in range(self.asked))
        return self.text != due if self.whole else not due.startswith(self.text)

    def told(self) -> str:
        ended = "as if it were whole" if self.whole else "with an error"
        return f"call {self.call} asked for {self.asked} parts, and its answer ended {ended}: {self.text!r}"


class Parts:
    def __init__(self, clients: Sequence[Client], callers: Callers) -> None:
        """What becomes of each call is told to `callers`."""
        self.answers: list[Answer] = []
        self._clients = clients
        self._callers = callers
        self._numbers = count(1)

    async def deploy(self) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("index.js", SOURCE)
        await self._clients[0].create_function(
            NAME,
            buffer.getvalue(),
            runtime="nodejs",
            handler="index.handler",
            timeout_s=20,
            concurrency=LIMIT,
        )

    async def call_again_and_again(self, caller: int, dice: random.Random) -> None:
        frontend = caller % len(self._clients)
        while not self._callers.stopping:
            call = await self._one(frontend, dice.randint(1, 8), dice.uniform(5, 80))
            self._callers.calls.append(call)
            if call.error:
                await asyncio.sleep(PAUSE_S)

    async def _one(self, frontend: int, parts: int, pause_ms: float) -> Call:
        number, begin, error, text = f"{NAME}.{next(self._numbers)}", monotonic_s(), "", ""
        event = {"parts": parts, "pause_ms": pause_ms}
        asked = self._clients[frontend].invoke_with_response_stream(NAME, event, timeout_s=DEADLINE_S)
        try:
            async with asked as answer:
                async for part in answer:
                    text += part.decode()
            error = answer.function_error
        except LambentError as failed:
            error = type(failed).__name__
        self.answers.append(Answer(number, parts, text, whole=not error))
        return Call(number, NAME, frontend, begin, monotonic_s(), error)
