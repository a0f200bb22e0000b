"""What a function is invoked with at one of a schedule's times."""

import json
from datetime import UTC, datetime
from hashlib import blake2b

from lambent_frontend.schedules.schedule import Schedule
from lambent_proto.ids import ACCOUNT, REGION, RequestId


def request_id_of(name: str, due: float) -> RequestId:
    """The same one wherever it is made, so that an event which is put twice can be told; a UUID in form."""
    digits = blake2b(f"{name} {due}".encode(), digest_size=16).hexdigest()
    return RequestId(f"{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-a{digits[17:20]}-{digits[20:]}")


def event_of(schedule: Schedule, due: float, request_id: RequestId) -> bytes:
    """The schedule's own, or else one of the shape of EventBridge's scheduled events."""
    if schedule.event:
        return schedule.event
    event = {
        "version": "0",
        "id": request_id,
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT,
        "time": datetime.fromtimestamp(due, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": REGION,
        "resources": [f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{schedule.name}"],
        "detail": {},
    }
    return json.dumps(event).encode()
