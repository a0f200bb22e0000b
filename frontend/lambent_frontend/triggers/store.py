"""The triggers in etcd: read from it each time, as nothing but people asks for them; each change is one
transaction, fenced by what was read.

What a frontend writes on a trigger's behalf is fenced by its claim on it, so that one that was held up for
longer than its lease changes nothing. Every method raises NotReady when etcd does not answer, and says
whether anything was changed.
"""

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lambent_chassis.etcd import (
    Compare,
    Delete,
    EtcdError,
    EtcdUnavailable,
    KeyValue,
    Lease,
    Put,
    Snapshot,
    TransactionResult,
)
from lambent_proto import keys
from lambent_proto.errors import NotReady, TriggerExists, UnknownTrigger
from lambent_proto.triggers import BadTrigger, Trigger, TriggerStatus


class Store(Protocol):
    """What is needed of `lambent_chassis.etcd.Etcd`."""

    async def get(self, key: str) -> KeyValue | None: ...

    async def get_prefix(self, prefix: str) -> Snapshot: ...

    async def transaction(
        self, compare: Sequence[Compare], success: Sequence[Put | Delete]
    ) -> TransactionResult: ...


class NotOurs(Exception):
    """The trigger may be another frontend's by now."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A trigger as etcd has it, and what was said of it last."""

    trigger: Trigger
    mod_revision: int
    status: TriggerStatus

    @property
    def settled(self) -> bool:
        """What was asked last is in effect."""
        return self.status.revision == self.mod_revision


@dataclass(frozen=True, slots=True)
class Claim:
    """This frontend's right to a trigger."""

    trigger_id: str
    create_revision: int

    @property
    def fence(self) -> Compare:
        return Compare.create_revision(keys.trigger_claim(self.trigger_id), self.create_revision)


