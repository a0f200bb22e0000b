"""The functions that exist: this frontend's view of etcd, by one watch over all that is theirs.

The view lags behind etcd by a watch's delay. A change made here is answered only once the view has it
(`until_seen`), so a caller that stays with one frontend reads its own writes.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, TypeVar

from lambent_chassis.etcd import Change, Snapshot
from lambent_proto import keys
from lambent_proto.definition import LATEST, Definition
from lambent_proto.errors import Unconfirmed
from lambent_proto.event_invoke import EventInvoke
from lambent_proto.ids import FunctionName
from lambent_proto.policies import Policy
from lambent_proto.urls import FunctionUrl
from lambent_proto.versions import Alias, decode_provisioned

VISIBLE_WITHIN_S: Final = 10.0
"""How long a change waits for the view to have it before the caller is told of the delay."""

T = TypeVar("T")
Changed = Callable[[FunctionName, Definition | None, Definition | None], None]
"""Called for each version with the function's name and the definition before and now: None before it is made,
and once it is deleted."""


class Store(Protocol):
    """What is needed of `lambent_chassis.etcd.Etcd`."""

    def follow_prefix(self, prefix: str) -> AsyncIterator[Snapshot | list[Change]]: ...


@dataclass(slots=True)
class Deployed:
    """One function with all that is its own."""

    latest: Definition | None = None
    versions: dict[str, Definition] = field(default_factory=dict)
    """By their numbers; the concurrency of each is that of `$LATEST`, as it is the function's."""
    aliases: dict[str, Alias] = field(default_factory=dict)
    provisioned: dict[str, int] = field(default_factory=dict)
    """What is to be ready, by version's number or alias."""
    policies: dict[str, Policy] = field(default_factory=dict)
    """By version's number or alias; the function's own by the empty text."""
    urls: dict[str, FunctionUrl] = field(default_factory=dict)
    """By alias; the function's own by the empty text."""
    event_invoke: dict[str, EventInvoke] = field(default_factory=dict)
    """What is configured for asynchronous calls, by version's number, alias, or `$LATEST`."""

    def resolve(self, qualifier: str, chance: float) -> Definition | None:
        """What a call runs; `chance`, 0 to below 1, decides where an alias points to two versions."""
        if qualifier in ("", LATEST):
            return self.latest
        alias = self.aliases.get(qualifier)
        number = qualifier if alias is None else alias.pick(chance)
        return self.latest if number == LATEST else self.versions.get(number)

    def numbered(self) -> list[tuple[int, Definition]]:
        """`$LATEST` as 0, then all versions, the oldest first."""
        latest = [(0, self.latest)] if self.latest else []
        return latest + sorted((int(number), version) for number, version in self.versions.items())

    @property
    def empty(self) -> bool:
        beside = self.provisioned or self.policies or self.urls or self.event_invoke
        return self.latest is None and not (self.versions or self.aliases or beside)


