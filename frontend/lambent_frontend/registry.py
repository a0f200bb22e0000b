"""The only writer of functions, versions, aliases and what goes with them: each change is one transaction.

Changes are decided on what etcd says, not on the view, and are fenced by what was read: whoever comes second
is told, and nothing is half written. A change that names a version writes it once more, unchanged, so that it
and the version's deletion cannot both succeed. Every method raises NotReady when etcd does not answer; those
that change something Unconfirmed as well, as `commits` does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lambent_chassis.etcd import (
    Compare,
    Delete,
    EtcdError,
    KeyValue,
    Put,
    Snapshot,
)
from lambent_frontend import commits
from lambent_frontend.catalogue import Catalogue
from lambent_proto import keys
from lambent_proto.definition import Definition
from lambent_proto.errors import NotReady
from lambent_proto.event_invoke import EventInvoke
from lambent_proto.ids import FunctionName
from lambent_proto.versions import Alias, decode_provisioned, encode_provisioned


class Store(commits.Store, Protocol):
    """What is needed of `lambent_chassis.etcd.Etcd`."""

    async def get_prefix(self, prefix: str) -> Snapshot: ...


@dataclass(frozen=True, slots=True)
class Stored:
    """A definition as etcd has it."""

    definition: Definition
    mod_revision: int


@dataclass(frozen=True, slots=True)
class LastNumber:
    """The last one that a function's versions were given."""

    number: int
    known: KeyValue | None


@dataclass(frozen=True, slots=True)
class Publication:
    """A version that is to be written, under the number after `last`."""

    version: Definition
    last: LastNumber


@dataclass(slots=True)
class Parts:
    """What belongs to a function beside `$LATEST`, as etcd has it."""

    versions: dict[str, KeyValue] = field(default_factory=dict)
    aliases: dict[str, KeyValue] = field(default_factory=dict)
    provisioned: dict[str, KeyValue] = field(default_factory=dict)
    event_invoke: dict[str, KeyValue] = field(default_factory=dict)

    def alias(self, name: str) -> Alias | None:
        return Alias.decode(self.aliases[name].value) if name in self.aliases else None

    def newest(self) -> Definition | None:
        number = max(self.versions, key=int, default=None)
        return Definition.decode(self.versions[number].value) if number else None

    def counts(self) -> dict[str, int]:
        return {name: decode_provisioned(it.value) for name, it in self.provisioned.items()}


@dataclass(frozen=True, slots=True)
class Beside:
    """A policy or a URL, as etcd has it, with what it is of: a function, a version or an alias."""

    key: str
    known: KeyValue | None
    """None if there is none."""
    owners: tuple[KeyValue, ...]
    """The function, and the version or alias: it goes with them."""