class TriggerStore:
    def __init__(self, store: Store) -> None:
        self._store = store

    # For people

    async def create(self, trigger: Trigger) -> Stored:
        """Raises TriggerExists if its function has one for this source."""
        key, source = keys.trigger(trigger.id), keys.trigger_source(digest(trigger))
        put = Put(key, trigger.encode())
        revision = await self._written([Compare.absent(source)], [put, Put(source, trigger.id.encode())], put)
        if revision is None:
            other = await self._get(source)
            raise TriggerExists(
                f'An event source mapping with event source ("{trigger.source}") and '
                f'function ("{trigger.asked}") already exists. Please update or delete the existing mapping '
                f"with UUID {other.value.decode() if other else 'unknown'}"
            )
        return Stored(trigger, revision, TriggerStatus())

    async def replace(self, stored: Stored, trigger: Trigger) -> Stored:
        """Raises NotReady if it was changed since it was read: whoever comes second decides again."""
        key, source, before = keys.trigger(trigger.id), digest(trigger), digest(stored.trigger)
        fences = [Compare.mod_revision(key, stored.mod_revision)]
        put = Put(key, trigger.encode())
        changes: list[Put | Delete] = [put]
        if source != before:
            fences.append(Compare.absent(keys.trigger_source(source)))
            changes += [
                Put(keys.trigger_source(source), trigger.id.encode()),
                Delete(keys.trigger_source(before)),
            ]
        revision = await self._written(fences, changes, put)
        if revision is None:
            raise NotReady(
                "the trigger was changed by somebody else meanwhile, or its new function has one for the "
                "source: nothing was changed; look at it and decide again"
            )
        return Stored(trigger, revision, stored.status)

    async def get(self, trigger_id: str) -> Stored:
        """Raises UnknownTrigger."""
        found = await self._get(keys.trigger(trigger_id))
        if found is None:
            raise UnknownTrigger("The resource you requested does not exist.")
        status = await self._get(keys.trigger_status(trigger_id))
        try:
            return Stored(Trigger.decode(found.value), found.mod_revision, _status(status))
        except BadTrigger as error:
            raise UnknownTrigger(f"trigger {trigger_id} cannot be read: {error}") from error

    async def all(self) -> list[Stored]:
        """By their ids; those that cannot be read are left out, as the frontends that would have them say."""
        found = await self._list(keys.TRIGGERS)
        said = {item.key: item for item in (await self._list(keys.TRIGGER_STATUSES)).items}
        stored = []
        for item in found.items:
            with contextlib.suppress(BadTrigger):
                trigger = Trigger.decode(item.value)
                status = _status(said.get(keys.trigger_status(trigger.id)))
                stored.append(Stored(trigger, item.mod_revision, status))
        return sorted(stored, key=lambda it: it.trigger.id)

    # For the frontend that has a trigger

    async def claim(self, trigger_id: str, frontend: str, lease: Lease) -> Claim | None:
        """None if another frontend has it still. One that is under this lease already is ours."""
        key = keys.trigger_claim(trigger_id)
        try:
            done = await self._store.transaction([Compare.absent(key)], [Put(key, frontend.encode(), lease)])
        except EtcdUnavailable as error:
            if not error.unknown:
                raise NotReady(f"the metadata store does not answer: {error}") from error
        else:
            if done.succeeded:
                return Claim(trigger_id, done.revision)
        found = await self._get(key)
        if found is not None and found.lease_id == lease.id:
            return Claim(trigger_id, found.create_revision)
        return None

    async def release(self, claim: Claim) -> None:
        await self._written([claim.fence], [Delete(keys.trigger_claim(claim.trigger_id))], None)

    async def say(self, claim: Claim, status: TriggerStatus) -> None:
        """Raises NotOurs, and nothing is written then."""
        await self._put_ours(claim, keys.trigger_status(claim.trigger_id), status.encode())

    async def place(self, claim: Claim, line: str, place: str) -> None:
        """All of a line up to and with this is done with. Raises NotOurs, and nothing is written then."""
        await self._put_ours(claim, keys.trigger_places(claim.trigger_id) + line, place.encode())

    async def _put_ours(self, claim: Claim, key: str, value: bytes) -> None:
        put = Put(key, value)
        if await self._written([claim.fence], [put], put) is None:
            raise NotOurs("the claim on the trigger has ended")

    async def places(self, trigger_id: str) -> dict[str, str]:
        """By line, up to where all is done with."""
        prefix = keys.trigger_places(trigger_id)
        found = await self._list(prefix)
        return {item.key.removeprefix(prefix): item.value.decode() for item in found.items}

    async def failures(self, trigger_id: str) -> dict[str, bytes]:
        """By line, as it was kept."""
        prefix = keys.trigger_failures(trigger_id)
        found = await self._list(prefix)
        return {item.key.removeprefix(prefix): item.value for item in found.items}

    async def keep_failures(self, claim: Claim, line: str, failures: bytes) -> None:
        """Raises NotOurs, and nothing is written then."""
        await self._put_ours(claim, keys.trigger_failures(claim.trigger_id) + line, failures)

    async def remove(self, claim: Claim, trigger: Trigger, mod_revision: int) -> bool:
        """With all that was kept for it. False, and nothing is deleted, if it is not ours or was changed."""
        key = keys.trigger(trigger.id)
        fences = [claim.fence, Compare.mod_revision(key, mod_revision)]
        gone = [
            Delete(key),
            Delete(keys.trigger_source(digest(trigger))),
            Delete(keys.trigger_status(trigger.id)),
            Delete(keys.trigger_places(trigger.id), prefix=True),
            Delete(keys.trigger_failures(trigger.id), prefix=True),
        ]
        return await self._written(fences, gone, gone[0]) is not None

    # One way to read and to write

    async def _get(self, key: str) -> KeyValue | None:
        try:
            return await self._store.get(key)
        except EtcdError as error:
            raise NotReady(f"the metadata store does not answer: {error}") from error

    async def _list(self, prefix: str) -> Snapshot:
        try:
            return await self._store.get_prefix(prefix)
        except EtcdError as error:
            raise NotReady(f"the metadata store does not answer: {error}") from error

    async def _written(
        self, fences: Sequence[Compare], changes: Sequence[Put | Delete], telling: Put | Delete | None
    ) -> int | None:
        """The revision; None, and nothing is written, if a fence does not hold.

        `telling` is the change that shows afterwards whether all were made, when etcd's answer is lost.
        """
        try:
            result = await self._store.transaction(fences, changes)
        except EtcdUnavailable as error:
            if not error.unknown:
                raise NotReady(f"the metadata store does not answer, nothing was changed: {error}") from error
            return await self._shown(telling, error)
        except EtcdError as error:
            raise NotReady(f"the metadata store refuses the change: {error}") from error
        return result.revision if result.succeeded else None

    async def _shown(self, telling: Put | Delete | None, lost: EtcdUnavailable) -> int:
        if telling is not None:
            found = await self._get(telling.key)
            if isinstance(telling, Put) and found is not None and found.value == telling.value:
                return found.mod_revision
            if isinstance(telling, Delete) and found is None:
                return 0
        raise NotReady(f"whether the trigger was changed is not known: look before deciding ({lost})")


def digest(trigger: Trigger) -> str:
    """Of what no two triggers have in common."""
    parts = trigger.asked, trigger.source, trigger.queue
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _status(found: KeyValue | None) -> TriggerStatus:
    return TriggerStatus.decode(found.value) if found else TriggerStatus()
