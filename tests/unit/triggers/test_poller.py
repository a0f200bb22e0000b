"""A stream one of whose lines fails: the others do not hear of it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from lambent_frontend.calls import Answer, Call
from lambent_frontend.invoker import Invoker
from lambent_frontend.triggers import poller
from lambent_frontend.triggers.core.messages import Batch, Outcome, Record
from lambent_frontend.triggers.destinations import Destinations
from lambent_frontend.triggers.poller import Poller
from lambent_frontend.triggers.sources.base import Item, StreamSource, records_event
from lambent_proto.errors import LambentError
from lambent_proto.ids import FunctionName
from lambent_proto.triggers import Trigger
from tests.unit.scripted import AnyFunction, ScriptedDispatcher, answer

pytestmark = pytest.mark.timeout(20)

TRIGGER = Trigger(id="t", function=FunctionName("f"), kind="kinesis", source="arn", batch_size=1)


class Stream(StreamSource):
    """Two lines of one record each. The second one fails when it is read for the second time."""

    def __init__(self, *, rewinds: bool = True) -> None:
        super().__init__(TRIGGER, "")
        self.rewound: list[str] = []
        self.done: list[str] = []
        self._rewinds = rewinds
        self._at = {"calm": 0, "wild": 0}
        self._failed = False

    async def open(self) -> None: ...

    async def lines(self) -> Sequence[str]:
        return ["calm", "wild"]

    async def read(self, line: str, most: int) -> list[Item]:
        self._at[line] += 1
        if self._at[line] == 1:
            return [Item(Record(line, 10), line.encode(), {})]
        if line == "wild" and not self._failed:
            self._failed = True
            raise OSError("it hung up")
        await asyncio.Event().wait()
        return []

    def rewind(self, line: str) -> bool:
        self.rewound.append(line)
        self._at[line] = 0
        return self._rewinds

    def event(self, items: Sequence[Item]) -> bytes:
        return records_event(items)

    async def checkpoint(self, line: str, place: str) -> None:
        self.done.append(line)

    async def ended(self, line: str) -> None: ...

    async def lag(self) -> int | None:
        return None


class Slow(ScriptedDispatcher):
    """The calls are held by the test."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way_now: list[tuple[Call, Callable[[Answer | LambentError], None]]] = []

    def submit(self, call: Call, done: Callable[[Answer | LambentError], None]) -> None:
        super().submit(call, lambda _: None)
        self.under_way_now.append((call, done))


def polling(stream: Stream, slow: Slow) -> Poller:
    invoker = Invoker(AnyFunction(), slow, waiting_s=10)
    return Poller(TRIGGER, stream, invoker, Destinations(invoker, {}), lambda: None)


async def test_a_line_that_fails_is_begun_anew_while_the_others_go_on(monkeypatch: Any) -> None:
    monkeypatch.setattr(poller, "pause_s", lambda _: 0.0)
    stream, slow = Stream(), Slow()
    polled = polling(stream, slow)
    running = asyncio.create_task(polled.run())
    await slow.until(lambda: len(slow.calls) == 3)  # that of the line which failed, twice
    assert stream.rewound == ["wild"]
    assert polled.course.error == "wild: it hung up"
    calm = [call for call, _ in slow.under_way_now if b"calm" in call.payload]
    assert len(calm) == 1
    assert calm[0].request_id not in slow.abandoned
    assert len(slow.abandoned) == 1
    for _, done in slow.under_way_now:
        done(answer(b"null"))
    polled.stop()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_source_that_cannot_begin_a_line_anew_fails_as_a_whole() -> None:
    """Whoever has it opens it again."""
    stream = Stream(rewinds=False)
    with pytest.raises(ExceptionGroup) as raised:
        await polling(stream, Slow()).run()
    assert raised.group_contains(OSError, match="it hung up")


async def test_a_function_that_is_gone() -> None:
    """It is said, its records are tried again, and nothing of them is done with."""
    trigger = replace(TRIGGER, function=FunctionName("unknown"))
    stream = Stream()
    invoker = Invoker(AnyFunction(), Slow(), waiting_s=10)
    polled = Poller(trigger, stream, invoker, Destinations(invoker, {}), lambda: None)
    ended = await polled._call(Batch(1, (Record("calm", 10),)), b"{}")
    assert ended.outcome is Outcome.NEVER_RAN
    assert polled.course.result == "PROBLEM: the function is gone"
    assert "unknown" in polled.course.error
