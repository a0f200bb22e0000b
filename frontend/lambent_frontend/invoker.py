"""One call from its request to its outcome: what every door to the dispatcher stands on."""

import asyncio

from lambent_frontend.call_log import CALLER
from lambent_frontend.calls import Answer, Call, Dispatcher
from lambent_frontend.streamed import StreamedAnswer
from lambent_frontend.wire import Definitions, call_of
from lambent_proto.errors import LambentError, NotReady
from lambent_proto.ids import RequestId
from lambent_proto.v1 import invoke_pb2


class Invoker:
    """`waiting_s` is the fleet's waiting time: the longest that a call stands in line by default."""

    def __init__(self, definitions: Definitions, dispatcher: Dispatcher, *, waiting_s: float) -> None:
        self.dispatcher = dispatcher
        self._definitions = definitions
        self._waiting_s = waiting_s
        self._stopping = False

    def take_no_more(self) -> None:
        """From now on calls are refused by name, which says more than a connection that ends under them."""
        self._stopping = True

    def checked(
        self, request: invoke_pb2.InvokeRequest, request_id: RequestId, remaining_s: float | None = None
    ) -> Call:
        """The call that was asked for. Raises what `call_of` raises, and NotReady."""
        if self._stopping:
            raise NotReady("the frontend is being stopped and did not take the call", request_id)
        call = call_of(request, request_id, self._definitions, self._waiting_s, remaining_s)
        call.caller = CALLER.get()
        return call

    def streamed(self, call: Call) -> StreamedAnswer:
        """The same for who takes the answer in parts, as they come: what it returns says how it is used."""
        return StreamedAnswer(call, self.dispatcher)

    async def run(self, call: Call) -> Answer:
        """Raises whatever LambentError it ends with; who is cancelled abandons it."""
        settled: asyncio.Future[Answer | LambentError] = asyncio.get_running_loop().create_future()

        def settle(outcome: Answer | LambentError) -> None:
            # Between the cancelling of a request and this task's hearing of it, the answer may still come.
            if not settled.done():
                settled.set_result(outcome)

        self.dispatcher.submit(call, settle)
        try:
            outcome = await settled
        except asyncio.CancelledError:
            self.dispatcher.abandon(call.request_id)
            raise
        if isinstance(outcome, LambentError):
            raise outcome
        return outcome
