"""A line of a queue: what is given back may come again at any moment."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from lambent_frontend.triggers.calls import Ended
from lambent_frontend.triggers.core.batches import Limits
from lambent_frontend.triggers.core.messages import Batch, Discard, Outcome, Record
from lambent_frontend.triggers.core.queue import Queue, Rules
from lambent_frontend.triggers.lines import Line
from lambent_frontend.triggers.sources.base import Item, QueueSource, records_event
from lambent_frontend.triggers.sources.sqs import Sqs
from lambent_proto.ids import FunctionName, RequestId
from lambent_proto.triggers import Trigger

pytestmark = pytest.mark.timeout(20)

TRIGGER = Trigger(
    id="t",
    function=FunctionName("f"),
    kind="sqs",
    source="arn:aws:sqs:us-east-1:000000000000:q",
    batch_size=10,
)


class Prompt(QueueSource):
    """Gives a message out again before it says that it has taken it back, as one may whose reader waits."""

    def __init__(self) -> None:
        super().__init__(TRIGGER, "")
        self.there: asyncio.Queue[Item] = asyncio.Queue()
        self.called_again = asyncio.Event()
        self.processed: list[str] = []
        self.given_up: list[str] = []

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def read(self, line: str, most: int) -> list[Item]:
        return [await self.there.get()]

    def event(self, items: Sequence[Item]) -> bytes:
        return records_event(items)

    async def lag(self) -> int | None:
        return None

    async def done(self, ids: Sequence[str]) -> None:
        self.processed += ids
        self.there.put_nowait(_item("last"))

    async def give_back(self, ids: Sequence[str], pause_s: float | None) -> None:
        for each in ids:
            self.there.put_nowait(_item(each))
        await self.called_again.wait()

    async def give_up(self, ids: Sequence[str]) -> None:
        self.given_up += ids


def _item(name: str) -> Item:
    return Item(Record(name, 10), b"{}", {})


async def test_what_comes_again_at_once_is_called_with_again() -> None:
    source = Prompt()
    source.there.put_nowait(_item("m"))
    calls: list[tuple[str, ...]] = []

    async def call(batch: Batch, event: bytes) -> Ended:
        calls.append(batch.ids)
        if len(calls) == 1:
            return Ended(RequestId("r"), Outcome.FAILED)
        source.called_again.set()
        line.stop()
        return Ended(RequestId("r"), Outcome.ENDED)

    async def given_up(discard: Discard, items: Sequence[Item], ended: Ended | None) -> None:
        raise AssertionError("nothing is given up here")

    engine = Queue(Rules(Limits(10, 0.0), 10, None))
    line = Line(source, "", engine, (), call=call, given_up=given_up, held=_held)
    async with asyncio.timeout(10):
        await line.run()
    assert calls == [("m",), ("m",)]
    assert source.processed == ["m"]


async def test_a_destination_that_hangs_holds_up_no_other_message() -> None:
    """What was processed is told to the queue meanwhile."""
    source = Prompt()
    source.called_again.set()
    for name in ("poison", "m"):
        source.there.put_nowait(_item(name))
    processed = asyncio.Event()

    async def call(batch: Batch, event: bytes) -> Ended:
        outcome = Outcome.FAILED if batch.ids == ("poison",) else Outcome.ENDED
        return Ended(RequestId("r"), outcome)

    async def given_up(discard: Discard, items: Sequence[Item], ended: Ended | None) -> None:
        assert discard.batch.ids == ("poison",)
        await processed.wait()
        line.stop()

    async def done(ids: Sequence[str]) -> None:
        await Prompt.done(source, ids)
        processed.set()

    source.done = done  # type: ignore[method-assign]
    line = Line(source, "", Queue(Rules(Limits(1, 0.0), 1, 1)), (), call=call, given_up=given_up, held=_held)
    async with asyncio.timeout(10):
        await line.run()
    assert source.processed[0] == "m"
    assert source.given_up == ["poison"]


def _held() -> None: ...


class PromptService:
    """What Sqs has for a client: the message is read again while the request that gives it back goes on."""

    def __init__(self, sqs: Sqs) -> None:
        self._sqs = sqs
        self._receipts = iter(["first", "second"])
        self.given_back: list[str] = []

    async def call(self, method: str, **given: Any) -> Any:
        if method == "receive_message":
            return {"Messages": [{"MessageId": "m", "ReceiptHandle": next(self._receipts), "Body": ""}]}
        assert method == "change_message_visibility_batch"
        self.given_back += [it["ReceiptHandle"] for it in given["Entries"]]
        if len(self.given_back) == 1:
            await self._sqs.read("", 10)
        return {}


async def test_sqs_knows_a_message_that_comes_again_at_once() -> None:
    sqs = Sqs(TRIGGER, "")
    service = sqs._aws = PromptService(sqs)  # type: ignore[assignment]
    sqs._queue, sqs._visibility_s, sqs._ours_s = "q", 30, 30
    sqs._keeping = asyncio.create_task(asyncio.Event().wait())  # type: ignore[arg-type]
    try:
        await sqs.read("", 10)
        await sqs.give_back(["m"], None)
        await sqs.give_back(["m"], None)
    finally:
        sqs._keeping.cancel()
    assert service.given_back == ["first", "second"]
