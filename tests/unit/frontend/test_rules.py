"""Lambda's rules for a function, one row each."""

import sys
from typing import Any

import pytest

from lambent_frontend.rules import RESERVED, check_name, check_zip_size, checked_changes
from lambent_proto.errors import InvalidRequest
from lambent_proto.v1.functions_pb2 import Concurrency, Configuration, Environment

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
        )
    ) == {
        "runtime": RUNTIME,
        "handler": "app.handler",
        "memory_mb": 10_240,
        "timeout_s": 0.5,
        "environment": {"KEY": "value"},
        "description": "",
        "concurrency": 0,
    }
    assert checked_changes(Configuration(concurrency=Concurrency())) == {"concurrency": None}
    assert checked_changes(Configuration(environment=Environment())) == {"environment": {}}


BAD: list[Any] = [
    pytest.param(Configuration(runtime="nodejs22.x"), f"available: {RUNTIME}", id="no such runtime"),
    pytest.param(Configuration(runtime="python3.1"), f"available: {RUNTIME}", id="another Python"),
    pytest.param(Configuration(handler=""), "handler", id="no handler"),
    pytest.param(Configuration(handler="app handler"), "handler", id="a space in the handler"),
    pytest.param(Configuration(handler="a" * 129), "handler", id="handler too long"),
    pytest.param(Configuration(memory_mb=127), "128 to 10240", id="too little memory"),
    pytest.param(Configuration(memory_mb=10_241), "128 to 10240", id="too much memory"),
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
