"""Where the other frontends ask this one for what it alone knows: on the fleet's own network, without a key.

It answers for itself and asks nobody further. What can be asked is a part of the public services; all else of
them is not there.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio

from lambent_chassis import grpc_options
from lambent_chassis.peering import PLAIN, Peering, only
from lambent_frontend.async_invocations import AsyncInvocations
from lambent_frontend.remembered import Remembered
from lambent_proto.errors import LambentError
from lambent_proto.status import abort
from lambent_proto.v1 import async_invocations_pb2 as calls
from lambent_proto.v1 import fleet_pb2 as fleet

Context = grpc.aio.ServicerContext[Any, Any]
Answering = Callable[[Any], Awaitable[Any]]


class PeerDoor:
    """Use it once: listen, start, stop."""

    def __init__(self, peering: Peering = PLAIN) -> None:
        self._peering = peering
        self._server = grpc.aio.server(options=grpc_options.SERVER)

    def listen(self, host: str, port: int) -> str:
        """Takes the port, 0 for a free one, and returns the address. Who asks waits for `start`. Raises
        OSError."""
        return f"{host}:{self._peering.listen(self._server, f'{host}:{port}')}"

    async def start(self, remembered: Remembered, invocations: AsyncInvocations) -> None:
        """Neither may ask others."""
        told = _methods(
            "lambent.v1.Fleet",
            Explain=(fleet.ExplainRequest, remembered.explain),
            CountReasons=(fleet.CountReasonsRequest, remembered.reasons),
            GetActivity=(fleet.GetActivityRequest, remembered.activity),
        )
        queued = _methods(
            "lambent.v1.AsyncInvocations",
            GetAsyncInvocation=(calls.GetAsyncInvocationRequest, invocations.get),
            ListAsyncInvocations=(calls.ListAsyncInvocationsRequest, invocations.list),
            CancelAsyncInvocation=(calls.CancelAsyncInvocationRequest, invocations.cancel),
            RedriveAsyncInvocation=(calls.RedriveAsyncInvocationRequest, invocations.redrive),
            GetQueue=(calls.GetQueueRequest, invocations.queue),
        )
        self._server.add_generic_rpc_handlers((told, queued))
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(0)


def _methods(service: str, **methods: tuple[Any, Answering]) -> grpc.GenericRpcHandler:
    """Each with the class of what it is asked."""
    handlers: dict[str, Any] = {
        name: grpc.unary_unary_rpc_method_handler(
            _method(answering), asked.FromString, lambda answer: answer.SerializeToString()
        )
        for name, (asked, answering) in methods.items()
    }
    return grpc.method_handlers_generic_handler(service, handlers)


def _method(answering: Answering) -> Any:
    async def method(request: Any, context: Context) -> Any:
        await only(context, "frontend")
        try:
            return await answering(request)
        except LambentError as error:
            await abort(context, error)

    return method
