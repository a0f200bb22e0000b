"""A function's answer to a request of its URL, passed on in parts as the function writes them."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

from lambent_frontend.calls import Call
from lambent_frontend.http.messages import CutOff, Response
from lambent_frontend.invoker import Invoker
from lambent_frontend.streamed import StreamedAnswer
from lambent_frontend.urls.answer import (
    HTTP,
    MAX_PRELUDE,
    PRELUDE_END,
    WITHOUT_BODY,
    UrlAnswer,
    checked_value,
    prelude,
)
from lambent_proto.errors import LambentError


async def streamed(invoker: Invoker, call: Call) -> Response | None:
    """None if the function failed before there was anything of its answer.

    What is no HTTP answer is the body of one, as it is: nothing is looked for in it, as at AWS. Raises
    Malformed, and whatever LambentError the call ends with before it has begun to answer.
    """
    async with AsyncExitStack() as stack:
        answer = await stack.enter_async_context(invoker.streamed(call))
        told = await _begun(answer)
        if told is None:
            return None
        content_type = told.headers.pop("content-type")
        response = Response(told.status, b"", told.headers, content_type, told.cookies)
        if told.status not in WITHOUT_BODY:
            response.parts = _parts(answer, told.body, stack.pop_all())
        return response
    raise AssertionError("nothing is swallowed there")


async def _begun(answer: StreamedAnswer) -> UrlAnswer | None:
    """The head, and what came of the body with it."""
    begun = bytearray()
    async for part in answer:
        if answer.begun.content_type != HTTP:
            return _as_it_is(answer, part)
        begun += part
        if PRELUDE_END in begun[-len(part) - len(PRELUDE_END) :] or len(begun) >= MAX_PRELUDE:
            return prelude(bytes(begun))
    if answer.end.failed:
        return None
    return prelude(bytes(begun)) if answer.begun.content_type == HTTP else _as_it_is(answer, b"")


def _as_it_is(answer: StreamedAnswer, part: bytes) -> UrlAnswer:
    return UrlAnswer(200, {"content-type": checked_value(answer.begun.content_type)}, (), part)


async def _parts(
    answer: StreamedAnswer, first: bytes, entered: AsyncExitStack
) -> AsyncGenerator[bytes, None]:
    """Raises CutOff where the rest does not come: behind the head nothing else tells the client of it."""
    async with entered:
        if first:
            yield first
        try:
            async for part in answer:
                yield part
        except LambentError as error:
            raise CutOff(error.message) from None
        if answer.end.failed:
            raise CutOff("the function failed in the middle of its answer")
