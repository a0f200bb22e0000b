"""What the client sends and gives back, out of Python values."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from lambent.tracing import current_trace
from lambent_proto.v1 import functions_pb2, invoke_pb2

Priority = Literal["high", "normal", "low"]

_PRIORITIES: "Final[dict[Priority, invoke_pb2.Priority.ValueType]]" = {
    "high": invoke_pb2.PRIORITY_HIGH,
    "normal": invoke_pb2.PRIORITY_NORMAL,
    "low": invoke_pb2.PRIORITY_LOW,
}


@dataclass(frozen=True, slots=True)
class Invocation:
    """The answer to one invocation."""

    payload: bytes
    """What the function returned, or Lambda's error document."""
    function_error: str
    """Empty on success, else `Unhandled`."""
    request_id: str
    executed_version: str
    tail: bytes
    """The last 4 KB of the log, when asked for."""
    explanation: invoke_pb2.Explanation

    def json(self) -> Any:
        """The payload decoded. Raises ValueError if it is not JSON."""
        return json.loads(self.payload)


def invocation_of(response: invoke_pb2.InvokeResponse) -> Invocation:
    return Invocation(
        response.payload,
        response.function_error,
        response.request_id,
        response.executed_version,
        response.log_tail,
        response.explanation,
    )


def encoded(payload: bytes | object) -> bytes:
    """Raises TypeError or ValueError if JSON has no form for it."""
    return payload if isinstance(payload, bytes) else json.dumps(payload).encode()


def fill_request(
    request: invoke_pb2.InvokeRequest,
    name: str,
    payload: bytes | object,
    *,
    tail: bool,
    timeout_s: float | None,
    client_context: Mapping[str, object] | None,
    priority: Priority,
    tenant: str,
    sticky_key: str,
) -> None:
    """Bytes go as they are, anything else as JSON. TypeError or ValueError if JSON has no form for it, and
    ValueError for a priority that is none."""
    request.function_name = name
    request.payload = encoded(payload)
    if tail:
        request.log_type = invoke_pb2.LOG_TYPE_TAIL
    if timeout_s is not None:
        request.deadline_s = timeout_s
    if client_context is not None:
        request.client_context = base64.b64encode(json.dumps(client_context).encode()).decode()
    if priority != "normal":
        request.priority = _priority(priority)
    if tenant:
        request.tenant = tenant
    if sticky_key:
        request.sticky_key = sticky_key
    if trace := current_trace():
        request.trace = trace


def _priority(priority: Priority) -> "invoke_pb2.Priority.ValueType":
    try:
        return _PRIORITIES[priority]
    except KeyError:
        raise ValueError(f"the priority {priority!r} is none of {', '.join(_PRIORITIES)}") from None


def configuration_of(
    *,
    runtime: str | None,
    handler: str | None,
    memory_mb: int | None,
    timeout_s: float | None,
    environment: Mapping[str, str] | None,
    description: str | None,
    concurrency: int | Literal["default"] | None,
    layers: Sequence[str] | None,
    tmp_mb: int | None,
    network: bool | None,
    snapstart: bool | None,
    require: Sequence[str] | None,
    prefer: Sequence[str] | None,
    apart: bool | None,
    role: str | None,
    dead_letter: str | None,
) -> functions_pb2.Configuration:
    """None is left as it is; the concurrency `default` goes back to the fleet's."""
    configuration = functions_pb2.Configuration(
        runtime=runtime,
        handler=handler,
        memory_mb=memory_mb,
        timeout_s=timeout_s,
        description=description,
        tmp_mb=tmp_mb,
        network=network,
        snapstart=snapstart,
        apart=apart,
        role=role,
        dead_letter=dead_letter,
    )
    if environment is not None:
        configuration.environment.CopyFrom(functions_pb2.Environment(variables=environment))
    if concurrency is not None:
        limit = None if concurrency == "default" else concurrency
        configuration.concurrency.CopyFrom(functions_pb2.Concurrency(limit=limit))
    if layers is not None:
        configuration.layers.CopyFrom(functions_pb2.LayerList(versions=layers))
    if require is not None:
        configuration.require.CopyFrom(functions_pb2.LabelList(labels=require))
    if prefer is not None:
        configuration.prefer.CopyFrom(functions_pb2.LabelList(labels=prefer))
    return configuration
