"""Who may call which gRPC method: every method is asked for, and what is refused reaches nobody."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lambent.client import Client
from lambent_frontend.guard import _NEEDS, MAX_LOGGED, Guard
from lambent_frontend.server import SERVICES
from lambent_proto.access import ACTIONS, AccessKey, Rule, new_access_key
from lambent_proto.errors import AccessDenied, LambentError, NoCredentials, UnknownKey
from lambent_proto.v1 import (
    async_invocations_pb2,
    fleet_pb2,
    functions_pb2,
    invoke_pb2,
    invoke_pb2_grpc,
    layers_pb2,
    limits_pb2,
    policies_pb2,
    schedules_pb2,
    triggers_pb2,
    urls_pb2,
    versions_pb2,
)
from tests.unit.scripted import Known, ScriptedDispatcher, serving

pytestmark = pytest.mark.usefixtures("door")

FILES = (
    *(invoke_pb2, functions_pb2, versions_pb2, layers_pb2, fleet_pb2, limits_pb2, policies_pb2),
    *(urls_pb2, async_invocations_pb2, schedules_pb2, triggers_pb2),
)

G = "arn:aws:lambda:us-east-1:000000000000:function:g"


def key(*rules: str) -> AccessKey:
    return new_access_key(map(Rule.parse, rules), "tests", 0.0)


def test_every_method_of_every_service_has_its_row() -> None:
    services = [file.DESCRIPTOR.services_by_name.values() for file in FILES]
    methods = [method.name for several in services for service in several for method in service.methods]
    assert sorted(methods) == sorted(_NEEDS)
    assert len(SERVICES) == len(FILES)


@pytest.mark.parametrize(
    ("method", "request_", "needed"),
    [
        ("CreateFunction", functions_pb2.CreateFunctionRequest(name="f"), [("CreateFunction", "f")]),
        (
            "CreateFunction",
            functions_pb2.CreateFunctionRequest(
                name="f", configuration=functions_pb2.Configuration(concurrency=functions_pb2.Concurrency())
            ),
            [("CreateFunction", "f"), ("PutFunctionConcurrency", "f")],
        ),
        (
            "UpdateFunction",
            functions_pb2.UpdateFunctionRequest(name="f", zip_file=b"z"),
            [("UpdateFunctionCode", "f")],
        ),
        (
            "UpdateFunction",
            functions_pb2.UpdateFunctionRequest(name="f"),
            [("UpdateFunctionConfiguration", "f")],
        ),
        (
            "UpdateFunction",
            functions_pb2.UpdateFunctionRequest(
                name="f", zip_file=b"z", configuration=functions_pb2.Configuration(memory_mb=256)
            ),
            [("UpdateFunctionCode", "f"), ("UpdateFunctionConfiguration", "f")],
        ),
        (
            "UpdateFunction",
            functions_pb2.UpdateFunctionRequest(
                name="f",
                configuration=functions_pb2.Configuration(concurrency=functions_pb2.Concurrency(limit=1)),
            ),
            [("PutFunctionConcurrency", "f")],
        ),
        (
            "CreateFunction",
            functions_pb2.CreateFunctionRequest(
                name="f",
                publish=True,
                configuration=functions_pb2.Configuration(
                    layers=functions_pb2.LayerList(
                        versions=["l:1", "arn:aws:lambda:x:000000000000:layer:m:2"]
                    ),
                    tags=functions_pb2.TagMap(),
                ),
            ),
            [
                ("CreateFunction", "f"),
                ("TagResource", "f"),
                ("PublishVersion", "f"),
                ("GetLayerVersion", "layer:l"),
                ("GetLayerVersion", "layer:m"),
            ],
        ),
        (
            "UpdateFunction",
            functions_pb2.UpdateFunctionRequest(name="f", zip_file=b"z", publish=True),
            [("UpdateFunctionCode", "f"), ("PublishVersion", "f")],
        ),
        (
            "UpdateFunction",
            functions_pb2.UpdateFunctionRequest(name="f", add_tags={"a": ""}),
            [("TagResource", "f")],
        ),
        (
            "UpdateFunction",
            functions_pb2.UpdateFunctionRequest(name="f", remove_tags=["a"]),
            [("UntagResource", "f")],
        ),
        (
            "UpdateFunction",
            functions_pb2.UpdateFunctionRequest(
                name="f", configuration=functions_pb2.Configuration(tags=functions_pb2.TagMap())
            ),
            [("TagResource", "f"), ("UntagResource", "f")],
        ),
        ("GetFunction", functions_pb2.GetFunctionRequest(name="f:live"), [("GetFunction", "f")]),
        ("ListFunctions", functions_pb2.ListFunctionsRequest(), [("ListFunctions", "")]),
        (
            "PublishVersion",
            versions_pb2.PublishVersionRequest(function_name="f"),
            [("PublishVersion", "f")],
        ),
        (
            "GetLayerVersion",
            layers_pb2.GetLayerVersionRequest(name="l"),
            [("GetLayerVersion", "layer:l")],
        ),
        (
            "CancelAsyncInvocation",
            async_invocations_pb2.CancelAsyncInvocationRequest(function_name="f"),
            [("CancelAsyncInvocation", "f")],
        ),
        (
            "PutEventInvokeConfig",
            async_invocations_pb2.PutEventInvokeConfigRequest(
                function_name="f",
                settings=async_invocations_pb2.EventInvoke(on_failure=G, on_success="nats://x/y"),
            ),
            [("PutFunctionEventInvokeConfig", "f"), ("InvokeFunction", "g")],
        ),
        (
            "CreateFunction",
            functions_pb2.CreateFunctionRequest(
                name="f", configuration=functions_pb2.Configuration(dead_letter=G)
            ),
            [("CreateFunction", "f"), ("InvokeFunction", "g")],
        ),
        (
            "UpdateFunction",
            functions_pb2.UpdateFunctionRequest(name="f", stored_zip="uploads/f.zip"),
            [("UpdateFunctionCode", "f")],
        ),
        (
            "CreateTrigger",
            triggers_pb2.CreateTriggerRequest(function_name="f:live"),
            [("CreateEventSourceMapping", "f")],
        ),
        (
            "CreateTrigger",
            triggers_pb2.CreateTriggerRequest(
                function_name="f",
                settings=triggers_pb2.TriggerSettings(
                    on_failure="arn:aws:lambda:us-east-1:000000000000:function:g:live"
                ),
            ),
            [("CreateEventSourceMapping", "f"), ("InvokeFunction", "g")],
        ),
        (
            "UpdateTrigger",
            triggers_pb2.UpdateTriggerRequest(id="i", function_name="f"),
            [("UpdateEventSourceMapping", "")],
        ),
        (
            "UpdateTrigger",
            triggers_pb2.UpdateTriggerRequest(id="i", settings=triggers_pb2.TriggerSettings(on_failure=G)),
            [("UpdateEventSourceMapping", ""), ("InvokeFunction", "g")],
        ),
        (
            "UpdateSchedule",
            schedules_pb2.UpdateScheduleRequest(name="s"),
            [("UpdateSchedule", "schedule:s")],
        ),
        ("ListSchedules", schedules_pb2.ListSchedulesRequest(), [("ListSchedules", "")]),
        ("DrainNode", fleet_pb2.DrainNodeRequest(node="n"), [("DrainNode", "")]),
        ("ListInstances", fleet_pb2.ListInstancesRequest(), [("ListInstances", "")]),
    ],
)
def test_what_a_request_needs(method: str, request_: object, needed: list[tuple[str, str]]) -> None:
    assert list(_NEEDS[method](request_)) == needed
    assert {action for action, _ in needed} <= ACTIONS


async def test_without_a_key_nothing_is_answered_but_health() -> None:
    dispatcher = ScriptedDispatcher()
    async with serving(dispatcher, guard=Guard(Known())) as address:
        async with Client(address) as client:
            for asked in (client.invoke("echo", {}), client.list_functions(), client.nodes()):
                with pytest.raises(NoCredentials):
                    await asked
            async with client.stream() as stream:
                with pytest.raises(NoCredentials):
                    await stream.invoke("echo", {})
            with pytest.raises(NoCredentials):
                await whole(client, "echo")
        async with grpc.aio.insecure_channel(address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            answered = await health.Check(health_pb2.HealthCheckRequest(), timeout=10)
            assert answered.status == health_pb2.HealthCheckResponse.SERVING
            method: Any = channel.unary_unary(
                "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
            )
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await method(b"", timeout=10)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert dispatcher.calls == []


@pytest.mark.parametrize(
    "token", ["x", "x.y", "{id}", "{id}.", "{id}.{secret}x", "{id}.{id}", ".{secret}", "ü.ü"]
)
async def test_a_wrong_token_is_refused(token: str) -> None:
    one = key("*")
    given = token.format(id=one.id, secret=one.secret)
    with pytest.raises(UnknownKey):
        Known(one).bearer(f"Bearer {given}")


@pytest.mark.parametrize("authorization", ["", "Basic abc", "Bearer", "AWS4-HMAC-SHA256 Credential=x"])
def test_what_is_no_token_is_no_credential(authorization: str) -> None:
    with pytest.raises(NoCredentials):
        Known().bearer(authorization)


async def test_a_key_calls_what_it_may_and_nothing_else() -> None:
    dispatcher = ScriptedDispatcher()
    one = key("InvokeFunction@echo")
    async with (
        serving(dispatcher, guard=Guard(Known(one))) as address,
        Client(address, access_key=one.token) as client,
        client.stream() as stream,
    ):
        for invoke in (client.invoke, stream.invoke):
            assert (await invoke("echo", {"a": 1})).json() == {"a": 1}
            for other in ("failing", "echo2", "nobody:live"):
                with pytest.raises(AccessDenied, match=f"InvokeFunction@{other.partition(':')[0]}'"):
                    await invoke(other, {})
            assert (await invoke("echo:live", {"a": 2})).json() == {"a": 2}
        with pytest.raises(AccessDenied, match="DeleteFunction"):
            await client.delete_function("echo")
    assert [call.definition.name for call in dispatcher.calls] == ["echo"] * 4
    assert {call.caller for call in dispatcher.calls} == {one.id}


async def test_a_call_that_is_no_stream_s_is_asked_for_as_well() -> None:
    """Lambent's own client sends its calls over a stream; any other may call Invoke."""
    dispatcher = ScriptedDispatcher()
    one = key("InvokeFunction@echo")
    known = Known(one)
    bearer = (("authorization", f"Bearer {one.token}"),)
    async with serving(dispatcher, guard=Guard(known)) as address, grpc.aio.insecure_channel(address) as to:
        stub: Any = invoke_pb2_grpc.InvocationsStub(to)

        async def code_of(name: str) -> object:
            call = stub.Invoke(invoke_pb2.InvokeRequest(function_name=name), metadata=bearer, timeout=10)
            return await call.code()

        assert await code_of("echo:live") is grpc.StatusCode.OK
        assert await code_of("failing") is grpc.StatusCode.PERMISSION_DENIED
        known.forget(one)
        assert await code_of("echo") is grpc.StatusCode.UNAUTHENTICATED
    assert [(call.definition.name, call.caller) for call in dispatcher.calls] == [("echo", one.id)]


