"""A stream one of whose lines fails: the others do not hear of it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from lambent_frontend.calls import Answer, Call
from lambent_frontend.invoker import Invoker
from lambent_frontend.queue.destinations import Destinations
from lambent_frontend.triggers import poller
from lambent_frontend.triggers.core.messages import Batch, Outcome, Record
from lambent_frontend.triggers.on_failure import OnFailure
from lambent_frontend.triggers.poller import Poller
from lambent_frontend.triggers.sources.base import Item, SourceFailed, StreamSource, records_event
from lambent_proto.errors import LambentError
from lambent_proto.ids import FunctionName
from lambent_proto.triggers import Trigger
from tests.e2e.load import eventually
from tests.unit.scripted import AnyFunction, ScriptedDispatcher, answer
from tests.unit.triggers.kept import InMemory

pytestmark = pytest.mark.timeout(20)

TRIGGER = Trigger(id="t", function=FunctionName("f"), kind="kinesis", source="arn", batch_size=1)


class Stream(StreamSource):
    """Two lines of one record each. The second one fails when it is read for the second time."""

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__(TRIGGER, "")
        self.rewound: list[str] = []
        self.done: list[str] = []
        self.knows_its_lines = True
        self._failure = failure or OSError("it hung up")
        self._at = {"calm": 0, "wild": 0}
        self._failed = False

    async def open(self) -> None: ...

    async def lines(self) -> Sequence[str]:
        if not self.knows_its_lines:
            raise OSError("not now")
        return ["calm", "wild"]

    async def read(self, line: str, most: int) -> list[Item]:
        self._at[line] += 1
        if self._at[line] == 1:
            return [Item(Record(line, 10), line.encode(), {})]
        if line == "wild" and not self._failed:
            self._failed = True
            raise self._failure
        await asyncio.Event().wait()
        return []

    def rewind(self, line: str) -> None:
        self.rewound.append(line)
        self._at[line] = 0

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

    def succeed(self, line: str) -> None:
        """The first call of this line."""
        next(done for call, done in self.under_way_now if line.encode() in call.payload)(answer(b"null"))


def telling(invoker: Invoker) -> OnFailure:
    return OnFailure(invoker, Destinations({}, (), {}))


def polling(stream: Stream, slow: Slow) -> Poller:
    invoker = Invoker(AnyFunction(), slow, waiting_s=10)
    return Poller(
        TRIGGER, stream, invoker, OnFailure(invoker, Destinations({}, (), {})), lambda: None, InMemory()
    )


async def test_a_line_that_fails_is_begun_anew_while_the_others_go_on(monkeypatch: Any) -> None:
    monkeypatch.setattr(poller, "pause_s", lambda _: 0.0)
    stream, slow = Stream(), Slow()
    polled = polling(stream, slow)
    running = asyncio.create_task(polled.run())
    await slow.until(lambda: len(slow.calls) == 2)
    slow.succeed("wild")
    await slow.until(lambda: len(slow.calls) == 3)  # that of the line which failed, twice
    assert stream.done == ["wild"]
    assert stream.rewound == ["wild"]
    assert len([call for call, _ in slow.under_way_now if b"calm" in call.payload]) == 1
    assert slow.abandoned == []
    for _, done in slow.under_way_now:
        done(answer(b"null"))
    polled.stop()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_line_that_fails_is_told_of_until_it_is_read_again(monkeypatch: Any) -> None:
    """However well the others go meanwhile."""
    monkeypatch.setattr(poller, "pause_s", lambda _: 60.0)
    stream, slow = Stream(), Slow()
    polled = polling(stream, slow)
    running = asyncio.create_task(polled.run())
    await slow.until(lambda: len(slow.calls) == 2)
    slow.succeed("wild")
    await eventually(lambda: polled.error == "wild: it hung up", "it is told", within_s=10)
    slow.succeed("calm")
    await eventually(lambda: stream.done == ["wild", "calm"], "the other one goes on", within_s=10)
    assert (polled.result, polled.error) == (
        "PROBLEM: a part of the event source cannot be used",
        "wild: it hung up",
    )
    polled._lines["wild"].reads = True
    assert (polled.result, polled.error) == ("OK", "")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_stream_that_does_not_say_its_lines_goes_on_with_those_known(monkeypatch: Any) -> None:
    """One that never said any cannot be used."""
    monkeypatch.setattr(poller, "LINES_EVERY_S", 0.01)
    stream, slow = Stream(), Slow()
    polled = polling(stream, slow)
    running = asyncio.create_task(polled.run())
    await slow.until(lambda: len(slow.calls) >= 2)
    stream.knows_its_lines = False
    await eventually(lambda: "not now" in polled.error, "it is told", within_s=10)
    assert not running.done()
    stream.knows_its_lines = True
    await eventually(lambda: "not now" not in polled.error, "it is over", within_s=10)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    unknown = Stream()
    unknown.knows_its_lines = False
    with pytest.raises(ExceptionGroup) as raised:
        await polling(unknown, Slow()).run()
    assert raised.group_contains(OSError, match="not now")


async def test_a_source_that_says_that_none_of_it_can_be_used_fails_as_a_whole() -> None:
    """Whoever has it opens it again."""
    stream = Stream(SourceFailed("others read it"))
    with pytest.raises(ExceptionGroup) as raised:
        await polling(stream, Slow()).run()
    assert raised.group_contains(SourceFailed, match="others read it")
    assert stream.rewound == []


async def test_a_function_that_is_gone() -> None:
    """It is said, its records are tried again, and nothing of them is done with."""
    trigger = replace(TRIGGER, function=FunctionName("unknown"))
    stream = Stream()
    invoker = Invoker(AnyFunction(), Slow(), waiting_s=10)
    polled = Poller(
        trigger, stream, invoker, OnFailure(invoker, Destinations({}, (), {})), lambda: None, InMemory()
    )
    ended = await polled._call(Batch(1, (Record("calm", 10),)), b"{}")
    assert ended.outcome is Outcome.NEVER_RAN
    assert polled.course.result == "PROBLEM: the function is gone"
    assert "unknown" in polled.course.error