class Registry:
    def __init__(self, store: Store, catalogue: Catalogue) -> None:
        self._store = store
        self._catalogue = catalogue

    async def read(self, name: FunctionName) -> Stored | None:
        """`$LATEST` as etcd has it now."""
        if "/" in name:  # a version's key is no function, whatever is asked of it
            return None
        found = await self._get(keys.function(name))
        return Stored(Definition.decode(found.value), found.mod_revision) if found else None

    async def parts(self, name: FunctionName) -> Parts:
        try:
            items = (await self._store.get_prefix(keys.of_function(name))).items
        except EtcdError as error:
            raise NotReady(f"the metadata store does not answer: {error}") from error
        parts = Parts()
        for item in items:
            key = keys.of_function_key(item.key)
            kinds = {
                "version": parts.versions,
                "alias": parts.aliases,
                "provisioned": parts.provisioned,
                "event-invoke": parts.event_invoke,
            }
            kinds.get(key.kind, {})[key.name] = item
        return parts

    # Functions

    async def create(self, definition: Definition, publication: Publication | None = None) -> bool:
        """With its first version, if there is one. False, and nothing is written, if the name is taken."""
        key = keys.function(definition.name)
        return await self._write([Compare.absent(key)], [Put(key, definition.encode())], publication)

    async def replace(
        self, definition: Definition, mod_revision: int, publication: Publication | None = None
    ) -> bool:
        """With a version, if there is one.

        False, and nothing is written, if it was changed since `mod_revision`, or the number was given.
        """
        key = keys.function(definition.name)
        fence = Compare.mod_revision(key, mod_revision)
        return await self._write([fence], [Put(key, definition.encode())], publication)

    async def delete(self, stored: Stored) -> bool:
        """With its versions and aliases. False, and nothing is deleted, if it was changed since."""
        name = stored.definition.name
        key = keys.function(name)
        changes = [Delete(key), Delete(keys.of_function(name), prefix=True)]
        return await self._write([Compare.mod_revision(key, stored.mod_revision)], changes)

    # Versions

    async def last_number(self, name: FunctionName) -> LastNumber:
        """Read it before the versions: who publishes by both publishes nothing twice."""
        found = await self._get(keys.version_number(name))
        return LastNumber(int(found.value), found) if found else LastNumber(0, None)

    async def publish(self, stored: Stored, publication: Publication) -> bool:
        """False, and nothing is written, if another number was given since, or `$LATEST` was changed."""
        key = keys.function(stored.definition.name)
        return await self._write([Compare.mod_revision(key, stored.mod_revision)], [], publication)

    async def delete_version(self, name: FunctionName, number: str, parts: Parts) -> bool:
        """With what goes with it. False, and nothing is deleted, if something refers to it by now."""
        version = parts.versions[number]
        changes = [Delete(version.key), *_with(name, number)]
        return await self._write([Compare.mod_revision(version.key, version.mod_revision)], changes)

    # Aliases, and what is ready

    async def put_alias(self, name: FunctionName, alias: Alias, parts: Parts) -> bool:
        """False, and nothing is written, if it or one of its versions was changed since `parts`."""
        key = keys.alias(name, alias.name)
        numbers = {alias.version, *alias.weights}
        versions = [parts.versions[number] for number in sorted(numbers) if number in parts.versions]
        fences = [_unchanged(key, parts.aliases.get(alias.name)), *map(_same, versions)]
        touched = [Put(it.key, it.value) for it in versions]
        latest = await self._get(keys.function(name))
        if latest is None:
            return False
        fences.append(Compare.create_revision(latest.key, latest.create_revision))  # for one of $LATEST
        return await self._write(fences, [Put(key, alias.encode()), *touched])

    async def delete_alias(self, name: FunctionName, alias: str, parts: Parts) -> bool:
        """With what goes with it. False, and nothing is deleted, if it was changed since `parts`."""
        known = parts.aliases[alias]
        changes = [Delete(known.key), *_with(name, alias)]
        return await self._write([_same(known)], changes)

    async def put_provisioned(self, stored: Stored, qualifier: str, count: int, parts: Parts) -> bool:
        """False, and nothing is written, if its version or alias was changed since `parts`, or the function.

        The function is written once more, unchanged: of two that are put at once for it one begins anew, and
        sees what the other has put.
        """
        name = stored.definition.name
        of = parts.versions.get(qualifier) or parts.aliases[qualifier]
        key = keys.provisioned(name, qualifier)
        function = keys.function(name)
        fences = [
            Compare.mod_revision(function, stored.mod_revision),
            _same(of),
            _unchanged(key, parts.provisioned.get(qualifier)),
        ]
        again = [Put(of.key, of.value), Put(function, stored.definition.encode())]
        return await self._write(fences, [Put(key, encode_provisioned(count)), *again])

    async def delete_provisioned(self, known: KeyValue) -> bool:
        """False, and nothing is deleted, if it was changed since."""
        return await self._write([_same(known)], [Delete(known.key)])

    # Policies and URLs

    async def beside(self, name: FunctionName, qualifier: str, key: str) -> Beside | None:
        """What this key holds of a function, or of the version or alias that `qualifier` names.

        None if there is no such function, version or alias.
        """
        if "/" in name:
            return None
        owners = [await self._get(keys.function(name))]
        if qualifier:
            owned = keys.version if qualifier.isdecimal() else keys.alias
            owners.append(await self._get(owned(name, qualifier)))
        there = tuple(owner for owner in owners if owner is not None)
        return Beside(key, await self._get(key), there) if len(there) == len(owners) else None

    async def put_beside(self, beside: Beside, value: bytes) -> bool:
        """False, and nothing is written, if it was changed since, or what it is of has gone."""
        return await self._write(_fences(beside), [Put(beside.key, value)])

    async def delete_beside(self, beside: Beside) -> bool:
        """False, and nothing is deleted, if it was changed since."""
        return await self._write(_fences(beside), [Delete(beside.key)])

    async def put_event_invoke(
        self, stored: Stored, qualifier: str, value: EventInvoke, parts: Parts
    ) -> bool:
        """False, and nothing is written, if it, or what it is for, was changed since `parts`."""
        name = stored.definition.name
        key = keys.event_invoke(name, qualifier)
        of = parts.versions.get(qualifier) or parts.aliases.get(qualifier)
        again = [of] if of else []
        fences = [
            Compare.mod_revision(keys.function(name), stored.mod_revision),
            _unchanged(key, parts.event_invoke.get(qualifier)),
            *map(_same, again),
        ]
        return await self._write(fences, [Put(key, value.encode()), *(Put(it.key, it.value) for it in again)])

    async def delete_event_invoke(self, known: KeyValue) -> bool:
        """False, and nothing is deleted, if it was changed since."""
        return await self._write([_same(known)], [Delete(known.key)])

    # One way to write

    async def _get(self, key: str) -> KeyValue | None:
        try:
            return await self._store.get(key)
        except EtcdError as error:
            raise NotReady(f"the metadata store does not answer: {error}") from error

    async def _write(
        self,
        fences: Sequence[Compare],
        changes: Sequence[Put | Delete],
        publication: Publication | None = None,
    ) -> bool:
        """The first of the changes is one that shows whether all were made: what it writes is new."""
        if publication is not None:
            version, last = publication.version, publication.last
            counter = keys.version_number(version.name)
            fences = [*fences, _unchanged(counter, last.known)]
            put = Put(keys.version(version.name, version.version), version.encode())
            changes = [put, Put(counter, version.version.encode()), *changes]
        name = keys.of_function_key(changes[0].key).function
        revision = await commits.commit(self._store, fences, changes, f"function {name!r}")
        if revision is None:
            return False
        await self._catalogue.until_seen(revision)
        return True


def _same(known: KeyValue) -> Compare:
    return Compare.mod_revision(known.key, known.mod_revision)


def _with(name: FunctionName, qualifier: str) -> list[Delete]:
    """What goes with a version or an alias."""
    parts = keys.provisioned, keys.policy, keys.url, keys.event_invoke
    return [Delete(key(name, qualifier)) for key in parts]


def _fences(beside: Beside) -> list[Compare]:
    """An owner that was changed is the same still; one that was made anew is another."""
    same = [Compare.create_revision(owner.key, owner.create_revision) for owner in beside.owners]
    return [_unchanged(beside.key, beside.known), *same]


def _unchanged(key: str, known: KeyValue | None) -> Compare:
    return Compare.absent(key) if known is None else _same(known)
