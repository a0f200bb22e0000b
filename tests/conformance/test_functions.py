"""Functions as boto3 manages them: create, get, list, update, delete, tags, reservations, and their
errors."""

import base64
import hashlib
import json
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conformance.conftest import ROLE, RUNTIME, package

pytestmark = pytest.mark.conformance

ARN = "arn:aws:lambda:us-east-1:000000000000:function:"
OTHER = package("def handler(event, context): return 'other'")


def create(aws: Any, name: str, **fields: Any) -> Any:
    given = {
        "FunctionName": name,
        "Runtime": RUNTIME,
        "Role": ROLE,
        "Handler": "app.handler",
        "Code": {"ZipFile": package()},
    }
    return aws.create_function(**given | fields)


def code_of(raised: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    answer = raised.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def test_a_created_function(aws: Any, name: str) -> None:
    """All that was given comes back, with Lambda's defaults for the rest; waiters end; it runs."""
    made = create(
        aws,
        name,
        Description="d",
        Timeout=7,
        MemorySize=256,
        Environment={"Variables": {"COLOUR": "blue"}},
        EphemeralStorage={"Size": 600},
        Tags={"team": "a"},
        VpcConfig={"SubnetIds": [], "SecurityGroupIds": []},
        TracingConfig={"Mode": "PassThrough"},
        PackageType="Zip",
    )
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (made["FunctionName"], made["FunctionArn"], made["Version"]) == (name, ARN + name, "$LATEST")
    assert (made["Runtime"], made["Role"], made["Handler"]) == (RUNTIME, ROLE, "app.handler")
    assert (made["Description"], made["Timeout"], made["MemorySize"]) == ("d", 7, 256)
    assert made["Environment"] == {"Variables": {"COLOUR": "blue"}}
    assert made["EphemeralStorage"] == {"Size": 600}
    digest = hashlib.sha256(package()).digest()
    assert (made["CodeSha256"], made["CodeSize"]) == (base64.b64encode(digest).decode(), len(package()))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", made["LastModified"])
    assert (made["State"], made["LastUpdateStatus"], made["PackageType"]) == ("Active", "Successful", "Zip")
    for waiter in ("function_exists", "function_active", "function_active_v2", "function_updated_v2"):
        aws.get_waiter(waiter).wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 2})
    got = aws.get_function(FunctionName=name)
    without = {key: value for key, value in made.items() if key != "ResponseMetadata"}
    assert got["Configuration"] == without
    assert got["Tags"] == {"team": "a"}
    assert "Concurrency" not in got
    payload = json.loads(aws.invoke(FunctionName=name, Payload=b'{"do": "context"}')["Payload"].read())
    assert (payload["environment"]["COLOUR"], payload["memory"]) == ("blue", "256")


def test_defaults(aws: Any, name: str) -> None:
    made = create(aws, name)
    assert (made["Description"], made["Timeout"], made["MemorySize"]) == ("", 3, 128)
    assert made["EphemeralStorage"] == {"Size": 512}
    assert made["SnapStart"] == {"ApplyOn": "None", "OptimizationStatus": "Off"}
    assert "Environment" not in made
    assert "Layers" not in made


def test_published_at_once(aws: Any, name: str) -> None:
    made = create(aws, name, Publish=True)
    assert (made["Version"], made["FunctionArn"]) == ("1", f"{ARN}{name}:1")
    aws.get_waiter("published_version_active").wait(FunctionName=name, Qualifier="1")


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"Runtime": "cobol85"}, "InvalidParameterValueException", "cobol85"),
        ({"Handler": "a b"}, "ValidationException", r"'a b' at 'handler' .* pattern: \[\^\\s\]\+"),
        ({"MemorySize": 20_000}, "ValidationException", "'memorySize' .* value less than or equal to 10240"),
        ({"MemorySize": 2**40}, "ValidationException", "memorySize"),
        ({"Timeout": 901}, "ValidationException", "'901' at 'timeout' .* value less than or equal to 900"),
        (
            {"EphemeralStorage": {"Size": 20_000}},
            "ValidationException",
            "'20000' at 'ephemeralStorage.size' .* value less than or equal to 10240",
        ),
        (
            {"Description": "d" * 257},
            "ValidationException",
            "'description' .* less than or equal to 256",
        ),
        ({"LoggingConfig": {"LogGroup": "/mine"}}, "NotImplementedException", "LoggingConfig"),
        ({"Environment": {"Variables": {"AWS_REGION": "x"}}}, "InvalidParameterValueException", "AWS_REGION"),
        ({"Code": {"ZipFile": b"no zip"}}, "InvalidParameterValueException", "Could not unzip"),
        ({"Code": {}}, "InvalidParameterValueException", "zip_file"),
        ({"FunctionName": "a/../b"}, "ValidationException", "'a/../b' at 'functionName'"),
        ({"Layers": [f"{ARN[:-9]}layer:none:1"]}, "InvalidParameterValueException", "does not exist"),
        (
            {"Layers": [f"{ARN[:-9]}layer:l:{n}" for n in range(6)]},
            "InvalidParameterValueException",
            "more than 5",
        ),
        ({"Code": {"S3Bucket": "bucket", "S3Key": "key"}}, "NotImplementedException", "S3"),
        ({"PackageType": "Image"}, "NotImplementedException", "images"),
        ({"VpcConfig": {"SubnetIds": ["s"]}}, "NotImplementedException", "VpcConfig"),
        ({"DeadLetterConfig": {"TargetArn": "arn"}}, "InvalidParameterValueException", "is no destination"),
        ({"Architectures": ["z80"]}, "NotImplementedException", "Architectures"),
    ],
)
def test_what_is_not_created(aws: Any, name: str, fields: dict[str, Any], code: str, words: str) -> None:
    """The error says what is wrong, the client tries once, and there is no function afterwards."""
    with pytest.raises(ClientError, match=words) as raised:
        create(aws, name, **fields)
    assert code_of(raised) == (code, 501 if code == "NotImplementedException" else 400)
    assert raised.value.response["ResponseMetadata"]["RetryAttempts"] == 0
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.get_function(FunctionName=name)


