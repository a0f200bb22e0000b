"""The Invocations service: gRPC in front of the dispatcher."""

import asyncio
from typing import Any

import grpc.aio

from lambent_frontend.calls import Answer, Call, Dispatcher
from lambent_frontend.guard import permit_invocation
from lambent_frontend.stream import InvocationStream
from lambent_frontend.wire import Definitions, call_of, fill_response, new_request_id
from lambent_proto.errors import LambentError, NotReady
from lambent_proto.ids import RequestId
from lambent_proto.status import REQUEST_ID_KEY, abort
from lambent_proto.v1 import invoke_pb2, invoke_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class Invocations(invoke_pb2_grpc.InvocationsServicer):
    """`waiting_s` is the fleet's waiting time: the longest that a call stands in line by default."""

    def __init__(self, definitions: Definitions, dispatcher: Dispatcher, *, waiting_s: float) -> None:
        self._definitions = definitions
        self._dispatcher = dispatcher
        self._waiting_s = waiting_s
        self._stopping = False
        self._streams: set[InvocationStream] = set()

    def take_no_more(self) -> None:
        """From now on calls are refused by name, which says more than a connection that ends under them.

        Streams are read no further, and end once what was read of them is answered.
        """
        self._stopping = True
        for stream in self._streams:
            stream.take_no_more()

    async def Invoke(self, request: invoke_pb2.InvokeRequest, context: Context) -> invoke_pb2.InvokeResponse:
        request_id = new_request_id()
        remaining_s = context.time_remaining()
        try:
            call = self._checked(request, request_id, remaining_s)
            answer = await self._run(call)
        except LambentError as error:
            error.request_id = request_id
            await abort(context, error)
        context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
        response = invoke_pb2.InvokeResponse()
        fill_response(response, call, answer)
        return response

    def _checked(
        self, request: invoke_pb2.InvokeRequest, request_id: RequestId, remaining_s: float | None = None
    ) -> Call:
        if self._stopping:
            raise NotReady("the frontend is being stopped and did not take the call", request_id)
        permit_invocation(request.function_name)
        return call_of(request, request_id, self._definitions, self._waiting_s, remaining_s)

    async def _run(self, call: Call) -> Answer:
        settled: asyncio.Future[Answer | LambentError] = asyncio.get_running_loop().create_future()

        def settle(outcome: Answer | LambentError) -> None:
            # Between the cancelling of an RPC and this task's hearing of it, the answer may still come.
            if not settled.done():
                settled.set_result(outcome)

        self._dispatcher.submit(call, settle)
        try:
            outcome = await settled
        except asyncio.CancelledError:
            self._dispatcher.abandon(call.request_id)
            raise
        if isinstance(outcome, LambentError):
            raise outcome
        return outcome

    # grpc.aio also takes a coroutine that reads and writes by itself, which the generated types do not know.
    async def InvokeStream(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]
        stream = InvocationStream(context, self._dispatcher, self._checked)
        self._streams.add(stream)
        try:
            if not self._stopping:
                await stream.run()
        finally:
            self._streams.remove(stream)
        if self._stopping:
            await abort(
                context, NotReady("the frontend is being stopped: it took what it has answered alone")
            )
