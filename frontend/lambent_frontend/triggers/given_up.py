"""What a destination is told of records that were given up, in the form that Lambda's has for streams."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from lambent_chassis import clock
from lambent_frontend.triggers.calls import Ended
from lambent_frontend.triggers.core.messages import Discard
from lambent_frontend.triggers.sources.base import Item
from lambent_proto.ids import ACCOUNT, REGION
from lambent_proto.triggers import Trigger

_INFO: Final = {"kinesis": "KinesisBatchInfo"}


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
    if trigger.is_stream:
        told[_INFO[trigger.kind]] = _info(trigger, items)
    else:
        told["payload"] = {"records": [item.body.decode() for item in items]}
    return told


def _info(trigger: Trigger, items: Sequence[Item]) -> dict[str, Any]:
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


def _moment(unix_s: float) -> str:
    at = datetime.fromtimestamp(unix_s, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
