"""The call with one batch, and what its end means for the batch."""

import json
from dataclasses import dataclass

from lambent_frontend.calls import Answer
from lambent_frontend.invoker import Invoker
from lambent_frontend.triggers.core.answers import failed_ids
from lambent_frontend.triggers.core.messages import Batch, Outcome
from lambent_frontend.wire import new_request_id
from lambent_proto.errors import (
    InvalidRequest,
    LambentError,
    NotReady,
    PayloadTooLarge,
    Throttled,
    UnknownFunction,
)
from lambent_proto.ids import RequestId
from lambent_proto.triggers import Trigger
from lambent_proto.v1 import invoke_pb2

_NEVER_RAN = (Throttled, NotReady, UnknownFunction, InvalidRequest)


@dataclass(frozen=True, slots=True)
class Ended:
    request_id: RequestId
    outcome: Outcome
    failed: frozenset[str] = frozenset()
    """The ids that the function reported."""
    problem: str = ""
    """For people; empty if all went well."""
    version: str = ""
    """That which ran."""
    function_error: bool = False
    gone: bool = False
    """There is no such function, version or alias."""


async def call_with(invoker: Invoker, trigger: Trigger, batch: Batch, event: bytes) -> Ended:
    request_id = new_request_id()
    request = invoke_pb2.InvokeRequest(function_name=trigger.asked, payload=event)
    try:
        call = invoker.checked(request, request_id)
        answer = await invoker.run(call)
    except PayloadTooLarge as error:
        return Ended(request_id, Outcome.TOO_LARGE, problem=error.message)
    except _NEVER_RAN as error:
        gone = isinstance(error, UnknownFunction)
        return Ended(request_id, Outcome.NEVER_RAN, problem=error.message, gone=gone)
    except LambentError as error:
        return Ended(request_id, Outcome.FAILED, problem=error.message)
    version = call.definition.version
    if answer.failed:
        problem = f"the function failed: {_told(answer)}"
        return Ended(request_id, Outcome.FAILED, problem=problem, version=version, function_error=True)
    if not trigger.partial:
        return Ended(request_id, Outcome.ENDED, version=version)
    failed = failed_ids(answer.payload, batch.ids)
    if failed is None:
        problem = "the function's answer does not say which records failed in a form that can be read"
        return Ended(request_id, Outcome.FAILED, problem=problem, version=version)
    problem = f"the function reported {len(failed)} of {len(batch.ids)} records as failed" if failed else ""
    return Ended(request_id, Outcome.ENDED, failed, problem, version)


def _told(answer: Answer) -> str:
    """Of Lambda's error document what people look for."""
    try:
        said = json.loads(answer.payload)
        return f"{said.get('errorType', '')}: {said.get('errorMessage', '')}"[:500]
    except (ValueError, AttributeError, RecursionError):
        return repr(answer.payload[:200])
