"""What etcd says of functions, made into what the driver is told: versions, limits, what is to be ready.

A published version never changes, but for what it shares with its function: the concurrency, which is that of
`$LATEST`. What an alias has ready is its version's. Of the functions of other shards only what they reserve
is of interest.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from lambent_proto import keys
from lambent_proto.definition import Definition
from lambent_proto.ids import FunctionName, VersionKey, function_of
from lambent_proto.shards import Shard
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


class ToldOfAll(Told, Protocol):
    """What a shard needs of it."""

    def reserve_elsewhere(self, reserved: int) -> None: ...


class ShardFunctions:
    """Tells the driver all of the functions of its shard, and what those of the others reserve together."""

    def __init__(self, shard: Shard, driver: ToldOfAll) -> None:
        self._shard = shard
        self._driver = driver
        self._own = Functions(driver)
        self._elsewhere = Elsewhere()
        self._others = Functions(self._elsewhere)
        self._reserved = 0

    def replace(self, values: Mapping[str, bytes]) -> None:
        """All that is there now, by key; what is there no more has gone."""
        self._own.replace({key: value for key, value in values.items() if self._owns(key)})
        self._others.replace({key: value for key, value in values.items() if not self._owns(key)})
        self._tell()

    def change(self, news: Iterable[tuple[str, bytes | None]]) -> None:
        """Keys with what they hold from now on; None: they are gone."""
        news = list(news)
        self._own.change([it for it in news if self._owns(it[0])])
        self._others.change([it for it in news if not self._owns(it[0])])
        self._tell()

    def _owns(self, key: str) -> bool:
        return self._shard.owns(keys.of_function_key(key).function)

    def _tell(self) -> None:
        if self._reserved != self._elsewhere.reserved:
            self._reserved = self._elsewhere.reserved
            self._driver.reserve_elsewhere(self._reserved)


class Elsewhere:
    """Counts what functions reserve, or else what they have ready."""

    def __init__(self) -> None:
        self.reserved = 0
        """By all of them."""
        self._of: dict[FunctionName, int | None] = {}
        self._ready: dict[FunctionName, dict[VersionKey, int]] = {}

    def define(self, definition: Definition, concurrency: int | None) -> None:
        with self._counted(definition.name):
            self._of[definition.name] = concurrency

    def undefine(self, name: FunctionName) -> None:
        with self._counted(name):
            self._of.pop(name, None)
            self._ready.pop(name, None)

    def undefine_version(self, name: FunctionName, version: str) -> None:
        """What is ready of it is taken back by `provision`."""

    def provision(self, version: VersionKey, count: int) -> None:
        name = function_of(version)
        with self._counted(name):
            ready = self._ready.setdefault(name, {})
            ready.pop(version, None)
            if count:
                ready[version] = count

    @contextmanager
    def _counted(self, name: FunctionName) -> Iterator[None]:
        self.reserved -= self._by(name)
        yield
        self.reserved += self._by(name)

    def _by(self, name: FunctionName) -> int:
        reserved = self._of.get(name)
        return sum(self._ready.get(name, {}).values()) if reserved is None else reserved


def _set(known: dict[str, T], name: str, value: T | None) -> None:
    if value is None:
        known.pop(name, None)
    else:
        known[name] = value
