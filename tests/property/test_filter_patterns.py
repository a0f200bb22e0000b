"""The filters' matcher against a slow one that spells every way to match out."""

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from lambent_frontend.triggers.core.pattern import Pattern

NAMES: Final = ("a", "b")
texts = st.text("aB*", max_size=3)
some_text = st.text("aB", min_size=1, max_size=2)
numbers = st.integers(-2, 2) | st.sampled_from([0.5, 1.0])
scalars = texts | numbers | st.booleans() | st.none()
values = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(NAMES), below, max_size=2),
    max_leaves=8,
)
records = st.dictionaries(st.sampled_from(NAMES), values, max_size=2)
wildcards = st.lists(some_text | st.just("\\*"), min_size=1, max_size=3).map("*".join)
ranges = st.tuples(st.sampled_from([">", ">="]), st.just(-1), st.sampled_from(["<", "<="]), st.just(1))
entries = (
    scalars
    | some_text.map(lambda it: {"prefix": it})
    | some_text.map(lambda it: {"suffix": {"equals-ignore-case": it}})
    | some_text.map(lambda it: {"equals-ignore-case": it})
    | wildcards.map(lambda it: {"wildcard": it})
    | st.booleans().map(lambda it: {"exists": it})
    | ranges.map(lambda it: {"numeric": list(it)})
    | st.lists(some_text, min_size=1, max_size=2).map(lambda it: {"anything-but": it})
    | st.lists(wildcards, min_size=1, max_size=2).map(lambda it: {"anything-but": {"wildcard": it}})
)
fields = st.lists(entries, min_size=1, max_size=2)


def _objects(below: Any) -> Any:
    plain = st.dictionaries(st.sampled_from(NAMES), below, min_size=1, max_size=2)
    alternatives = st.lists(plain, min_size=2, max_size=3).map(lambda it: {"$or": it})
    return plain | alternatives | st.tuples(plain, alternatives).map(lambda it: it[0] | it[1])


patterns = _objects(st.recursive(fields, _objects, max_leaves=5))


def spelled_out(pattern: dict[str, Any]) -> Iterator[list[tuple[tuple[str, ...], list[Any]]]]:
    """Without `$or`: all the lists of (path, entries) of which one has to hold."""
    choices: list[list[list[tuple[tuple[str, ...], list[Any]]]]] = []
    for name, value in pattern.items():
        if name == "$or":
            choices.append([one for each in value for one in spelled_out(each)])
        elif isinstance(value, dict):
            below = spelled_out(value)
            choices.append([[((name, *path), entry) for path, entry in one] for one in below])
        else:
            choices.append([[((name,), value)]])
    for chosen in itertools.product(*choices):
        yield [pair for one in chosen for pair in one]


def flat(value: Any) -> list[Any]:
    return [leaf for one in value for leaf in flat(one)] if isinstance(value, list) else [value]


def worlds(record: dict[str, Any]) -> Iterator[dict[tuple[str, ...], list[Any]]]:
    """The values by path, for each way to take one object of each list of them."""
    parts = []
    for name, value in record.items():
        leaves = flat(value)
        scalars = {(name,): [it for it in leaves if not isinstance(it, dict)]}
        objects = [it for it in leaves if isinstance(it, dict)]
        below = [world for one in objects for world in worlds(one)] or [{}]
        parts.append([scalars | {(name, *path): held for path, held in world.items()} for world in below])
    for chosen in itertools.product(*parts):
        yield {path: held for part in chosen for path, held in part.items() if held}


def holds(entry: Any, held: list[Any]) -> bool:
    if entry == {"exists": False}:
        return not held
    return any(takes(entry, value) for value in held)


def takes(entry: Any, value: Any) -> bool:
    if not isinstance(entry, dict):
        return json.dumps(entry) == json.dumps(value) or (
            {type(entry), type(value)} <= {int, float} and bool(entry == value)
        )
    ((kind, said),) = entry.items()
    number, text = type(value) in (int, float), value if isinstance(value, str) else None
    if kind == "exists":
        return bool(said)
    if kind == "numeric":
        rule = f"{value} {said[0]} {said[1]} and {value} {said[2]} {said[3]}"
        return number and bool(eval(rule))  # of numbers and four operators
    if kind == "anything-but":
        return not any(takes({"wildcard": it} if isinstance(said, dict) else it, value) for it in _list(said))
    if text is None:
        return False
    if kind == "wildcard":
        glob = re.sub(r"\\(\*)|(\*)|([^*\\]+)", _as_expression, said)
        return re.fullmatch(glob, text, re.DOTALL) is not None
    if kind == "suffix":
        return text.lower().endswith(said["equals-ignore-case"].lower())
    return text.startswith(said) if kind == "prefix" else text.lower() == said.lower()


def _list(said: Any) -> list[Any]:
    return list(said["wildcard"]) if isinstance(said, dict) else list(said)


def _as_expression(found: "re.Match[str]") -> str:
    return ".*" if found[2] else re.escape(found[1] or found[3])


@settings(max_examples=150, deadline=None)
@given(patterns, records)
def test_as_the_slow_one(pattern: dict[str, Any], record: dict[str, Any]) -> None:
    """Both say the same of any record."""
    expected = any(
        all(any(holds(entry, world.get(path, [])) for entry in wanted) for path, wanted in one)
        for one in spelled_out(pattern)
        for world in worlds(record)
    )
    assert Pattern.parse(json.dumps(pattern)).matches(record) is expected
