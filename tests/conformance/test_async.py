"""Asynchronous invocation as AWS's clients ask for it: 202, retries, and where what became of it is sent."""

import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lambent_chassis.clock import monotonic_s
from tests.conformance.conftest import client
from tests.conformance.test_functions import ARN, create
from tests.e2e.by_hand import by_hand
from tests.e2e.fleet import Fleet

pytestmark = pytest.mark.conformance

WITHIN_S = 20.0


class Webhook:
    """What was posted to it: body and headers."""

    def __init__(self) -> None:
        self.posted: Queue[tuple[Any, dict[str, str]]] = Queue()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.posted.put((json.loads(body), dict(self.headers)))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def next(self) -> tuple[Any, dict[str, str]]:
        return self.posted.get(timeout=WITHIN_S)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    hook = Webhook()
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


def ask(fleet: Fleet, method: str, path: str, **headers: str) -> tuple[int, Any, dict[str, str]]:
    """One of Lambent's own operations, which AWS's clients do not have."""
    connection = http.client.HTTPConnection(fleet.http, timeout=WITHIN_S)
    connection.request(method, path, b"", {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, json.loads(body) if body else None, {k.lower(): v for k, v in answer.getheaders()}


def until(fleet: Fleet, name: str, request_id: str, state: str) -> Any:
    """The call once it has come so far."""
    deadline = monotonic_s() + WITHIN_S
    while True:
        status, body, _ = ask(fleet, "GET", f"/lambent/functions/{name}/async-invocations/{request_id}")
        if status == 200 and body["State"] == state:
            return body
        assert monotonic_s() < deadline, (status, body)


def begin(aws: Any, name: str, payload: object, **more: Any) -> str:
    answer = aws.invoke(
        FunctionName=name, InvocationType="Event", Payload=json.dumps(payload).encode(), **more
    )
    assert (answer["StatusCode"], answer["Payload"].read()) == (202, b"")
    return str(answer["ResponseMetadata"]["RequestId"])


def test_an_event_is_taken_and_run(aws: Any, fleet: Fleet, name: str) -> None:
    create(aws, name)
    request_id = begin(aws, name, {"do": "context"})
    done = until(fleet, name, request_id, "succeeded")
    assert (done["Attempts"], done["Condition"], done["ExecutedVersion"]) == (1, "Success", "$LATEST")
    assert done["Payload"]["request"] == request_id


def test_the_command_line_takes_events_too(aws: Any, cli: Callable[..., Any], name: str) -> None:
    create(aws, name)
    assert (
        cli("invoke", "--function-name", name, "--invocation-type", "Event", "/dev/null")["StatusCode"] == 202
    )


def test_the_old_operation(aws: Any, fleet: Fleet, name: str) -> None:
    create(aws, name)
    answer = aws.invoke_async(FunctionName=name, InvokeArgs=b'{"a": 1}')
    assert answer["Status"] == 202
    request_id = answer["ResponseMetadata"]["RequestId"]
    assert until(fleet, name, request_id, "succeeded")["Payload"] == {"a": 1}


def test_what_is_not_taken(aws: Any, name: str) -> None:
    create(aws, name)
    with pytest.raises(ClientError, match="1048577 byte payload is too large for the Event") as large:
        begin(aws, name, "x" * (1_048_577 - 2))
    assert large.value.response["Error"]["Code"] == "RequestEntityTooLargeException"
    begin(aws, name, "x" * (1_048_576 - 2))
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        begin(aws, "nobody", {})
    with pytest.raises(ClientError, match="Could not parse payload into json"):
        aws.invoke(FunctionName=name, InvocationType="Event", Payload=b"{")


def test_event_invoke_configs(aws: Any, name: str) -> None:
    """As Lambda shows them: put replaces, update changes, each qualifier has its own."""
    create(aws, name)
    before = datetime.now(UTC) - timedelta(seconds=5)
    put = aws.put_function_event_invoke_config(
        FunctionName=name,
        MaximumRetryAttempts=1,
        MaximumEventAgeInSeconds=60,
        DestinationConfig={"OnFailure": {"Destination": ARN + "other"}},
    )
    assert put["FunctionArn"] == ARN + name + ":$LATEST"
    assert (put["MaximumRetryAttempts"], put["MaximumEventAgeInSeconds"]) == (1, 60)
    assert put["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {"Destination": ARN + "other"}}
    assert put["LastModified"] > before
    changed = aws.update_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    assert (changed["MaximumRetryAttempts"], changed["MaximumEventAgeInSeconds"]) == (0, 60)
    assert aws.get_function_event_invoke_config(FunctionName=name)["MaximumRetryAttempts"] == 0
    replaced = aws.put_function_event_invoke_config(FunctionName=name, MaximumEventAgeInSeconds=100)
    assert "MaximumRetryAttempts" not in replaced
    version = aws.publish_version(FunctionName=name)["Version"]
    aws.put_function_event_invoke_config(FunctionName=name, Qualifier=version, MaximumRetryAttempts=2)
    listed = aws.list_function_event_invoke_configs(FunctionName=name)["FunctionEventInvokeConfigs"]
    assert {it["FunctionArn"].rpartition(":")[2] for it in listed} == {"$LATEST", version}
    aws.delete_function_event_invoke_config(FunctionName=name)
    with pytest.raises(aws.exceptions.ResourceNotFoundException, match="doesn't have an EventInvokeConfig"):
        aws.get_function_event_invoke_config(FunctionName=name)
    with pytest.raises(aws.exceptions.ResourceNotFoundException, match="doesn't have an EventInvokeConfig"):
        aws.update_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    aws.delete_function(FunctionName=name, Qualifier=version)
    create_again = aws.list_function_event_invoke_configs(FunctionName=name)["FunctionEventInvokeConfigs"]
    assert create_again == []


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"MaximumRetryAttempts": 3}, "maximumRetryAttempts"),
        ({"MaximumEventAgeInSeconds": 59}, "59; allowed: 60 to 21,600"),
        (
            {"DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sns:us-east-1:0:t"}}},
            "is no destination",
        ),
        ({"Qualifier": "nobody"}, "Function not found"),
    ],
)
def test_what_is_not_configured(aws: Any, fleet: Fleet, name: str, given: dict[str, Any], error: str) -> None:
    create(aws, name)
    unchecked = client(fleet.http, parameter_validation=False)  # boto3 knows some of Lambda's ranges itself
    with pytest.raises(ClientError, match=error):
        unchecked.put_function_event_invoke_config(FunctionName=name, **given)


