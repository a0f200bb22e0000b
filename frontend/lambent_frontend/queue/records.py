"""What a destination gets of an event that ended: Lambda's invocation record, or the event itself."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from lambent_frontend.queue.core.verdict import Condition
from lambent_frontend.queue.store import Event
from lambent_proto.definition import LATEST
from lambent_proto.ids import ACCOUNT, REGION
from lambent_proto.tracing import made

_MOST_MESSAGE: Final = 1024
"""Characters of an error's message that go with a dead letter: Lambda's."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is sent: a body of JSON, and what goes beside it where the destination has a place for that."""

    id: str
    """The event's: the same one when it is sent again."""
    body: bytes
    attributes: dict[str, str]
    turn: int = 0
    """Of the event: Asked.turn."""
    trace: str = ""
    """What the event's call carried."""


def invocation_record(event: Event, payload: bytes, answer: bytes) -> Record:
    """As Lambda's destinations get it."""
    ending, asked = event.ending, event.asked
    assert ending is not None
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{asked.function}:{asked.qualifier or LATEST}"
    body: dict[str, Any] = {
        "version": "1.0",
        "timestamp": _moment(ending.ended),
        "requestContext": {
            "requestId": event.id,
            "functionArn": arn,
            "condition": ending.condition,
            "approximateInvokeCount": event.tally.attempts + event.tally.breaks,
        },
        "requestPayload": _decoded(payload),
    }
    if ending.version:
        context: dict[str, Any] = {"statusCode": 200, "executedVersion": ending.version}
        if ending.failed:
            context["functionError"] = "Unhandled"
        body |= {"responseContext": context, "responsePayload": _decoded(answer)}
    return Record(event.id, json.dumps(body).encode(), {}, asked.turn, _trace(event))


def dead_letter(event: Event, payload: bytes, answer: bytes) -> Record:
    """As Lambda's dead-letter queues get it: the event as it came, and why beside it."""
    ending = event.ending
    assert ending is not None
    code = "200" if ending.failed else "429" if ending.condition == _OFF else "500"
    said = _decoded(answer) if ending.failed else ending.message or ending.condition
    message = said.get("errorMessage", "") if isinstance(said, dict) else said
    attributes = {
        "RequestID": event.id,
        "ErrorCode": code,
        "ErrorMessage": str(message)[:_MOST_MESSAGE],
    }
    return Record(event.id, payload, attributes, event.asked.turn, _trace(event))


_OFF: Final = Condition.ZERO_RESERVED_CONCURRENCY.value


def _trace(event: Event) -> str:
    return event.asked.trace or made(event.id)


def _decoded(payload: bytes) -> Any:
    """What is no JSON goes as text."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return payload.decode(errors="replace")


def _moment(unix_s: float) -> str:
    at = datetime.fromtimestamp(unix_s, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
