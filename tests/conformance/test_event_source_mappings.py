"""Event source mappings as AWS's clients make, see, change and delete them."""

import json
import time
from collections.abc import Callable
from typing import Any, Final

import pytest
from botocore.exceptions import ClientError

from lambent_chassis.clock import unix_s
from tests.brokers import processes
from tests.brokers.aws import Aws
from tests.conformance.test_functions import ARN, create

pytestmark = pytest.mark.conformance

QUEUE = "arn:aws:sqs:us-east-1:000000000000:"
STREAM = "arn:aws:kinesis:us-east-1:000000000000:stream/s"


KAFKA: Final = {"SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["k:9092"]}}}
"""A server that the fleet's setting `sources` has."""


@pytest.fixture
def queue(sources: Aws, name: str) -> str:
    """A queue that is there, and this test's own."""
    sources.client("sqs").create_queue(QueueName=name)
    return QUEUE + name


def in_state(aws: Any, uuid: str, state: str) -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while True:
        found: dict[str, Any] = aws.get_event_source_mapping(UUID=uuid)
        if found["State"] == state:
            return found
        assert time.monotonic() < deadline, found


def test_a_mapping(aws: Any, name: str, queue: str) -> None:
    """All that is given comes back, and it is soon enabled."""
    create(aws, name)
    pattern = json.dumps({"body": {"a": [1]}})
    created = aws.create_event_source_mapping(
        FunctionName=name,
        EventSourceArn=queue,
        BatchSize=20,
        MaximumBatchingWindowInSeconds=1,
        FilterCriteria={"Filters": [{"Pattern": pattern}]},
        ScalingConfig={"MaximumConcurrency": 7},
        FunctionResponseTypes=["ReportBatchItemFailures"],
    )
    assert created["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert created["State"] in ("Creating", "Enabled")
    shown = in_state(aws, created["UUID"], "Enabled")
    assert shown["FunctionArn"] == ARN + name
    assert shown["EventSourceArn"] == queue
    assert (shown["BatchSize"], shown["MaximumBatchingWindowInSeconds"]) == (20, 1)
    assert shown["FilterCriteria"] == {"Filters": [{"Pattern": pattern}]}
    assert shown["ScalingConfig"] == {"MaximumConcurrency": 7}
    assert shown["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert shown["LastProcessingResult"] == "No records processed"
    assert abs(shown["LastModified"].timestamp() - unix_s()) < 60
    assert "StartingPosition" not in shown
    aws.delete_event_source_mapping(UUID=created["UUID"])


def test_changing_and_deleting(aws: Any, name: str, queue: str) -> None:
    """By way of the states that Lambda has."""
    create(aws, name)
    uuid = aws.create_event_source_mapping(FunctionName=name, EventSourceArn=queue, Enabled=False)["UUID"]
    assert in_state(aws, uuid, "Disabled")["BatchSize"] == 10
    changed = aws.update_event_source_mapping(UUID=uuid, Enabled=True, BatchSize=3)
    assert changed["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert changed["State"] in ("Enabling", "Enabled")
    assert in_state(aws, uuid, "Enabled")["BatchSize"] == 3
    deleted = aws.delete_event_source_mapping(UUID=uuid)
    assert (deleted["ResponseMetadata"]["HTTPStatusCode"], deleted["State"]) == (202, "Deleting")
    deadline = time.monotonic() + 20
    while True:
        try:
            aws.get_event_source_mapping(UUID=uuid)
        except aws.exceptions.ResourceNotFoundException:
            break
        with pytest.raises((aws.exceptions.ResourceInUseException, aws.exceptions.ResourceNotFoundException)):
            aws.update_event_source_mapping(UUID=uuid, BatchSize=1)
        assert time.monotonic() < deadline
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.delete_event_source_mapping(UUID=uuid)


def test_one_for_each_function_and_source(aws: Any, name: str, queue: str) -> None:
    create(aws, name)
    uuid = aws.create_event_source_mapping(FunctionName=name, EventSourceArn=queue, Enabled=False)["UUID"]
    with pytest.raises(aws.exceptions.ResourceConflictException, match=f"already exists.*{uuid}"):
        aws.create_event_source_mapping(FunctionName=name, EventSourceArn=queue)
    aws.publish_version(FunctionName=name)
    aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    other = aws.create_event_source_mapping(FunctionName=f"{name}:live", EventSourceArn=queue, Enabled=False)
    assert other["FunctionArn"] == f"{ARN}{name}:live"
    with pytest.raises(aws.exceptions.ResourceNotFoundException, match="Function not found"):
        aws.create_event_source_mapping(FunctionName="nobody", EventSourceArn=queue)


def test_lists(aws: Any, name: str) -> None:
    """In pages, by function and by source; also over the paginator."""
    create(aws, name)
    arns = [f"{QUEUE}{name}-{n}" for n in range(3)]
    uuids = {
        aws.create_event_source_mapping(FunctionName=name, EventSourceArn=arn, Enabled=False)["UUID"]
        for arn in arns
    }
    first = aws.list_event_source_mappings(FunctionName=name, MaxItems=2)
    assert len(first["EventSourceMappings"]) == 2
    rest = aws.list_event_source_mappings(FunctionName=name, Marker=first["NextMarker"])
    assert "NextMarker" not in rest
    found = first["EventSourceMappings"] + rest["EventSourceMappings"]
    assert {it["UUID"] for it in found} == uuids
    [one] = aws.list_event_source_mappings(EventSourceArn=arns[1])["EventSourceMappings"]
    assert one["EventSourceArn"] == arns[1]
    pages = aws.get_paginator("list_event_source_mappings").paginate(FunctionName=name)
    assert {it["UUID"] for page in pages for it in page["EventSourceMappings"]} == uuids
    assert aws.list_event_source_mappings(FunctionName="nobody")["EventSourceMappings"] == []


def test_streams(aws: Any, name: str) -> None:
    """What Lambda has of them, with its defaults."""
    create(aws, name)
    given = {"FunctionName": name, "EventSourceArn": STREAM, "Enabled": False}
    with pytest.raises(aws.exceptions.InvalidParameterValueException, match="StartingPosition"):
        aws.create_event_source_mapping(**given)
    made = aws.create_event_source_mapping(
        **given,
        StartingPosition="AT_TIMESTAMP",
        StartingPositionTimestamp=1_700_000_000,
        ParallelizationFactor=2,
        BisectBatchOnFunctionError=True,
        MaximumRetryAttempts=3,
        DestinationConfig={"OnFailure": {"Destination": f"{QUEUE}dead"}},
    )
    assert made["StartingPositionTimestamp"].timestamp() == 1_700_000_000
    assert (made["ParallelizationFactor"], made["BisectBatchOnFunctionError"]) == (2, True)
    assert (made["MaximumRetryAttempts"], made["MaximumRecordAgeInSeconds"]) == (3, -1)
    assert made["BatchSize"] == 100
    assert made["DestinationConfig"]["OnFailure"]["Destination"] == f"{QUEUE}dead"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"EventSourceArn": "arn:aws:sns:us-east-1:000000000000:b"}, "Unrecognized event source"),
        ({"EventSourceArn": "arn:aws:sqs:us-east-1:000000000000:a/b"}, "is no ARN of sqs"),
        ({}, "Unrecognized event source"),
        (
            {
                "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["evil:9092"]}},
                "Topics": ["t"],
                "StartingPosition": "LATEST",
            },
            "no Kafka with the servers evil:9092 is known here",
        ),
        ({**KAFKA, "StartingPosition": "LATEST"}, "needs a queue (Queues) or a topic (Topics)"),
        ({**KAFKA, "Topics": ["t"]}, "needs a StartingPosition"),
        ({**KAFKA, "Topics": ["a b"], "StartingPosition": "LATEST"}, "is no name of a topic"),
        (
            {**KAFKA, "Topics": ["t"], "StartingPosition": "LATEST", "ParallelizationFactor": 2},
            "ParallelizationFactor",
        ),
        ({"EventSourceArn": QUEUE + "q", "BatchSize": 11}, "greater than 0 if maximum batch size"),
        ({"EventSourceArn": QUEUE + "q.fifo", "BatchSize": 11}, "FIFO"),
        ({"EventSourceArn": QUEUE + "q", "ScalingConfig": {"MaximumConcurrency": 1001}}, "2 to 1,000"),
        ({"EventSourceArn": QUEUE + "q", "BisectBatchOnFunctionError": True}, "Bisect"),
        ({"EventSourceArn": QUEUE + "q", "StartingPosition": "LATEST"}, "StartingPosition"),
        (
            {"EventSourceArn": QUEUE + "q", "FilterCriteria": {"Filters": [{"Pattern": '{"a": 1}'}]}},
            "filter 1: at a: what a field may be stands in a list",
        ),
        (
            {"EventSourceArn": STREAM, "StartingPosition": "LATEST", "ParallelizationFactor": 11},
            "ParallelizationFactor is 11",
        ),
        (
            {"EventSourceArn": STREAM, "StartingPosition": "LATEST", "MaximumRecordAgeInSeconds": 59},
            "MaximumRecordAgeInSeconds is 59",
        ),
    ],
)
def test_what_is_wrong(aws: Any, once: Any, name: str, given: dict[str, Any], said: str) -> None:
    """A clear error, and nothing is made."""
    create(aws, name)
    with pytest.raises(once.exceptions.InvalidParameterValueException) as error:
        once.create_event_source_mapping(FunctionName=name, **given)
    assert said in error.value.response["Error"]["Message"]
    assert aws.list_event_source_mappings(FunctionName=name)["EventSourceMappings"] == []


