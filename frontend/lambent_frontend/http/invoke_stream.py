"""The operation InvokeWithResponseStream: one event for a function, answered in parts as it writes them."""

import base64
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Final

from lambent_frontend.http import errors, eventstream
from lambent_frontend.http.asked import Asked, choice
from lambent_frontend.http.errors import invalid
from lambent_frontend.http.invoke import TRACE, how_started, wanted
from lambent_frontend.http.messages import JSON, Response
from lambent_frontend.invoker import Invoker
from lambent_frontend.streamed import StreamedAnswer
from lambent_proto.errors import LambentError

_TYPES: Final = ("RequestResponse", "DryRun")
_OCTETS: Final = "application/octet-stream"


class InvokeWithResponseStream:
    def __init__(self, invoker: Invoker) -> None:
        self._invoker = invoker

    async def __call__(self, asked: Asked) -> Response:
        """What fails before the answer begins is an answer as any other operation has it."""
        kind = choice(asked.request.header(b"x-amz-invocation-type"), "invocationType", _TYPES)
        event = wanted(asked)
        if event.idempotency_key:
            raise invalid("x-lambent-idempotency-key is not for answers in parts: no answer is kept of them")
        call = self._invoker.checked(event, asked.request.id)
        headers = {"X-Amz-Executed-Version": call.definition.version, TRACE: call.trace}
        if kind == "DryRun":
            return Response(204, headers=headers)
        async with AsyncExitStack() as stack:
            answer = await stack.enter_async_context(self._invoker.streamed(call))
            headers |= how_started(answer.begun.how)
            headers["x-lambent-content-type"] = answer.begun.content_type
            events = _events(answer, stack.pop_all())
            return Response(200, headers=headers, content_type=eventstream.CONTENT_TYPE, parts=events)
        raise AssertionError("nothing is swallowed there")


async def _events(answer: StreamedAnswer, entered: AsyncExitStack) -> AsyncGenerator[bytes, None]:
    """What the function does wrong is told with the last event; what Lambent could not do is an error."""
    async with entered:
        try:
            async for part in answer:
                yield eventstream.event("PayloadChunk", _OCTETS, part)
        except LambentError as error:
            refused = errors.refused(error)
            yield eventstream.error(refused.name, refused.detail or refused.message)
        else:
            yield eventstream.event("InvokeComplete", JSON, json.dumps(_complete(answer)).encode())


def _complete(answer: StreamedAnswer) -> dict[str, str]:
    complete = {}
    if answer.end.failed:
        complete["ErrorCode"] = "Unhandled"
        complete["ErrorDetails"] = answer.end.payload.decode(errors="replace")
    if answer.call.tail:
        complete["LogResult"] = base64.b64encode(answer.end.tail).decode()
    return complete
