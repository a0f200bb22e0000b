"""Invoke as boto3 and the command line of AWS see it."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conformance.test_functions import create

pytestmark = pytest.mark.conformance

F = "invoked"


@pytest.fixture(scope="module", autouse=True)
def deployed(aws: Any) -> None:
    create(aws, F, Timeout=2, Publish=True)
    aws.create_alias(FunctionName=F, Name="live", FunctionVersion="1")
    create(aws, "off")
    aws.put_function_concurrency(FunctionName="off", ReservedConcurrentExecutions=0)


def call(aws: Any, event: object, **fields: Any) -> tuple[Any, dict[str, Any]]:
    """The answer's payload, and the rest of the answer."""
    fields = {"FunctionName": F, "Payload": json.dumps(event).encode()} | fields
    answer = aws.invoke(**fields)
    return json.loads(answer["Payload"].read()), answer


def test_request_and_response(aws: Any) -> None:
    """The event comes back; version, status and request id are where the client looks for them."""
    payload, answer = call(aws, {"größe": [1, None, "🐑"]})
    assert payload == {"größe": [1, None, "🐑"]}
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert "FunctionError" not in answer
    assert "LogResult" not in answer
    assert len(answer["ResponseMetadata"]["RequestId"]) == 36
    assert answer["ResponseMetadata"]["HTTPHeaders"]["x-lambent-start"] in ("cold", "warm")
    assert answer["ResponseMetadata"]["RetryAttempts"] == 0


def test_no_event_and_no_answer(aws: Any) -> None:
    """Without a payload the event is `{}`; a function that returns nothing answers null."""
    assert json.loads(aws.invoke(FunctionName=F)["Payload"].read()) == {}
    assert call(aws, {"do": "nothing"})[0] is None


def test_the_log(aws: Any) -> None:
    """The last 4 KB, base64, when asked for."""
    _, answer = call(aws, {"do": "print", "text": "here I am"}, LogType="Tail")
    log = base64.b64decode(answer["LogResult"]).decode()
    assert "here I am" in log
    assert f"REPORT RequestId: {answer['ResponseMetadata']['RequestId']}" in log


@pytest.mark.parametrize(
    ("event", "error_type", "message"),
    [
        ({"do": "raise"}, "ValueError", "no such thing"),
        ({"do": "exit"}, "Runtime.ExitError", "exit status 7"),
        ({"do": "sleep", "s": 30}, "Sandbox.Timedout", "Task timed out after 2.00 seconds"),
    ],
    ids=["raises", "exits", "times out"],
)
def test_function_errors(aws: Any, event: object, error_type: str, message: str) -> None:
    """Status 200, FunctionError, and Lambda's document."""
    payload, answer = call(aws, event)
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert payload["errorType"] == error_type
    assert message in payload["errorMessage"]
    assert answer["ResponseMetadata"]["RetryAttempts"] == 0


def test_the_context(aws: Any) -> None:
    """The client context and the request id reach the function, and the ARN says how it was called."""
    context = base64.b64encode(json.dumps({"custom": {"a": "b"}}).encode()).decode()
    payload, answer = call(aws, {"do": "context"}, ClientContext=context, Qualifier="live")
    assert payload["custom"] == {"a": "b"}
    assert payload["request"] == answer["ResponseMetadata"]["RequestId"]
    assert payload["arn"].endswith(f":function:{F}:live")
    assert (payload["version"], answer["ExecutedVersion"]) == ("1", "1")


@pytest.mark.parametrize(
    ("name", "qualifier", "version"),
    [
        (F, "1", "1"),
        (F, "live", "1"),
        (F, "$LATEST", "$LATEST"),
        (f"{F}:live", None, "1"),
        (f"000000000000:function:{F}", None, "$LATEST"),
        (f"arn:aws:lambda:us-east-1:000000000000:function:{F}", None, "$LATEST"),
        (f"arn:aws:lambda:us-east-1:000000000000:function:{F}:1", None, "1"),
    ],
)
def test_names(aws: Any, name: str, qualifier: str | None, version: str) -> None:
    fields = {"FunctionName": name} | ({"Qualifier": qualifier} if qualifier else {})
    assert call(aws, {}, **fields)[1]["ExecutedVersion"] == version


def test_a_dry_run(aws: Any) -> None:
    assert aws.invoke(FunctionName=F, InvocationType="DryRun")["StatusCode"] == 204


def test_a_function_that_is_not_there(aws: Any) -> None:
    with pytest.raises(aws.exceptions.ResourceNotFoundException) as raised:
        aws.invoke(FunctionName="nobody", Qualifier="7")
    error = raised.value.response
    arn = "arn:aws:lambda:us-east-1:000000000000:function:nobody:7"
    assert error["Error"]["Message"] == f"Function not found: {arn}"
    assert (error["ResponseMetadata"]["HTTPStatusCode"], error["Type"]) == (404, "User")


def test_an_event_that_is_no_json(aws: Any) -> None:
    with pytest.raises(aws.exceptions.InvalidRequestContentException, match="Could not parse request body"):
        aws.invoke(FunctionName=F, Payload=b"{")


def test_a_large_event_that_is_no_json(aws: Any) -> None:
    """It is left to the runtime to say so."""
    payload, answer = call(aws, {}, Payload=b'"' + b"a" * 300_000)
    assert answer["FunctionError"] == "Unhandled"
    assert payload["errorType"]


def test_an_event_that_is_too_large(aws: Any) -> None:
    """The client has sent all of it, and reads why it was for nothing."""
    with pytest.raises(ClientError, match="Request must be smaller than 6291556 bytes") as raised:
        aws.invoke(FunctionName=F, Payload=b'"' + bytes(7_000_000) + b'"')
    assert raised.value.response["Error"]["Code"] == "RequestEntityTooLargeException"
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_a_throttle(once: Any) -> None:
    """It says why, by Lambda's name."""
    with pytest.raises(once.exceptions.TooManyRequestsException, match="Rate Exceeded") as raised:
        once.invoke(FunctionName="off")
    error = raised.value.response
    assert error["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 429


def test_tenants_are_not_there(aws: Any) -> None:
    """It says so, and the client does not try again."""
    with pytest.raises(ClientError, match="not there") as raised:
        aws.invoke(FunctionName=F, TenantId="t")
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
    assert raised.value.response["ResponseMetadata"]["RetryAttempts"] == 0


def test_the_command_line(cli: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    said = cli("invoke", "--function-name", F, "--payload", '{"from": "aws"}', str(out))
    assert said == {"StatusCode": 200, "ExecutedVersion": "$LATEST"}
    assert json.loads(out.read_text()) == {"from": "aws"}
