"""Invoke over HTTP, with a dispatcher that does as the test says: headers in, headers out, each error's
shape."""

import base64
import json
from collections.abc import AsyncIterator

import pytest

from lambent_frontend.core.call import Priority
from lambent_frontend.http import errors
from lambent_proto.errors import LambentError, Throttled
from lambent_proto.ids import MAX_PAYLOAD_BYTES
from lambent_proto.status import leaves
from tests.unit.frontend.http_client import INVOKE, Client, connected, invoking, listening
from tests.unit.scripted import ScriptedDispatcher

ECHO = INVOKE.format("echo")


@pytest.fixture
def dispatcher() -> ScriptedDispatcher:
    return ScriptedDispatcher()


@pytest.fixture
async def client(dispatcher: ScriptedDispatcher) -> AsyncIterator[Client]:
    async with listening(invoking(dispatcher)) as (_, port), connected(port) as client:
        yield client


async def test_an_answer_brings_all_that_is_known(client: Client, dispatcher: ScriptedDispatcher) -> None:
    """Payload, version, log, request id, and how it was started."""
    answer = await client.ask("POST", ECHO, b'{"a": 1}', X_Amz_Log_Type="Tail")
    said = answer.headers
    assert (answer.status, answer.body) == (200, b'{"a": 1}')
    assert said["content-type"] == "application/json"
    assert said["x-amz-executed-version"] == "$LATEST"
    assert base64.b64decode(said["x-amz-log-result"]) == b"END"
    assert said["x-amzn-requestid"] == dispatcher.calls[0].request_id
    assert "x-amz-function-error" not in said
    started = {key.removeprefix("x-lambent-"): said[key] for key in said if key.startswith("x-lambent-")}
    assert started == {
        "start": "warm",
        "reason": "idle",
        "node": "n1",
        "instance": "i-1",
        "waiting-ms": "1.000",
        "starting-ms": "0.000",
        "init-ms": "0.000",
        "running-ms": "2.000",
        "isolation": "namespaces",
    }


TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
PARENT = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"


@pytest.mark.parametrize(
    ("headers", "given"),
    [
        ({"X_Amzn_Trace_Id": TRACE}, TRACE),
        ({"traceparent": PARENT}, TRACE),
        ({"traceparent": PARENT, "X_Amzn_Trace_Id": "Root=1-00000000-000000000000000000000001"}, TRACE),
        ({"traceparent": "no", "X_Amzn_Trace_Id": TRACE}, TRACE),
        ({"X_Amzn_Trace_Id": "Root=1-2-3"}, ""),
        ({}, ""),
    ],
)
async def test_the_trace_of_a_call_goes_out_again(
    client: Client, dispatcher: ScriptedDispatcher, headers: dict[str, str], given: str
) -> None:
    answer = await client.ask("POST", ECHO, b"{}", **headers)
    call = dispatcher.calls[0]
    assert call.given_trace == given
    assert answer.headers["x-amzn-trace-id"] == call.trace


async def test_a_function_s_failure_is_an_answer(client: Client) -> None:
    """200, and a header says so."""
    answer = await client.ask("POST", INVOKE.format("failing"), b"{}")
    assert (answer.status, answer.headers["x-amz-function-error"]) == (200, "Unhandled")
    assert answer.json() == {"errorType": "E"}


async def test_what_the_caller_says_of_a_call(client: Client, dispatcher: ScriptedDispatcher) -> None:
    context = base64.b64encode(b'{"custom": {}}').decode()
    await client.ask(
        "POST",
        ECHO + "?Qualifier=live",
        X_Amz_Client_Context=context,
        x_lambent_priority="high",
        x_lambent_tenant="t",
        x_lambent_sticky_key="k",
        x_lambent_deadline_s="2.5",
    )
    call = dispatcher.calls[0]
    assert (call.payload, call.client_context, call.qualifier) == (b"{}", context, "live")
    assert (call.priority, call.tenant, call.deadline_s, call.tail) == (Priority.HIGH, "t", 2.5, False)
    assert call.sticky


@pytest.mark.parametrize(
    ("path", "qualifier"),
    [
        ("echo", ""),
        ("echo:7", "7"),
        ("echo:$LATEST", "$LATEST"),
        ("echo?Qualifier=7", "7"),
        ("echo%3Alive", "live"),
        ("echo:7?Qualifier=7", "7"),
        ("function:echo", ""),
        ("123456789012:function:echo:7", "7"),
        ("arn:aws:lambda:eu-central-1:123456789012:function:echo", ""),
        ("arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Aecho%3Alive", "live"),
    ],
)
async def test_the_names_of_a_function(
    client: Client, dispatcher: ScriptedDispatcher, path: str, qualifier: str
) -> None:
    name, _, query = path.partition("?")
    answer = await client.ask("POST", f"{INVOKE.format(name)}?{query}", b"{}")
    assert answer.status == 200, answer.body
    call = dispatcher.calls[0]
    assert (call.definition.name, call.qualifier) == ("echo", qualifier)
    version = "7" if qualifier in ("7", "live") else "$LATEST"
    assert answer.headers["x-amz-executed-version"] == version


