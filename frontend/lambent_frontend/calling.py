"""Every way to call a function: at once, through the queue, or once for an idempotency key."""

from typing import Final, NamedTuple

from lambent_frontend.async_invocations import there
from lambent_frontend.calls import Answer, Call
from lambent_frontend.invoker import Invoker
from lambent_frontend.queue.once import Once
from lambent_frontend.queue.queue import Queue
from lambent_proto.ids import FrontendId, RequestId
from lambent_proto.v1 import invoke_pb2

NOBODY: Final = FrontendId("")


class Called(NamedTuple):
    call: Call
    request_id: RequestId
    """The call's; of a repeated one the first one's."""
    answer: Answer | None
    """None of what was only taken, or only checked."""


class Calling:
    """`queue` and `once` are None where the frontend has no folder to keep anything in."""

    def __init__(
        self,
        invoker: Invoker,
        queue: Queue | None = None,
        once: Once | None = None,
        frontend: FrontendId = NOBODY,
    ) -> None:
        self.invoker = invoker
        self.frontend = frontend
        self._queue = queue
        self._once = once

    async def call(
        self, request: invoke_pb2.InvokeRequest, request_id: RequestId, remaining_s: float | None = None
    ) -> Called:
        """Raises whatever LambentError it ends with."""
        if request.invocation_type == invoke_pb2.INVOCATION_TYPE_EVENT:
            call, taken = await there(self._queue).take(request, request_id)
            return Called(call, taken, None)
        call = self.invoker.checked(request, request_id, remaining_s)
        if request.invocation_type == invoke_pb2.INVOCATION_TYPE_DRY_RUN:
            return Called(call, request_id, None)
        key = there(self._queue).key_of(request, call) if request.idempotency_key else None
        if key is None or self._once is None:
            return Called(call, request_id, await self.invoker.run(call))
        return Called(call, *await self._once.run(call, key))
