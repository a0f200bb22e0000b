"""What gRPC promises its clients, of both servers: grpc.aio's and Lambent's own. The clients are grpcio's."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import structlog.testing
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from lambent_chassis import grpc_options
from lambent_frontend.calling import Calling
from lambent_frontend.fleet import Fleet
from lambent_frontend.grpc_door.server import OwnServer
from lambent_frontend.guard import Guard
from lambent_frontend.invoker import Invoker
from lambent_frontend.remembered import Remembered
from lambent_frontend.server import PublicServer
from lambent_frontend.service import Invocations
from lambent_frontend.tls import PublicTls
from lambent_proto.access import AccessKey, Rule
from lambent_proto.errors import LostWithWorker, NotReady, Throttled
from lambent_proto.ids import MAX_PAYLOAD_BYTES
from lambent_proto.status import from_rpc
from lambent_proto.v1 import invoke_pb2, invoke_pb2_grpc
from tests.unit import scripted
from tests.unit.scripted import FRONTEND, AnyFunction, NoStore, ScriptedDispatcher, serving

pytestmark = pytest.mark.usefixtures("door")

WITHIN_S = 30.0


@pytest.fixture
def dispatcher() -> ScriptedDispatcher:
    return ScriptedDispatcher()


@pytest.fixture
async def address(door: str, dispatcher: ScriptedDispatcher) -> AsyncIterator[str]:
    async with serving(dispatcher) as address:
        yield address


@pytest.fixture
async def channel(address: str) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(address, options=grpc_options.CHANNEL) as channel:
        yield channel


def request(name: str = "echo", payload: bytes = b"{}") -> invoke_pb2.InvokeRequest:
    return invoke_pb2.InvokeRequest(function_name=name, payload=payload)


async def test_a_deadline_ends_the_call_on_both_sides(channel: Any, dispatcher: ScriptedDispatcher) -> None:
    """The client is told in time, and what was in line for it leaves."""
    stub = invoke_pb2_grpc.InvocationsStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.Invoke(request("held"), timeout=0.3)
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await dispatcher.until(lambda: len(dispatcher.abandoned) == 1)


async def test_a_cancelled_call_leaves_the_line(channel: Any, dispatcher: ScriptedDispatcher) -> None:
    """Of unary calls, of an answer in parts, and of a stream with all that is in flight on it."""
    stub = invoke_pb2_grpc.InvocationsStub(channel)
    unary, parts = stub.Invoke(request("held")), stub.InvokeWithResponseStream(request("held"))
    stream = stub.InvokeStream()
    several = [invoke_pb2.StreamedInvocation(id=number, request=request("held")) for number in range(3)]
    await stream.write(invoke_pb2.InvokeStreamRequest(invocations=several))
    reading = asyncio.ensure_future(parts.read())
    await dispatcher.until(lambda: len(dispatcher.held) == 5)
    for call in (unary, parts, stream):
        call.cancel()
    await dispatcher.until(lambda: len(dispatcher.abandoned) == 5)
    await asyncio.wait([reading])
    reading.cancel()
    assert (await stub.Invoke(request())).payload == b"{}"


@pytest.mark.parametrize("door", ["own"], indirect=True)  # grpcio's never answers
async def test_what_is_cancelled_in_the_frontend_may_have_run(
    channel: Any, dispatcher: ScriptedDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No client takes it for what never ran, which it would send again."""

    def submit(*_: object) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(dispatcher, "submit", submit)
    stub = invoke_pb2_grpc.InvocationsStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.Invoke(request(), timeout=WITHIN_S)
    assert isinstance(from_rpc(failed.value), LostWithWorker)


async def test_a_client_that_is_gone_leaves_the_line(address: str, dispatcher: ScriptedDispatcher) -> None:
    """All that it had under way."""
    async with grpc.aio.insecure_channel(address, options=grpc_options.CHANNEL) as channel:
        stub = invoke_pb2_grpc.InvocationsStub(channel)
        under_way = [stub.Invoke(request("held")) for _ in range(20)]
        await dispatcher.until(lambda: len(dispatcher.held) == 20)
    await dispatcher.until(lambda: len(dispatcher.abandoned) == 20)
    assert all(call.done() for call in under_way)
    del under_way
    gc.collect()