class Catalogue:
    def __init__(self, store: Store, changed: Changed) -> None:
        self.ready = asyncio.Event()
        """Set once everything that etcd held at the start is known."""
        self._store = store
        self._changed = changed
        self._view: dict[FunctionName, Deployed] = {}
        self._names: list[FunctionName] | None = None
        """Sorted; None since one came or went."""
        self._urls: dict[str, tuple[FunctionName, str]] = {}
        self._keys: set[str] = set()
        self._revision = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def get(self, name: FunctionName) -> Definition | None:
        """`$LATEST`."""
        found = self._view.get(name)
        return found.latest if found else None

    def resolve(self, name: FunctionName, qualifier: str, chance: float) -> Definition | None:
        """What a call of this version or alias runs; None if there is no such thing."""
        found = self._view.get(name)
        return found.resolve(qualifier, chance) if found and found.latest else None

    def shown(self, name: FunctionName, qualifier: str) -> Definition | None:
        """What a version or alias is; of an alias that points to two versions its own one."""
        alias = self.deployed(name).aliases.get(qualifier)
        return self.resolve(name, alias.version if alias else qualifier, 0.0)

    def deployed(self, name: FunctionName) -> Deployed:
        """All that is the function's; empty if there is no such function."""
        return self._view.get(name) or Deployed()

    def names(self) -> Sequence[FunctionName]:
        """Sorted."""
        if self._names is None:
            self._names = sorted(name for name, deployed in self._view.items() if deployed.latest)
        return self._names

    def of_url(self, url_id: str) -> tuple[FunctionName, str] | None:
        """The function, and the alias or nothing, that has the URL of this id."""
        return self._urls.get(url_id)

    async def follow(self) -> None:
        """Keeps the view; never returns. Run it for as long as the catalogue is used."""
        async for news in self._store.follow_prefix(keys.FUNCTIONS):
            if isinstance(news, Snapshot):
                now = {item.key: item.value for item in news.items}
                for key in sorted(self._keys - now.keys()):
                    self._set(key, None)
                for key, value in now.items():
                    self._set(key, value)
                self._revision = news.revision
                self.ready.set()
            else:
                for change in news:
                    self._set(change.key, change.value if change.kind == "put" else None)
                    self._revision = max(self._revision, change.mod_revision)
            self._wake()

    def _set(self, key: str, value: bytes | None) -> None:
        if value is None:
            self._keys.discard(key)
        else:
            self._keys.add(key)
        name, kind, part = keys.of_function_key(key)
        deployed = self._view.setdefault(name, Deployed())
        match kind:
            case "latest":
                self._set_latest(name, deployed, None if value is None else Definition.decode(value))
            case "version":
                self._set_version(name, deployed, part, None if value is None else Definition.decode(value))
            case "alias":
                _put(deployed.aliases, part, value, Alias.decode)
            case "provisioned":
                _put(deployed.provisioned, part, value, decode_provisioned)
            case "policy":
                _put(deployed.policies, part, value, Policy.decode)
            case "url":
                self._set_url(name, deployed, part, value)
            case "event-invoke":
                _put(deployed.event_invoke, part, value, EventInvoke.decode)
            case _:
                pass  # a newer release's
        if deployed.empty:
            del self._view[name]

    def _set_latest(self, name: FunctionName, deployed: Deployed, now: Definition | None) -> None:
        before = deployed.latest
        deployed.latest = now
        if (before is None) != (now is None):
            self._names = None
        if now != before:
            self._changed(name, before, now)
        if now is not None and (before is None or before.concurrency != now.concurrency):
            for number, version in list(deployed.versions.items()):
                self._set_version(name, deployed, number, version)

    def _set_version(
        self, name: FunctionName, deployed: Deployed, number: str, now: Definition | None
    ) -> None:
        before = deployed.versions.pop(number, None)
        if now is not None:
            limit = deployed.latest.concurrency if deployed.latest else None
            now = deployed.versions[number] = replace(now, concurrency=limit)
        if now != before:
            self._changed(name, before, now)

    def _set_url(self, name: FunctionName, deployed: Deployed, qualifier: str, value: bytes | None) -> None:
        if (before := deployed.urls.get(qualifier)) is not None:
            self._urls.pop(before.id, None)
        _put(deployed.urls, qualifier, value, FunctionUrl.decode)
        if (now := deployed.urls.get(qualifier)) is not None:
            self._urls[now.id] = name, qualifier

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

    async def until_seen(self, revision: int) -> None:
        """Returns when the view has what etcd had at this revision.

        Raises Unconfirmed if that takes too long.
        """
        if revision <= self._revision:
            return
        seen: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((revision, seen))
        try:
            async with asyncio.timeout(VISIBLE_WITHIN_S):
                await seen
        except TimeoutError:
            raise Unconfirmed(
                "the change is stored, but this frontend does not see it yet: read it again"
            ) from None


def _put(into: dict[str, T], name: str, value: bytes | None, decode: Callable[[bytes], T]) -> None:
    """Takes it out if there is no value."""
    into.pop(name, None)
    if value is not None:
        into[name] = decode(value)
