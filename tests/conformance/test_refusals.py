"""What is refused alike by many operations: what is not there, markers, sizes. boto3 tries each once."""

from typing import Any, Final

import pytest
from botocore.exceptions import ClientError

from tests.conformance.conftest import package
from tests.conformance.test_functions import ARN, code_of, create

pytestmark = pytest.mark.conformance

ALIAS: Final = {"Name": "live"}
QUALIFIED: Final = {"Qualifier": "1"}


def refused(aws: Any, method: str, **given: Any) -> tuple[str, int]:
    """Name and status, of an answer that was not sent again."""
    with pytest.raises(ClientError) as raised:
        getattr(aws, method)(**given)
    assert raised.value.response["ResponseMetadata"]["RetryAttempts"] == 0
    return code_of(raised)


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("invoke", {}),
        ("get_function", {}),
        ("get_function_configuration", {}),
        ("update_function_code", {"ZipFile": package()}),
        ("update_function_configuration", {"Timeout": 9}),
        ("delete_function", {}),
        ("publish_version", {}),
        ("list_versions_by_function", {}),
        ("create_alias", ALIAS | {"FunctionVersion": "1"}),
        ("update_alias", ALIAS),
        ("get_alias", ALIAS),
        ("list_aliases", {}),
        ("delete_alias", ALIAS),
        ("put_function_concurrency", {"ReservedConcurrentExecutions": 1}),
        ("get_function_concurrency", {}),
        ("delete_function_concurrency", {}),
        ("put_provisioned_concurrency_config", QUALIFIED | {"ProvisionedConcurrentExecutions": 1}),
        ("get_provisioned_concurrency_config", QUALIFIED),
        ("list_provisioned_concurrency_configs", {}),
        ("delete_provisioned_concurrency_config", QUALIFIED),
    ],
)
def test_a_function_that_is_not_there(aws: Any, method: str, fields: dict[str, Any]) -> None:
    told = refused(aws, method, FunctionName="not-there", **fields)
    assert told == ("ResourceNotFoundException", 404)


@pytest.mark.parametrize(
    ("method", "fields"),
    [("list_tags", {}), ("tag_resource", {"Tags": {"a": "b"}}), ("untag_resource", {"TagKeys": ["a"]})],
)
def test_tags_of_what_is_not_there(aws: Any, method: str, fields: dict[str, Any]) -> None:
    assert refused(aws, method, Resource=f"{ARN}not-there", **fields) == ("ResourceNotFoundException", 404)
    name = "arn:aws:lambda:us-east-1:000000000000:function:no spaces"
    assert refused(aws, method, Resource=name, **fields) == ("ValidationException", 400)


@pytest.mark.parametrize("method", ["get_layer_version", "delete_layer_version"])
def test_a_layer_that_is_not_there(aws: Any, method: str) -> None:
    told = refused(aws, method, LayerName="not-there", VersionNumber=1)
    assert told == ("ResourceNotFoundException", 404)


@pytest.mark.parametrize(
    ("method", "marker"), [("list_versions_by_function", "x"), ("list_versions_by_function", "9" * 5000)]
)
def test_a_marker_that_was_never_given(aws: Any, name: str, method: str, marker: str) -> None:
    create(aws, name)
    told = refused(aws, method, FunctionName=name, Marker=marker)
    assert told == ("InvalidParameterValueException", 400)


def test_a_layer_s_marker_that_was_never_given(aws: Any) -> None:
    told = refused(aws, "list_layer_versions", LayerName="l", Marker="x")
    assert told == ("InvalidParameterValueException", 400)


@pytest.mark.parametrize("size", [52_428_801, 53_000_000])
def test_a_package_that_is_too_large(aws: Any, name: str, size: int) -> None:
    """By its own size, and by the size of a request with it, which is refused by its head."""
    code = {"Code": {"ZipFile": bytes(size)}, "FunctionName": name, "Role": "r", "Runtime": "python3.11"}
    told = refused(aws, "create_function", Handler="app.handler", **code)
    assert told == ("RequestEntityTooLargeException", 413)


@pytest.mark.parametrize(
    "fields",
    [
        {"Environment": {"Variables": {"AA": "a" * 4095}}},
        {"Environment": {"Variables": {"1A": "a"}}},
        {"Description": "d" * 257},
        {"Layers": [f"{ARN.replace('function', 'layer')}l"]},
        {"EphemeralStorage": {"Size": 513_000}},
        {"MemorySize": 127},
        {"Timeout": 0},
    ],
)
def test_limits_of_a_configuration(aws: Any, name: str, fields: dict[str, Any]) -> None:
    """Nothing is changed by what goes over one of them; boto3 itself refuses some."""
    made = create(aws, name)
    with pytest.raises(Exception, match=r"InvalidParameterValue|Parameter validation|1 validation") as raised:
        aws.update_function_configuration(FunctionName=name, **fields)
    if isinstance(raised.value, ClientError):
        assert raised.value.response["Error"]["Code"] in (
            "InvalidParameterValueException",
            "ValidationException",
        )
    else:
        assert type(raised.value).__name__ == "ParamValidationError"
    assert aws.get_function_configuration(FunctionName=name)["RevisionId"] == made["RevisionId"]


def test_tags_without_end(aws: Any, name: str) -> None:
    arn = create(aws, name, Tags={f"t{number}": "" for number in range(50)})["FunctionArn"]
    told = refused(aws, "tag_resource", Resource=arn, Tags={"one": "more"})
    assert told == ("InvalidParameterValueException", 400)
    told = refused(aws, "tag_resource", Resource=arn, Tags={"t1": "v" * 257})
    assert told == ("InvalidParameterValueException", 400)
    assert len(aws.list_tags(Resource=arn)["Tags"]) == 50


def test_every_waiter_ends(aws: Any, name: str) -> None:
    """With its first look, as nothing is ever pending."""
    create(aws, name, Publish=True)
    for waiter in aws.waiter_names:
        given = {"Qualifier": "1"} if waiter == "published_version_active" else {}
        config = {"Delay": 1, "MaxAttempts": 1}
        aws.get_waiter(waiter).wait(FunctionName=name, WaiterConfig=config, **given)


def test_pages_of_provisioned_concurrency(aws: Any, name: str) -> None:
    create(aws, name, Publish=True)
    aws.create_alias(FunctionName=name, Name="a", FunctionVersion="$LATEST")
    for number in (2, 3):
        aws.update_function_configuration(FunctionName=name, Timeout=number)
        aws.publish_version(FunctionName=name)
    for qualifier in ("1", "2", "3"):
        aws.put_provisioned_concurrency_config(
            FunctionName=name, Qualifier=qualifier, ProvisionedConcurrentExecutions=1
        )
    paginator = aws.get_paginator("list_provisioned_concurrency_configs")
    pages = list(paginator.paginate(FunctionName=name, PaginationConfig={"PageSize": 2}))
    key = "ProvisionedConcurrencyConfigs"
    assert [[it["FunctionArn"] for it in page[key]] for page in pages] == [
        [f"{ARN}{name}:1", f"{ARN}{name}:2"],
        [f"{ARN}{name}:3"],
    ]
    told = refused(
        aws,
        "put_provisioned_concurrency_config",
        FunctionName=name,
        Qualifier="a",
        ProvisionedConcurrentExecutions=1,
    )
    assert told == ("InvalidParameterValueException", 400)
    aws.delete_function(FunctionName=name)
