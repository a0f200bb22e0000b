"""The AWS CLI drives every operation on functions, versions, aliases, concurrency, layers and tags.

Its own code, in this process: to start one for each command would take a minute.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from awscli.clidriver import create_clidriver

from tests.conformance.conftest import CREDENTIALS, ROLE, RUNTIME, package
from tests.conformance.test_functions import ARN, OTHER
from tests.e2e.fleet import Fleet

pytestmark = pytest.mark.conformance

LAYER = ARN.replace("function:", "layer:")
REFUSED = 255
"""What the CLI exits with when the service refuses."""

Command = Callable[..., Any]


@pytest.fixture
def aws_lambda(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """`aws lambda COMMAND WORDS...`: its JSON, or what it says when it is refused with this `error`."""
    for name, value in {
        **{key.upper(): value for key, value in CREDENTIALS.items()},
        "AWS_ENDPOINT_URL_LAMBDA": f"http://{fleet.http}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_PAGER": "",
        "HOME": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)

    driver = create_clidriver()

    def run(command: str, *words: str, error: str = "", **options: str) -> Any:
        """An option's name has _ for -."""
        given = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        code = driver.main(["lambda", command, *words, *given, "--output", "json"])
        said = capsys.readouterr()
        if error:
            assert (code, f"An error occurred ({error})" in said.err) == (REFUSED, True), said.err
            return said.err
        assert code == 0, said.err
        return json.loads(said.out) if said.out else None

    return run


@pytest.fixture
def zips(tmp_path: Path) -> tuple[str, str]:
    """Two packages, as the CLI takes them."""
    for name, data in (("one.zip", package()), ("two.zip", OTHER)):
        (tmp_path / name).write_bytes(data)
    return f"fileb://{tmp_path / 'one.zip'}", f"fileb://{tmp_path / 'two.zip'}"


def test_functions(aws_lambda: Command, name: str, zips: tuple[str, str], tmp_path: Path) -> None:
    new = {"function_name": name, "runtime": RUNTIME, "role": ROLE, "handler": "app.handler"}
    made = aws_lambda("create-function", "--publish", **new, zip_file=zips[0], tags="team=a,b=c")
    assert (made["Version"], made["FunctionArn"]) == ("1", f"{ARN}{name}:1")
    aws_lambda("create-function", **new, zip_file=zips[0], error="ResourceConflictException")
    for waiter in ("function-exists", "function-active", "function-active-v2", "function-updated"):
        aws_lambda("wait", waiter, function_name=name)
    aws_lambda("wait", "published-version-active", function_name=name, qualifier="1")
    dry = aws_lambda("update-function-code", "--dry-run", function_name=name, zip_file=zips[1])
    code = aws_lambda("update-function-code", "--publish", function_name=name, zip_file=zips[1])
    assert (code["Version"], code["CodeSha256"]) == ("2", dry["CodeSha256"])
    aws_lambda("wait", "function-updated-v2", function_name=name)
    changed = aws_lambda(
        "update-function-configuration", function_name=name, timeout="9", environment="Variables={AA=1}"
    )
    old = {"function_name": name, "revision_id": made["RevisionId"]}
    aws_lambda("update-function-configuration", **old, timeout="8", error="PreconditionFailedException")
    aws_lambda("update-function-code", **old, zip_file=zips[0], error="PreconditionFailedException")
    got = aws_lambda("get-function", function_name=f"{ARN}{name}")
    assert (got["Configuration"]["RevisionId"], got["Tags"]) == (
        changed["RevisionId"],
        {"team": "a", "b": "c"},
    )
    seen = aws_lambda("get-function-configuration", function_name=f"{name}:1")
    assert (seen["Timeout"], seen["Version"]) == (3, "1")
    listed = aws_lambda("list-functions", page_size="3", master_region="ALL", function_version="ALL")
    mine = [it["Version"] for it in listed["Functions"] if it["FunctionName"] == name]
    assert mine == ["$LATEST", "1", "2"]
    some = aws_lambda("list-functions", max_items="1", function_version="ALL")
    assert (len(some["Functions"]), "NextToken" in some) == (1, True)
    out = tmp_path / "out"
    said = aws_lambda("invoke", str(out), function_name=name, qualifier="2", log_type="Tail")
    assert (said["ExecutedVersion"], json.loads(out.read_text())) == ("2", "other")
    aws_lambda("invoke", str(out), function_name=name, invocation_type="DryRun")
    aws_lambda("delete-function", function_name=name, qualifier="2")
    aws_lambda("delete-function", function_name=name)
    refused = aws_lambda("get-function", function_name=name, error="ResourceNotFoundException")
    assert f"Function not found: {ARN}{name}" in refused


