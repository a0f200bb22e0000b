"""The pattern language of filters, which is EventBridge's: what a record has to be like to be called with.

A pattern is a JSON object. Its keys are fields of the record, its values are lists of what the field may be,
or objects for what is below the field; all keys have to match, and of a list one entry. `$or` holds a list of
patterns of which one has to match. An entry is a string, a number, true, false or null for that very value,
or an object with one of the keys in `_MAKERS`. A field that holds a list matches if one of its elements does;
of a list of objects one has to match the whole of what the pattern says below.

Numbers are compared by their value: 300 and 3e2 are the same, which EventBridge tells apart.
"""

import ipaddress
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

MAX_FILTERS: Final = 10
"""Patterns of one trigger. Lambda's limit is 5, and 10 for those who ask for it."""
MAX_PATTERN: Final = 4096
"""Characters of a pattern, Lambda's limit."""
MAX_DEPTH: Final = 32
"""Objects in objects, `$or` included; a pattern of MAX_PATTERN characters could have a thousand."""

Scalar = str | int | float | bool | None
Test = Callable[[Scalar], bool]
"""Whether a value that is there is right."""

_ABSENT: Final = object()
_OR: Final = "$or"


class BadPattern(ValueError):
    """The message says what is wrong, and where."""


class Text(str):
    """A record's data. It is a text to what compares texts, and a JSON document to what looks below it."""

    __slots__ = ("_document",)
    _document: Any

    def document(self) -> Any:
        """_ABSENT if it is not JSON."""
        try:
            return self._document
        except AttributeError:
            try:
                self._document = json.loads(self)
            except (ValueError, RecursionError):
                self._document = _ABSENT
            return self._document


@dataclass(frozen=True, slots=True)
class _Field:
    """What one field may be: one of the tests holds for a value of it, or it is absent and may be."""

    tests: tuple[Test, ...]
    may_be_absent: bool

    def matches(self, value: Any) -> bool:
        there = False
        for scalar in _scalars(value):
            there = True
            if any(test(scalar) for test in self.tests):
                return True
        return self.may_be_absent and not there


@dataclass(frozen=True, slots=True)
class _Object:
    fields: Mapping[str, "_Field | _Object"]
    one_of: tuple["_Object", ...]

    def matches(self, value: Any) -> bool:
        objects = list(_objects(value)) or [{}]
        return any(self._matches(one) for one in objects)

    def _matches(self, value: Mapping[str, Any]) -> bool:
        if not all(below.matches(value.get(name, _ABSENT)) for name, below in self.fields.items()):
            return False
        return not self.one_of or any(one._matches(value) for one in self.one_of)


@dataclass(frozen=True, slots=True)
class Pattern:
    text: str
    root: _Object

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Raises BadPattern."""
        if len(text) > MAX_PATTERN:
            raise BadPattern(f"a pattern has at most {MAX_PATTERN:,} characters, this one has {len(text):,}")
        try:
            said = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadPattern(f"a pattern is JSON, and this is not: {error}") from None
        if not isinstance(said, dict):
            raise BadPattern(f"a pattern is a JSON object, not {_named(said)}")
        return cls(text, _object(said, "", 1))

    def matches(self, record: Mapping[str, Any]) -> bool:
        return self.root._matches(record)


def parse_all(texts: Sequence[str]) -> tuple[Pattern, ...]:
    """The filters of one trigger. Raises BadPattern, which says of which."""
    if len(texts) > MAX_FILTERS:
        raise BadPattern(f"a trigger has at most {MAX_FILTERS} filters, these are {len(texts)}")
    patterns = []
    for number, text in enumerate(texts, 1):
        try:
            patterns.append(Pattern.parse(text))
        except BadPattern as error:
            raise BadPattern(f"filter {number}: {error}") from None
    return tuple(patterns)


def wanted(patterns: Sequence[Pattern], record: Mapping[str, Any]) -> bool:
    """Whether one of the filters matches; without filters all is wanted."""
    return not patterns or any(pattern.matches(record) for pattern in patterns)


# Values of records


def _leaves(value: Any) -> Iterator[Any]:
    """What is in lists in lists, which may be deep."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting.extend(reversed(one))
        elif one is not _ABSENT:
            yield one


