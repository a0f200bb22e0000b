"""Where it is told that records were given up: a queue of SQS, or a function."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

import structlog

from lambent_frontend.invoker import Invoker
from lambent_frontend.triggers.names import FUNCTION, source_named
from lambent_frontend.triggers.sources.aws import Aws, queue_url
from lambent_frontend.wire import new_request_id
from lambent_proto.errors import LambentError
from lambent_proto.v1 import invoke_pb2

TRIES: Final = 5
"""With growing pauses, half a minute in all; after that the log alone knows."""

_log = structlog.get_logger()


class Destinations:
    def __init__(self, invoker: Invoker, sources: Mapping[str, str]) -> None:
        self._invoker = invoker
        self._sources = sources

    async def tell(self, destination: str, told: dict[str, Any]) -> str:
        """Returns why it could not be told; empty if it was. Never raises."""
        problem = ""
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(2**attempt)
            try:
                await self._tell(destination, json.dumps(told))
                return ""
            except Exception as error:  # noqa: BLE001 - a library's own, of whatever kind
                problem = f"{destination} could not be told of records that were given up: {error}"
        _log.error("destination_not_told", destination=destination, error=problem, told=told)
        return problem

    async def _tell(self, destination: str, text: str) -> None:
        if FUNCTION in destination:
            request = invoke_pb2.InvokeRequest(
                function_name=destination.partition(FUNCTION)[2], payload=text.encode()
            )
            answer = await self._invoker.run(self._invoker.checked(request, new_request_id()))
            if answer.failed:
                raise LambentError(f"the function failed: {answer.payload[:200]!r}")
            return
        named = source_named(destination)
        aws = Aws("sqs", named.region, self._sources.get("sqs", ""))
        try:
            url = await queue_url(aws, named)
            await aws.call("send_message", QueueUrl=url, MessageBody=text)
        finally:
            aws.close()