def test_versions_aliases_and_concurrency(aws_lambda: Command, name: str, zips: tuple[str, str]) -> None:
    of = {"function_name": name}
    aws_lambda("create-function", **of, runtime=RUNTIME, role=ROLE, handler="app.handler", zip_file=zips[0])
    assert aws_lambda("publish-version", **of, description="the first")["Version"] == "1"
    aws_lambda("publish-version", **of, code_sha256="bm8=", error="InvalidParameterValueException")
    aws_lambda("update-function-code", **of, zip_file=zips[1])
    assert aws_lambda("publish-version", **of)["Version"] == "2"
    versions = aws_lambda("list-versions-by-function", **of, page_size="1")["Versions"]
    assert [it["Version"] for it in versions] == ["$LATEST", "1", "2"]
    alias = of | {"name": "live"}
    made = aws_lambda("create-alias", **alias, function_version="1")
    aws_lambda("create-alias", **alias, function_version="1", error="ResourceConflictException")
    weights = "AdditionalVersionWeights={1=0.5}"
    moved = aws_lambda("update-alias", **alias, function_version="2", routing_config=weights)
    revision = made["RevisionId"]
    aws_lambda("update-alias", **alias, revision_id=revision, error="PreconditionFailedException")
    assert aws_lambda("get-alias", **alias) == moved
    assert aws_lambda("list-aliases", **of, function_version="1")["Aliases"] == [moved]
    aws_lambda("delete-function", **of, qualifier="1", error="ResourceConflictException")
    reserved = "reserved_concurrent_executions"
    assert aws_lambda("put-function-concurrency", **of, **{reserved: "3"}) == {
        "ReservedConcurrentExecutions": 3
    }
    assert aws_lambda("get-function-concurrency", **of) == {"ReservedConcurrentExecutions": 3}
    ready = of | {"qualifier": "1"}
    count = "provisioned_concurrent_executions"
    put = "put-provisioned-concurrency-config"
    aws_lambda(put, **ready, **{count: "4"}, error="InvalidParameterValueException")
    assert aws_lambda(put, **ready, **{count: "1"})["RequestedProvisionedConcurrentExecutions"] == 1
    assert aws_lambda("get-provisioned-concurrency-config", **ready)["Status"] in ("IN_PROGRESS", "READY")
    aws_lambda("put-function-concurrency", **of, **{reserved: "0"}, error="InvalidParameterValueException")
    [config] = aws_lambda("list-provisioned-concurrency-configs", **of)["ProvisionedConcurrencyConfigs"]
    assert config["FunctionArn"] == f"{ARN}{name}:1"
    aws_lambda("delete-provisioned-concurrency-config", **ready)
    gone = "ProvisionedConcurrencyConfigNotFoundException"
    aws_lambda("get-provisioned-concurrency-config", **ready, error=gone)
    aws_lambda("delete-function-concurrency", **of)
    assert aws_lambda("get-function-concurrency", **of) in (None, {})
    aws_lambda("delete-alias", **alias)
    aws_lambda("get-alias", **alias, error="ResourceNotFoundException")
    assert aws_lambda("get-account-settings")["AccountUsage"]["FunctionCount"] >= 1
    aws_lambda("delete-function", **of)


def test_layers_and_tags(aws_lambda: Command, name: str, zips: tuple[str, str]) -> None:
    of = {"layer_name": name}
    for number in (1, 2):
        made = aws_lambda("publish-layer-version", **of, zip_file=zips[0], compatible_runtimes=RUNTIME)
        assert made["LayerVersionArn"] == f"{LAYER}{name}:{number}"
    version = of | {"version_number": "1"}
    got = aws_lambda("get-layer-version", **version)
    by_arn = aws_lambda("get-layer-version-by-arn", arn=f"{LAYER}{name}:1")
    assert got["Content"]["CodeSha256"] == by_arn["Content"]["CodeSha256"]
    listed = aws_lambda("list-layer-versions", **of, page_size="1")["LayerVersions"]
    assert [it["Version"] for it in listed] == [2, 1]
    newest = {it["LayerName"]: it for it in aws_lambda("list-layers", compatible_runtime=RUNTIME)["Layers"]}
    assert newest[name]["LatestMatchingVersion"]["Version"] == 2
    aws_lambda("delete-layer-version", **version)
    aws_lambda("get-layer-version", **version, error="ResourceNotFoundException")
    new = {"function_name": name, "runtime": RUNTIME, "role": ROLE, "handler": "app.handler"}
    made = aws_lambda("create-function", **new, zip_file=zips[0], layers=f"{LAYER}{name}:2")
    resource = {"resource": made["FunctionArn"]}
    aws_lambda("tag-resource", **resource, tags="a=1,b=2")
    aws_lambda("untag-resource", **resource, tag_keys="a")
    assert aws_lambda("list-tags", **resource) == {"Tags": {"b": "2"}}
    aws_lambda("delete-function", function_name=name)
    aws_lambda("list-tags", **resource, error="ResourceNotFoundException")