def test_a_name_that_is_taken(aws: Any, name: str) -> None:
    create(aws, name)
    with pytest.raises(aws.exceptions.ResourceConflictException, match=f"Function already exist: {name}"):
        create(aws, name)


def test_new_code(aws: Any, name: str) -> None:
    """A dry run changes nothing; the revision guards; what runs afterwards is the new code."""
    made = create(aws, name)
    dry = aws.update_function_code(FunctionName=name, ZipFile=OTHER, DryRun=True)
    assert dry["CodeSha256"] != made["CodeSha256"]
    assert aws.get_function_configuration(FunctionName=name)["CodeSha256"] == made["CodeSha256"]
    with pytest.raises(aws.exceptions.PreconditionFailedException, match="Revision Id provided") as raised:
        aws.update_function_code(FunctionName=name, ZipFile=OTHER, RevisionId="no")
    assert code_of(raised) == ("PreconditionFailedException", 412)
    new = aws.update_function_code(
        FunctionName=name, ZipFile=OTHER, RevisionId=made["RevisionId"], Publish=True
    )
    assert (new["CodeSha256"], new["Version"]) == (dry["CodeSha256"], "1")
    aws.get_waiter("function_updated_v2").wait(FunctionName=name)
    assert json.loads(aws.invoke(FunctionName=name)["Payload"].read()) == "other"
    with pytest.raises(aws.exceptions.InvalidParameterValueException, match="source for function code"):
        aws.update_function_code(FunctionName=name)


def test_a_new_configuration(aws: Any, name: str) -> None:
    """What is not given stays; what is given empty is emptied; another configuration is another revision."""
    made = create(aws, name, Environment={"Variables": {"AA": "1"}}, Description="d")
    told = aws.get_function_configuration(FunctionName=name)  # tools send back what they have read
    new = aws.update_function_configuration(
        FunctionName=name,
        Timeout=9,
        LoggingConfig=told["LoggingConfig"],
        TracingConfig=told["TracingConfig"],
        RevisionId=made["RevisionId"],
    )
    assert (new["Timeout"], new["Description"]) == (9, "d")
    assert new["Environment"] == {"Variables": {"AA": "1"}}
    assert new["RevisionId"] != made["RevisionId"]
    emptied = aws.update_function_configuration(
        FunctionName=name, Environment={"Variables": {}}, Description=""
    )
    assert emptied["Description"] == ""
    assert "Environment" not in emptied
    with pytest.raises(aws.exceptions.PreconditionFailedException):
        aws.update_function_configuration(FunctionName=name, Timeout=3, RevisionId=made["RevisionId"])


@pytest.mark.parametrize(
    ("method", "fields", "words"),
    [
        ("update_function_configuration", {"VpcConfig": {"SubnetIds": ["s"]}}, "VpcConfig is not there"),
        (
            "update_function_configuration",
            {"TracingConfig": {"Mode": "Active"}},
            "TracingConfig is not there",
        ),
        ("update_function_code", {"ImageUri": "a/b:c"}, "images are not there"),
        ("update_function_code", {"S3Bucket": "bucket", "S3Key": "key"}, "S3 is not there"),
    ],
)
def test_what_is_not_updated(aws: Any, name: str, method: str, fields: dict[str, Any], words: str) -> None:
    """Nobody shall believe in what is not there."""
    made = create(aws, name)
    with pytest.raises(ClientError, match=words) as raised:
        getattr(aws, method)(FunctionName=name, **fields)
    assert code_of(raised) == ("NotImplementedException", 501)
    assert aws.get_function_configuration(FunctionName=name)["RevisionId"] == made["RevisionId"]


