"""The unary Invoke over a real server: checks, answers, errors, deadlines, cancelling."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from lambent_chassis import grpc_options
from lambent_frontend.core.call import Priority
from lambent_proto.errors import LambentError
from lambent_proto.ids import MAX_PAYLOAD_BYTES
from lambent_proto.status import REQUEST_ID_KEY, code_of, from_rpc, leaves
from lambent_proto.v1 import invoke_pb2, invoke_pb2_grpc
from tests.unit.scripted import WAITING_S, ScriptedDispatcher, serving

if TYPE_CHECKING:
    from lambent_proto.v1.invoke_pb2_grpc import InvocationsAsyncStub as Stub

pytestmark = pytest.mark.usefixtures("door")


@pytest.fixture
def dispatcher() -> ScriptedDispatcher:
    return ScriptedDispatcher()


@pytest.fixture
async def stub(dispatcher: ScriptedDispatcher) -> AsyncIterator["Stub"]:
    async with (
        serving(dispatcher) as address,
        grpc.aio.insecure_channel(address, options=grpc_options.CHANNEL) as channel,
    ):
        yield invoke_pb2_grpc.InvocationsStub(channel)


def request(name: str = "echo", payload: bytes = b"{}", **fields: object) -> invoke_pb2.InvokeRequest:
    return invoke_pb2.InvokeRequest(function_name=name, payload=payload, **fields)  # type: ignore[arg-type]


async def failure(
    call: grpc.aio.UnaryUnaryCall[invoke_pb2.InvokeRequest, invoke_pb2.InvokeResponse],
) -> LambentError:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    error = from_rpc(failed.value)
    assert code_of(error) is failed.value.code()
    return error


async def test_an_answer_brings_all_that_is_known(stub: "Stub", dispatcher: ScriptedDispatcher) -> None:
    """Payload, version, log, explanation, and a request id that is in the trailing metadata too."""
    call = stub.Invoke(request(payload=b"\x00any bytes", log_type=invoke_pb2.LOG_TYPE_TAIL))
    response = await call
    assert response == invoke_pb2.InvokeResponse(
        payload=b"\x00any bytes",
        executed_version="$LATEST",
        request_id=dispatcher.calls[0].request_id,
        log_tail=b"END",
        explanation=invoke_pb2.Explanation(
            start="warm",
            reason="idle",
            node="n1",
            isolation="namespaces",
            instance="i-1",
            waiting_ms=1,
            running_ms=2,
        ),
    )
    trailing = dict(await call.trailing_metadata())
    assert trailing[REQUEST_ID_KEY] == response.request_id


TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
PARENT = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"
OTHER = "Root=1-00000000-000000000000000000000001;Parent=53995c3f42cd8ad8;Sampled=0"


@pytest.mark.parametrize(
    ("metadata", "field", "given"),
    [
        pytest.param((("traceparent", PARENT),), "", TRACE, id="W3C's metadata"),
        pytest.param((("x-amzn-trace-id", TRACE),), "", TRACE, id="X-Ray's metadata"),
        pytest.param((("x-amzn-trace-id", OTHER), ("traceparent", PARENT)), "", TRACE, id="both"),
        pytest.param((("traceparent", PARENT), ("x-amzn-trace-id", OTHER)), "", TRACE, id="turned round"),
        pytest.param((("x-amzn-trace-id", OTHER),), PARENT, TRACE, id="the request's own goes first"),
        pytest.param((("traceparent", "00-no-trace-01"),), "", "", id="none"),
    ],
)
async def test_the_trace_of_a_call(
    stub: "Stub",
    dispatcher: ScriptedDispatcher,
    metadata: tuple[tuple[str, str], ...],
    field: str,
    given: str,
) -> None:
    await stub.Invoke(request(trace=field), metadata=metadata)
    call = dispatcher.calls[0]
    assert call.given_trace == given
    if not given:
        assert call.trace.startswith(f"Root=1-{call.request_id[:8]}-")


async def test_a_function_s_failure_is_an_answer(stub: "Stub") -> None:
    """The call is OK and says Unhandled."""
    response = await stub.Invoke(request("failing"))
    assert (response.function_error, response.payload) == ("Unhandled", b'{"errorType":"E"}')


async def test_an_empty_payload_means_an_empty_object(stub: "Stub") -> None:
    """As Lambda has it."""
    assert (await stub.Invoke(request(payload=b""))).payload == b"{}"


@pytest.mark.parametrize("leaf", leaves())
async def test_every_error_reaches_the_caller(
    stub: "Stub", dispatcher: ScriptedDispatcher, leaf: type[LambentError]
) -> None:
    """Status, message, ErrorInfo and request id, by which a call that failed can be explained."""
    dispatcher.errors["f"] = leaf("what happened; what to do")
    call = stub.Invoke(request("f"))
    error = await failure(call)
    request_id = dispatcher.calls[0].request_id
    assert (type(error), error.message, error.request_id) == (leaf, "what happened; what to do", request_id)
    rich = await rpc_status.aio.from_call(call)
    info = error_details_pb2.ErrorInfo()
    assert rich.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("lambent", leaf.reason)
    trailing = dict(await call.trailing_metadata())
    assert trailing[REQUEST_ID_KEY] == request_id


async def test_a_long_message_does_not_break_the_status(stub: "Stub", dispatcher: ScriptedDispatcher) -> None:
    """What would not fit the headers is cut; the reason is there."""
    leaf = leaves()[0]
    dispatcher.errors["f"] = leaf("ü" * 20_000)
    error = await failure(stub.Invoke(request("f")))
    assert type(error) is leaf
    assert error.message.startswith("ü" * 500)


@pytest.mark.parametrize("name", ["echo", "echo:$LATEST"])
async def test_a_function_goes_by_its_name_or_latest(stub: "Stub", name: str) -> None:
    """Both are the function as last deployed."""
    assert (await stub.Invoke(request(name))).executed_version == "$LATEST"


@pytest.mark.parametrize("qualifier", ["7", "live"])
async def test_a_version_goes_by_its_number_or_an_alias(
    stub: "Stub", dispatcher: ScriptedDispatcher, qualifier: str
) -> None:
    """The version runs; what the caller named is kept for the function's ARN."""
    assert (await stub.Invoke(request(f"echo:{qualifier}"))).executed_version == "7"
    assert dispatcher.calls[0].qualifier == qualifier