async def whole(client: Client, name: str) -> bytes:
    """An answer that was taken in parts."""
    async with client.invoke_with_response_stream(name, {}) as answer:
        return b"".join([part async for part in answer])


async def test_an_answer_in_parts_takes_the_right_to_invoke() -> None:
    dispatcher = ScriptedDispatcher()
    one = key("InvokeFunction@echo")
    known = Known(one)
    async with (
        serving(dispatcher, guard=Guard(known)) as address,
        Client(address, access_key=one.token) as client,
    ):
        assert await whole(client, "echo:live") == b"{}"
        with pytest.raises(AccessDenied, match="InvokeFunction@failing'"):
            await whole(client, "failing")
        known.forget(one)
        with pytest.raises(UnknownKey):
            await whole(client, "echo")
    assert [call.definition.name for call in dispatcher.calls] == ["echo"]


async def test_a_deleted_key_is_refused_on_a_connection_that_it_opened() -> None:
    one = key("*")
    known = Known(one)
    async with (
        serving(ScriptedDispatcher(), guard=Guard(known)) as address,
        Client(address, access_key=one.token) as client,
        client.stream() as stream,
    ):
        for invoke in (client.invoke, stream.invoke):
            assert (await invoke("echo", {})).json() == {}
        known.forget(one)
        for invoke in (client.invoke, stream.invoke):
            with pytest.raises(UnknownKey):
                await invoke("echo", {})


