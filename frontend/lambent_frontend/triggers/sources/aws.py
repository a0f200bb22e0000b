"""AWS's client for one service, in threads of its own: SQS, Kinesis, S3, and whatever speaks as they do.

Credentials are those of the frontend's environment, as AWS's tools look for them.
"""

import asyncio
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, Final, TypeVar

from lambent_frontend.triggers.names import SourceName
from lambent_frontend.triggers.sources.base import SourceFailed

CONNECT_S: Final = 5
READ_S: Final = 30

T = TypeVar("T")


class Aws:
    """Raises botocore's errors. Its calls are not ended by cancelling: at the most READ_S later they are."""

    def __init__(self, service: str, region: str, url: str, threads: int = 2) -> None:
        """`url` is where it is; empty: at AWS. Raises SourceFailed if boto3 is not installed."""
        try:
            import boto3
            from botocore.config import Config
        except ImportError:
            raise SourceFailed(
                "boto3 is not installed where the frontend runs: install lambent[aws]"
            ) from None
        config = Config(
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            retries={"total_max_attempts": 3},
            s3={"addressing_style": "path"} if url else None,
        )
        session = boto3.session.Session(region_name=region or "us-east-1")
        self._client: Any = session.client(service, endpoint_url=url or None, config=config)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=service)

    async def call(self, method: str, **arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: getattr(self._client, method)(**arguments))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()


async def queue_url(aws: Aws, named: SourceName) -> str:
    """Where the queue of an ARN is."""
    account = {"QueueOwnerAWSAccountId": named.account} if named.account.strip("0") else {}
    found = await aws.call("get_queue_url", QueueName=named.name, **account)
    url: str = found["QueueUrl"]
    return url


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    left = iter(items)
    while chunk := list(islice(left, size)):
        yield chunk