CONTEXT = base64.b64encode(b'{"custom":{"a":1}}').decode()

REFUSED = [
    pytest.param(request("unknown"), "UNKNOWN_FUNCTION", id="no such function"),
    pytest.param(request("echo:8"), "UNKNOWN_FUNCTION", id="no such version"),
    pytest.param(request(""), "UNKNOWN_FUNCTION", id="no name"),
    pytest.param(request(payload=bytes(MAX_PAYLOAD_BYTES + 1)), "PAYLOAD_TOO_LARGE", id="payload"),
    pytest.param(request(client_context="%%%"), "INVALID_REQUEST", id="context not base64"),
    pytest.param(request(client_context="e30"), "INVALID_REQUEST", id="context without padding"),
    pytest.param(
        request(client_context=base64.b64encode(b"{").decode()), "INVALID_REQUEST", id="context not JSON"
    ),
    pytest.param(
        request(client_context=base64.b64encode(b'"' + b"x" * 2700 + b'"').decode()),
        "INVALID_REQUEST",
        id="context too long",
    ),
    pytest.param(request(sticky_key="k" * 257), "INVALID_REQUEST", id="sticky key too long"),
    pytest.param(request(sticky_key="\n"), "INVALID_REQUEST", id="sticky key not printable"),
    pytest.param(request(deadline_s=-1), "INVALID_REQUEST", id="deadline negative"),
    pytest.param(request(deadline_s=float("nan")), "INVALID_REQUEST", id="deadline not a number"),
    pytest.param(request(priority=3), "INVALID_REQUEST", id="no such priority"),
    pytest.param(request(tenant="t" * 257), "INVALID_REQUEST", id="tenant too long"),
    pytest.param(request(tenant="a\nb"), "INVALID_REQUEST", id="tenant that cannot be printed"),
]


@pytest.mark.parametrize(("bad", "reason"), REFUSED)
async def test_a_bad_request_goes_nowhere(
    stub: "Stub", dispatcher: ScriptedDispatcher, bad: invoke_pb2.InvokeRequest, reason: str
) -> None:
    """It is refused before the dispatcher hears of it."""
    error = await failure(stub.Invoke(bad))
    assert error.reason == reason
    assert error.request_id
    assert dispatcher.calls == []


