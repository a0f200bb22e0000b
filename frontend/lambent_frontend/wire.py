"""Between the public invocation messages and the dispatcher's calls: all checks of a request are here."""

import base64
import binascii
import json
import math
import random
from typing import Final, Protocol

from lambent_frontend.calls import Answer, Call, Explained
from lambent_frontend.core.call import Priority
from lambent_frontend.streamed import StreamedAnswer
from lambent_proto.definition import Definition
from lambent_proto.errors import InvalidRequest, PayloadTooLarge, UnknownFunction
from lambent_proto.ids import MAX_PAYLOAD_BYTES, FunctionName, RequestId
from lambent_proto.sticky import sticky_of
from lambent_proto.tracing import carried
from lambent_proto.v1 import invoke_pb2

MAX_CLIENT_CONTEXT_BYTES: Final = 3583
"""Of its base64 form: Lambda's limit."""

MAX_TEXT: Final = 256
"""Characters of a tenant or of a sticky key."""
"""Characters."""

_PRIORITIES: Final[dict[int, Priority]] = {
    invoke_pb2.PRIORITY_NORMAL: Priority.NORMAL,
    invoke_pb2.PRIORITY_HIGH: Priority.HIGH,
    invoke_pb2.PRIORITY_LOW: Priority.LOW,
}

_ids = (
    random.Random()
)  # seeded by the system: unique, which is all that is asked of it; 4 times faster than uuid4


class Definitions(Protocol):
    def get(self, name: FunctionName) -> Definition | None:
        """The function as last deployed, or None."""

    def resolve(self, name: FunctionName, qualifier: str, chance: float) -> Definition | None:
        """What a call of a version or an alias runs, or None; `chance` is at least 0 and below 1."""


def new_request_id() -> RequestId:
    """A random UUID (version 4)."""
    digits = f"{_ids.getrandbits(128):032x}"
    return RequestId(f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}")


def call_of(
    request: invoke_pb2.InvokeRequest,
    request_id: RequestId,
    definitions: Definitions,
    waiting_s: float,
    remaining_s: float | None,
) -> Call:
    """Checks the request.

    The call's deadline is the soonest of what the caller asked for, what is left of its RPC (`remaining_s`,
    None if it set no deadline), and `waiting_s`, the fleet's waiting time, plus the function's timeout.

    Raises UnknownFunction, PayloadTooLarge or InvalidRequest.
    """
    definition = _definition(request.function_name, request_id, definitions)
    payload = request.payload
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise PayloadTooLarge(
            f"the event has {len(payload)} bytes, the limit is {MAX_PAYLOAD_BYTES}: pass a reference to it",
            request_id,
        )
    client_context = request.client_context
    if client_context:
        _check_client_context(client_context, request_id)
    deadline_s = waiting_s + definition.timeout_s
    if asked_s := request.deadline_s:
        if not (asked_s > 0 and math.isfinite(asked_s)):
            raise InvalidRequest(
                f"deadline_s is {asked_s}: it must be above 0, or 0 for the default", request_id
            )
        deadline_s = min(deadline_s, asked_s)
    if remaining_s is not None:
        deadline_s = min(deadline_s, max(remaining_s, 0.0))
    priority, tenant = _rights(request, request_id)
    sticky = _text("sticky key", request.sticky_key, request_id)
    tail = request.log_type == invoke_pb2.LOG_TYPE_TAIL
    _, _, qualifier = request.function_name.partition(":")
    return Call(
        request_id,
        definition,
        payload or b"{}",
        tail,
        client_context,
        deadline_s,
        qualifier,
        priority,
        tenant,
        sticky_of(sticky),
        given_trace=carried(request.trace, request_id) if request.trace else "",
    )


def _definition(asked: str, request_id: RequestId, definitions: Definitions) -> Definition:
    name, _, qualifier = asked.partition(":")
    definition = definitions.get(FunctionName(name))
    if definition is not None and qualifier:
        definition = definitions.resolve(FunctionName(name), qualifier, _ids.random())
        if definition is None:
            raise UnknownFunction(f"function {name!r} has no version or alias {qualifier!r}", request_id)
    if definition is None:
        raise UnknownFunction(
            f"there is no function {name!r}: deploy it first, or check the name", request_id
        )
    return definition


def _check_client_context(client_context: str, request_id: RequestId) -> None:
    if len(client_context) > MAX_CLIENT_CONTEXT_BYTES:
        raise InvalidRequest(
            f"client_context has {len(client_context)} bytes, the limit is {MAX_CLIENT_CONTEXT_BYTES}",
            request_id,
        )
    try:
        json.loads(base64.b64decode(client_context, validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise InvalidRequest("client_context is not the base64 form of a JSON document", request_id) from None


def _rights(request: invoke_pb2.InvokeRequest, request_id: RequestId) -> tuple[Priority, str]:
    """Priority and tenant: what a call's turn depends on."""
    priority = _PRIORITIES.get(request.priority)
    if priority is None:
        raise InvalidRequest(
            f"priority is {request.priority}: it must be 0 (normal), 1 (high) or 2 (low)", request_id
        )
    return priority, _text("tenant", request.tenant, request_id)


def _text(what: str, text: str, request_id: RequestId) -> str:
    if text and (len(text) > MAX_TEXT or not text.isprintable()):
        raise InvalidRequest(
            f"the {what} {text[:80]!r} is not at most {MAX_TEXT} characters that can be printed", request_id
        )
    return text


def priority_told(priority: Priority) -> "invoke_pb2.Priority.ValueType":
    return invoke_pb2.Priority.Value(f"PRIORITY_{priority.name}")


def fill_response(response: invoke_pb2.InvokeResponse, call: Call, answer: Answer) -> None:
    """Field by field: a constructor with keywords costs three times as much, once a call."""
    response.payload = answer.payload
    if answer.failed:
        response.function_error = "Unhandled"
    response.executed_version = call.definition.version
    response.request_id = call.request_id
    if answer.tail:
        response.log_tail = answer.tail
    fill_explanation(response.explanation, answer)


def begun_message(answer: StreamedAnswer) -> invoke_pb2.InvokeWithResponseStreamResponse:
    message = invoke_pb2.InvokeWithResponseStreamResponse()
    begun = message.begun
    begun.content_type = answer.begun.content_type
    begun.executed_version = answer.call.definition.version
    begun.request_id = answer.call.request_id
    fill_explanation(begun.explanation, answer.begun.how)
    return message


def ended_message(answer: StreamedAnswer) -> invoke_pb2.InvokeWithResponseStreamResponse:
    message = invoke_pb2.InvokeWithResponseStreamResponse()
    ended, how = message.ended, answer.end
    if how.failed:
        ended.function_error = "Unhandled"
        ended.error = how.payload
    ended.log_tail = how.tail
    fill_explanation(ended.explanation, how)
    return message


def fill_explanation(explanation: invoke_pb2.Explanation, told: Answer | Explained) -> None:
    explanation.start = told.start
    explanation.reason = told.reason
    explanation.node = told.node
    explanation.instance = told.instance
    explanation.waiting_ms = told.waiting_ms
    explanation.starting_ms = told.starting_ms
    explanation.init_ms = told.init_ms
    explanation.running_ms = told.running_ms
    explanation.waited_for = told.waited_for
    explanation.isolation = told.isolation
