"""What a destination is told of records that were given up, in the form that Lambda's has for streams."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from lambent_chassis import clock
from lambent_frontend.triggers.calls import Ended
from lambent_frontend.triggers.core.messages import Discard
from lambent_frontend.triggers.sources.base import Item
from lambent_proto.ids import ACCOUNT, REGION
from lambent_proto.triggers import Trigger


def record_of(
    trigger: Trigger, discard: Discard, items: Sequence[Item], ended: Ended | None
) -> dict[str, Any]:
    """A stream's has places alone, as it keeps the records. A queue's carries them: it does not."""
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{trigger.asked}"
    told: dict[str, Any] = {
        "requestContext": {
            "requestId": ended.request_id if ended else "",
            "functionArn": arn,
            "condition": discard.condition,
            "approximateInvokeCount": discard.calls,
        },
        "version": "1.0",
        "timestamp": _moment(clock.unix_s()),
    }
    if ended is not None and ended.version:
        told["responseContext"] = {"statusCode": 200, "executedVersion": ended.version}
        if ended.function_error:
            told["responseContext"]["functionError"] = "Unhandled"
    if trigger.kind == "kinesis":
        told["KinesisBatchInfo"] = _kinesis(trigger, items)
    elif trigger.kind == "kafka":
        told["KafkaBatchInfo"] = _kafka(trigger, items)
    else:
        told["payload"] = {"records": [item.body.decode() for item in items]}
    return told


def _kinesis(trigger: Trigger, items: Sequence[Item]) -> dict[str, Any]:
    first, last = items[0], items[-1]
    return {
        "shardId": first.view["shardId"],
        "startSequenceNumber": first.record.id,
        "endSequenceNumber": last.record.id,
        "approximateArrivalOfFirstRecord": _moment(first.record.written_at),
        "approximateArrivalOfLastRecord": _moment(last.record.written_at),
        "batchSize": len(items),
        "streamArn": trigger.source,
    }


def _kafka(trigger: Trigger, items: Sequence[Item]) -> dict[str, Any]:
    first, last = items[0], items[-1]
    info = {
        "firstRecordOffset": str(first.view["offset"]),
        "lastRecordOffset": str(last.view["offset"]),
        "firstRecordTimestamp": _moment(first.record.written_at),
        "lastRecordTimestamp": _moment(last.record.written_at),
    }
    return {
        "batchSize": len(items),
        "eventSourceArn": trigger.source,
        "bootstrapServers": ",".join(trigger.servers),
        "payloadSize": sum(item.record.size for item in items),
        "recordsInfo": {f"{first.view['topic']}-{first.view['partition']}": info},
    }


def _moment(unix_s: float) -> str:
    at = datetime.fromtimestamp(unix_s, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