async def test_six_megabytes_go_both_ways(channel: Any) -> None:
    """Several at once, each more than any window is at first."""
    stub = invoke_pb2_grpc.InvocationsStub(channel)
    payloads = [bytes([65 + number]) * (MAX_PAYLOAD_BYTES - 2) for number in range(4)]
    answers = await asyncio.gather(*(stub.Invoke(request(payload=b'"' + it + b'"')) for it in payloads))
    assert [answer.payload[1:-1] for answer in answers] == payloads


@pytest.mark.parametrize("door", ["own"], indirect=True)
async def test_what_there_is_no_room_for_may_be_sent_again(
    door: str, dispatcher: ScriptedDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never ran, and is not too large by itself."""
    monkeypatch.setattr("lambent_frontend.server.OwnServer", partial(OwnServer, most_held=1000))
    async with (
        serving(dispatcher) as address,
        grpc.aio.insecure_channel(address, options=grpc_options.CHANNEL) as channel,
    ):
        stub = invoke_pb2_grpc.InvocationsStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.Invoke(request(payload=b"1" * 2000), timeout=WITHIN_S)
        assert isinstance(from_rpc(failed.value), NotReady)
        assert (await stub.Invoke(request(), timeout=WITHIN_S)).payload == b"{}"
    assert len(dispatcher.calls) == 1


@pytest.mark.parametrize("door", ["own"], indirect=True)
async def test_one_client_leaves_room_to_others(
    door: str, dispatcher: ScriptedDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an address, where nobody is asked, or a key: half of all is what its messages may have."""
    monkeypatch.setattr("lambent_frontend.server.OwnServer", partial(OwnServer, most_held=1_000_000))
    async with (
        serving(dispatcher) as address,
        grpc.aio.insecure_channel(address, options=grpc_options.CHANNEL) as channel,
    ):
        stub = invoke_pb2_grpc.InvocationsStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.Invoke(request(payload=b"1" * 600_000), timeout=WITHIN_S)
        assert isinstance(from_rpc(failed.value), NotReady)
        large = await stub.Invoke(request(payload=b"1" * 400_000), timeout=WITHIN_S)
        assert len(large.payload) == 400_000


@pytest.mark.parametrize("door", ["own"], indirect=True)
@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_nothing_large_is_kept_of_strangers(
    door: str,
    dispatcher: ScriptedDispatcher,
    compression: grpc.Compression,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither bytes, nor what they unpack to: they hear so, whatever room there is; others are served."""
    unpacked: list[object] = []

    def beside(_: OwnServer, work: Callable[[], bytes]) -> Awaitable[bytes]:
        unpacked.append(work)
        return asyncio.to_thread(work)

    monkeypatch.setattr(OwnServer, "beside", beside)
    known = AccessKey(id="known", secret="secret", rules=(Rule(("*",), ("*",)),))
    large = request(payload=b"1" * 3_000_000)
    options = grpc_options.CHANNEL
    async with (
        serving(dispatcher, guard=Guard(scripted.Known(known))) as address,
        grpc.aio.insecure_channel(address, options=options, compression=compression) as channel,
    ):
        stub = invoke_pb2_grpc.InvocationsStub(channel)
        with structlog.testing.capture_logs() as logs, pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.Invoke(large, timeout=WITHIN_S)
        assert failed.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert not unpacked
        told = {(it["event"], it.get("method"), it.get("reason")) for it in logs}
        assert ("stranger_refused", "/lambent.v1.Invocations/Invoke", "NO_CREDENTIALS") in told
        bearer = (("authorization", f"Bearer {known.token}"),)
        answer = await stub.Invoke(large, metadata=bearer, timeout=WITHIN_S)
        assert answer.payload == large.payload
        assert bool(unpacked) is (compression is grpc.Compression.Gzip)


@pytest.mark.parametrize("door", ["own"], indirect=True)
async def test_others_are_answered_while_a_large_message_is_unpacked(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long that takes."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def beside(_: OwnServer, work: Callable[[], bytes]) -> bytes:
        begun.set()
        await go_on.wait()
        return work()

    monkeypatch.setattr(OwnServer, "beside", beside)
    payload = b"1" * 3_000_000
    async with (
        grpc.aio.insecure_channel(address, compression=grpc.Compression.Gzip) as packing,
        grpc.aio.insecure_channel(address) as channel,
    ):
        large = invoke_pb2_grpc.InvocationsStub(packing).Invoke(request(payload=payload), timeout=WITHIN_S)
        unpacking = asyncio.ensure_future(large)
        await begun.wait()
        assert (await invoke_pb2_grpc.InvocationsStub(channel).Invoke(request())).payload == b"{}"
        go_on.set()
        assert (await unpacking).payload == payload


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_requests_may_be_compressed(address: str, compression: grpc.Compression) -> None:
    """Unary and streamed."""
    payload = b'"' + b"a" * 200_000 + b'"'
    options = grpc_options.CHANNEL
    async with grpc.aio.insecure_channel(address, options=options, compression=compression) as channel:
        stub: Any = invoke_pb2_grpc.InvocationsStub(channel)
        assert (await stub.Invoke(request(payload=payload))).payload == payload
        stream = stub.InvokeStream()
        item = invoke_pb2.StreamedInvocation(id=1, request=request(payload=payload))
        await stream.write(invoke_pb2.InvokeStreamRequest(invocations=[item]))
        answer: Any = await stream.read()
        assert answer.results[0].response.payload == payload
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF


async def test_an_error_says_all_of_itself(channel: Any, dispatcher: ScriptedDispatcher) -> None:
    """Its code, its message in any script, its details, its metadata."""
    said = "zu viele Aufrufe: 100 % — später, \x07 日本\n"
    dispatcher.errors["full"] = Throttled(said)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await invoke_pb2_grpc.InvocationsStub(channel).Invoke(request("full"))
    assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failed.value.details() == said
    status = rpc_status.from_call(failed.value)
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.reason == Throttled.reason
    trailing = dict(failed.value.trailing_metadata() or ())
    assert trailing["lambent-request-id"] == info.metadata["request_id"]


async def test_what_is_not_there_is_said_so(channel: Any) -> None:
    """A method and a service that nobody has."""
    for path in ("/lambent.v1.Invocations/Nothing", "/nobody/Nothing"):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await channel.unary_unary(path)(b"")
        assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_message_that_is_none_is_refused(door: str, channel: Any) -> None:
    """Bytes that are no protobuf end the call, and no other. It is no fault of the frontend's."""
    raw = channel.unary_unary("/lambent.v1.Invocations/Invoke")
    with structlog.testing.capture_logs() as logs, pytest.raises(grpc.aio.AioRpcError) as failed:
        await raw(b"\xff\xff\xff")
    assert failed.value.code() in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)
    if door == "own":  # grpcio's has it for one
        assert failed.value.code() is grpc.StatusCode.INTERNAL
        assert "request_failed" not in [it["event"] for it in logs]
    assert (await invoke_pb2_grpc.InvocationsStub(channel).Invoke(request())).payload == b"{}"


async def test_a_slow_reader_makes_the_writer_wait(address: str, dispatcher: ScriptedDispatcher) -> None:
    """And others go on meanwhile; then all of it comes, in order."""
    # Else the client opens its windows by megabytes, as it finds the network fast.
    options = (*grpc_options.CHANNEL, ("grpc.http2.bdp_probe", 0))
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub = invoke_pb2_grpc.InvocationsStub(channel)
        call: Any = stub.InvokeWithResponseStream(request("held"))
        await dispatcher.until(lambda: len(dispatcher.held) == 1)
        dispatcher.begin()
        parts = [bytes([number]) * 100_000 for number in range(200)]
        dispatcher.write(*parts)
        assert (await call.read()).HasField("begun")
        for _ in range(20):
            assert (await stub.Invoke(request())).payload == b"{}"
        assert dispatcher.taken_bytes < 15_000_000
        dispatcher.end()
        seen = b""
        while (message := await call.read()) is not grpc.aio.EOF and message.HasField("part"):
            seen += message.part
        assert seen == b"".join(parts)


async def test_a_thousand_calls_at_once(channel: Any, dispatcher: ScriptedDispatcher) -> None:
    """On one connection, each with its own answer."""
    stub = invoke_pb2_grpc.InvocationsStub(channel)
    calls = [stub.Invoke(request("held", b'"%d"' % number)) for number in range(1_000)]
    await dispatcher.until(lambda: len(dispatcher.held) == 1_000)
    for number in reversed(range(1_000)):
        dispatcher.release(b'"%d"' % number)
    answers = await asyncio.gather(*calls)
    assert [answer.payload for answer in answers] == [b'"%d"' % number for number in range(1_000)]


async def test_threads_of_the_other_client_are_answered_too(address: str) -> None:
    """grpcio without asyncio."""

    def call_some() -> list[bytes]:
        with grpc.insecure_channel(address) as channel:
            stub = invoke_pb2_grpc.InvocationsStub(channel)
            return [stub.Invoke(request(payload=b"%d" % number)).payload for number in range(50)]

    results = await asyncio.gather(*(asyncio.to_thread(call_some) for _ in range(4)))
    assert results == [[b"%d" % number for number in range(50)]] * 4


def public(dispatcher: ScriptedDispatcher) -> PublicServer:
    none = (scripted.NoFunctions(), scripted.NoVersions(), scripted.NoLayers())
    return PublicServer(
        Invocations(Calling(Invoker(AnyFunction(), dispatcher, waiting_s=1))),
        *none,
        Fleet(lambda: [""], Remembered(dispatcher, FRONTEND), NoStore()),
        scripted.NoLimits(),
        scripted.NoPolicies(),
        scripted.NoUrls(),
        scripted.NoAsyncInvocations(),
        scripted.NoSchedules(),
        scripted.NoTriggers(),
        Guard(None),
        own=scripted.OWN,
    )


@pytest.mark.parametrize("mutual", [False, True])
async def test_tls(dispatcher: ScriptedDispatcher, certificate: tuple[Path, Path], mutual: bool) -> None:
    """Calls, health and reflection over it; where callers have to have a certificate, no other is served."""
    cert, key = certificate
    server = public(dispatcher)
    port = await server.start("127.0.0.1:0", PublicTls(cert, key, cert if mutual else None))
    chain = cert.read_bytes()
    nobody = grpc.ssl_channel_credentials(chain)
    known = grpc.ssl_channel_credentials(chain, key.read_bytes(), chain) if mutual else nobody
    async with grpc.aio.secure_channel(f"localhost:{port}", known, options=grpc_options.CHANNEL) as channel:
        payload = b"1" * 1_000_000
        stub = invoke_pb2_grpc.InvocationsStub(channel)
        assert (await stub.Invoke(request(payload=payload), timeout=WITHIN_S)).payload == payload
        health = health_pb2_grpc.HealthStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest(), timeout=WITHIN_S)).status
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        listed: Any = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([asked]))
        names = {service.name for service in (await listed.read()).list_services_response.service}
        assert {"lambent.v1.Invocations", "grpc.health.v1.Health"} <= names
        listed.cancel()
    if mutual:
        async with grpc.aio.secure_channel(f"localhost:{port}", nobody) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await invoke_pb2_grpc.InvocationsStub(channel).Invoke(request(), timeout=WITHIN_S)
    await server.stop(0)