def test_a_success_is_told_to_its_destination(aws: Any, name: str, webhook: Webhook) -> None:
    """In Lambda's record."""
    create(aws, name)
    destinations = {"OnSuccess": {"Destination": webhook.url}}
    aws.put_function_event_invoke_config(FunctionName=name, DestinationConfig=destinations)
    request_id = begin(aws, name, {"a": 1})
    record, headers = webhook.next()
    assert headers["x-lambent-request-id"] == request_id
    assert datetime.fromisoformat(record.pop("timestamp")) > datetime.now(UTC) - timedelta(minutes=1)
    assert record == {
        "version": "1.0",
        "requestContext": {
            "requestId": request_id,
            "functionArn": ARN + name + ":$LATEST",
            "condition": "Success",
            "approximateInvokeCount": 1,
        },
        "requestPayload": {"a": 1},
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
        "responsePayload": {"a": 1},
    }


def test_a_failure_is_told_to_both_of_its_destinations(
    aws: Any, fleet: Fleet, name: str, webhook: Webhook
) -> None:
    """The record to one, the event itself to the dead-letter queue."""
    create(aws, name)
    aws.update_function_configuration(FunctionName=name, DeadLetterConfig={"TargetArn": webhook.url})
    shown = aws.get_function_configuration(FunctionName=name)
    assert shown["DeadLetterConfig"] == {"TargetArn": webhook.url}
    destinations = {"OnFailure": {"Destination": webhook.url}}
    aws.put_function_event_invoke_config(
        FunctionName=name, MaximumRetryAttempts=0, DestinationConfig=destinations
    )
    request_id = begin(aws, name, {"do": "raise"})
    record, _ = webhook.next()
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["responseContext"]["functionError"] == "Unhandled"
    assert record["responsePayload"]["errorMessage"] == "no such thing"
    event, headers = webhook.next()
    assert event == {"do": "raise"}
    attributes = [headers[f"x-lambent-{it}"] for it in ("RequestID", "ErrorCode", "ErrorMessage")]
    assert attributes == [request_id, "200", "no such thing"]
    assert until(fleet, name, request_id, "failed")["FunctionError"] == "Unhandled"
    aws.update_function_configuration(FunctionName=name, DeadLetterConfig={"TargetArn": ""})
    assert "DeadLetterConfig" not in aws.get_function_configuration(FunctionName=name)


