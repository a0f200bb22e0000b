"""An answer in parts, over a dispatcher that does as the test says: what whoever iterates sees, and what of
it the worker is told."""

import asyncio

import pytest

from lambent_frontend.calls import Call
from lambent_frontend.invoker import Invoker
from lambent_frontend.streamed import TELL_BYTES
from lambent_frontend.wire import new_request_id
from lambent_proto.errors import LostWithWorker, Throttled
from lambent_proto.frames import PIECE_BYTES
from lambent_proto.v1 import invoke_pb2
from tests.unit.scripted import WAITING_S, AnyFunction, ScriptedDispatcher, answer

WITHIN_S = 20.0


@pytest.fixture
def dispatcher() -> ScriptedDispatcher:
    return ScriptedDispatcher()


@pytest.fixture
def invoker(dispatcher: ScriptedDispatcher) -> Invoker:
    return Invoker(AnyFunction(), dispatcher, waiting_s=WAITING_S)


def call(invoker: Invoker, name: str = "held", payload: bytes = b"{}") -> Call:
    return invoker.checked(invoke_pb2.InvokeRequest(function_name=name, payload=payload), new_request_id())


async def begun(dispatcher: ScriptedDispatcher) -> None:
    await dispatcher.until(lambda: bool(dispatcher.held))
    dispatcher.begin("text/plain")


async def test_parts_come_before_the_end(invoker: Invoker, dispatcher: ScriptedDispatcher) -> None:
    """Each when it is there, and the end behind the last one."""
    async with asyncio.timeout(WITHIN_S):
        beginning = asyncio.create_task(begun(dispatcher))
        async with invoker.streamed(call(invoker)) as streamed:
            assert streamed.begun.content_type == "text/plain"
            dispatcher.write(b"one")
            assert await anext(streamed) == b"one"
            dispatcher.write(b"two", b"three")
            dispatcher.end()
            assert [part async for part in streamed] == [b"two", b"three"]
            assert (streamed.end.failed, streamed.end.payload, streamed.end.tail) == (False, b"", b"END")
        await beginning
    assert dispatcher.abandoned == []


async def test_a_failure_in_the_middle_is_an_end(invoker: Invoker, dispatcher: ScriptedDispatcher) -> None:
    async with asyncio.timeout(WITHIN_S):
        beginning = asyncio.create_task(begun(dispatcher))
        async with invoker.streamed(call(invoker)) as streamed:
            dispatcher.write(b"one")
            dispatcher.end(answer(b'{"errorType":"E"}', failed=True))
            assert [part async for part in streamed] == [b"one"]
            assert (streamed.end.failed, streamed.end.payload) == (True, b'{"errorType":"E"}')
        await beginning


async def test_an_error_in_the_middle_is_raised_behind_the_parts(
    invoker: Invoker, dispatcher: ScriptedDispatcher
) -> None:
    """What came before it is given first."""
    async with asyncio.timeout(WITHIN_S):
        beginning = asyncio.create_task(begun(dispatcher))
        async with invoker.streamed(call(invoker)) as streamed:
            dispatcher.write(b"one")
            dispatcher.end(LostWithWorker("its node is gone"))
            assert await anext(streamed) == b"one"
            with pytest.raises(LostWithWorker, match="its node is gone"):
                await anext(streamed)
        await beginning


async def test_an_error_before_the_first_part_is_raised_at_once(
    invoker: Invoker, dispatcher: ScriptedDispatcher
) -> None:
    dispatcher.errors["full"] = Throttled("the line is full")
    with pytest.raises(Throttled, match="the line is full"):
        async with invoker.streamed(call(invoker, "full")):
            pytest.fail("it was entered")
    assert dispatcher.abandoned == []


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, 2 * PIECE_BYTES + 1])
async def test_an_answer_that_is_not_streamed(invoker: Invoker, size: int) -> None:
    """It comes in pieces of a size that every client takes; an empty one has none."""
    payload = b"x" * size
    async with invoker.streamed(call(invoker, "echo", payload)) as streamed:
        assert streamed.begun.content_type == "application/json"
        parts = [part async for part in streamed]
        assert b"".join(parts) == (payload or b"{}")
        assert all(0 < len(part) <= PIECE_BYTES for part in parts)
        assert (streamed.end.failed, streamed.end.payload) == (False, b"")


async def test_a_function_that_fails_before_it_writes(invoker: Invoker) -> None:
    async with invoker.streamed(call(invoker, "failing")) as streamed:
        assert [part async for part in streamed] == []
        assert (streamed.end.failed, streamed.end.payload) == (True, b'{"errorType":"E"}')


async def test_what_is_taken_is_told(invoker: Invoker, dispatcher: ScriptedDispatcher) -> None:
    """Not what only lies here, and in few words: a quarter of the window at a time."""
    async with asyncio.timeout(WITHIN_S):
        beginning = asyncio.create_task(begun(dispatcher))
        async with invoker.streamed(call(invoker)) as streamed:
            dispatcher.write(*[b"x" * (TELL_BYTES // 2)] * 3)
            for _ in range(2):
                await anext(streamed)
            assert dispatcher.taken_bytes == 0
            await anext(streamed)  # now the second one was taken
            assert dispatcher.taken_bytes == TELL_BYTES
        await beginning


@pytest.mark.parametrize("has_begun", [False, True])
async def test_who_leaves_is_not_waited_for(
    invoker: Invoker, dispatcher: ScriptedDispatcher, has_begun: bool
) -> None:
    """Before the answer begins, and in the middle of it."""

    async def reading() -> None:
        async with invoker.streamed(call(invoker)) as streamed:
            async for _ in streamed:
                pass

    async with asyncio.timeout(WITHIN_S):
        task = asyncio.create_task(reading())
        await dispatcher.until(lambda: bool(dispatcher.held))
        if has_begun:
            dispatcher.begin()
            dispatcher.write(b"one")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert dispatcher.abandoned == list(dispatcher.held)
