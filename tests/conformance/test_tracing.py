"""Traces as AWS's clients bring and take them: by a header, to the function, through the queue, back."""

import http.client
import json
from typing import Any

import pytest

from lambent_chassis.clock import monotonic_s
from tests.conformance.conftest import package
from tests.conformance.test_async import WITHIN_S, ask, begin, until
from tests.conformance.test_functions import ARN, create
from tests.e2e.fleet import Fleet

pytestmark = pytest.mark.conformance

TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
PARENT = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"


def invoked(fleet: Fleet, name: str, kind: str = "RequestResponse", **headers: str) -> tuple[str, str, Any]:
    """The answer's trace, its request id, and what it says."""
    connection = http.client.HTTPConnection(fleet.http, timeout=WITHIN_S)
    sent = {name.replace("_", "-"): value for name, value in headers.items()} | {
        "X-Amz-Invocation-Type": kind
    }
    connection.request("POST", f"/2015-03-31/functions/{name}/invocations", b'{"do": "context"}', sent)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    told = json.loads(body) if body else None
    return answer.headers["X-Amzn-Trace-Id"], answer.headers["x-amzn-RequestId"], told


@pytest.mark.parametrize(
    "header", [{"X_Amzn_Trace_Id": TRACE}, {"traceparent": PARENT}], ids=["x-ray", "w3c"]
)
def test_a_trace_reaches_the_function_and_comes_back(
    aws: Any, fleet: Fleet, name: str, header: dict[str, str]
) -> None:
    create(aws, name)
    answered, _, told = invoked(fleet, name, **header)
    assert (answered, told["environment"]["_X_AMZN_TRACE_ID"]) == (TRACE, TRACE)
    made, request_id, told = invoked(fleet, name)  # on the same instance: nothing is left of the one before
    assert made == told["environment"]["_X_AMZN_TRACE_ID"]
    assert made.startswith(f"Root=1-{request_id[:8]}-")


def test_a_trace_goes_through_the_queue_and_to_a_destination(aws: Any, fleet: Fleet, name: str) -> None:
    """The function that gets the record is of the same trace; a call without one has its own id for one."""
    told = name[:50] + "-told"
    create(aws, name)
    create(aws, told, Code={"ZipFile": package(TOLD)})
    destinations = {"OnSuccess": {"Destination": ARN + told}}
    aws.put_function_event_invoke_config(FunctionName=name, DestinationConfig=destinations)
    answered, request_id, _ = invoked(fleet, name, "Event", traceparent=PARENT)
    assert answered == TRACE
    ran = until(fleet, name, request_id, "succeeded")["Payload"]
    assert (ran["request"], ran["environment"]["_X_AMZN_TRACE_ID"]) == (request_id, TRACE)
    own = begin(aws, name, {"do": "context"})
    until(fleet, name, own, "succeeded")
    first, second = sorted(traces_of(fleet, told), key=lambda trace: trace != TRACE)
    assert first == TRACE
    assert second.startswith(f"Root=1-{own[:8]}-")


TOLD = "import os\n\ndef handler(event, context):\n    return os.environ['_X_AMZN_TRACE_ID']\n"


def traces_of(fleet: Fleet, name: str) -> list[str]:
    """What two asynchronous calls of it said."""
    deadline = monotonic_s() + WITHIN_S
    while True:
        _, page, _ = ask(fleet, "GET", f"/lambent/functions/{name}/async-invocations")
        if len(page["AsyncInvocations"]) == 2:
            ids = [it["RequestId"] for it in page["AsyncInvocations"]]
            return [until(fleet, name, it, "succeeded")["Payload"] for it in ids]
        assert monotonic_s() < deadline, page
