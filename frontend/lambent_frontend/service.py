"""The Invocations service: gRPC in front of the invoker."""

from typing import Any

import grpc.aio

from lambent_frontend.calling import Calling
from lambent_frontend.calls import Call
from lambent_frontend.guard import permit_invocation
from lambent_frontend.stream import InvocationStream
from lambent_frontend.wire import begun_message, ended_message, fill_response, new_request_id
from lambent_proto.errors import InvalidRequest, LambentError
from lambent_proto.ids import RequestId
from lambent_proto.status import REQUEST_ID_KEY, abort
from lambent_proto.tracing import W3C_HEADER, XRAY_HEADER
from lambent_proto.v1 import invoke_pb2, invoke_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class Invocations(invoke_pb2_grpc.InvocationsServicer):
    def __init__(self, calling: Calling) -> None:
        self._calling = calling
        self._invoker = calling.invoker
        self._stopping = False
        self._streams: set[InvocationStream] = set()

    def take_no_more(self) -> None:
        """From now on calls are refused by name, which says more than a connection that ends under them.

        Nothing more is taken of streams, which end once what was taken of them is answered.
        """
        self._stopping = True
        self._invoker.take_no_more()
        for stream in self._streams:
            stream.take_no_more()

    async def Invoke(self, request: invoke_pb2.InvokeRequest, context: Context) -> invoke_pb2.InvokeResponse:
        request_id = new_request_id()
        remaining_s = context.time_remaining()
        try:
            permit_invocation(request.function_name)
            _take_trace(request, context)
            called = await self._calling.call(request, request_id, remaining_s)
        except LambentError as error:
            error.request_id = request_id
            await abort(context, error)
        context.set_trailing_metadata(((REQUEST_ID_KEY, called.request_id),))
        response = invoke_pb2.InvokeResponse()
        if called.answer is not None:
            fill_response(response, called.call, called.answer)
        elif request.invocation_type == invoke_pb2.INVOCATION_TYPE_EVENT:
            response.taken_by = self._calling.frontend
        response.executed_version = called.call.definition.version
        response.request_id = called.request_id
        return response

    def _checked(
        self, request: invoke_pb2.InvokeRequest, request_id: RequestId, remaining_s: float | None = None
    ) -> Call:
        """Of a stream."""
        permit_invocation(request.function_name)
        if request.invocation_type or request.idempotency_key:
            raise InvalidRequest(
                "a stream takes neither invocation types nor idempotency keys: send this with Invoke",
                request_id,
            )
        return self._invoker.checked(request, request_id, remaining_s)

    # grpc.aio also takes a coroutine that reads and writes by itself, which the generated types do not know.
    async def InvokeWithResponseStream(  # type: ignore[override]
        self, request: invoke_pb2.InvokeRequest, context: Context
    ) -> None:
        request_id = new_request_id()
        try:
            _take_trace(request, context)
            call = self._checked(request, request_id, context.time_remaining())
            async with self._invoker.streamed(call) as answer:
                await context.write(begun_message(answer))
                async for part in answer:
                    await context.write(invoke_pb2.InvokeWithResponseStreamResponse(part=part))
                await context.write(ended_message(answer))
        except LambentError as error:
            error.request_id = request_id
            await abort(context, error)
        context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))

    async def InvokeStream(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]
        stream = InvocationStream(context, self._invoker.dispatcher, self._checked)
        self._streams.add(stream)
        try:
            if self._stopping:
                stream.take_no_more()
            await stream.run()
        finally:
            self._streams.remove(stream)


def _take_trace(request: invoke_pb2.InvokeRequest, context: Context) -> None:
    """That of the metadata, where the request itself has none."""
    if request.trace:
        return
    for name, value in context.invocation_metadata() or ():
        if name == W3C_HEADER or (name == XRAY_HEADER and not request.trace):
            request.trace = str(value)
