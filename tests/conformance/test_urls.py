"""Resource policies and function URLs as boto3 and the AWS CLI manage them."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conformance.test_functions import ARN, create

pytestmark = pytest.mark.conformance

URL = {"Action": "lambda:InvokeFunctionUrl", "Principal": "*", "FunctionUrlAuthType": "NONE"}
VIA = {"Action": "lambda:InvokeFunction", "Principal": "*", "InvokedViaFunctionUrl": True}


def policy(aws: Any, name: str, **more: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(aws.get_policy(FunctionName=name, **more)["Policy"])
    return found


def test_a_policy(aws: Any, name: str) -> None:
    """Statements as AWS writes them, each once; guarded by the policy's revision."""
    create(aws, name)
    with pytest.raises(aws.exceptions.ResourceNotFoundException, match="you requested does not exist"):
        aws.get_policy(FunctionName=name)
    added = aws.add_permission(FunctionName=name, StatementId="url", **URL)
    assert added["ResponseMetadata"]["HTTPStatusCode"] == 201
    statement = {
        "Sid": "url",
        "Effect": "Allow",
        "Principal": "*",
        "Action": "lambda:InvokeFunctionUrl",
        "Resource": ARN + name,
        "Condition": {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}},
    }
    assert json.loads(added["Statement"]) == statement
    assert policy(aws, name) == {"Version": "2012-10-17", "Id": "default", "Statement": [statement]}
    first = aws.get_policy(FunctionName=name)["RevisionId"]
    with pytest.raises(aws.exceptions.ResourceConflictException, match=r"statement id \(sid\) provided"):
        aws.add_permission(FunctionName=name, StatementId="url", **VIA)
    via = aws.add_permission(FunctionName=name, StatementId="via", RevisionId=first, **VIA)
    assert json.loads(via["Statement"])["Condition"] == {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}}
    for change in (aws.add_permission, aws.remove_permission):
        fields = {"StatementId": "s3"} | (VIA if change == aws.add_permission else {})
        with pytest.raises(aws.exceptions.PreconditionFailedException, match="GetPolicy"):
            change(FunctionName=name, RevisionId=first, **fields)
    with pytest.raises(aws.exceptions.ResourceNotFoundException, match="Statement s3 is not found"):
        aws.remove_permission(FunctionName=name, StatementId="s3")
    for sid in ("url", "via"):
        aws.remove_permission(FunctionName=name, StatementId=sid)
    for call in (aws.get_policy, lambda **of: aws.remove_permission(StatementId="url", **of)):
        with pytest.raises(aws.exceptions.ResourceNotFoundException):
            call(FunctionName=name)


@pytest.mark.parametrize(
    ("fields", "principal", "condition"),
    [
        (
            {"Principal": "s3.amazonaws.com", "SourceArn": "arn:aws:s3:::b", "SourceAccount": "123456789012"},
            {"Service": "s3.amazonaws.com"},
            {
                "StringEquals": {"AWS:SourceAccount": "123456789012"},
                "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::b"},
            },
        ),
        ({"Principal": "123456789012"}, {"AWS": "arn:aws:iam::123456789012:root"}, None),
        (
            {"Principal": "arn:aws:iam::123456789012:user/ann"},
            {"AWS": "arn:aws:iam::123456789012:user/ann"},
            None,
        ),
        (
            {"Principal": "*", "PrincipalOrgID": "o-a1b2c3d4e5"},
            "*",
            {"StringEquals": {"aws:PrincipalOrgID": "o-a1b2c3d4e5"}},
        ),
        (
            {"Principal": "alexa-appkit.amazon.com", "EventSourceToken": "amzn1.ask"},
            {"Service": "alexa-appkit.amazon.com"},
            {"StringEquals": {"lambda:EventSourceToken": "amzn1.ask"}},
        ),
    ],
)
def test_statements(aws: Any, name: str, fields: dict[str, str], principal: Any, condition: Any) -> None:
    create(aws, name)
    added = aws.add_permission(FunctionName=name, StatementId="s", Action="lambda:InvokeFunction", **fields)
    said = json.loads(added["Statement"])
    assert (said["Principal"], said.get("Condition")) == (principal, condition)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"Principal": "nobody"}, "InvalidParameterValueException"),
        ({"Action": "s3:GetObject"}, "InvalidParameterValueException"),
        ({"StatementId": "a b"}, "InvalidParameterValueException"),
        ({"SourceAccount": "12345678901x"}, "InvalidParameterValueException"),
        (
            {"Action": "lambda:InvokeFunction", "FunctionUrlAuthType": "NONE"},
            "InvalidParameterValueException",
        ),
        ({"FunctionUrlAuthType": "SOME"}, "ValidationException"),
        ({"Qualifier": "$LATEST"}, "InvalidParameterValueException"),
        ({"Qualifier": "live"}, "ResourceNotFoundException"),
        ({"Qualifier": "7"}, "ResourceNotFoundException"),
        ({"FunctionName": "nobody"}, "ResourceNotFoundException"),
    ],
)
def test_statements_that_are_not_added(aws: Any, name: str, fields: dict[str, Any], code: str) -> None:
    create(aws, name)
    with pytest.raises(ClientError) as raised:
        aws.add_permission(**{"FunctionName": name, "StatementId": "s", "Principal": "*"} | URL | fields)
    assert raised.value.response["Error"]["Code"] == code
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.get_policy(FunctionName=name)


