"""How a change goes into etcd: in one transaction, and what its caller is told when the answer is lost."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Final, Protocol

from lambent_chassis.etcd import (
    Compare,
    Delete,
    EtcdError,
    EtcdUnavailable,
    KeyValue,
    Put,
    TransactionResult,
)
from lambent_proto.errors import NotReady, Unconfirmed

_TRIES: Final = 12
_PAUSE_S: Final = 0.01
_LONGEST_PAUSE_S: Final = 0.25


class Store(Protocol):
    """What is needed of `lambent_chassis.etcd.Etcd`."""

    async def get(self, key: str) -> KeyValue | None: ...

    async def transaction(
        self, compare: Sequence[Compare], success: Sequence[Put | Delete]
    ) -> TransactionResult: ...


async def tries() -> AsyncIterator[None]:
    """How often a change is made anew because somebody else changed the same in between, and when.

    Pauses grow and are of no fixed length, so that several who change one thing at one time do not meet
    again: of fifty all come through. It is over within two seconds.
    """
    yield
    for tried in range(_TRIES - 1):
        await asyncio.sleep(random.uniform(0, min(_PAUSE_S * 2**tried, _LONGEST_PAUSE_S)))
        yield


async def commit(
    store: Store, fences: Sequence[Compare], changes: Sequence[Put | Delete], of: str
) -> int | None:
    """The revision that has the changes; None, and nothing is written, if a fence does not hold.

    The first of the changes shows whether all were made when etcd's answer is lost: what it writes is not
    there before. `of` is what is changed, for people. Raises NotReady if nothing was changed, and Unconfirmed
    if that is not known.
    """
    try:
        result = await store.transaction(fences, changes)
    except EtcdUnavailable as error:
        if not error.unknown:
            raise NotReady(f"the metadata store does not answer, nothing was changed: {error}") from error
        return await _look(store, changes[0], of, error)
    except EtcdError as error:
        raise NotReady(f"the metadata store refuses the change: {error}") from error
    return result.revision if result.succeeded else None


async def _look(store: Store, change: Put | Delete, of: str, lost: EtcdError) -> int:
    """Was it made? A change that is not there may still come: a member that was hung may hold it."""
    try:
        found = await store.get(change.key)
    except EtcdError:
        raise _unconfirmed(of, lost) from lost
    if isinstance(change, Put) and found is not None and found.value == change.value:
        return found.mod_revision
    if isinstance(change, Delete) and found is None:
        return 0
    raise _unconfirmed(of, lost) from lost


def _unconfirmed(of: str, lost: EtcdError) -> Unconfirmed:
    return Unconfirmed(f"whether {of} was changed is not known: look at it before deciding ({lost})")
