"""A trigger whose source does not do as it should: it is closed all the same, and holds nothing up."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lambent_frontend.triggers import holding
from lambent_frontend.triggers.core.states import DELETING
from lambent_frontend.triggers.holding import Holding, Known
from lambent_frontend.triggers.sources.base import SourceFailed
from lambent_frontend.triggers.store import Claim
from lambent_proto.ids import FunctionName
from lambent_proto.triggers import Trigger, TriggerStatus

pytestmark = pytest.mark.timeout(20)

KNOWN = Known(Trigger(id="t", function=FunctionName("f"), kind="redis", source="arn", batch_size=1), 1)


class Store:
    """In the place of a TriggerStore: whoever waits for what is said of the trigger hears of it."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[TriggerStatus] = asyncio.Queue()
        self.released = False
        self.removed = asyncio.Event()

    async def say(self, claim: Claim, status: TriggerStatus) -> None:
        self.said.put_nowait(status)

    async def remove(self, claim: Claim, trigger: Trigger, mod_revision: int) -> bool:
        self.removed.set()
        return True

    async def release(self, claim: Claim) -> None:
        self.released = True


class Source:
    def __init__(self) -> None:
        self.opened = 0
        self.often = asyncio.Event()
        """It was opened thirty times."""
        self.closed = 0
        self.fails = False
        self.hangs = False
        self.forgot = False

    async def open(self) -> None:
        self.opened += 1
        if self.opened == 30:
            self.often.set()
        if self.fails:
            raise SourceFailed("there is no such stream")

    async def forget(self) -> None:
        if self.fails:
            raise SourceFailed("there is no such stream")
        self.forgot = True

    async def close(self) -> None:
        self.closed += 1
        if self.hangs:
            await asyncio.Event().wait()


class Idle:
    """In the place of a Poller."""

    def __init__(self) -> None:
        self._over = asyncio.Event()

    async def run(self) -> None:
        await self._over.wait()

    def stop(self) -> None:
        self._over.set()


def _holding(store: Store, source: Source, poller: Callable[[], Any] = Idle) -> Holding:
    async def source_of(_: Trigger) -> Any:
        return source

    return Holding("a", Claim("t", 1), store, source_of, lambda *_: poller())  # type: ignore[arg-type]


class Lagging(Idle):
    """Its source does not say how far behind it is."""

    result, error, records = "OK", "", 0

    async def lag(self) -> int | None:
        self.records += 1
        raise OSError("no leader")


async def test_a_source_that_does_not_say_its_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its calls go on, and the rest is told."""
    monkeypatch.setattr(holding, "SAY_EVERY_S", 0.01)
    store, source = Store(), Source()
    held = _holding(store, source, Lagging)
    held.set(KNOWN)
    running = asyncio.create_task(held.run())
    while (said := await store.said.get()).records < 2:
        pass
    assert (said.lag, said.result, said.error) == (None, "OK", "")
    assert source.opened == 1
    held.give_up()
    await running


async def test_what_was_opened_in_part_is_closed() -> None:
    """Each attempt may have made a connection."""
    store, source = Store(), Source()
    source.fails = True
    held = _holding(store, source)
    held.set(KNOWN)
    running = asyncio.create_task(held.run())
    assert (await store.said.get()).error == "there is no such stream"
    held.give_up()
    await running
    assert source.closed == 1


async def test_a_source_that_hangs_when_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "CLOSE_S", 0.01)
    store, source = Store(), Source()
    source.hangs = True
    held = _holding(store, source)
    held.set(KNOWN)
    running = asyncio.create_task(held.run())
    assert (await store.said.get()).revision == 1
    held.set(replace(KNOWN, mod_revision=2))
    assert (await store.said.get()).revision == 2
    held.give_up()
    await running
    assert store.released
    assert source.closed == 2


async def test_a_poller_that_cannot_be_made() -> None:
    """Such as with a filter of a newer release: it is said, and what was opened is closed."""
    store, source = Store(), Source()

    def none() -> Any:
        raise ValueError("no pattern")

    held = _holding(store, source, none)
    held.set(KNOWN)
    running = asyncio.create_task(held.run())
    assert "no pattern" in (await store.said.get()).error
    held.give_up()
    await running
    assert source.closed == 1


@pytest.mark.parametrize(
    ("fails", "hangs"), [(False, False), (True, False), (False, True)], ids=["there", "gone", "hangs"]
)
async def test_a_trigger_that_is_deleted(fails: bool, hangs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its source is told first, if it can be; where not, it is deleted all the same."""
    monkeypatch.setattr(holding, "FORGET_S", 0.01)
    store, source = Store(), Source()
    source.fails, source.hangs = fails, hangs
    held = _holding(store, source)
    held.set(replace(KNOWN, trigger=replace(KNOWN.trigger, pending=DELETING)))
    running = asyncio.create_task(held.run())
    await store.removed.wait()
    assert source.opened == 0  # which may leave something there, such as where it would have begun
    assert source.forgot == (not fails)
    held.set(None)
    await running


async def test_a_source_that_worked_for_a_while_is_tried_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it has failed before: its pauses do not grow for ever."""
    monkeypatch.setattr(holding, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(holding, "LONGEST_PAUSE_S", 1000.0)
    monkeypatch.setattr(holding, "WORKED_S", 0.0)
    store, source = Store(), Source()
    source.fails = True
    held = _holding(store, source)
    held.set(KNOWN)
    running = asyncio.create_task(held.run())
    await source.often.wait()
    held.give_up()
    await running
