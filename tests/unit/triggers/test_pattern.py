"""What a filter takes and what it does not; what is no filter, and how that is said."""

import json
from typing import Any

import pytest

from lambent_frontend.triggers.core.pattern import MAX_FILTERS, BadPattern, Pattern, Text, parse_all, wanted

MATCHES = [
    ({"a": ["x"]}, {"a": "x"}, True),
    ({"a": ["x"]}, {"a": "y"}, False),
    ({"a": ["x"]}, {}, False),
    ({"a": ["x", "y"]}, {"a": "y"}, True),
    ({"a": [""]}, {"a": ""}, True),
    ({"a": [1]}, {"a": 1.0}, True),
    ({"a": [1]}, {"a": True}, False),
    ({"a": [True]}, {"a": 1}, False),
    ({"a": [False]}, {"a": False}, True),
    ({"a": [1]}, {"a": "1"}, False),
    ({"a": [None]}, {"a": None}, True),
    ({"a": [None]}, {"a": ""}, False),
    ({"a": [None]}, {}, False),
    ({"a": ["x"], "b": [1]}, {"a": "x", "b": 1}, True),
    ({"a": ["x"], "b": [1]}, {"a": "x", "b": 2}, False),
    ({"a": {"b": ["x"]}}, {"a": {"b": "x", "c": 1}}, True),
    ({"a": {"b": ["x"]}}, {"a": "x"}, False),
    ({"a": {"b": ["x"]}}, {"b": "x"}, False),
    ({"a": ["x"]}, {"a": ["y", "x"]}, True),
    ({"a": ["x"]}, {"a": [["y"], ["x"]]}, True),
    ({"a": ["x"]}, {"a": []}, False),
    ({"a": {"b": [1], "c": [2]}}, {"a": [{"b": 1, "c": 2}]}, True),
    ({"a": {"b": [1], "c": [2]}}, {"a": [{"b": 1}, {"c": 2}]}, False),
    ({"a": [{"prefix": "ab"}]}, {"a": "abc"}, True),
    ({"a": [{"prefix": "ab"}]}, {"a": "Abc"}, False),
    ({"a": [{"prefix": {"equals-ignore-case": "ab"}}]}, {"a": "ABC"}, True),
    ({"a": [{"suffix": ".png"}]}, {"a": "x.png"}, True),
    ({"a": [{"suffix": ".png"}]}, {"a": "x.PNG"}, False),
    ({"a": [{"suffix": {"equals-ignore-case": ".png"}}]}, {"a": "x.PNG"}, True),
    ({"a": [{"equals-ignore-case": "Alice"}]}, {"a": "aLICE"}, True),
    ({"a": [{"equals-ignore-case": "Alice"}]}, {"a": "alices"}, False),
    ({"a": [{"anything-but": "x"}]}, {"a": "y"}, True),
    ({"a": [{"anything-but": "x"}]}, {"a": "x"}, False),
    ({"a": [{"anything-but": "x"}]}, {}, False),
    ({"a": [{"anything-but": ["x", "y"]}]}, {"a": "y"}, False),
    ({"a": [{"anything-but": [1, 2]}]}, {"a": 3}, True),
    ({"a": [{"anything-but": 1}]}, {"a": "1"}, True),
    ({"a": [{"anything-but": {"prefix": "in"}}]}, {"a": "init"}, False),
    ({"a": [{"anything-but": {"prefix": ["in", "out"]}}]}, {"a": "outer"}, False),
    ({"a": [{"anything-but": {"prefix": "in"}}]}, {"a": "out"}, True),
    ({"a": [{"anything-but": {"suffix": ".png"}}]}, {"a": "x.png"}, False),
    ({"a": [{"anything-but": {"equals-ignore-case": ["x", "y"]}}]}, {"a": "Y"}, False),
    ({"a": [{"anything-but": {"wildcard": "*/lib/*"}}]}, {"a": "usr/lib/x"}, False),
    ({"a": [{"anything-but": {"wildcard": "*/lib/*"}}]}, {"a": "usr/bin/x"}, True),
    ({"a": [{"numeric": ["=", 3]}]}, {"a": 3.0}, True),
    ({"a": [{"numeric": ["=", 3]}]}, {"a": "3"}, False),
    ({"a": [{"numeric": ["<", 10]}]}, {"a": 10}, False),
    ({"a": [{"numeric": ["<=", 10]}]}, {"a": 10}, True),
    ({"a": [{"numeric": [">", 0, "<=", 5]}]}, {"a": 0}, False),
    ({"a": [{"numeric": [">", 0, "<=", 5]}]}, {"a": 5}, True),
    ({"a": [{"numeric": ["<", 5, ">=", -1.5]}]}, {"a": -1.5}, True),
    ({"a": [{"numeric": [">", 0]}]}, {"a": True}, False),
    ({"a": [{"exists": True}]}, {"a": None}, True),
    ({"a": [{"exists": True}]}, {}, False),
    ({"a": [{"exists": True}]}, {"a": {"b": 1}}, False),
    ({"a": [{"exists": False}]}, {}, True),
    ({"a": [{"exists": False}]}, {"a": 1}, False),
    ({"a": {"b": [{"exists": False}]}}, {}, True),
    ({"a": {"b": [{"exists": False}]}}, {"a": {"c": 1}}, True),
    ({"a": [{"exists": False}, "x"]}, {"a": "x"}, True),
    ({"a": [{"cidr": "10.0.0.0/24"}]}, {"a": "10.0.0.200"}, True),
    ({"a": [{"cidr": "10.0.0.0/24"}]}, {"a": "10.0.1.0"}, False),
    ({"a": [{"cidr": "10.0.0.0/24"}]}, {"a": "no address"}, False),
    ({"a": [{"cidr": "2001:db8::/32"}]}, {"a": "2001:db8::1"}, True),
    ({"a": [{"wildcard": "a*c"}]}, {"a": "abbc"}, True),
    ({"a": [{"wildcard": "a*c"}]}, {"a": "ac"}, True),
    ({"a": [{"wildcard": "a*c"}]}, {"a": "acd"}, False),
    ({"a": [{"wildcard": "aba*aba"}]}, {"a": "aba"}, False),
    ({"a": [{"wildcard": "*a*b*"}]}, {"a": "xbxaxb"}, True),
    ({"a": [{"wildcard": "a\\*c"}]}, {"a": "a*c"}, True),
    ({"a": [{"wildcard": "a\\*c"}]}, {"a": "abc"}, False),
    ({"$or": [{"a": [1]}, {"b": [2]}]}, {"b": 2}, True),
    ({"$or": [{"a": [1]}, {"b": [2]}]}, {"b": 3}, False),
    ({"c": [3], "$or": [{"a": [1]}, {"b": [2]}]}, {"a": 1}, False),
    ({"c": [3], "$or": [{"a": [1]}, {"b": [2]}]}, {"a": 1, "c": 3}, True),
    ({"x": {"$or": [{"a": [1]}, {"b": [2]}]}}, {"x": {"b": 2}}, True),
    ({"$or": ["x"]}, {"$or": "x"}, True),
]