async def test_what_is_under_way_is_answered_when_it_stops(dispatcher: ScriptedDispatcher) -> None:
    """Under load: each call is answered, or is known not to have been taken; what it took it answers."""
    server = public(dispatcher)
    port = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=grpc_options.CHANNEL) as channel:
        stub = invoke_pb2_grpc.InvocationsStub(channel)
        held = [stub.Invoke(request("held", b'"%d"' % number)) for number in range(50)]
        await dispatcher.until(lambda: len(dispatcher.held) == 50)
        answered = asyncio.Event()
        others = [asyncio.create_task(one_after_another(stub, answered)) for _ in range(8)]
        await answered.wait()
        stopping = asyncio.create_task(server.stop(WITHIN_S))
        for number in range(50):
            dispatcher.release(b'"%d"' % number)
        await stopping
        answers = await asyncio.gather(*held)
        assert [answer.payload for answer in answers] == [b'"%d"' % number for number in range(50)]
        assert set(await asyncio.gather(*others)) <= {
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.CANCELLED,
        }
    assert dispatcher.abandoned == []


async def one_after_another(
    stub: "invoke_pb2_grpc.InvocationsAsyncStub", answered: asyncio.Event
) -> grpc.StatusCode:
    """Calls until one fails, and says with what."""
    while True:
        try:
            await stub.Invoke(request())
            answered.set()
        except grpc.aio.AioRpcError as error:
            return error.code()


async def test_what_does_not_end_is_given_up(dispatcher: ScriptedDispatcher) -> None:
    """After the grace its caller hears of it, and it leaves the line."""
    server = public(dispatcher)
    port = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = invoke_pb2_grpc.InvocationsStub(channel).Invoke(request("held"))
        await dispatcher.until(lambda: len(dispatcher.held) == 1)
        async with asyncio.timeout(WITHIN_S):
            await server.stop(0.1)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call
    assert failed.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    await dispatcher.until(lambda: len(dispatcher.abandoned) == 1)
