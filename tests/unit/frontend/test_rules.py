"""Lambda's rules for a function, one row each."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from lambent_frontend.rules import (
    RESERVED,
    check_layer,
    check_name,
    check_whole,
    check_zip_size,
    checked_changes,
    named_layers,
)
from lambent_proto.definition import Definition, LayerVersion
from lambent_proto.errors import InvalidRequest
from lambent_proto.ids import FunctionName
from lambent_proto.v1 import layers_pb2
from lambent_proto.v1.functions_pb2 import Concurrency, Configuration, Environment, LabelList, TagMap

RUNTIME = f"python3.{sys.version_info.minor}"


@pytest.mark.parametrize("name", ["a", "resize-image_2", "A" * 64, "0"])
def test_a_good_name(name: str) -> None:
    """1 to 64 letters, digits, hyphens and underscores."""
    check_name(name)


@pytest.mark.parametrize("name", ["", "a" * 65, "a b", "a:b", "a/b", "ä", "a\n", "../a"])
def test_a_bad_name(name: str) -> None:
    """Anything else is refused."""
    with pytest.raises(InvalidRequest, match="name"):
        check_name(name)


def test_what_is_given_is_changed_and_nothing_else() -> None:
    """Absent fields do not show up; empty ones that are given do."""
    assert checked_changes(Configuration()) == {}
    assert checked_changes(
        Configuration(
            runtime=RUNTIME,
            handler="app.handler",
            memory_mb=10_240,
            timeout_s=0.5,
            environment=Environment(variables={"KEY": "value"}),
            description="",
            concurrency=Concurrency(limit=0),
            tmp_mb=10_240,
            network=True,
            snapstart=False,
            require=LabelList(labels=["zone=a", "gpu=true", "zone=a"]),
            prefer=LabelList(),
            apart=True,
            role="arn:aws:iam::000000000000:role/any",
            tags=TagMap(tags={"team": "a"}),
        )
    ) == {
        "runtime": RUNTIME,
        "handler": "app.handler",
        "memory_mb": 10_240,
        "timeout_s": 0.5,
        "environment": {"KEY": "value"},
        "description": "",
        "concurrency": 0,
        "tmp_mb": 10_240,
        "network": True,
        "snapstart": False,
        "require": ("gpu=true", "zone=a"),
        "prefer": (),
        "apart": True,
        "role": "arn:aws:iam::000000000000:role/any",
        "tags": {"team": "a"},
    }
    assert checked_changes(Configuration(concurrency=Concurrency())) == {"concurrency": None}
    assert checked_changes(Configuration(environment=Environment())) == {"environment": {}}
    assert checked_changes(Configuration(tags=TagMap())) == {"tags": {}}


@pytest.mark.parametrize(
    "tags",
    [
        {f"key-{number}": "" for number in range(51)},
        {"": "value"},
        {"a" * 129: "value"},
        {"key": "a" * 257},
    ],
    ids=["many", "no key", "a long key", "a long value"],
)
def test_tags_that_are_refused(tags: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="tag"):
        checked_changes(Configuration(tags=TagMap(tags=tags)))


def test_a_role_that_is_refused() -> None:
    for role in ("a" * 2049, "line\nbreak"):
        with pytest.raises(InvalidRequest, match="role"):
            checked_changes(Configuration(role=role))


BAD: list[Any] = [
    pytest.param(
        Configuration(require=LabelList(labels=["gpu"])), "require has 'gpu', which is", id="no label"
    ),
    pytest.param(Configuration(prefer=LabelList(labels=["=a"])), "prefer has '=a', which is", id="no key"),
    pytest.param(Configuration(prefer=LabelList(labels=["a=b c"])), "KEY=VALUE", id="a space in a label"),
    pytest.param(Configuration(prefer=LabelList(labels=["a=b\n"])), "KEY=VALUE", id="a line end in a label"),
    pytest.param(Configuration(prefer=LabelList(labels=["k" * 64 + "=b"])), "KEY=VALUE", id="a long label"),
    pytest.param(
        Configuration(require=LabelList(labels=[f"k=v{n}" for n in range(17)])),
        "17 labels, 16 are",
        id="17 labels",
    ),
    pytest.param(Configuration(runtime="cobol85"), "'cobol85' is none of: python, python3.N", id="runtime"),
    pytest.param(Configuration(handler=""), "handler", id="no handler"),
    pytest.param(Configuration(handler="app handler"), "handler", id="a space in the handler"),
    pytest.param(Configuration(handler="a.b\0--bind"), "handler", id="a zero byte in the handler"),
    pytest.param(Configuration(handler="a" * 129), "handler", id="handler too long"),
    pytest.param(Configuration(memory_mb=127), "128 to 10240", id="too little memory"),
    pytest.param(Configuration(memory_mb=10_241), "128 to 10240", id="too much memory"),
    pytest.param(Configuration(tmp_mb=511), "512 to 10240", id="too small a /tmp"),
    pytest.param(Configuration(tmp_mb=10_241), "512 to 10240", id="too large a /tmp"),
    pytest.param(Configuration(timeout_s=0), "at most 900", id="no time"),
    pytest.param(Configuration(timeout_s=900.5), "at most 900", id="too much time"),
    pytest.param(Configuration(timeout_s=float("nan")), "at most 900", id="time is not a number"),
    pytest.param(Configuration(description="d" * 257), "257 characters", id="description too long"),
    pytest.param(Configuration(concurrency=Concurrency(limit=-1)), "0 or more", id="negative concurrency"),
    *(
        pytest.param(
            Configuration(environment=Environment(variables={key: value})), said, id=f"variable {key!r}"
        )
        for key, value, said in [
            ("A", "x", "two characters"),
            ("1AB", "x", "letter"),
            ("_AB", "x", "letter"),
            ("A-B", "x", "letters, digits"),
            ("", "x", "letter"),
            ("AB", "x\0y", "zero byte"),
            ("AB", "é" * 2048, "4098 bytes"),
        ]
    ),
]


@pytest.mark.parametrize(("configuration", "said"), BAD)
def test_a_bad_configuration(configuration: Configuration, said: str) -> None:
    """The message names the field and what is allowed."""
    with pytest.raises(InvalidRequest, match=said):
        checked_changes(configuration)


@pytest.mark.parametrize("key", sorted(RESERVED))
def test_a_reserved_variable(key: str) -> None:
    """What the runtime sets itself cannot be set: `_X` ones fall to the rule for names before."""
    with pytest.raises(InvalidRequest):
        checked_changes(Configuration(environment=Environment(variables={key: "x"})))


def test_an_environment_of_exactly_the_limit() -> None:
    """4,096 bytes of keys and values together are fine."""
    variables = {"AB": "x" * 2046, "CD": "y" * 2046}
    assert checked_changes(Configuration(environment=Environment(variables=variables))) == {
        "environment": variables
    }


def test_a_zip_above_the_limit() -> None:
    """50 MB as Lambda has it, and not a byte more."""
    check_zip_size(bytes(52_428_800))
    with pytest.raises(InvalidRequest, match="52428801 bytes"):
        check_zip_size(bytes(52_428_801))


def test_layers_by_name_or_arn() -> None:
    """In the order given; of an ARN the region and account do not matter."""
    versions = ["deps:3", "arn:aws:lambda:eu-west-1:123456789012:layer:tools_2:12", "n:1"]
    assert named_layers(versions) == [("deps", 3), ("tools_2", 12), ("n", 1)]
    assert named_layers([]) == []


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        (["a:1", "b:1", "c:1", "d:1", "e:1", "f:1"], "^Cannot reference more than 5 layers.$"),
        (["a:1", "b:1", "a:2"], "'a' is there twice"),
        (["a:1", "arn:aws:lambda:r:000000000000:layer:a:1"], "'a' is there twice"),
        (["a"], "'a' is neither NAME:VERSION"),
        (["a:"], "NAME:VERSION"),
        (["a:-1"], "NAME:VERSION"),
        (["a:latest"], "NAME:VERSION"),
        (["../a:1"], "NAME:VERSION"),
        (["arn:aws:lambda:r:000000000000:layer:a"], "NAME:VERSION"),
        (["arn:aws:lambda:r:1:function:a:1"], "NAME:VERSION"),
        (["a:1\n"], "NAME:VERSION"),
        (["a" * 141 + ":1"], "NAME:VERSION"),
    ],
)
def test_layers_that_cannot_be(versions: Sequence[str], said: str) -> None:
    """Six, one twice, or no version of a layer at all."""
    with pytest.raises(InvalidRequest, match=said):
        named_layers(versions)


@pytest.mark.parametrize(
    ("name", "description", "runtimes", "said"),
    [
        ("a/b", "", [], "the layer's name 'a/b'"),
        ("", "", [], "the layer's name"),
        ("a" * 141, "", [], "1 to 140"),
        ("a", "d" * 257, [], "257 characters"),
        ("a", "", ["python3.11"] * 16, "16 compatible runtimes"),
        ("a", "", ["no runtime"], "'no runtime' is not the name of a runtime"),
    ],
)
def test_a_bad_layer(name: str, description: str, runtimes: Sequence[str], said: str) -> None:
    """The message names what is wrong and what is allowed."""
    check_layer(layer("A-layer_2", "d" * 256, ["python3.11", "provided.al2023", "nodejs22.x"]))
    with pytest.raises(InvalidRequest, match=said):
        check_layer(layer(name, description, runtimes))


WHOLE = Definition(
    name=FunctionName("f"),
    revision="r1",
    runtime=RUNTIME,
    handler="a.b",
    code_sha256="00",
    code_size=1,
    unzipped_size=100_000_000,
    layers=tuple(
        LayerVersion(name=name, version=1, code_sha256="00", code_size=1, unzipped_size=81_072_000)
        for name in ("a", "b")
    ),
)


def test_code_and_layers_share_250_mb() -> None:
    """262,144,000 bytes together, and not a byte more."""
    check_whole(WHOLE)
    with pytest.raises(InvalidRequest, match=r"262,144,001 bytes unzipped \(100,000,001 and 162,144,000\)"):
        check_whole(replace(WHOLE, unzipped_size=100_000_001))


def test_a_runtime_need_not_be_here() -> None:
    """It is taken for what it is called: which workers are up is another day's question."""
    for name in ("nodejs22.x", "provided.al2023", "python3.99"):
        assert checked_changes(Configuration(runtime=name)) == {"runtime": name}


def test_snapstart_is_for_python() -> None:
    """Another runtime's instances cannot be forked."""
    check_whole(replace(WHOLE, snapstart=True))
    check_whole(replace(WHOLE, runtime="python", snapstart=True))
    with pytest.raises(InvalidRequest, match="the runtime is nodejs22"):
        check_whole(replace(WHOLE, runtime="nodejs22.x", snapstart=True))


def layer(name: str, description: str, runtimes: Sequence[str]) -> layers_pb2.PublishLayerVersionRequest:
    return layers_pb2.PublishLayerVersionRequest(
        name=name, description=description, compatible_runtimes=runtimes
    )
