"""Operations of Lambent's own: what became of asynchronous calls, to cancel them and to run them again."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from lambent_frontend.async_invocations import AsyncInvocations
from lambent_frontend.http import shapes
from lambent_frontend.http.api import Operation
from lambent_frontend.http.asked import Asked
from lambent_frontend.http.messages import Response
from lambent_proto.v1 import async_invocations_pb2 as pb


class AsyncInvocationOperations:
    def __init__(self, invocations: AsyncInvocations) -> None:
        self._invocations = invocations

    def operations(self) -> Mapping[str, Operation]:
        return {
            "GetAsyncInvocation": self.get,
            "ListAsyncInvocations": self.list,
            "CancelAsyncInvocation": self.cancel,
            "RedriveAsyncInvocation": self.redrive,
        }

    async def get(self, asked: Asked) -> Response:
        request = pb.GetAsyncInvocationRequest(**_named(asked))
        return shapes.answer(200, _shape(await self._invocations.get(request)))

    async def list(self, asked: Asked) -> Response:
        request = pb.ListAsyncInvocationsRequest(
            function_name=asked.function().name,
            state=asked.query.get("State", ""),
            marker=asked.query.get("Marker", ""),
            max_items=asked.max_items(),
        )
        found = await self._invocations.list(request)
        missing = list(found.missing_frontends)
        more = {"MissingFrontends": missing} if missing else {}
        return shapes.page("AsyncInvocations", map(_shape, found.invocations), found.next_marker, **more)

    async def cancel(self, asked: Asked) -> Response:
        request = pb.CancelAsyncInvocationRequest(**_named(asked))
        return shapes.answer(200, _shape(await self._invocations.cancel(request)))

    async def redrive(self, asked: Asked) -> Response:
        request = pb.RedriveAsyncInvocationRequest(**_named(asked))
        return shapes.answer(202, _shape(await self._invocations.redrive(request)))


def _named(asked: Asked) -> dict[str, str]:
    return {"function_name": asked.function().name, "request_id": asked.path["RequestId"]}


def _shape(it: pb.AsyncInvocation) -> dict[str, Any]:
    """What says nothing is left out."""
    shape: dict[str, Any] = {
        "RequestId": it.request_id,
        "FunctionName": it.function_name,
        "State": it.state,
        "Attempts": it.attempts,
        "Received": _moment(it.received),
    }
    more: dict[str, Any] = {
        "Qualifier": it.qualifier,
        "Breaks": it.breaks,
        "Due": _moment(it.due) if it.HasField("due") else "",
        "Ended": _moment(it.ended) if it.HasField("ended") else "",
        "Condition": it.condition,
        "Message": it.message,
        "ExecutedVersion": it.executed_version,
        "FunctionError": it.function_error,
        "RunningMs": round(it.running_ms, 3),
    }
    if it.payload:
        more["Payload"] = _decoded(it.payload)
    return shape | {name: value for name, value in more.items() if value not in ("", 0)}


def _moment(at: Timestamp) -> str:
    moment: datetime = at.ToDatetime(UTC)
    return shapes.moment(moment)


def _decoded(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return payload.decode(errors="replace")
