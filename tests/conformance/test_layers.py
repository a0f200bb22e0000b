"""Layers as boto3 manages them."""

import base64
import hashlib
import json
import urllib.request
from typing import Any

import pytest

from tests.conformance.conftest import RUNTIME, package
from tests.conformance.test_functions import create

pytestmark = pytest.mark.conformance

LAYER = package("WORD = 'from the layer'", "python/shared_words.py")
USER = package("import shared_words\ndef handler(event, context): return shared_words.WORD")


def publish(aws: Any, name: str, **fields: Any) -> Any:
    return aws.publish_layer_version(LayerName=name, Content={"ZipFile": LAYER}, **fields)


def test_a_layer(aws: Any, name: str) -> None:
    """Published, found by name and by ARN, used by a function, and deleted under it."""
    made = publish(aws, name, Description="d", CompatibleRuntimes=[RUNTIME])
    digest = base64.b64encode(hashlib.sha256(LAYER).digest()).decode()
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (made["Version"], made["Description"], made["CompatibleRuntimes"]) == (1, "d", [RUNTIME])
    with urllib.request.urlopen(made["Content"].pop("Location"), timeout=20) as answer:
        assert answer.read() == LAYER
    assert made["Content"] == {"CodeSha256": digest, "CodeSize": len(LAYER)}
    arn = made["LayerVersionArn"]
    assert arn == f"{made['LayerArn']}:1"
    for got in (
        aws.get_layer_version(LayerName=name, VersionNumber=1),
        aws.get_layer_version(LayerName=made["LayerArn"], VersionNumber=1),
        aws.get_layer_version_by_arn(Arn=arn),
    ):
        assert got["Content"].pop("Location")
        assert {key: got[key] for key in made if key != "ResponseMetadata"} == {
            key: made[key] for key in made if key != "ResponseMetadata"
        }
    function = create(aws, name, Layers=[arn], Code={"ZipFile": USER})
    assert function["Layers"] == [{"Arn": arn, "CodeSize": len(LAYER)}]
    aws.delete_layer_version(LayerName=name, VersionNumber=1)
    with pytest.raises(aws.exceptions.ResourceNotFoundException, match="does not exist"):
        aws.get_layer_version(LayerName=name, VersionNumber=1)
    answer = aws.invoke(FunctionName=name)
    assert json.loads(answer["Payload"].read()) == "from the layer"
    assert aws.update_function_configuration(FunctionName=name, Layers=[]).get("Layers") is None


def test_lists(aws: Any, name: str) -> None:
    """The newest version of each layer; of one layer the newest first; page by page."""
    for _ in range(3):
        publish(aws, name)
    pages = aws.get_paginator("list_layers").paginate(PaginationConfig={"PageSize": 1})
    newest = {
        it["LayerName"]: it["LatestMatchingVersion"]["Version"] for page in pages for it in page["Layers"]
    }
    assert newest[name] == 3
    paginator = aws.get_paginator("list_layer_versions")
    pages = list(paginator.paginate(LayerName=name, PaginationConfig={"PageSize": 2}))
    assert [[it["Version"] for it in page["LayerVersions"]] for page in pages] == [[3, 2], [1]]
    assert aws.list_layer_versions(LayerName=name, CompatibleRuntime="nodejs22.x")["LayerVersions"] == []


def test_lists_by_architecture(aws: Any, name: str) -> None:
    """What a layer is for is not kept, so that all are listed."""
    publish(aws, name, CompatibleArchitectures=["arm64"])
    for architecture in ("arm64", "x86_64"):
        listed = aws.list_layer_versions(LayerName=name, CompatibleArchitecture=architecture)
        assert len(listed["LayerVersions"]) == 1
        layers = aws.list_layers(CompatibleArchitecture=architecture)["Layers"]
        assert name in [it["LayerName"] for it in layers]


def test_a_layer_that_is_not_made(aws: Any, name: str) -> None:
    with pytest.raises(aws.exceptions.InvalidParameterValueException, match="Could not unzip"):
        aws.publish_layer_version(LayerName=name, Content={"ZipFile": b"no zip"})
    with pytest.raises(aws.exceptions.InvalidParameterValueException, match="neither the name nor the ARN"):
        publish(aws, "no spaces")
