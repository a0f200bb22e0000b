"""Versions, aliases and provisioned concurrency as boto3 manages them."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conformance.test_functions import ARN, OTHER, create

pytestmark = pytest.mark.conformance


@pytest.fixture
def published(aws: Any, name: str) -> str:
    """A function with two versions: 1, and 2 whose code is another."""
    create(aws, name, Publish=True)
    aws.update_function_code(FunctionName=name, ZipFile=OTHER, Publish=True)
    return name


def test_versions(aws: Any, published: str) -> None:
    """Numbers go on; without a change there is no other one; guards hold; pages, the unpublished one
    first."""
    again = aws.publish_version(FunctionName=published)
    assert (again["Version"], again["FunctionArn"]) == ("2", f"{ARN}{published}:2")
    with pytest.raises(aws.exceptions.InvalidParameterValueException, match="CodeSHA256"):
        aws.publish_version(FunctionName=published, CodeSha256="bm8=")
    with pytest.raises(aws.exceptions.PreconditionFailedException):
        aws.publish_version(FunctionName=published, RevisionId="no")
    paginator = aws.get_paginator("list_versions_by_function")
    pages = list(paginator.paginate(FunctionName=published, PaginationConfig={"PageSize": 2}))
    assert [[it["Version"] for it in page["Versions"]] for page in pages] == [["$LATEST", "1"], ["2"]]
    first = aws.get_function(FunctionName=published, Qualifier="1")["Configuration"]
    assert (first["Version"], first["FunctionArn"]) == ("1", f"{ARN}{published}:1")
    with pytest.raises(aws.exceptions.ResourceNotFoundException, match=f"{published}:3"):
        aws.get_function(FunctionName=published, Qualifier="3")


def test_aliases(aws: Any, published: str) -> None:
    made = aws.create_alias(FunctionName=published, Name="live", FunctionVersion="1", Description="d")
    assert (made["AliasArn"], made["FunctionVersion"]) == (f"{ARN}{published}:live", "1")
    assert "RoutingConfig" not in made
    with pytest.raises(aws.exceptions.ResourceConflictException, match="Alias already exists"):
        aws.create_alias(FunctionName=published, Name="live", FunctionVersion="1")
    moved = aws.update_alias(
        FunctionName=published,
        Name="live",
        FunctionVersion="2",
        RoutingConfig={"AdditionalVersionWeights": {"1": 0.0}},
        RevisionId=made["RevisionId"],
    )
    assert moved["RoutingConfig"] == {"AdditionalVersionWeights": {"1": 0.0}}
    assert (moved["FunctionVersion"], moved["Description"]) == ("2", "d")
    with pytest.raises(aws.exceptions.PreconditionFailedException):
        aws.update_alias(FunctionName=published, Name="live", RevisionId=made["RevisionId"])
    answer = aws.invoke(FunctionName=published, Qualifier="live")
    assert (answer["ExecutedVersion"], json.loads(answer["Payload"].read())) == ("2", "other")
    seen = aws.get_function_configuration(FunctionName=published, Qualifier="live")
    assert (seen["FunctionArn"], seen["Version"]) == (f"{ARN}{published}:live", "2")
    assert aws.get_alias(FunctionName=published, Name="live")["RevisionId"] == moved["RevisionId"]
    with pytest.raises(aws.exceptions.ResourceConflictException):
        aws.delete_function(FunctionName=published, Qualifier="2")
    aws.delete_alias(FunctionName=published, Name="live")
    for call in (aws.get_alias, aws.delete_alias, aws.update_alias):
        words = f"Cannot find alias arn: {ARN}{published}:live"
        with pytest.raises(aws.exceptions.ResourceNotFoundException, match=words):
            call(FunctionName=published, Name="live")


def test_lists_of_aliases(aws: Any, published: str) -> None:
    for alias, version in (("a", "1"), ("b", "2"), ("c", "1")):
        aws.create_alias(FunctionName=published, Name=alias, FunctionVersion=version)
    paginator = aws.get_paginator("list_aliases")
    pages = list(paginator.paginate(FunctionName=published, PaginationConfig={"PageSize": 2}))
    assert [[it["Name"] for it in page["Aliases"]] for page in pages] == [["a", "b"], ["c"]]
    first = aws.list_aliases(FunctionName=published, FunctionVersion="1")["Aliases"]
    assert [it["Name"] for it in first] == ["a", "c"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"Name": "7"}, "InvalidParameterValueException"),
        ({"Name": "no spaces"}, "InvalidParameterValueException"),
        ({"FunctionVersion": "9"}, "ResourceNotFoundException"),
        ({"RoutingConfig": {"AdditionalVersionWeights": {"2": 1.5}}}, "InvalidParameterValueException"),
        ({"RoutingConfig": {"AdditionalVersionWeights": {"$LATEST": 0.5}}}, "InvalidParameterValueException"),
    ],
)
def test_aliases_that_are_not_made(aws: Any, published: str, fields: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError) as raised:
        aws.create_alias(**{"FunctionName": published, "Name": "a", "FunctionVersion": "1"} | fields)
    assert raised.value.response["Error"]["Code"] == code


def test_provisioned_concurrency(aws: Any, published: str) -> None:
    """In progress, then ready; a call finds one; then it is gone."""
    put = aws.put_provisioned_concurrency_config(
        FunctionName=published, Qualifier="1", ProvisionedConcurrentExecutions=1
    )
    assert put["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert put["RequestedProvisionedConcurrentExecutions"] == 1
    got = aws.get_provisioned_concurrency_config(FunctionName=published, Qualifier="1")
    assert got["Status"] in ("IN_PROGRESS", "READY")
    assert "LastModified" not in got
    [listed] = aws.list_provisioned_concurrency_configs(FunctionName=published)[
        "ProvisionedConcurrencyConfigs"
    ]
    assert listed["FunctionArn"] == f"{ARN}{published}:1"
    with pytest.raises(aws.exceptions.InvalidParameterValueException, match="LATEST"):
        aws.put_provisioned_concurrency_config(
            FunctionName=published, Qualifier="$LATEST", ProvisionedConcurrentExecutions=1
        )
    aws.delete_provisioned_concurrency_config(FunctionName=published, Qualifier="1")
    with pytest.raises(
        aws.exceptions.ProvisionedConcurrencyConfigNotFoundException,
        match="No Provisioned Concurrency Config",
    ):
        aws.get_provisioned_concurrency_config(FunctionName=published, Qualifier="1")
