"""Records for a queue of SQS, or of what speaks as SQS does, by AWS's own client in threads."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from lambent_frontend.queue.adapters.connections import Connections
from lambent_frontend.queue.destinations import Refused, queue_of_sqs
from lambent_frontend.queue.records import Record

NAME: Final = "sqs"
"""What the place of all queues is called in `sources`; without it: at AWS."""

CONNECT_S: Final = 5
READ_S: Final = 20
AT_ONCE: Final = 8
"""Messages that are sent at one time: each has a thread meanwhile."""


class SqsQueues:
    """Credentials are those of the frontend's environment, as AWS's tools look for them."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._url = sources.get(NAME, "")
        self._clients: Connections[Any] = Connections(self._client, _close)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="sqs")

    async def deliver(self, arn: str, record: Record) -> None:
        region, account, queue = queue_of_sqs(arn)
        async with self._clients.to(region) as client:
            await asyncio.get_running_loop().run_in_executor(
                self._threads, _send, client, account, queue, record
            )

    async def close(self) -> None:
        await self._clients.close()
        self._threads.shutdown(wait=False)

    async def _client(self, region: str) -> Any:
        try:
            import boto3
            from botocore.config import Config
        except ImportError:
            raise Refused("boto3 is not installed where the frontend runs: install lambent[aws]") from None
        config = Config(connect_timeout=CONNECT_S, read_timeout=READ_S, retries={"total_max_attempts": 2})
        session = boto3.session.Session(region_name=region)
        return session.client("sqs", endpoint_url=self._url or None, config=config)


def _send(client: Any, account: str, queue: str, record: Record) -> None:
    owner = {"QueueOwnerAWSAccountId": account} if account.strip("0") else {}
    url = client.get_queue_url(QueueName=queue, **owner)["QueueUrl"]
    fifo = (
        {"MessageGroupId": "lambent", "MessageDeduplicationId": record.id} if queue.endswith(".fifo") else {}
    )
    attributes = {
        name: {"DataType": "Number" if name == "ErrorCode" else "String", "StringValue": value}
        for name, value in record.attributes.items()
        if value
    }
    client.send_message(
        QueueUrl=url,
        MessageBody=record.body.decode(),
        MessageAttributes=attributes,
        MessageSystemAttributes=_system_attributes(record),
        **fifo,
    )


def _system_attributes(record: Record) -> dict[str, Any]:
    """Where AWS's own services look for a trace."""
    if not record.trace:
        return {}
    return {"AWSTraceHeader": {"DataType": "String", "StringValue": record.trace}}


async def _close(client: Any) -> None:
    client.close()
