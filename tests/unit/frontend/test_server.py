"""Generic gRPC tools find their way: health, reflection; and a taken port is an error."""

import asyncio

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from lambent.client import Client
from lambent_frontend.calling import Calling
from lambent_frontend.fleet import Fleet
from lambent_frontend.guard import Guard
from lambent_frontend.invoker import Invoker
from lambent_frontend.remembered import Remembered
from lambent_frontend.server import SERVICES, PublicServer
from lambent_frontend.service import Invocations
from lambent_proto.errors import NotReady
from tests.unit import scripted
from tests.unit.scripted import (
    FRONTEND,
    AnyFunction,
    NoAsyncInvocations,
    NoFunctions,
    NoLayers,
    NoLimits,
    NoPolicies,
    NoSchedules,
    NoStore,
    NoTriggers,
    NoUrls,
    NoVersions,
    ScriptedDispatcher,
    serving,
)

pytestmark = pytest.mark.usefixtures("door")


def server() -> PublicServer:
    dispatcher = ScriptedDispatcher()
    invocations = Invocations(Calling(Invoker(AnyFunction(), dispatcher, waiting_s=1)))
    return serving_all(invocations, Fleet(lambda: [""], Remembered(dispatcher, FRONTEND), NoStore()))


def serving_all(invocations: Invocations, fleet: Fleet) -> PublicServer:
    functions, versions, layers, limits = NoFunctions(), NoVersions(), NoLayers(), NoLimits()
    return PublicServer(
        invocations,
        functions,
        versions,
        layers,
        fleet,
        limits,
        NoPolicies(),
        NoUrls(),
        NoAsyncInvocations(),
        NoSchedules(),
        NoTriggers(),
        Guard(None),
        own=scripted.OWN,
    )


async def test_who_takes_no_more_says_so() -> None:
    """A call that comes then is refused as one that never ran, and reaches nobody."""
    dispatcher = ScriptedDispatcher()
    invocations = Invocations(Calling(Invoker(AnyFunction(), dispatcher, waiting_s=1)))
    fleet = Fleet(lambda: [""], Remembered(dispatcher, FRONTEND), NoStore())
    stopping = serving_all(invocations, fleet)
    async with Client(f"127.0.0.1:{await stopping.start('127.0.0.1:0')}") as client:
        assert (await client.invoke("echo", {})).json() == {}
        async with client.stream() as stream:
            assert (await stream.invoke("echo", {})).json() == {}
            invocations.take_no_more()
            for invoke in (client.invoke, stream.invoke):
                with pytest.raises(NotReady, match="being stopped"):
                    await invoke("echo", {})
    await stopping.stop(0)
    assert len(dispatcher.calls) == 2


async def test_a_stream_ends_with_what_was_taken_of_it_answered() -> None:
    """Of a stopping frontend: what runs is waited for, what came later never ran, and is known not to."""
    dispatcher = ScriptedDispatcher()
    invocations = Invocations(Calling(Invoker(AnyFunction(), dispatcher, waiting_s=1)))
    fleet = Fleet(lambda: [""], Remembered(dispatcher, FRONTEND), NoStore())
    stopping = serving_all(invocations, fleet)
    async with Client(f"127.0.0.1:{await stopping.start('127.0.0.1:0')}", retries=0) as client:
        with pytest.raises(TypeError):
            await client.invoke("echo", object())  # is not sent, and so not counted
        taken = asyncio.create_task(client.invoke("held", b"1"))
        await dispatcher.until(lambda: len(dispatcher.held) == 1)
        invocations.take_no_more()
        later = asyncio.create_task(client.invoke("echo", b"2"))
        await asyncio.sleep(0)  # it is written into the stream that is read no more
        with pytest.raises(NotReady, match="did not take"):
            await later
        dispatcher.release(b"1")
        assert (await taken).payload == b"1"
        with pytest.raises(NotReady, match="being stopped"):
            await client.invoke("echo", b"3")
    await stopping.stop(0)
    assert [call.payload for call in dispatcher.calls] == [b"1"]


async def test_a_tool_that_knows_nothing_can_call_a_function() -> None:
    """Over reflection alone: list the services, learn the messages, invoke."""
    async with serving(ScriptedDispatcher()) as address:
        assert await asyncio.to_thread(invoke_by_reflection, address) == b'{"a":1}'


def invoke_by_reflection(address: str) -> bytes:
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert set(SERVICES) < set(database.get_services())
        pool = DescriptorPool(database)
        method = pool.FindServiceByName("lambent.v1.Invocations").FindMethodByName("Invoke")
        request = GetMessageClass(method.input_type)(function_name="echo", payload=b'{"a":1}')
        call: grpc.UnaryUnaryMultiCallable[Message, Message] = channel.unary_unary(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        response = call(request, timeout=10)
        payload: bytes = getattr(response, "payload")  # noqa: B009 - its class is known at run time only
        return payload


@pytest.mark.parametrize("service", ["", *SERVICES])
async def test_health_follows_readiness(service: str) -> None:
    """Not serving until told, serving then, and not serving once it stops."""
    public = server()
    port = await public.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=service)
        watch = health.Watch(request)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await public.set_ready(True)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
        stopping = asyncio.create_task(public.stop(5))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        await stopping


async def test_a_taken_port_is_an_error() -> None:
    """Two frontends never share a port without knowing."""
    async with serving(ScriptedDispatcher()) as address:
        other = server()
        with pytest.raises(OSError, match="cannot listen on 127"):
            await other.start(address)
        await other.stop(0)
