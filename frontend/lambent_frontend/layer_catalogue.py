"""The layers that exist: read from etcd each time, as nothing but a deploy asks for them; their only writer.

A layer's number only grows, over deletes too, so that `NAME:VERSION` never means two things. It is raised in
the transaction that writes the version.
"""

from collections.abc import Callable
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
from lambent_proto import keys
from lambent_proto.definition import PublishedLayer
from lambent_proto.errors import Contended, NotReady, UnknownLayer


class Store(commits.Store, Protocol):
    """What is needed of `lambent_chassis.etcd.Etcd`."""

    async def get_prefix(self, prefix: str) -> Snapshot: ...


class LayerCatalogue:
    """Every method raises NotReady when etcd does not answer; those that change anything also Unconfirmed."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, name: str, version: int) -> PublishedLayer:
        """Raises UnknownLayer."""
        return PublishedLayer.decode((await self._version(name, version)).value)

    async def all_versions(self) -> list[PublishedLayer]:
        """Of all layers, by name, and of each the newest first."""
        return await self._list(keys.LAYER_VERSIONS)

    async def versions(self, name: str) -> list[PublishedLayer]:
        """Of one layer, the newest first."""
        return await self._list(keys.layer_versions(name))

    async def publish(self, name: str, numbered: Callable[[int], PublishedLayer]) -> PublishedLayer:
        """Writes `numbered(N)` under the layer's next number N."""
        counter = keys.layer(name)
        async for _ in commits.tries():
            last = await self._get(counter)
            number = int(last.value) + 1 if last else 1
            published = numbered(number)
            fence = Compare.mod_revision(counter, last.mod_revision) if last else Compare.absent(counter)
            version = Put(keys.layer_version(name, number), published.encode())
            if await self._written(name, fence, version, Put(counter, b"%d" % number)):
                return published
        raise Contended(f"others publish layer {name!r} over and over: nothing was changed, try again")

    async def delete(self, name: str, version: int) -> None:
        """Raises UnknownLayer."""
        stored = await self._version(name, version)
        # A version is never written twice: if the fence does not hold, somebody else has deleted it.
        fence = Compare.mod_revision(stored.key, stored.mod_revision)
        await self._written(name, fence, Delete(stored.key))

    async def _version(self, name: str, version: int) -> KeyValue:
        stored = await self._get(keys.layer_version(name, version))
        if stored is None:
            raise UnknownLayer(f"there is no version {version} of a layer {name!r}")
        return stored

    async def _get(self, key: str) -> KeyValue | None:
        try:
            return await self._store.get(key)
        except EtcdError as error:
            raise NotReady(f"the metadata store does not answer, nothing was changed: {error}") from error

    async def _list(self, prefix: str) -> list[PublishedLayer]:
        try:
            snapshot = await self._store.get_prefix(prefix)
        except EtcdError as error:
            raise NotReady(f"the metadata store does not answer: {error}") from error
        published = [PublishedLayer.decode(item.value) for item in snapshot.items]
        return sorted(published, key=lambda it: (it.layer.name, -it.layer.version))

    async def _written(self, name: str, fence: Compare, *changes: Put | Delete) -> bool:
        """False, and nothing is written, if the fence does not hold."""
        return await commits.commit(self._store, [fence], changes, f"the layer {name!r}") is not None