def _scalars(value: Any) -> Iterator[Scalar]:
    return (leaf for leaf in _leaves(value) if not isinstance(leaf, dict))


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    document = value.document() if isinstance(value, Text) else value
    return (leaf for leaf in _leaves(document) if isinstance(leaf, dict))


def _same(one: Scalar, other: Scalar) -> bool:
    """As JSON has it: true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# Parsing


def _named(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    for kind, name in ((dict, "an object"), (list, "a list"), (str, "a string")):
        if isinstance(value, kind):
            return name
    return "a number"


def _where(path: str) -> str:
    return f"at {path}" if path else "at the top"


def _object(said: Mapping[str, Any], path: str, depth: int) -> _Object:
    if depth > MAX_DEPTH:
        raise BadPattern(f"{_where(path)[:200]}: deeper than {MAX_DEPTH} objects in each other")
    if not said:
        raise BadPattern(f"{_where(path)}: an empty object matches nothing that could be told: name a field")
    fields: dict[str, _Field | _Object] = {}
    one_of: tuple[_Object, ...] = ()
    for name, value in said.items():
        here = f"{path}.{name}" if path else name
        if name == _OR and _is_or(value):
            one_of = tuple(_object(one, f"{here}[{at}]", depth + 1) for at, one in enumerate(value))
        elif isinstance(value, dict):
            fields[name] = _object(value, here, depth + 1)
        elif isinstance(value, list):
            fields[name] = _field(value, here)
        else:
            raise BadPattern(
                f"{_where(here)}: what a field may be stands in a list, as in [{json.dumps(value)[:40]}]; "
                f"this is {_named(value)}"
            )
    return _Object(fields, one_of)


def _is_or(value: Any) -> bool:
    """Of other values `$or` is the name of a field, as it is for EventBridge."""
    return isinstance(value, list) and len(value) > 1 and all(isinstance(it, dict) for it in value)


def _field(entries: Sequence[Any], path: str) -> _Field:
    if not entries:
        raise BadPattern(f"{_where(path)}: the list is empty, so that nothing could match")
    tests: list[Test] = []
    may_be_absent = False
    for entry in entries:
        if isinstance(entry, list):
            raise BadPattern(f"{_where(path)}: a list in a list")
        if not isinstance(entry, dict):
            tests.append(_exactly(entry))
            continue
        if len(entry) != 1:
            raise BadPattern(f"{_where(path)}: an entry has one key, such as prefix, not {len(entry)}")
        ((kind, value),) = entry.items()
        if kind == "exists":
            if not isinstance(value, bool):
                raise BadPattern(f"{_where(path)}: exists is true or false, not {_named(value)}")
            may_be_absent |= not value
            if value:
                tests.append(_anything)
        elif kind in _MAKERS:
            tests.append(_MAKERS[kind](value, f"{_where(path)}: {kind}"))
        else:
            raise BadPattern(
                f"{_where(path)}: {kind[:80]!r} is none of {', '.join(sorted({*_MAKERS, 'exists'}))}"
            )
    return _Field(tuple(tests), may_be_absent)


def _anything(_: Scalar) -> bool:
    return True


def _exactly(wanted: Scalar) -> Test:
    return lambda value: _same(value, wanted)


def _text_of(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise BadPattern(f"{what} takes a string that is not empty, not {_named(value) if value else 'that'}")
    return value


def _of_text(test: Callable[[str], bool]) -> Test:
    return lambda value: isinstance(value, str) and test(value)


def _ignoring_case(value: Any, what: str) -> str | None:
    """What `{"equals-ignore-case": TEXT}` says, in lower case; None if it is something else."""
    if isinstance(value, dict) and set(value) == {"equals-ignore-case"}:
        return _text_of(value["equals-ignore-case"], f"{what} equals-ignore-case").casefold()
    return None


def _prefix(value: Any, what: str) -> Test:
    if (folded := _ignoring_case(value, what)) is not None:
        return _of_text(lambda text: text.casefold().startswith(folded))
    start = _text_of(value, what)
    return _of_text(lambda text: text.startswith(start))


def _suffix(value: Any, what: str) -> Test:
    if (folded := _ignoring_case(value, what)) is not None:
        return _of_text(lambda text: text.casefold().endswith(folded))
    end = _text_of(value, what)
    return _of_text(lambda text: text.endswith(end))


def _equals_ignoring_case(value: Any, what: str) -> Test:
    folded = _text_of(value, what).casefold()
    return _of_text(lambda text: text.casefold() == folded)


def _wildcard(value: Any, what: str) -> Test:
    """`*` stands for any text, `\\*` for itself; read from left to right, so that none takes long."""
    pieces = [""]
    escaped = False
    for letter in _text_of(value, what):
        if escaped:
            if letter not in "*\\":
                raise BadPattern(f"{what}: after a backslash comes * or another one, not {letter!r}")
            pieces[-1] += letter
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter == "*":
            if len(pieces) > 1 and not pieces[-1]:
                raise BadPattern(f"{what}: two * in a row")
            pieces.append("")
        else:
            pieces[-1] += letter
    if escaped:
        raise BadPattern(f"{what}: nothing comes after the last backslash")
    return _of_text(lambda text: _fits(text, pieces))


def _fits(text: str, pieces: Sequence[str]) -> bool:
    first, *between = pieces
    if not between:
        return text == first
    *between, last = between
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for piece in between:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def _numeric(value: Any, what: str) -> Test:
    rule = f'{what} takes ["=", N], or one or two of <, <=, >, >= with numbers, as in [">", 0, "<=", 5]'
    if not isinstance(value, list) or len(value) not in (2, 4):
        raise BadPattern(rule)
    operators, numbers = value[::2], value[1::2]
    if not all(isinstance(it, str) for it in operators) or not all(_is_number(it) for it in numbers):
        raise BadPattern(rule)
    if operators == ["="]:
        exact = numbers[0]
        return lambda value: _is_number(value) and value == exact
    low = [(op, n) for op, n in zip(operators, numbers, strict=True) if op in (">", ">=")]
    high = [(op, n) for op, n in zip(operators, numbers, strict=True) if op in ("<", "<=")]
    if len(low) + len(high) != len(operators) or len(low) > 1 or len(high) > 1:
        raise BadPattern(rule)
    if low and high and not low[0][1] < high[0][1]:
        raise BadPattern(f"{what}: nothing is above {low[0][1]} and below {high[0][1]}")
    bounds = [(_COMPARE[op], n) for op, n in (*low, *high)]
    return lambda value: _is_number(value) and all(holds(value, bound) for holds, bound in bounds)


_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": lambda value, bound: value < bound,
    "<=": lambda value, bound: value <= bound,
    ">": lambda value, bound: value > bound,
    ">=": lambda value, bound: value >= bound,
}


def _cidr(value: Any, what: str) -> Test:
    try:
        network = ipaddress.ip_network(_text_of(value, what), strict=False)
    except ValueError as error:
        if isinstance(error, BadPattern):
            raise
        raise BadPattern(f"{what}: {error}") from None

    def within(text: str) -> bool:
        try:
            return ipaddress.ip_address(text) in network
        except ValueError:
            return False

    return _of_text(within)


def _anything_but(value: Any, what: str) -> Test:
    """A field that is there and holds none of what is said."""
    tests = _excluded(value, what)
    return lambda held: not any(test(held) for test in tests)


def _excluded(value: Any, what: str) -> list[Test]:
    if isinstance(value, dict):
        makers = {kind: _MAKERS[kind] for kind in ("prefix", "suffix", "equals-ignore-case", "wildcard")}
        if len(value) != 1 or not set(value) <= set(makers):
            raise BadPattern(f"{what} takes a value, a list of values, or one of {', '.join(makers)}")
        ((kind, said),) = value.items()
        texts = said if isinstance(said, list) else [said]
        if not texts:
            raise BadPattern(f"{what} {kind}: the list is empty")
        return [makers[kind](_text_of(text, f"{what} {kind}"), f"{what} {kind}") for text in texts]
    values = value if isinstance(value, list) else [value]
    if not values or not (all(isinstance(it, str) for it in values) or all(map(_is_number, values))):
        raise BadPattern(f"{what} takes strings alone or numbers alone, one at least")
    return [_exactly(it) for it in values]


_MAKERS: Final[dict[str, Callable[[Any, str], Test]]] = {
    "prefix": _prefix,
    "suffix": _suffix,
    "equals-ignore-case": _equals_ignoring_case,
    "wildcard": _wildcard,
    "numeric": _numeric,
    "cidr": _cidr,
    "anything-but": _anything_but,
}
