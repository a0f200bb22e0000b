"""The functions that exist: this frontend's view of etcd, and the only writer of definitions.

The view lags behind etcd by a watch's delay. A change made here is answered only once the view has it, so a
caller that stays with one frontend reads its own writes. Changes are decided on what etcd says, not on
the view.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from lambent_chassis.etcd import (
    Change,
    Compare,
    Delete,
    EtcdError,
    EtcdUnavailable,
    KeyValue,
    Put,
    Snapshot,
    TransactionResult,
)
from lambent_proto import keys
from lambent_proto.definition import Definition
from lambent_proto.errors import NotReady
from lambent_proto.ids import FunctionName

VISIBLE_WITHIN_S: Final = 10.0
"""How long a change waits for the view to have it before the caller is told of the delay."""

Changed = Callable[[FunctionName, Definition | None, Definition | None], None]
"""Called with the name, the definition before, None if it is new, and the one now, None if it is deleted."""


class Store(Protocol):
    """What is needed of `lambent_chassis.etcd.Etcd`."""

    async def get(self, key: str) -> KeyValue | None: ...

    async def transaction(
        self, compare: Sequence[Compare], success: Sequence[Put | Delete]
    ) -> TransactionResult: ...

    def follow_prefix(self, prefix: str) -> AsyncIterator[Snapshot | list[Change]]: ...


@dataclass(frozen=True, slots=True)
class Stored:
    """A definition as etcd has it."""

    definition: Definition
    mod_revision: int


class Catalogue:
    def __init__(self, store: Store, changed: Changed) -> None:
        self.ready = asyncio.Event()
        """Set once everything that etcd held at the start is known."""
        self._store = store
        self._changed = changed
        self._view: dict[FunctionName, Definition] = {}
        self._revision = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def get(self, name: FunctionName) -> Definition | None:
        return self._view.get(name)

    def names(self) -> list[FunctionName]:
        """Sorted."""
        return sorted(self._view)

    async def follow(self) -> None:
        """Keeps the view; never returns. Run it for as long as the catalogue is used."""
        async for news in self._store.follow_prefix(keys.FUNCTIONS):
            if isinstance(news, Snapshot):
                self._replace_all(news)
                self.ready.set()
            else:
                for change in news:
                    name, kind, _ = keys.of_function_key(change.key)
                    if kind == "latest":
                        self._set(name, Definition.decode(change.value) if change.kind == "put" else None)
                    self._revision = max(self._revision, change.mod_revision)
            self._wake()

    def _replace_all(self, snapshot: Snapshot) -> None:
        keyed = [(keys.of_function_key(item.key), item.value) for item in snapshot.items]
        now = {key.function: Definition.decode(value) for key, value in keyed if key.kind == "latest"}
        for name in self._view.keys() - now.keys():
            self._set(name, None)
        for name, definition in now.items():
            self._set(name, definition)
        self._revision = snapshot.revision

    def _set(self, name: FunctionName, definition: Definition | None) -> None:
        before = self._view.pop(name, None)
        if definition is not None:
            self._view[name] = definition
        if definition != before:
            self._changed(name, before, definition)

    def _wake(self) -> None:
        still = []
        for revision, seen in self._waiting:
            if seen.done():
                continue
            if revision <= self._revision:
                seen.set_result(None)
            else:
                still.append((revision, seen))
        self._waiting = still

    async def read(self, name: FunctionName) -> Stored | None:
        """The definition as etcd has it now. Raises NotReady when etcd does not answer."""
        try:
            found = await self._store.get(keys.function(name))
        except EtcdError as error:
            raise NotReady(f"the metadata store does not answer: {error}") from error
        return Stored(Definition.decode(found.value), found.mod_revision) if found else None

    async def create(self, definition: Definition) -> bool:
        """False, and nothing is written, if the name is taken. Raises NotReady as `read` does."""
        key = keys.function(definition.name)
        return await self._write(definition, Compare.absent(key), Put(key, definition.encode()))

    async def replace(self, definition: Definition, mod_revision: int) -> bool:
        """False, and nothing is written, if it was changed since `mod_revision`. Raises NotReady."""
        key = keys.function(definition.name)
        return await self._write(
            definition, Compare.mod_revision(key, mod_revision), Put(key, definition.encode())
        )

    async def delete(self, stored: Stored) -> bool:
        """False, and nothing is deleted, if it was changed since. Raises NotReady."""
        key = keys.function(stored.definition.name)
        return await self._write(None, Compare.mod_revision(key, stored.mod_revision), Delete(key))

    async def _write(self, wanted: Definition | None, fence: Compare, change: Put | Delete) -> bool:
        try:
            result = await self._store.transaction([fence], [change])
            done, revision = result.succeeded, result.revision
        except EtcdUnavailable as error:
            if not error.unknown:
                raise NotReady(f"the metadata store does not answer, nothing was changed: {error}") from error
            done, revision = await self._look(wanted, change.key, error)
        except EtcdError as error:
            raise NotReady(f"the metadata store refuses the change: {error}") from error
        if done:
            await self._until_seen(revision)
        return done

    async def _look(self, wanted: Definition | None, key: str, lost: EtcdUnavailable) -> tuple[bool, int]:
        """The answer was lost: was the change made? A revision identifier is never used twice."""
        name = keys.of_function_key(key).function
        stored = await self.read(name)
        if wanted is not None and stored is not None and stored.definition == wanted:
            return True, stored.mod_revision
        if wanted is None and stored is None:
            return True, 0
        raise NotReady(f"whether {name!r} was changed is not known: read it again before deciding ({lost})")

    async def _until_seen(self, revision: int) -> None:
        if revision <= self._revision:
            return
        seen: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((revision, seen))
        try:
            async with asyncio.timeout(VISIBLE_WITHIN_S):
                await seen
        except TimeoutError:
            raise NotReady(
                "the change is stored, but this frontend does not see it yet: read it again"
            ) from None
