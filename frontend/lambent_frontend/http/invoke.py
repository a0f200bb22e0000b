"""The operations Invoke and InvokeAsync: one event for a function, answered when it is done or taken."""

import base64
import json
from typing import Final

from lambent_frontend.calling import Called, Calling
from lambent_frontend.calls import Answer, Call
from lambent_frontend.http.asked import Asked, choice, number
from lambent_frontend.http.errors import Refused, invalid, not_there
from lambent_frontend.http.messages import Response
from lambent_proto.v1 import invoke_pb2

MOST_PARSED: Final = 256 * 1024
"""Bytes of an event above which it is left to its runtime to find that it is no JSON: to look through the
largest would hold up all other calls for a twentieth of a second."""

TRACE: Final = "X-Amzn-Trace-Id"

_KINDS: Final = {
    "RequestResponse": invoke_pb2.INVOCATION_TYPE_REQUEST_RESPONSE,
    "Event": invoke_pb2.INVOCATION_TYPE_EVENT,
    "DryRun": invoke_pb2.INVOCATION_TYPE_DRY_RUN,
}
_LOG_TYPES: Final = ("None", "Tail")
_PRIORITIES: Final = {
    "": invoke_pb2.PRIORITY_NORMAL,
    "normal": invoke_pb2.PRIORITY_NORMAL,
    "high": invoke_pb2.PRIORITY_HIGH,
    "low": invoke_pb2.PRIORITY_LOW,
}


class Invoke:
    def __init__(self, calling: Calling) -> None:
        self._calling = calling

    async def __call__(self, asked: Asked) -> Response:
        kind = choice(asked.request.header(b"x-amz-invocation-type"), "invocationType", tuple(_KINDS))
        event = wanted(asked)
        event.invocation_type = _KINDS[kind]
        called = await self._calling.call(event, asked.request.id)
        if called.answer is not None:
            asked.request.id = called.request_id
            return answered(called.call, called.answer)
        if kind == "DryRun":
            return Response(204, headers={"X-Amz-Executed-Version": called.call.definition.version})
        return taken(asked, called, self._calling)


class InvokeAsync:
    """Deprecated at Lambda, where clients still have it: an event's other door."""

    def __init__(self, calling: Calling) -> None:
        self._calling = calling

    async def __call__(self, asked: Asked) -> Response:
        event = wanted(asked)
        event.invocation_type = invoke_pb2.INVOCATION_TYPE_EVENT
        return taken(asked, await self._calling.call(event, asked.request.id), self._calling)


def taken(asked: Asked, called: Called, calling: Calling) -> Response:
    asked.request.id = called.request_id
    headers = {
        "X-Amz-Executed-Version": called.call.definition.version,
        TRACE: called.call.trace,
        "x-lambent-frontend": calling.frontend,
    }
    return Response(202, headers=headers)


def wanted(asked: Asked) -> invoke_pb2.InvokeRequest:
    """What a request with an event asks for. Raises Refused or InvalidRequest."""
    request = asked.request
    for header, what in (
        (b"x-amz-tenant-id", "Tenant isolation"),
        (b"x-amz-durable-execution-name", "Durable execution"),
    ):
        if request.header(header):
            raise not_there(asked.operation, f"{what} is not there: invoke without {header.decode()}.")
    if request.body and len(request.body) <= MOST_PARSED:
        _check_json(request.body)
    it = invoke_pb2.InvokeRequest(function_name=asked.function().asked, payload=request.body)
    if choice(request.header(b"x-amz-log-type"), "logType", _LOG_TYPES) == "Tail":
        it.log_type = invoke_pb2.LOG_TYPE_TAIL
    if context := request.header(b"x-amz-client-context"):
        it.client_context = context
    if trace := request.given_trace:
        it.trace = trace
    _add_lambent_s_own(it, asked)
    return it


def _add_lambent_s_own(wanted: invoke_pb2.InvokeRequest, asked: Asked) -> None:
    """What gRPC's callers may say and AWS's API has no word for."""
    header = asked.request.header
    if deadline := header(b"x-lambent-deadline-s"):
        wanted.deadline_s = number(deadline, "x-lambent-deadline-s")
    priority = _PRIORITIES.get(header(b"x-lambent-priority"))
    if priority is None:
        raise invalid("x-lambent-priority is none of high, normal, low")
    wanted.priority = priority
    wanted.tenant = header(b"x-lambent-tenant")
    wanted.idempotency_key = header(b"x-lambent-idempotency-key")
    wanted.sticky_key = header(b"x-lambent-sticky-key")


def _check_json(event: bytes) -> None:
    try:
        json.loads(event)
    except (ValueError, RecursionError) as error:
        raise Refused(
            400,
            "InvalidRequestContentException",
            f"Could not parse request body into json: Could not parse payload into json: {error}",
        ) from None


def answered(call: Call, answer: Answer) -> Response:
    headers = {"X-Amz-Executed-Version": call.definition.version, TRACE: call.trace}
    if answer.failed:
        headers["X-Amz-Function-Error"] = "Unhandled"
    if call.tail:
        headers["X-Amz-Log-Result"] = base64.b64encode(answer.tail).decode()
    headers |= how_started(answer)
    headers["x-lambent-running-ms"] = f"{answer.running_ms:.3f}"
    return Response(200, answer.payload, headers)


def how_started(answer: Answer) -> dict[str, str]:
    """What is known when it begins to run."""
    headers = {
        "x-lambent-start": answer.start,
        "x-lambent-reason": answer.reason,
        "x-lambent-node": answer.node,
        "x-lambent-instance": answer.instance,
        "x-lambent-waiting-ms": f"{answer.waiting_ms:.3f}",
        "x-lambent-starting-ms": f"{answer.starting_ms:.3f}",
        "x-lambent-init-ms": f"{answer.init_ms:.3f}",
        "x-lambent-isolation": answer.isolation,
    }
    if answer.waited_for:
        headers["x-lambent-waited-for"] = answer.waited_for
    return headers