@pytest.mark.parametrize(("pattern", "record", "expected"), MATCHES)
def test_matches(pattern: dict[str, Any], record: dict[str, Any], expected: bool) -> None:
    """Each kind of entry takes what it names and nothing else."""
    assert Pattern.parse(json.dumps(pattern)).matches(record) is expected


WRONG = [
    ("{", "JSON"),
    ("[]", "a JSON object, not a list"),
    ("{}", "empty object"),
    ('{"a": {}}', "at a: an empty object"),
    ('{"a": "x"}', 'in a list, as in ["x"]'),
    ('{"a": []}', "the list is empty"),
    ('{"a": [["x"]]}', "a list in a list"),
    ('{"a": {"b": [{"starts": "x"}]}}', "at a.b: 'starts' is none of anything-but, cidr"),
    ('{"a": [{"prefix": "x", "suffix": "y"}]}', "one key"),
    ('{"a": [{"prefix": 1}]}', "prefix takes a string"),
    ('{"a": [{"prefix": ""}]}', "not empty"),
    ('{"a": [{"exists": "yes"}]}', "exists is true or false"),
    ('{"a": [{"numeric": [">"]}]}', "numeric takes"),
    ('{"a": [{"numeric": [">", "1"]}]}', "numeric takes"),
    ('{"a": [{"numeric": [">", 1, ">", 2]}]}', "numeric takes"),
    ('{"a": [{"numeric": [">", 5, "<", 1]}]}', "nothing is above 5 and below 1"),
    ('{"a": [{"numeric": ["=", true]}]}', "numeric takes"),
    ('{"a": [{"cidr": "10.0.0.0/40"}]}', "cidr"),
    ('{"a": [{"wildcard": "a**b"}]}', "two * in a row"),
    ('{"a": [{"wildcard": "a\\\\b"}]}', "backslash"),
    ('{"a": [{"anything-but": []}]}', "one at least"),
    ('{"a": [{"anything-but": ["x", 1]}]}', "strings alone or numbers alone"),
    ('{"a": [{"anything-but": {"numeric": ["=", 1]}}]}', "anything-but takes"),
    ('{"a": [{"anything-but": {"prefix": []}}]}', "the list is empty"),
    ('{"a": ["' + "x" * 4096 + '"]}', "at most 4,096 characters"),
    ('{"a":' * 40 + '["x"]' + "}" * 40, "deeper than 32"),
    ('{"a":' * 600 + '["x"]' + "}" * 600, "deeper than 32"),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_what_is_no_pattern(text: str, said: str) -> None:
    """The error names the place and what is right there."""
    with pytest.raises(BadPattern) as error:
        Pattern.parse(text)
    assert said in str(error.value)


def test_data_is_a_text_or_a_document() -> None:
    """What looks below a record's data takes it for JSON, what compares it takes it for a text."""
    below, plain = Pattern.parse('{"body": {"a": [1]}}'), Pattern.parse('{"body": ["{\\"a\\": 1}"]}')
    record = {"body": Text('{"a": 1}')}
    assert below.matches(record)
    assert plain.matches(record)
    for not_so in ("no JSON", "[" * 100_000, "5", '"a"', "[1]"):
        assert not below.matches({"body": Text(not_so)})


def test_deep_data_is_only_looked_at_as_far_as_it_has_to_be() -> None:
    deep = json.loads("[" * 500 + '"x"' + "]" * 500)
    assert Pattern.parse('{"a": ["x"]}').matches({"a": deep})


def test_several_filters() -> None:
    """One that matches is enough; none at all take everything; what is wrong is told by its number."""
    assert wanted((), {"a": 1})
    filters = parse_all(['{"a": [1]}', '{"a": [2]}'])
    assert wanted(filters, {"a": 2})
    assert not wanted(filters, {"a": 3})
    with pytest.raises(BadPattern, match=r"^filter 2: "):
        parse_all(['{"a": [1]}', '{"a": 1}'])
    with pytest.raises(BadPattern, match="at most 10 filters"):
        parse_all(['{"a": [1]}'] * (MAX_FILTERS + 1))