async def test_the_largest_payload_passes(stub: "Stub") -> None:
    """Exactly the limit goes in and comes back."""
    payload = b"x" * MAX_PAYLOAD_BYTES
    assert (await stub.Invoke(request(payload=payload))).payload == payload


async def test_a_client_context_is_handed_on(stub: "Stub", dispatcher: ScriptedDispatcher) -> None:
    """As it came, in base64."""
    await stub.Invoke(request(client_context=CONTEXT))
    assert dispatcher.calls[0].client_context == CONTEXT


@pytest.mark.parametrize(
    ("asked", "priority", "tenant"),
    [
        pytest.param(request(), Priority.NORMAL, "", id="neither is given"),
        pytest.param(request(priority=invoke_pb2.PRIORITY_HIGH), Priority.HIGH, "", id="high"),
        pytest.param(request(priority=invoke_pb2.PRIORITY_LOW), Priority.LOW, "", id="low"),
        pytest.param(request(tenant="ü" * 256), Priority.NORMAL, "ü" * 256, id="the longest tenant"),
        pytest.param(request(tenant="team a"), Priority.NORMAL, "team a", id="a tenant with a space"),
    ],
)
async def test_priority_and_tenant_are_handed_on(
    stub: "Stub",
    dispatcher: ScriptedDispatcher,
    asked: invoke_pb2.InvokeRequest,
    priority: Priority,
    tenant: str,
) -> None:
    """As the caller gave them; a call without is of the normal class and of the tenant without a name."""
    await stub.Invoke(asked)
    assert (dispatcher.calls[0].priority, dispatcher.calls[0].tenant) == (priority, tenant)


@pytest.mark.parametrize(
    ("asked_s", "rpc_s", "least", "most"),
    [
        pytest.param(0, None, WAITING_S + 3, WAITING_S + 3, id="the fleet's waiting time and the timeout"),
        pytest.param(5, None, 5, 5, id="what the caller asks"),
        pytest.param(500, None, WAITING_S + 3, WAITING_S + 3, id="no more than the fleet allows"),
        pytest.param(0, 4, 2, 4.1, id="the deadline of the RPC"),
        pytest.param(2, 8, 2, 2, id="whichever is sooner"),
    ],
)
async def test_the_soonest_deadline_counts(
    stub: "Stub",
    dispatcher: ScriptedDispatcher,
    asked_s: float,
    rpc_s: float | None,
    least: float,
    most: float,
) -> None:
    """Of the request's, the RPC's and the fleet's."""
    await stub.Invoke(request(deadline_s=asked_s), timeout=rpc_s)
    assert least <= dispatcher.calls[0].deadline_s <= most


async def test_a_client_that_cancels_abandons_its_call(stub: "Stub", dispatcher: ScriptedDispatcher) -> None:
    """The dispatcher is told, and an answer that was on its way then harms nothing."""
    call = stub.Invoke(request("held", b"1"))
    waiting = asyncio.ensure_future(call)
    await dispatcher.until(lambda: len(dispatcher.held) == 1)
    waiting.cancel()
    await dispatcher.until(lambda: bool(dispatcher.abandoned))
    assert dispatcher.abandoned == [dispatcher.calls[0].request_id]
    dispatcher.release(b"1")
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    assert (await stub.Invoke(request(payload=b"2"))).payload == b"2"


async def test_a_deadline_that_passes_abandons_its_call(stub: "Stub", dispatcher: ScriptedDispatcher) -> None:
    """When the RPC's time is over nobody listens any more."""
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.Invoke(request("held"), timeout=0.3)
    await dispatcher.until(lambda: bool(dispatcher.abandoned))
    assert dispatcher.abandoned == [dispatcher.calls[0].request_id]


async def test_request_ids_are_uuids_and_differ(stub: "Stub") -> None:
    """As Lambda writes them."""
    answers = await asyncio.gather(*(stub.Invoke(request()) for _ in range(50)))
    ids = {response.request_id for response in answers}
    assert len(ids) == 50
    assert all(len(request_id) == 36 and request_id[14] == "4" for request_id in ids)