async def test_kafka(aws: Any, name: str, kafka: str) -> None:
    """Of one's own: named by its servers, and shown so; it is soon enabled."""
    create(aws, name)
    await processes.make_topic(kafka, name, 1)
    servers = {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": [kafka.removeprefix("kafka://")]}}
    made = aws.create_event_source_mapping(
        FunctionName=name,
        SelfManagedEventSource=servers,
        Topics=[name],
        StartingPosition="TRIM_HORIZON",
        SelfManagedKafkaEventSourceConfig={"ConsumerGroupId": "team"},
        MaximumRetryAttempts=3,
        FunctionResponseTypes=["ReportBatchItemFailures"],
    )
    shown = in_state(aws, made["UUID"], "Enabled")
    assert "EventSourceArn" not in shown
    assert (shown["SelfManagedEventSource"], shown["Topics"]) == (servers, [name])
    assert shown["SelfManagedKafkaEventSourceConfig"] == {"ConsumerGroupId": "team"}
    assert (shown["BatchSize"], shown["StartingPosition"]) == (100, "TRIM_HORIZON")
    assert shown["MaximumRetryAttempts"] == 3
    assert not {"ParallelizationFactor", "Queues", "ScalingConfig"} & set(shown)
    with pytest.raises(aws.exceptions.ResourceConflictException):
        aws.create_event_source_mapping(
            FunctionName=name, SelfManagedEventSource=servers, Topics=[name], StartingPosition="LATEST"
        )
    aws.delete_event_source_mapping(UUID=made["UUID"])


def test_a_bucket(aws: Any, name: str, sources: Aws) -> None:
    """Lambda has no such source: S3 calls functions itself there. It is as the others are."""
    create(aws, name)
    bucket = name.lower().replace("_", "-")
    sources.client("s3").create_bucket(Bucket=bucket)
    arn = f"arn:aws:s3:::{bucket}/in/"
    made = aws.create_event_source_mapping(FunctionName=name, EventSourceArn=arn)
    shown = in_state(aws, made["UUID"], "Enabled")
    assert (shown["EventSourceArn"], shown["BatchSize"], shown["StartingPosition"]) == (arn, 1, "LATEST")
    with pytest.raises(aws.exceptions.InvalidParameterValueException, match="TRIM_HORIZON or at LATEST"):
        aws.create_event_source_mapping(
            FunctionName=name,
            EventSourceArn=f"arn:aws:s3:::{bucket}",
            StartingPosition="AT_TIMESTAMP",
            StartingPositionTimestamp=1,
        )
    aws.delete_event_source_mapping(UUID=made["UUID"])


def test_kafka_with_the_command_line(aws: Any, cli: Callable[..., Any], name: str) -> None:
    create(aws, name)
    servers = json.dumps(KAFKA["SelfManagedEventSource"])
    made = cli(
        "create-event-source-mapping", "--function-name", name, "--self-managed-event-source", servers,
        "--topics", "t", "--starting-position", "LATEST", "--no-enabled",
    )  # fmt: skip
    assert (made["Topics"], made["SelfManagedEventSource"]) == (["t"], KAFKA["SelfManagedEventSource"])
    assert cli("delete-event-source-mapping", "--uuid", made["UUID"])["State"] == "Deleting"


def test_what_is_not_mapped(once: Any, aws: Any, name: str) -> None:
    """What is not there is refused by name."""
    create(aws, name)
    given = {"FunctionName": name, "EventSourceArn": STREAM, "StartingPosition": "LATEST"}
    for more in (
        {"TumblingWindowInSeconds": 30},
        {"AmazonManagedKafkaEventSourceConfig": {"ConsumerGroupId": "g"}},
        {"KMSKeyArn": "arn:aws:kms:us-east-1:000000000000:key/k"},
        {"DestinationConfig": {"OnSuccess": {"Destination": QUEUE + "q"}}},
    ):
        with pytest.raises(ClientError) as error:
            once.create_event_source_mapping(**given, **more)
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501


def test_with_the_command_line(aws: Any, cli: Callable[..., Any], name: str, queue: str) -> None:
    create(aws, name)
    made = cli(
        "create-event-source-mapping", "--function-name", name, "--event-source-arn", queue, "--no-enabled"
    )
    listed = cli("list-event-source-mappings", "--function-name", name)
    assert [it["UUID"] for it in listed["EventSourceMappings"]] == [made["UUID"]]
    changed = cli("update-event-source-mapping", "--uuid", made["UUID"], "--batch-size", "5")
    assert changed["BatchSize"] == 5
    assert cli("get-event-source-mapping", "--uuid", made["UUID"])["BatchSize"] == 5
    assert cli("delete-event-source-mapping", "--uuid", made["UUID"])["State"] == "Deleting"