def test_where_the_code_is(aws: Any, name: str) -> None:
    """Any HTTP client downloads it from there."""
    create(aws, name)
    code = aws.get_function(FunctionName=name)["Code"]
    assert code["RepositoryType"] == "Lambent"
    with urllib.request.urlopen(code["Location"], timeout=20) as answer:
        assert answer.read() == package()


def test_versions_in_the_list_of_functions(aws: Any, name: str, cli: Callable[..., Any]) -> None:
    create(aws, name, Publish=True)
    pages = aws.get_paginator("list_functions").paginate(FunctionVersion="ALL", MasterRegion="ALL")
    listed = [it for page in pages for it in page["Functions"]]
    mine = [it["FunctionArn"] for it in listed if it["FunctionName"] == name]
    assert mine == [f"{ARN}{name}:$LATEST", f"{ARN}{name}:1"]
    assert all("State" not in it for it in listed)
    asked = (
        "list-functions",
        "--function-version",
        "ALL",
        "--page-size",
        "3",
        "--query",
        "Functions[].FunctionArn",
    )
    assert [arn for arn in cli(*asked) if f":{name}:" in arn] == mine


def test_lists(aws: Any, name: str) -> None:
    """Page by page, each function once, in the order of their names."""
    mine = [f"{name}-{number}" for number in range(5)]
    for each in mine:
        create(aws, each)
    pages = list(aws.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2}))
    assert max(len(page["Functions"]) for page in pages) == 2
    listed = [it["FunctionName"] for page in pages for it in page["Functions"]]
    assert listed == sorted(set(listed))
    assert set(mine) <= set(listed)
    with pytest.raises(ClientError, match="maxItems"):
        aws.list_functions(MaxItems=10_001)


def test_deleting(aws: Any, name: str) -> None:
    """With a qualifier one version; nobody is called any more afterwards."""
    create(aws, name, Publish=True)
    with pytest.raises(aws.exceptions.InvalidParameterValueException, match="cannot be deleted without"):
        aws.delete_function(FunctionName=name, Qualifier="$LATEST")
    assert aws.delete_function(FunctionName=name, Qualifier="1")["StatusCode"] == 204
    assert [it["Version"] for it in aws.list_versions_by_function(FunctionName=name)["Versions"]] == [
        "$LATEST"
    ]
    aws.delete_function(FunctionName=name)
    for call in (aws.delete_function, aws.invoke, aws.get_function_configuration, aws.get_function):
        with pytest.raises(
            aws.exceptions.ResourceNotFoundException, match=f"Function not found: {ARN}{name}"
        ):
            call(FunctionName=name)


def test_reserved_concurrency(aws: Any, name: str) -> None:
    create(aws, name)
    assert "ReservedConcurrentExecutions" not in aws.get_function_concurrency(FunctionName=name)
    put = aws.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=3)
    assert put["ReservedConcurrentExecutions"] == 3
    assert aws.get_function_concurrency(FunctionName=name)["ReservedConcurrentExecutions"] == 3
    assert aws.get_function(FunctionName=name)["Concurrency"] == {"ReservedConcurrentExecutions": 3}
    settings = aws.get_account_settings()
    limit = settings["AccountLimit"]
    assert limit["ConcurrentExecutions"] - limit["UnreservedConcurrentExecutions"] >= 3
    assert settings["AccountUsage"]["FunctionCount"] >= 1
    with pytest.raises(aws.exceptions.InvalidParameterValueException, match="must stay"):
        aws.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=950)
    aws.delete_function_concurrency(FunctionName=name)
    assert "ReservedConcurrentExecutions" not in aws.get_function_concurrency(FunctionName=name)


def test_tags(aws: Any, name: str) -> None:
    """They are the function's and make no other revision of it."""
    made = create(aws, name, Tags={"a": "1"})
    arn = made["FunctionArn"]
    aws.tag_resource(Resource=arn, Tags={"b": "2", "c:d": "é"})
    assert aws.list_tags(Resource=arn)["Tags"] == {"a": "1", "b": "2", "c:d": "é"}
    aws.untag_resource(Resource=arn, TagKeys=["a", "c:d"])
    assert aws.list_tags(Resource=arn)["Tags"] == {"b": "2"}
    assert aws.get_function_configuration(FunctionName=name)["RevisionId"] == made["RevisionId"]
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.list_tags(Resource=f"{ARN}nobody")


def test_the_command_line(cli: Callable[..., Any], name: str, tmp_path: Path) -> None:
    """Create, wait, invoke, list, delete, as people type it."""
    archive = tmp_path / "code.zip"
    archive.write_bytes(package())
    made = cli(
        *("create-function", "--function-name", name, "--runtime", RUNTIME, "--role", ROLE),
        *("--handler", "app.handler", "--zip-file", f"fileb://{archive}"),
    )
    assert made["State"] == "Active"
    cli("wait", "function-active", "--function-name", name)
    cli("invoke", "--function-name", name, str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "{}"
    assert name in [it["FunctionName"] for it in cli("list-functions")["Functions"]]
    cli("delete-function", "--function-name", name)
