"""Triggers, which call functions with what comes in queues and streams: `Client.triggers`.

Everything raises LambentError.
"""

from collections.abc import Sequence

from lambent.rpc import ASK_WITHIN_S, answer
from lambent_proto.v1 import triggers_pb2, triggers_pb2_grpc


class Triggers:
    def __init__(self, stub: "triggers_pb2_grpc.TriggersAsyncStub") -> None:
        self._stub = stub

    async def create(
        self,
        function_name: str,
        source: str = "",
        *,
        queue: str = "",
        servers: Sequence[str] = (),
        consumer_group: str = "",
        starting_position: str = "",
        starting_at: float = 0.0,
        settings: triggers_pb2.TriggerSettings | None = None,
    ) -> triggers_pb2.Trigger:
        """`source` is an ARN; a Kafka may be named by `servers` instead, `HOST:PORT` each.

        Raises TriggerExists if the function has one for the source, InvalidRequest, UnknownFunction.
        """
        request = triggers_pb2.CreateTriggerRequest(
            function_name=function_name,
            source=source,
            queue=queue,
            servers=servers,
            consumer_group=consumer_group,
            starting_position=starting_position,
            starting_at=starting_at,
            settings=settings,
        )
        return await answer(self._stub.CreateTrigger(request, timeout=ASK_WITHIN_S))

    async def update(
        self, trigger_id: str, settings: triggers_pb2.TriggerSettings, *, function_name: str = ""
    ) -> triggers_pb2.Trigger:
        """Changes what is given. Raises UnknownTrigger, InvalidRequest, TriggerBusy."""
        request = triggers_pb2.UpdateTriggerRequest(
            id=trigger_id, function_name=function_name, settings=settings
        )
        return await answer(self._stub.UpdateTrigger(request, timeout=ASK_WITHIN_S))

    async def get(self, trigger_id: str) -> triggers_pb2.Trigger:
        """Raises UnknownTrigger."""
        request = triggers_pb2.GetTriggerRequest(id=trigger_id)
        return await answer(self._stub.GetTrigger(request, timeout=ASK_WITHIN_S))

    async def list(self, function_name: str = "", source: str = "") -> list[triggers_pb2.Trigger]:
        """All, or those of one function or source."""
        triggers: list[triggers_pb2.Trigger] = []
        request = triggers_pb2.ListTriggersRequest(function_name=function_name, source=source, max_items=1000)
        while True:
            page = await answer(self._stub.ListTriggers(request, timeout=ASK_WITHIN_S))
            triggers += page.triggers
            if not page.next_marker:
                return triggers
            request.marker = page.next_marker

    async def delete(self, trigger_id: str) -> triggers_pb2.Trigger:
        """It is gone once the calls under way are over. Raises UnknownTrigger, TriggerBusy."""
        request = triggers_pb2.DeleteTriggerRequest(id=trigger_id)
        return await answer(self._stub.DeleteTrigger(request, timeout=ASK_WITHIN_S))
