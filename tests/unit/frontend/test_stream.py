"""InvokeStream over a real server: batches, order, errors in place, half-close, cancelling, pressure."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc.aio
import pytest

from lambent_chassis import grpc_options
from lambent_frontend import stream as stream_module
from lambent_frontend.wire import call_of
from lambent_proto.v1 import invoke_pb2, invoke_pb2_grpc
from tests.unit.scripted import AnyFunction, ScriptedDispatcher, serving

pytestmark = pytest.mark.usefixtures("door")

Call = grpc.aio.StreamStreamCall[invoke_pb2.InvokeStreamRequest, invoke_pb2.InvokeStreamResponse]


@pytest.fixture
def dispatcher() -> ScriptedDispatcher:
    return ScriptedDispatcher()


@pytest.fixture
async def call(dispatcher: ScriptedDispatcher) -> AsyncIterator[Call]:
    async with (
        serving(dispatcher) as address,
        grpc.aio.insecure_channel(address, options=grpc_options.CHANNEL) as channel,
    ):
        yield invoke_pb2_grpc.InvocationsStub(channel).InvokeStream()


def message(*items: tuple[int, str, bytes]) -> invoke_pb2.InvokeStreamRequest:
    request = invoke_pb2.InvokeStreamRequest()
    for number, name, payload in items:
        request.invocations.add(
            id=number, request=invoke_pb2.InvokeRequest(function_name=name, payload=payload)
        )
    return request


async def results(call: Call, count: int) -> list[invoke_pb2.StreamedResult]:
    """Reads until so many results have come, and no more than those."""
    seen: list[invoke_pb2.StreamedResult] = []
    async with asyncio.timeout(20):
        while len(seen) < count:
            read = await call.read()
            assert isinstance(read, invoke_pb2.InvokeStreamResponse)
            seen += read.results
    assert len(seen) == count
    return seen


async def ended(call: Call) -> bool:
    async with asyncio.timeout(20):
        return await call.read() is grpc.aio.EOF


async def test_answers_come_as_they_finish(call: Call, dispatcher: ScriptedDispatcher) -> None:
    """A call that takes long holds back none behind it; results are matched by id."""
    await call.write(message((1, "held", b"slow"), (2, "echo", b"two"), (3, "echo", b"three")))
    assert {(r.id, r.response.payload) for r in await results(call, 2)} == {(2, b"two"), (3, b"three")}
    dispatcher.release(b"slow")
    (last,) = await results(call, 1)
    assert (last.id, last.response.payload, last.response.executed_version) == (1, b"slow", "$LATEST")
    assert last.response.explanation.start == "warm"


async def test_a_thousand_in_flight_answered_backwards(call: Call, dispatcher: ScriptedDispatcher) -> None:
    """Each gets its own answer, and what gathers goes in few messages."""
    for begin in range(0, 1000, 50):
        await call.write(message(*((n, "held", b"%d" % n) for n in range(begin, begin + 50))))
    await dispatcher.until(lambda: len(dispatcher.held) == 1000)
    for n in reversed(range(1000)):
        dispatcher.release(b"%d" % n)
    messages, seen = 0, dict[int, bytes]()
    async with asyncio.timeout(20):
        while len(seen) < 1000:
            read = await call.read()
            assert isinstance(read, invoke_pb2.InvokeStreamResponse)
            messages += 1
            assert len(read.results) <= stream_module.MAX_BATCH
            seen |= {result.id: result.response.payload for result in read.results}
    assert seen == {n: b"%d" % n for n in range(1000)}
    assert messages <= 8


async def test_the_answers_of_many_are_gathered(
    call: Call, dispatcher: ScriptedDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With many in flight the first answer goes at once, and those that come soon after it go together."""
    monkeypatch.setattr(stream_module, "GATHER_S", 0.3)
    await call.write(message(*((n, "held", b"%d" % n) for n in range(60))))
    await dispatcher.until(lambda: len(dispatcher.held) == 60)
    dispatcher.release(b"0")
    assert [result.id for result in await results(call, 1)] == [0]
    for n in range(1, 31):
        dispatcher.release(b"%d" % n)
        await asyncio.sleep(0)
    read = await call.read()
    assert isinstance(read, invoke_pb2.InvokeStreamResponse)
    assert [result.id for result in read.results] == list(range(1, 31))


async def test_large_answers_do_not_share_a_message(call: Call) -> None:
    """A client that takes messages of 4 MB, gRPC's default, can read answers of 3 MB each."""
    payload = b"x" * 3_000_000
    await call.write(message(*((n, "echo", payload) for n in range(4))))
    for _ in range(4):
        read = await call.read()
        assert isinstance(read, invoke_pb2.InvokeStreamResponse)
        assert [len(result.response.payload) for result in read.results] == [3_000_000]


async def test_an_error_is_in_its_own_result(call: Call, dispatcher: ScriptedDispatcher) -> None:
    """An unknown function, a failing one and a good one in a message: the stream goes on."""
    await call.write(message((1, "unknown", b""), (2, "failing", b""), (3, "echo", b"x")))
    by_id = {result.id: result for result in await results(call, 3)}
    error = by_id[1].error
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND.value[0], "UNKNOWN_FUNCTION")
    assert error.request_id
    assert by_id[2].response.function_error == "Unhandled"
    assert by_id[3].response.payload == b"x"