async def audited(logs: list[MutableMapping[str, Any]], count: int) -> list[MutableMapping[str, Any]]:
    """The lines of changes, once so many are there: a caller may have its answer a moment sooner."""
    async with asyncio.timeout(20):
        while len(lines := [it for it in logs if it["event"] == "audit"]) < count:  # noqa: ASYNC110
            await asyncio.sleep(0)  # the log tells nobody
    return lines


async def test_each_change_leaves_a_line_and_no_secret() -> None:
    one = key("DeleteFunction@f")
    with structlog.testing.capture_logs() as logs:
        async with (
            serving(ScriptedDispatcher(), guard=Guard(Known(one))) as address,
            Client(address, access_key=one.token) as client,
        ):
            for refused in (client.delete_function("f"), client.delete_function("g")):
                with pytest.raises(LambentError):
                    await refused
            lines = await audited(logs, 2)
    assert [(it["action"], it["resource"], it["access_key"], it["outcome"]) for it in lines] == [
        ("DeleteFunction", "f", one.id, "failed"),
        ("DeleteFunction", "g", one.id, "failed"),
    ]
    assert one.secret not in str(logs)


async def test_a_name_that_is_none_does_not_fill_the_log() -> None:
    """A stranger's line is written as well, and of no more than a name could be."""
    with structlog.testing.capture_logs() as logs:
        async with serving(ScriptedDispatcher(), guard=Guard(Known())) as address, Client(address) as client:
            with pytest.raises(NoCredentials):
                await client.delete_function("f" * 10_000)
            (line,) = await audited(logs, 1)
    assert line["resource"] == "f" * MAX_LOGGED
    assert (line["access_key"], line["outcome"]) == (None, "failed")