def test_a_function_as_destination(aws: Any, name: str, webhook: Webhook) -> None:
    """It is called with the record."""
    create(aws, name)
    create(aws, name + "-told")
    told = {"OnSuccess": {"Destination": webhook.url}}
    aws.put_function_event_invoke_config(FunctionName=name + "-told", DestinationConfig=told)
    destinations = {"OnSuccess": {"Destination": ARN + name + "-told"}}
    aws.put_function_event_invoke_config(FunctionName=name, DestinationConfig=destinations)
    request_id = begin(aws, name, 7)
    record, _ = webhook.next()
    assert record["requestPayload"]["requestContext"]["requestId"] == request_id
    assert record["requestPayload"]["responsePayload"] == 7


def test_what_is_switched_off_is_given_up_at_once(
    aws: Any, fleet: Fleet, name: str, webhook: Webhook
) -> None:
    create(aws, name)
    aws.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    destinations = {"OnFailure": {"Destination": webhook.url}}
    aws.put_function_event_invoke_config(FunctionName=name, DestinationConfig=destinations)
    begin(aws, name, {})
    record, _ = webhook.next()
    assert record["requestContext"]["condition"] == "ZeroReservedConcurrency"
    assert record["requestContext"]["approximateInvokeCount"] == 0
    assert "responsePayload" not in record


def test_look_up_cancel_and_run_again(aws: Any, fleet: Fleet, name: str) -> None:
    """What Lambda has no word for: docs/async.md."""
    create(aws, name)
    of = f"/lambent/functions/{name}/async-invocations"
    aws.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    dead = begin(aws, name, {"do": "raise"})
    found = until(fleet, name, dead, "dead")
    assert found["Payload"]["errorMessage"] == "no such thing"
    assert ask(fleet, "DELETE", f"{of}/{dead}")[0] == 409
    aws.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=2)
    status, again, _ = ask(fleet, "POST", f"{of}/{dead}/redrive")
    assert (status, again["Attempts"]) == (202, 0)
    assert until(fleet, name, dead, "retrying")["Attempts"] == 1
    assert ask(fleet, "POST", f"{of}/{dead}/redrive")[0] == 409
    status, cancelled, _ = ask(fleet, "DELETE", f"{of}/{dead}")
    assert (status, cancelled["State"]) == (200, "cancelled")
    listed = ask(fleet, "GET", f"{of}?State=cancelled")[1]["AsyncInvocations"]
    assert [it["RequestId"] for it in listed] == [dead]
    assert ask(fleet, "GET", f"{of}/00000000-0000-4000-a000-000000000000")[0] == 404
    assert ask(fleet, "GET", f"{of}?State=nonsense")[0] == 400


def test_an_idempotency_key_makes_one_call_of_several(aws: Any, fleet: Fleet, name: str) -> None:
    create(aws, name)
    path = f"/2015-03-31/functions/{name}/invocations"
    event = {"x_amz_invocation_type": "Event", "x_lambent_idempotency_key": "order-7"}
    ids = {ask(fleet, "POST", path, **event)[2]["x-amzn-requestid"] for _ in range(3)}
    assert len(ids) == 1
    answers = [ask(fleet, "POST", path, x_lambent_idempotency_key="order-8") for _ in range(3)]
    assert {(status, json.dumps(body), said["x-amzn-requestid"]) for status, body, said in answers} == {
        (200, "{}", answers[0][2]["x-amzn-requestid"])
    }
    status, _, said = ask(fleet, "POST", path, x_lambent_idempotency_key="order-7")
    assert (status, said["x-lambent-error"]) == (400, "INVALID_REQUEST")


def test_a_queue_without_room_takes_nothing(fleet: Fleet, aws: Any, name: str) -> None:
    """503, which AWS's clients send again, over HTTP; what was taken stays."""
    create(aws, name)
    aws.put_function_concurrency(
        FunctionName=name, ReservedConcurrentExecutions=0
    )  # each is kept, and never runs
    with by_hand(fleet, "frontend", "small-queue", grpc_port=0, http_port=0, queue_mb=1) as part:
        its = client(part.addresses["http"], retries={"total_max_attempts": 1})
        taken, refused = 0, None
        while refused is None and taken < 20:
            try:
                begin(its, name, "x" * 100_000)
                taken += 1
            except ClientError as error:
                refused = error
        assert 5 <= taken <= 9
        assert refused is not None
        answer = refused.response
        assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (
            "ServiceException",
            503,
        )
        assert answer["ResponseMetadata"]["HTTPHeaders"]["x-lambent-error"] == "QUEUE_FULL"
        assert "nothing was kept" in answer["Error"]["Message"]
        done = subprocess.run(
            [sys.executable, "-m", "lambent", "async", "ls", name, "--state", "dead", "--json"],
            env=os.environ | {"LAMBENT_ENDPOINT": part.addresses["grpc"]},
            capture_output=True,
            check=True,
        )
        assert len(json.loads(done.stdout)) == taken
