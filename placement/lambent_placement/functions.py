"""What etcd says of functions, made into what the driver is told: versions, limits, what is to be ready.

A published version never changes, but for what it shares with its function: the concurrency, which is that of
`$LATEST`. What an alias has ready is its version's.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from lambent_proto import keys
from lambent_proto.definition import Definition
from lambent_proto.ids import FunctionName, VersionKey
from lambent_proto.versions import Alias, decode_provisioned, provisioned_of

T = TypeVar("T")


class Told(Protocol):
    """What is needed of the driver."""

    def define(self, definition: Definition, concurrency: int | None) -> None: ...

    def undefine(self, name: FunctionName) -> None: ...

    def undefine_version(self, name: FunctionName, version: str) -> None: ...

    def provision(self, version: VersionKey, count: int) -> None: ...


@dataclass(slots=True)
class _Function:
    latest: Definition | None = None
    versions: dict[str, Definition] = field(default_factory=dict)
    aliases: dict[str, Alias] = field(default_factory=dict)
    wanted: dict[str, int] = field(default_factory=dict)
    """What is to be ready, by qualifier."""
    ready: dict[VersionKey, int] = field(default_factory=dict)
    """What the driver was told of that."""


class Functions:
    def __init__(self, told: Told) -> None:
        self._told = told
        self._values: dict[str, bytes] = {}
        self._known: dict[FunctionName, _Function] = {}

    def replace(self, values: Mapping[str, bytes]) -> None:
        """All that is there now, by key; what is there no more has gone."""
        gone = [(key, None) for key in self._values.keys() - values.keys()]
        self.change([*gone, *values.items()])

    def change(self, news: Iterable[tuple[str, bytes | None]]) -> None:
        """Keys with what they hold from now on; None: they are gone."""
        touched: dict[FunctionName, None] = {}
        for key, value in news:
            if self._values.get(key) == value:
                continue
            if value is None:
                del self._values[key]
            else:
                self._values[key] = value
            of = keys.of_function_key(key)
            self._take(of, value)
            touched[of.function] = None
        for name in touched:
            self._provision(name)

    def _take(self, key: keys.OfFunction, value: bytes | None) -> None:
        function = self._known.setdefault(key.function, _Function())
        match key.kind:
            case "latest":
                self._latest(key.function, function, value)
            case "version" if value is None:
                del function.versions[key.name]
                self._told.undefine_version(key.function, key.name)
            case "version" if value is not None:
                definition = function.versions[key.name] = Definition.decode(value)
                if function.latest is not None:
                    self._told.define(definition, function.latest.concurrency)
            case "alias":
                _set(function.aliases, key.name, None if value is None else Alias.decode(value))
            case "provisioned":
                _set(function.wanted, key.name, None if value is None else decode_provisioned(value))
            case _:
                pass  # a newer release's

    def _latest(self, name: FunctionName, function: _Function, value: bytes | None) -> None:
        before = function.latest
        if value is None:
            function.latest = None
            self._told.undefine(name)
            return
        latest = function.latest = Definition.decode(value)
        self._told.define(latest, latest.concurrency)
        if before is None or before.concurrency != latest.concurrency:
            for definition in function.versions.values():
                self._told.define(definition, latest.concurrency)

    def _provision(self, name: FunctionName) -> None:
        """Once all that changed together is known: an alias's move takes nothing away in between."""
        function = self._known[name]
        counts = provisioned_of(function.wanted, function.aliases)
        ready = {
            function.versions[version].key: count
            for version, count in counts.items()
            if version in function.versions and function.latest is not None
        }
        for version in function.ready.keys() - ready.keys():
            self._told.provision(version, 0)
        for version, count in ready.items():
            if function.ready.get(version) != count:
                self._told.provision(version, count)
        function.ready = ready
        if function.latest is None and not (function.versions or function.aliases or function.wanted):
            del self._known[name]


def _set(known: dict[str, T], name: str, value: T | None) -> None:
    if value is None:
        known.pop(name, None)
    else:
        known[name] = value
