"""A queue of SQS, or of what speaks as it does."""

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lambent_chassis.clock import monotonic_s
from lambent_frontend.triggers.core.messages import Record
from lambent_frontend.triggers.core.pattern import Text
from lambent_frontend.triggers.names import source_named
from lambent_frontend.triggers.sources.aws import Aws, chunks, queue_url
from lambent_frontend.triggers.sources.base import Item, QueueSource, SourceFailed, records_event
from lambent_proto.triggers import Trigger

MOST_AT_ONCE: Final = 10
"""Messages of one request, SQS's limit."""
POLL_S: Final = 2
"""How long a request waits for a message. So long a frontend that is stopped may have to wait for it."""
LEAST_OURS_S: Final = 15
"""A message is kept from others for so long, or for the queue's visibility timeout if that is longer, and
for as long again while it is in hand. So it comes again when a frontend dies."""


class Sqs(QueueSource):
    """A message that fails comes again when the queue's own visibility timeout is over, as with Lambda.

    While it is here, waits for its call and is called with, it is kept from others, however long that takes.
    """

    def __init__(self, trigger: Trigger, url: str) -> None:
        super().__init__(trigger, url)
        self._named = source_named(trigger.source)
        self._receipts: dict[str, str] = {}
        self._read_at: dict[str, float] = {}

    async def open(self) -> None:
        self._aws = Aws("sqs", self._named.region, self.url)
        self._closing.callback(self._aws.close)
        self._queue = await queue_url(self._aws, self._named)
        found = await self._aws.call(
            "get_queue_attributes", QueueUrl=self._queue, AttributeNames=["VisibilityTimeout"]
        )
        self._visibility_s = int(found["Attributes"]["VisibilityTimeout"])
        self._ours_s = max(self._visibility_s, LEAST_OURS_S)
        self._keeping = asyncio.create_task(self._keep())
        self._closing.callback(self._keeping.cancel)

    async def _keep(self) -> None:
        """Keeps from others what is in hand. After 12 hours SQS does so no longer."""
        while True:
            await asyncio.sleep(self._ours_s / 3)
            for chunk in chunks(list(self._receipts.values()), MOST_AT_ONCE):
                entries = [
                    {"Id": str(at), "ReceiptHandle": receipt, "VisibilityTimeout": self._ours_s}
                    for at, receipt in enumerate(chunk)
                ]
                await self._aws.call("change_message_visibility_batch", QueueUrl=self._queue, Entries=entries)

    async def read(self, line: str, most: int) -> list[Item]:
        if self._keeping.done():
            self._keeping.result()
        answer = await self._aws.call(
            "receive_message",
            QueueUrl=self._queue,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
            MaxNumberOfMessages=min(most, MOST_AT_ONCE),
            VisibilityTimeout=self._ours_s,
            WaitTimeSeconds=POLL_S,
        )
        items = []
        for message in answer.get("Messages", ()):
            self._receipts[message["MessageId"]] = message["ReceiptHandle"]
            self._read_at[message["MessageId"]] = monotonic_s()
            items.append(item_of(message, self.trigger.source, self._named.region))
        return items

    def event(self, items: Sequence[Item]) -> bytes:
        return records_event(items)

    async def done(self, ids: Sequence[str]) -> None:
        for chunk in chunks(ids, MOST_AT_ONCE):
            entries = [{"Id": str(at), "ReceiptHandle": self._let_go(it)[0]} for at, it in enumerate(chunk)]
            answer = await self._aws.call("delete_message_batch", QueueUrl=self._queue, Entries=entries)
            _check(answer, "deleted")

    async def give_back(self, ids: Sequence[str], pause_s: float | None) -> None:
        """After what is left of the queue's own timeout, counted from when it was read; at once for 0."""
        now = monotonic_s()
        for chunk in chunks(ids, MOST_AT_ONCE):
            entries = []
            for at, each in enumerate(chunk):
                receipt, read_at = self._let_go(each)
                left_s = 0 if pause_s == 0 else max(0, round(self._visibility_s - (now - read_at)))
                entries.append({"Id": str(at), "ReceiptHandle": receipt, "VisibilityTimeout": left_s})
            await self._aws.call("change_message_visibility_batch", QueueUrl=self._queue, Entries=entries)

    async def give_up(self, ids: Sequence[str]) -> None:
        """What no event can hold: the queue's own rules say where it goes."""
        await self.give_back(ids, None)

    async def lag(self) -> int | None:
        found = await self._aws.call(
            "get_queue_attributes", QueueUrl=self._queue, AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(found["Attributes"]["ApproximateNumberOfMessages"])

    def _let_go(self, message_id: str) -> tuple[str, float]:
        """Its receipt, and when it was read. Before the request: the message may be read again, under another
        receipt, before the answer to that is here."""
        return self._receipts.pop(message_id), self._read_at.pop(message_id)


def _check(answer: Mapping[str, Any], what: str) -> None:
    if failed := answer.get("Failed"):
        raise SourceFailed(f"{len(failed)} messages were not {what}: {failed[0].get('Message', '')}")


def item_of(message: Mapping[str, Any], arn: str, region: str) -> Item:
    attributes = message.get("Attributes", {})
    shape = {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": attributes,
        "messageAttributes": {
            name: _attribute(value) for name, value in message.get("MessageAttributes", {}).items()
        },
        "md5OfBody": message.get("MD5OfBody", ""),
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": region,
    }
    body = json.dumps(shape).encode()
    record = Record(
        message["MessageId"],
        len(body) + 1,
        attributes.get("MessageGroupId", ""),
        int(attributes.get("SentTimestamp", 0)) / 1000,
        int(attributes.get("ApproximateReceiveCount", 1)),
    )
    return Item(record, body, {**shape, "body": Text(message["Body"])})


def _attribute(value: Mapping[str, Any]) -> dict[str, Any]:
    shape: dict[str, Any] = {"stringListValues": [], "binaryListValues": [], "dataType": value["DataType"]}
    if "StringValue" in value:
        shape["stringValue"] = value["StringValue"]
    if "BinaryValue" in value:
        shape["binaryValue"] = base64.b64encode(value["BinaryValue"]).decode()
    return shape