async def test_an_id_in_flight_is_not_taken_twice(call: Call, dispatcher: ScriptedDispatcher) -> None:
    """The second one is refused and never runs; the first one gets its answer; then the id is free again."""
    await call.write(message((7, "held", b"first"), (7, "held", b"second")))
    (refused,) = await results(call, 1)
    assert (refused.id, refused.error.reason) == (7, "INVALID_REQUEST")
    assert [held.payload for held in dispatcher.calls] == [b"first"]
    dispatcher.release(b"first")
    (first,) = await results(call, 1)
    assert first.response.payload == b"first"
    await call.write(message((7, "echo", b"third")))
    assert (await results(call, 1))[0].response.payload == b"third"


async def test_a_half_closed_stream_ends_after_its_last_answer(
    call: Call, dispatcher: ScriptedDispatcher
) -> None:
    """The client may say that it is done and still gets what is due."""
    await call.write(message((1, "held", b"a"), (2, "held", b"b")))
    await call.done_writing()
    await dispatcher.until(lambda: len(dispatcher.held) == 2)
    dispatcher.release(b"b")
    assert (await results(call, 1))[0].id == 2
    dispatcher.release(b"a")
    assert (await results(call, 1))[0].id == 1
    assert await ended(call)
    assert await call.code() is grpc.StatusCode.OK
    assert dispatcher.abandoned == []


async def test_a_stream_without_invocations_ends_well(call: Call) -> None:
    """Opened and closed, nothing said."""
    await call.done_writing()
    assert await ended(call)
    assert await call.code() is grpc.StatusCode.OK


async def test_a_client_that_goes_away_abandons_what_is_in_flight(
    call: Call, dispatcher: ScriptedDispatcher
) -> None:
    """All of it, and only that: what was answered is over."""
    await call.write(message((1, "echo", b"x"), (2, "held", b"a"), (3, "held", b"b")))
    await results(call, 1)
    call.cancel()
    await dispatcher.until(lambda: len(dispatcher.abandoned) == 2)
    assert set(dispatcher.abandoned) == set(dispatcher.held)


async def test_a_stream_with_too_much_in_flight_is_not_read(
    dispatcher: ScriptedDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes nothing more, while other calls are served; it goes on once answers have left."""
    monkeypatch.setattr(stream_module, "MAX_HELD_BYTES", 100_000)
    large = [b"%d" % n + b" " * 40_000 for n in range(3)]
    async with serving(dispatcher) as address, grpc.aio.insecure_channel(address) as channel:
        stub = invoke_pb2_grpc.InvocationsStub(channel)
        call = stub.InvokeStream()
        await call.write(message(*((n, "held", payload) for n, payload in enumerate(large))))
        await dispatcher.until(lambda: len(dispatcher.held) == 3)
        await call.write(message((3, "echo", b"later")))
        for _ in range(3):
            await stub.Invoke(invoke_pb2.InvokeRequest(function_name="echo", payload=b"other"))
        assert b"later" not in [taken.payload for taken in dispatcher.calls]
        dispatcher.release(large[0])
        assert {result.id for result in await results(call, 2)} == {0, 3}
        call.cancel()


async def test_the_stream_s_own_deadline_counts(dispatcher: ScriptedDispatcher) -> None:
    """A call on a stream with two seconds left has no more than two seconds."""
    async with (
        serving(dispatcher) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        call = invoke_pb2_grpc.InvocationsStub(channel).InvokeStream(timeout=2)
        await call.write(message((1, "echo", b"x")))
        await results(call, 1)
        assert 0 < dispatcher.calls[0].deadline_s <= 2.1
        call.cancel()


class Talk:
    """What a stream uses of gRPC's context, so that a test can cancel it at a moment of its choosing."""

    def __init__(self, first: invoke_pb2.InvokeStreamRequest) -> None:
        self._first: invoke_pb2.InvokeStreamRequest | None = first
        self._never = asyncio.Event()

    def time_remaining(self) -> None:
        return None

    async def read(self) -> invoke_pb2.InvokeStreamRequest:
        if self._first is None:
            await self._never.wait()
        first, self._first = self._first, None
        assert first is not None
        return first


async def test_an_answer_that_comes_as_the_client_cancels_is_dropped(dispatcher: ScriptedDispatcher) -> None:
    """Between the cancelling of a stream and its hearing of it, answers still come: they hurt nobody."""
    checked = partial(call_of, definitions=AnyFunction(), waiting_s=1.0)
    talk: Any = Talk(message((1, "held", b"one")))
    stream = asyncio.create_task(stream_module.InvocationStream(talk, dispatcher, checked).run())
    await dispatcher.until(lambda: bool(dispatcher.held))
    stream.cancel()
    dispatcher.release(b"one")
    with pytest.raises(asyncio.CancelledError):
        await stream
