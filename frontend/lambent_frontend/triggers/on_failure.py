"""Tells a trigger's destination of records that were given up, as asynchronous calls tell theirs."""

import asyncio
import json
from typing import Any, Final

import structlog

from lambent_frontend.invoker import Invoker
from lambent_frontend.queue.destinations import Destinations, function_of_arn, lane_of_record, shown
from lambent_frontend.queue.records import Record
from lambent_frontend.wire import new_request_id
from lambent_proto.errors import LambentError
from lambent_proto.v1 import invoke_pb2

TRIES: Final = 5
"""With growing pauses, half a minute in all; after that the log alone knows."""

_log = structlog.get_logger()


class OnFailure:
    def __init__(self, invoker: Invoker, destinations: Destinations) -> None:
        self._invoker = invoker
        self._destinations = destinations

    async def tell(self, destination: str, told: dict[str, Any]) -> str:
        """Returns why it could not be told; empty if it was. Never raises."""
        problem = ""
        record = Record(new_request_id(), json.dumps(told).encode(), {})
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(2**attempt)
            try:
                await self._tell(destination, record)
                return ""
            except Exception as error:  # noqa: BLE001 - a library's own, of whatever kind
                problem = f"{shown(destination)} could not be told of records that were given up: {error}"
        _log.error("destination_not_told", destination=shown(destination), error=problem, told=told)
        return problem

    async def _tell(self, destination: str, record: Record) -> None:
        """A function by an asynchronous call; a frontend without a queue calls it and waits."""
        function = function_of_arn(destination)
        if function is None or self._destinations.put_record is not None:
            await self._destinations.deliver(lane_of_record(destination), record)
            return
        name = ":".join(filter(None, function))
        request = invoke_pb2.InvokeRequest(function_name=name, payload=record.body)
        answer = await self._invoker.run(self._invoker.checked(request, new_request_id()))
        if answer.failed:
            raise LambentError(f"the function failed: {answer.payload[:200]!r}")