async def test_a_dry_run_checks_and_runs_nothing(client: Client, dispatcher: ScriptedDispatcher) -> None:
    answer = await client.ask("POST", ECHO, b"{}", X_Amz_Invocation_Type="DryRun")
    assert (answer.status, answer.body, dispatcher.calls) == (204, b"", [])
    unknown = await client.ask("POST", INVOKE.format("unknown"), X_Amz_Invocation_Type="DryRun")
    assert unknown.status == 404


@pytest.mark.parametrize(
    ("path", "headers", "body", "status", "name"),
    [
        ("unknown", {}, b"{}", 404, "ResourceNotFoundException"),
        ("echo:9", {}, b"{}", 404, "ResourceNotFoundException"),
        ("echo:7?Qualifier=8", {}, b"{}", 400, "InvalidParameterValueException"),
        ("not a name".replace(" ", "%20"), {}, b"{}", 400, "ValidationException"),
        ("..%2f..%2fetc", {}, b"{}", 400, "ValidationException"),
        ("%00", {}, b"{}", 400, "ValidationException"),
        ("echo", {}, b"{", 400, "InvalidRequestContentException"),
        ("echo", {}, b"\xff", 400, "InvalidRequestContentException"),
        ("echo", {}, b"[" * 100_000, 400, "InvalidRequestContentException"),
        ("echo", {"X_Amz_Invocation_Type": "Soon"}, b"{}", 400, "ValidationException"),
        ("echo", {"X_Amz_Invocation_Type": "Event"}, b"{}", 400, "InvalidParameterValueException"),
        ("echo", {"X_Amz_Tenant_Id": "t"}, b"{}", 501, "NotImplementedException"),
        ("echo", {"X_Amz_Durable_Execution_Name": "t"}, b"{}", 501, "NotImplementedException"),
        ("echo", {"X_Amz_Log_Type": "All"}, b"{}", 400, "ValidationException"),
        ("echo", {"X_Amz_Client_Context": "{}"}, b"{}", 400, "InvalidParameterValueException"),
        ("echo", {"Origin": "http://localhost:9000"}, b"{}", 403, "AccessDeniedException"),
        ("echo", {"x_lambent_priority": "top"}, b"{}", 400, "InvalidParameterValueException"),
        ("echo", {"x_lambent_deadline_s": "soon"}, b"{}", 400, "InvalidParameterValueException"),
        ("echo", {"x_lambent_deadline_s": "nan"}, b"{}", 400, "InvalidParameterValueException"),
        ("echo", {}, b" " * (MAX_PAYLOAD_BYTES + 1), 413, "RequestEntityTooLargeException"),
    ],
)
async def test_what_is_refused(
    client: Client,
    dispatcher: ScriptedDispatcher,
    path: str,
    headers: dict[str, str],
    body: bytes,
    status: int,
    name: str,
) -> None:
    """Each with Lambda's status and name, a message, and whose fault it is; it reaches nobody."""
    path, _, query = path.partition("?")
    answer = await client.ask("POST", f"{INVOKE.format(path)}?{query}", body, **headers)
    assert (answer.status, answer.error) == (status, name), answer.body
    told = answer.json()
    assert told.get("message") or told["Message"]
    assert told["Type"] == ("User" if status < 500 else "Service")
    assert dispatcher.calls == []


async def test_a_throttle_says_why(client: Client, dispatcher: ScriptedDispatcher) -> None:
    """In Lambda's words in the body, in ours in a header."""
    error = Throttled("nothing became free, größer\r\nevil: 1")
    error.throttle_reason = "ConcurrentInvocationLimitExceeded"
    dispatcher.errors["full"] = error
    answer = await client.ask("POST", INVOKE.format("full"), b"{}")
    assert (answer.status, answer.error) == (429, "TooManyRequestsException")
    assert answer.json() == {
        "Reason": "ConcurrentInvocationLimitExceeded",
        "Type": "User",
        "message": "Rate Exceeded.",
    }
    assert answer.headers["x-lambent-message"] == "nothing became free, gr\\xf6\\xdfer  evil: 1"
    assert answer.headers["x-lambent-error"] == "THROTTLED"


@pytest.mark.parametrize("leaf", leaves(), ids=lambda leaf: leaf.__name__)
async def test_every_error_has_its_answer(
    client: Client, dispatcher: ScriptedDispatcher, leaf: type[LambentError]
) -> None:
    """The status of the caller's faults is below 500; what may have run is retried by no client of AWS."""
    dispatcher.errors["broken"] = leaf("a message")
    answer = await client.ask("POST", INVOKE.format("broken"), b"{}")
    assert answer.headers["x-lambent-error"] == leaf.reason
    assert answer.headers["x-amzn-requestid"] == dispatcher.calls[0].request_id
    assert answer.error.endswith("Exception")
    faults = {"DeadlinePassed", "LostWithWorker", "Unconfirmed", "Internal"}
    assert (answer.status == errors.UNKNOWN_OUTCOME) == (leaf.__name__ in faults)
    assert "a message" in json.dumps([answer.json(), answer.headers])


async def test_the_largest_event(client: Client) -> None:
    event = b'"' + b"a" * (MAX_PAYLOAD_BYTES - 2) + b'"'
    answer = await client.ask("POST", ECHO, event)
    assert (answer.status, answer.body == event) == (200, True)
