"""Who may make a trigger over HTTP: of its function, and of a function that hears of its failures."""

import json

import pytest

from lambent_frontend.catalogue import Catalogue
from lambent_frontend.http.api import Api
from lambent_frontend.http.gate import Locked
from lambent_frontend.http.messages import Request
from lambent_frontend.http.triggers import TriggerOperations
from lambent_frontend.queue.adapters import adapters
from lambent_frontend.queue.destinations import Destinations
from lambent_frontend.triggers.store import TriggerStore
from lambent_frontend.triggers.triggers import Triggers
from lambent_proto.access import AccessKey, Rule, new_access_key
from lambent_proto.errors import InvalidRequest
from lambent_proto.v1 import triggers_pb2
from tests.unit.scripted import AnyFunction, Known

ARN = "arn:aws:lambda:us-east-1:000000000000:function:"


async def status(key: AccessKey, **given: object) -> int:
    """Nothing is reached behind the checks: no function is there, which is a 404."""
    triggers = Triggers(TriggerStore(None), Catalogue(None, lambda *_: None), lambda _: None, {})  # type: ignore[arg-type]
    api = Api(TriggerOperations(triggers).operations(), Locked(Known(key)))
    body = {"EventSourceArn": "arn:aws:sqs:us-east-1:000000000000:q", **given}
    headers = {b"authorization": f"Bearer {key.token}".encode()}
    path = "/2015-03-31/event-source-mappings"
    return (await api.answer(Request("POST", path, headers=headers, body=json.dumps(body).encode()))).status


@pytest.mark.parametrize(
    ("function", "destination", "expected"),
    [
        ("mine-1", "", 404),
        (f"{ARN}mine-1:live", "", 404),
        ("yours", "", 403),
        (f"{ARN}yours", "", 403),
        ("mine-1", f"{ARN}mine-2", 404),
        ("mine-1", f"{ARN}yours", 403),
        ("mine-1", f"{ARN}yours:live", 403),
    ],
)
async def test_who_may(function: str, destination: str, expected: int) -> None:
    rules = [Rule.parse("CreateEventSourceMapping@mine-1"), Rule.parse("InvokeFunction@mine-2")]
    key = new_access_key(rules, "", 0.0)
    config = {"OnFailure": {"Destination": destination}}
    assert await status(key, FunctionName=function, DestinationConfig=config) == expected


async def test_a_queue_that_nothing_may_be_sent_to_is_no_destination() -> None:
    """Else whoever may make triggers would send with the frontend's own credentials."""
    allowed = Destinations(adapters({}), (), {}).check
    triggers = Triggers(TriggerStore(None), AnyFunction(), allowed, {})  # type: ignore[arg-type]
    settings = triggers_pb2.TriggerSettings(on_failure="arn:aws:sqs:us-east-1:000000000000:dead")
    with pytest.raises(InvalidRequest, match="this fleet sends nothing to"):
        await triggers.create_trigger(
            triggers_pb2.CreateTriggerRequest(
                function_name="f:live",
                source="arn:aws:kinesis:us-east-1:000000000000:stream/s",
                starting_position="LATEST",
                settings=settings,
            )
        )
