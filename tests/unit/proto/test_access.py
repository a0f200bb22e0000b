"""What an access key allows, and that nothing else is."""

import msgpack
import pytest

from lambent_proto.access import AccessKey, BadKey, BadRule, Rule, new_access_key


def key(*rules: str) -> AccessKey:
    return new_access_key(map(Rule.parse, rules), "tests", 1.5)


@pytest.mark.parametrize(
    ("rule", "action", "resource", "allowed"),
    [
        ("InvokeFunction@orders", "InvokeFunction", "orders", True),
        ("InvokeFunction@orders", "InvokeFunction", "orders2", False),
        ("InvokeFunction@orders", "DeleteFunction", "orders", False),
        ("InvokeFunction@orders-*", "InvokeFunction", "orders-new", True),
        ("InvokeFunction@orders-*", "InvokeFunction", "old-orders-new", False),
        ("InvokeFunction", "InvokeFunction", "anything", True),
        ("Get*,List*@a,b", "ListAliases", "b", True),
        ("Get*,List*@a,b", "ListAliases", "c", False),
        ("Get*,List*@a,b", "ListFunctions", "", False),
        ("List*", "ListFunctions", "", True),
        ("GetLayerVersion@layer:libs", "GetLayerVersion", "layer:libs", True),
        ("GetLayerVersion@layer:libs", "GetLayerVersion", "libs", False),
        ("*@l*", "DeleteLayerVersion", "layer:libs", False),
        ("*@l*", "DeleteFunction", "lists", True),
        ("*@*-libs", "PublishLayerVersion", "layer:our-libs", False),
        ("*@layer:*", "PublishLayerVersion", "layer:our-libs", True),
        ("*@layer:*", "DeleteFunction", "layers", False),
        ("*@*", "DeleteLayerVersion", "layer:libs", True),
        ("*@schedule:nightly", "DeleteSchedule", "schedule:nightly", True),
        ("*@schedule:*", "DeleteLayerVersion", "layer:nightly", False),
        ("*@s*", "DeleteSchedule", "schedule:nightly", False),
        ("*@x", "DrainNode", "", False),
        ("*", "DrainNode", "", True),
        ("InvokeFunction@?", "InvokeFunction", "ab", False),
    ],
)
def test_a_rule_allows_its_actions_on_its_resources(
    rule: str, action: str, resource: str, allowed: bool
) -> None:
    assert key(rule).allows(action, resource) is allowed


def test_one_rule_of_several_is_enough_and_they_do_not_mix() -> None:
    several = key("InvokeFunction@a", "DeleteFunction@b")
    assert several.allows("InvokeFunction", "a")
    assert several.allows("DeleteFunction", "b")
    assert not several.allows("InvokeFunction", "b")
    assert not key().allows("InvokeFunction", "a")


@pytest.mark.parametrize(
    "rule", ["", "Invoke", "InvokeFunction@", "InvokeFunction@[ab]", "A,*@x", "*@layer:"]
)
def test_a_rule_that_can_allow_nothing_is_refused(rule: str) -> None:
    with pytest.raises(BadRule):
        Rule.parse(rule)


def test_a_key_survives_its_storage_and_a_newer_release() -> None:
    one = key("InvokeFunction@a,layer:b", "*")
    assert AccessKey.decode(one.encode()) == one
    assert [str(rule) for rule in one.rules] == ["InvokeFunction@a,layer:b", "*@*"]


def test_keys_differ_and_their_tokens_split_at_the_dot() -> None:
    one, other = key("*"), key("*")
    assert one.id != other.id
    assert one.secret != other.secret
    assert one.token.split(".") == [one.id, one.secret]
    assert len(one.id) == 20
    assert len(one.secret) == 40


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xc1",
        b"[]",
        msgpack.packb({}),
        msgpack.packb({"id": "a", "secret": "b"}),
        msgpack.packb({"id": "a", "secret": "b", "rules": [{}]}),
        msgpack.packb({"id": "a", "secret": "", "rules": []}),
        msgpack.packb({"id": "a", "secret": 1, "rules": []}),
    ],
)
def test_what_is_no_key_is_not_read_as_one(value: bytes) -> None:
    with pytest.raises(BadKey):
        AccessKey.decode(value)