def test_a_policy_has_an_end(aws: Any, name: str) -> None:
    create(aws, name)
    large = {"Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
    arn = "arn:aws:s3:::" + "b" * 9500
    for sid in ("a", "b"):
        aws.add_permission(FunctionName=name, StatementId=sid, SourceArn=arn, **large)
    with pytest.raises(aws.exceptions.PolicyLengthExceededException, match="The final policy size"):
        aws.add_permission(FunctionName=name, StatementId="c", SourceArn=arn, **large)
    assert len(policy(aws, name)["Statement"]) == 2


def test_each_version_and_alias_has_a_policy_of_its_own(aws: Any, name: str) -> None:
    """It goes with them, and with the function."""
    create(aws, name, Publish=True)
    aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    for qualifier in ("live", "1"):
        aws.add_permission(FunctionName=name, Qualifier=qualifier, StatementId="s", **URL)
        [statement] = policy(aws, name, Qualifier=qualifier)["Statement"]
        assert statement["Resource"] == f"{ARN}{name}:{qualifier}"
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.get_policy(FunctionName=name)
    aws.create_function_url_config(FunctionName=name, Qualifier="live", AuthType="NONE")
    aws.delete_alias(FunctionName=name, Name="live")
    aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    for get in (aws.get_policy, aws.get_function_url_config):
        with pytest.raises(aws.exceptions.ResourceNotFoundException, match="you requested does not exist"):
            get(FunctionName=name, Qualifier="live")
    aws.delete_function(FunctionName=name)
    create(aws, name, Publish=True)
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.get_policy(FunctionName=name, Qualifier="1")


def test_a_url_s_configuration(aws: Any, name: str) -> None:
    """Made, shown, changed where something is given, deleted; once for a function."""
    create(aws, name)
    cors = {"AllowOrigins": ["https://a.example"], "AllowMethods": ["GET"], "MaxAge": 300}
    made = aws.create_function_url_config(FunctionName=name, AuthType="AWS_IAM", Cors=cors)
    assert re.fullmatch(r"http://[a-z0-9]{32}\.lambda-url\.localhost:\d+/", made["FunctionUrl"])
    assert (made["FunctionArn"], made["AuthType"], made["InvokeMode"]) == (ARN + name, "AWS_IAM", "BUFFERED")
    assert made["Cors"] == cors
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", made["CreationTime"])
    with pytest.raises(
        aws.exceptions.ResourceConflictException,
        match=rf"\[functionArn = {ARN}{name}\]. Error message:  Func",
    ):
        aws.create_function_url_config(FunctionName=name, AuthType="NONE")
    changed = aws.update_function_url_config(FunctionName=name, AuthType="NONE", InvokeMode="RESPONSE_STREAM")
    assert (changed["AuthType"], changed["InvokeMode"], changed["Cors"]) == ("NONE", "RESPONSE_STREAM", cors)
    changed = aws.update_function_url_config(FunctionName=name, Cors={"AllowCredentials": True})
    assert (changed["Cors"], changed["AuthType"]) == ({"AllowCredentials": True}, "NONE")
    assert "Cors" not in aws.update_function_url_config(FunctionName=name, Cors={})
    seen = aws.get_function_url_config(FunctionName=name)
    assert (seen["FunctionUrl"], seen["CreationTime"]) == (made["FunctionUrl"], made["CreationTime"])
    assert seen["LastModifiedTime"] >= seen["CreationTime"]
    aws.delete_function_url_config(FunctionName=name)
    for call in (
        aws.get_function_url_config,
        aws.update_function_url_config,
        aws.delete_function_url_config,
    ):
        with pytest.raises(aws.exceptions.ResourceNotFoundException, match="you requested does not exist"):
            call(FunctionName=name)
    again = aws.create_function_url_config(FunctionName=name, AuthType="NONE")
    assert again["FunctionUrl"] != made["FunctionUrl"]


def test_lists_of_urls(aws: Any, name: str) -> None:
    create(aws, name, Publish=True)
    aws.create_function_url_config(FunctionName=name, AuthType="NONE")
    for alias in ("a", "b"):
        aws.create_alias(FunctionName=name, Name=alias, FunctionVersion="1")
        aws.create_function_url_config(FunctionName=name, Qualifier=alias, AuthType="NONE")
    paginator = aws.get_paginator("list_function_url_configs")
    pages = list(paginator.paginate(FunctionName=name, PaginationConfig={"PageSize": 2}))
    arns = [[it["FunctionArn"] for it in page["FunctionUrlConfigs"]] for page in pages]
    assert arns == [[ARN + name, f"{ARN}{name}:a"], [f"{ARN}{name}:b"]]
    assert len(aws.list_function_url_configs(FunctionName=name)["FunctionUrlConfigs"]) == 3


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"AuthType": "SOME"}, "ValidationException"),
        ({"InvokeMode": "UNKNOWN"}, "ValidationException"),
        ({"Qualifier": "1"}, "ValidationException"),
        ({"Qualifier": "nobody"}, "ResourceNotFoundException"),
        ({"FunctionName": "nobody"}, "ResourceNotFoundException"),
        ({"Cors": {"MaxAge": 86_401}}, "InvalidParameterValueException"),
        ({"Cors": {"AllowMethods": ["OPTIONS"]}}, "InvalidParameterValueException"),
        (
            {"Cors": {"AllowOrigins": ["https://a.example\r\nset-cookie: a=b"]}},
            "InvalidParameterValueException",
        ),
    ],
)
def test_urls_that_are_not_made(aws: Any, name: str, fields: dict[str, Any], code: str) -> None:
    create(aws, name, Publish=True)
    with pytest.raises(ClientError) as raised:
        aws.create_function_url_config(**{"FunctionName": name, "AuthType": "NONE"} | fields)
    assert raised.value.response["Error"]["Code"] == code
    assert aws.list_function_url_configs(FunctionName=name)["FunctionUrlConfigs"] == []


def test_with_the_command_line(aws: Any, cli: Callable[..., Any], name: str) -> None:
    create(aws, name)
    of = "--function-name", name
    made = cli("create-function-url-config", *of, "--auth-type", "NONE")
    assert made["AuthType"] == "NONE"
    action = "--action", "lambda:InvokeFunction", "--principal", "*", "--invoked-via-function-url"
    cli("add-permission", *of, "--statement-id", "s", *action)
    assert '"Sid":"s"' in cli("get-policy", *of)["Policy"]
    cli("remove-permission", *of, "--statement-id", "s")
    assert (
        cli("list-function-url-configs", *of)["FunctionUrlConfigs"][0]["FunctionUrl"] == made["FunctionUrl"]
    )
    cli("delete-function-url-config", *of)
