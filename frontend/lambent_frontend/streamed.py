"""One invocation whose answer is taken in parts, for every door that can pass them on as they come."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace
from types import TracebackType
from typing import Final, Self

from lambent_frontend.calls import Answer, Begun, Call, Dispatcher
from lambent_proto.errors import LambentError
from lambent_proto.frames import PIECE_BYTES, WINDOW_BYTES

JSON: Final = "application/json"

TELL_BYTES: Final = WINDOW_BYTES // 4
"""So much is taken before the worker is told: a function that writes word by word costs few frames."""


class StreamedAnswer:
    """From `Invoker.streamed`:

        async with invoker.streamed(call) as answer:
            answer.begun.content_type   # of the parts, as the runtime said it
            async for part in answer:   # bytes, as the function wrote them, none of them empty
                ...
            answer.end.failed           # then `answer.end.payload` is Lambda's error document

    It is entered once the answer has begun, or all of it is there. Entering, and iterating, raise whatever
    LambentError the call ends with; a function that fails is no error here, also in the middle. An answer
    that its runtime did not stream is one part, or some if it is large; one that failed so has none.

    Whoever iterates slowly makes the function slow, and holds no more than WINDOW_BYTES and what one read of
    the instance brought. Whoever leaves before the end lets the function run on, unheard, as Lambda does.

    Of a function that answers HTTP the content type is application/vnd.awslambda.http-integration-response,
    and the parts begin with its JSON head and eight NUL bytes: they pass through as they are, cut anywhere.
    """

    def __init__(self, call: Call, dispatcher: Dispatcher) -> None:
        call.parts = self
        self.call = call
        self._dispatcher = dispatcher
        self._begun: Begun | None = None
        self._outcome: Answer | LambentError | None = None
        self._parts: deque[bytes] = deque()
        self._given = 0
        """Bytes that whoever iterates is at work on."""
        self._untold = 0
        """Bytes that were taken, of which the worker has not been told."""
        self._news = asyncio.Event()

    @property
    def begun(self) -> Begun:
        assert self._begun is not None, "it was entered"
        return self._begun

    @property
    def end(self) -> Answer:
        """How the call ended; its payload is empty, or the error document. There when iterating is over."""
        assert isinstance(self._outcome, Answer), "iterating is over, and raised nothing"
        return self._outcome

    async def __aenter__(self) -> Self:
        self._dispatcher.submit(self.call, self._done)
        try:
            while self._begun is None:
                await self._something_new()
        except BaseException:
            self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self._take(self._given)
        self._given = 0
        while not self._parts:
            if isinstance(self._outcome, Answer):
                raise StopAsyncIteration
            await self._something_new()
        part = self._parts.popleft()
        self._given = len(part)
        return part

    async def _something_new(self) -> None:
        """Raises the LambentError that the call has ended with."""
        if isinstance(self._outcome, LambentError):
            raise self._outcome
        self._news.clear()
        await self._news.wait()

    def _take(self, size: int) -> None:
        self._untold += size
        if self._untold >= TELL_BYTES:
            self._dispatcher.taken(self.call.request_id, self._untold)
            self._untold = 0

    def _leave(self) -> None:
        self._parts.clear()
        if self._outcome is None:
            self._dispatcher.abandon(self.call.request_id)

    # From the dispatcher

    def began(self, begun: Begun) -> None:
        self._begun = begun
        self._news.set()

    def part(self, data: bytes) -> None:
        self._parts.append(data)
        self._news.set()

    def _done(self, outcome: Answer | LambentError) -> None:
        if isinstance(outcome, Answer) and self._begun is None:
            self._begun = Begun(JSON, outcome)
            if not outcome.failed:
                whole = outcome.payload
                self._parts += [whole[at : at + PIECE_BYTES] for at in range(0, len(whole), PIECE_BYTES)]
                outcome = replace(outcome, payload=b"")
        self._outcome = outcome
        self._news.set()
