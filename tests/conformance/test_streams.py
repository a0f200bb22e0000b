"""InvokeWithResponseStream as boto3 sees it. What has to come before an answer's end is held there by a pipe
that the function opens in the middle, and the test when it has read so far."""

import base64
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conformance.conftest import package
from tests.conformance.test_functions import create

pytestmark = pytest.mark.conformance

S = "streams"

SOURCE = """
exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {
  if (event.throws === 'at once') throw new TypeError('too early');
  if (event.status) stream = awslambda.HttpResponseStream.from(stream, { statusCode: event.status });
  console.log('here I am');
  stream.write('first');
  if (event.pipe) await require('node:fs').promises.readFile(event.pipe);
  if (event.throws) throw new TypeError('too late');
  for (let left = event.megabytes ?? 0; left > 0; left--) {
    if (!stream.write(Buffer.alloc(1e6))) await new Promise((go) => stream.once('drain', go));
  }
  stream.write(`second ${context.awsRequestId}`);
  stream.end();
});
"""


@pytest.fixture(scope="module", autouse=True)
def deployed(aws: Any) -> None:
    create(aws, "plain")
    create(
        aws,
        S,
        Code={"ZipFile": package(SOURCE, "index.js")},
        Runtime="nodejs",
        Handler="index.handler",
        Timeout=20,
        Publish=True,
    )
    aws.create_alias(FunctionName=S, Name="live", FunctionVersion="1")


def stream(aws: Any, event: object, **fields: Any) -> tuple[Any, Iterator[dict[str, Any]]]:
    """The answer, and its events as they come."""
    fields = {"FunctionName": S, "Payload": json.dumps(event).encode()} | fields
    answer = aws.invoke_with_response_stream(**fields)
    return answer, iter(answer["EventStream"])


def joined(events: Iterator[dict[str, Any]]) -> tuple[bytes, Any]:
    """All of the parts, and the last event."""
    *parts, last = events
    return b"".join(part["PayloadChunk"]["Payload"] for part in parts), last["InvokeComplete"]


def test_parts_as_they_come(aws: Any, tmp_path: Path) -> None:
    """The first is here while the function still waits for the test."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    answer, events = stream(aws, {"pipe": str(pipe)})
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert answer["ResponseStreamContentType"] == "application/vnd.amazon.eventstream"
    request = answer["ResponseMetadata"]["RequestId"]
    assert next(events) == {"PayloadChunk": {"Payload": b"first"}}
    opening = threading.Thread(target=lambda: os.close(os.open(pipe, os.O_WRONLY)), daemon=True)
    opening.start()
    assert joined(events) == (f"second {request}".encode(), {})
    opening.join(20)


def test_the_log_comes_last(aws: Any) -> None:
    _, events = stream(aws, {}, LogType="Tail")
    _, complete = joined(events)
    log = base64.b64decode(complete["LogResult"]).decode()
    assert "here I am" in log
    assert "REPORT RequestId: " in log


@pytest.mark.parametrize(
    ("event", "parts", "message"),
    [({"throws": "at once"}, b"", "too early"), ({"throws": "late"}, b"first", "too late")],
    ids=["before the first part", "in the middle"],
)
def test_a_function_that_fails(aws: Any, event: object, parts: bytes, message: str) -> None:
    """Status 200, what it had written, and the error with the last event."""
    answer, events = stream(aws, event)
    came, complete = joined(events)
    assert (answer["StatusCode"], came, complete["ErrorCode"]) == (200, parts, "Unhandled")
    document = json.loads(complete["ErrorDetails"])
    assert (document["errorType"], document["errorMessage"]) == ("TypeError", message)


def test_the_head_of_an_http_answer(aws: Any) -> None:
    """It is passed on as it is: this is no function URL."""
    came, _ = joined(stream(aws, {"status": 201})[1])
    assert came.startswith(b'{"statusCode":201}' + bytes(8) + b"first")


def test_more_than_an_answer_in_one_piece_may_have(aws: Any) -> None:
    came, complete = joined(stream(aws, {"megabytes": 20})[1])
    assert len(came) > 20_000_000
    assert complete == {}


def test_a_streaming_function_invoked_as_any_other(aws: Any) -> None:
    """It answers whole, within the limit of such answers."""
    answer = aws.invoke(FunctionName=S, Payload=b'{"megabytes": 5}')
    assert len(answer["Payload"].read()) > 5_000_000
    assert "FunctionError" not in answer
    answer = aws.invoke(FunctionName=S, Payload=b'{"megabytes": 7}')
    assert answer["FunctionError"] == "Unhandled"
    assert json.loads(answer["Payload"].read())["errorType"] == "Function.ResponseSizeTooLarge"


def test_a_function_that_does_not_stream(aws: Any) -> None:
    came, complete = joined(stream(aws, {"a": "ü"}, FunctionName="plain")[1])
    assert (json.loads(came), complete) == ({"a": "ü"}, {})


def test_names_of_streams(aws: Any) -> None:
    for fields in ({"Qualifier": "live"}, {"FunctionName": f"{S}:1"}):
        answer, events = stream(aws, {}, **fields)
        assert answer["ExecutedVersion"] == "1"
        assert joined(events)[0].startswith(b"firstsecond ")


def test_a_dry_run_of_a_stream(aws: Any) -> None:
    answer, events = stream(aws, {}, InvocationType="DryRun")
    assert (answer["StatusCode"], answer["ExecutedVersion"], list(events)) == (204, "$LATEST", [])


def test_errors_of_the_service(aws: Any) -> None:
    """Before the first part they are raised by the call, as for Invoke."""
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.invoke_with_response_stream(FunctionName="nobody")
    with pytest.raises(aws.exceptions.InvalidRequestContentException):
        aws.invoke_with_response_stream(FunctionName=S, Payload=b"{")
    with pytest.raises(ClientError, match="smaller than 6291556 bytes for the InvokeWithResponseStream"):
        aws.invoke_with_response_stream(FunctionName=S, Payload=b'"' + bytes(7_000_000) + b'"')
