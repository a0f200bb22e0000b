"""Leadership with an epoch: at most one leader writes, and every take-over raises the number."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from lambent_chassis.etcd.errors import Compacted, EtcdUnavailable, LeaseLost
from lambent_chassis.etcd.lease import Lease
from lambent_chassis.etcd.session import Etcd
from lambent_chassis.etcd.transport import PAUSE_S
from lambent_chassis.etcd.values import Compare, Delete, KeyValue, Put


@dataclass(frozen=True, slots=True)
class Leadership:
    """Leadership as taken: `epoch` is larger than that of every leader before.

    It lasts as long as the lease it was taken with, and no longer than that lease's `valid_until`.
    """

    epoch: int
    create_revision: int
    key: str

    @property
    def fence(self) -> Compare:
        """Put this into every transaction of the leader: it fails once somebody else leads."""
        return Compare.create_revision(self.key, self.create_revision)


async def campaign(
    etcd: Etcd, key: str, value_for: Callable[[int], bytes], lease: Lease, epoch_key: str
) -> Leadership:
    """Waits until leadership is taken, for as long as that takes.

    `value_for(epoch)` is what the leader's key then holds; `epoch_key` holds the epoch in decimal, and is
    raised in the same transaction. One lease campaigns once: revoke it after a campaign that was cancelled,
    for its last transaction may still be under way.

    Raises:
        LeaseLost: the lease was lost first.
    """
    contest = asyncio.create_task(_contest(etcd, key, value_for, lease, epoch_key))
    gone = asyncio.create_task(lease.lost.wait())
    try:
        await asyncio.wait({contest, gone}, return_when=asyncio.FIRST_COMPLETED)
        if lease.lost.is_set():
            raise LeaseLost("the lease was lost while campaigning")
        return contest.result()
    finally:
        contest.cancel()
        gone.cancel()
        await asyncio.gather(contest, gone, return_exceptions=True)


async def resign(etcd: Etcd, leadership: Leadership) -> None:
    """Gives leadership up; nothing happens if somebody else has it by now."""
    await etcd.transaction([leadership.fence], [Delete(leadership.key)], repeat=True)


async def _contest(
    etcd: Etcd, key: str, value_for: Callable[[int], bytes], lease: Lease, epoch_key: str
) -> Leadership:
    while True:
        try:
            leader = await etcd.get(key)
            epoch = await etcd.get(epoch_key)
            if leader is not None and leader.lease_id == lease.id:
                if taken := _ours(leader, epoch):
                    return taken
                await asyncio.sleep(PAUSE_S)
            elif leader is not None:
                await _until_deleted(etcd, leader)
            elif taken := await _take(etcd, key, value_for, lease, epoch_key, epoch):
                return taken
        except EtcdUnavailable:
            # Whether it was carried out shows when the key is read again.
            await asyncio.sleep(PAUSE_S)


async def _take(
    etcd: Etcd,
    key: str,
    value_for: Callable[[int], bytes],
    lease: Lease,
    epoch_key: str,
    last: KeyValue | None,
) -> Leadership | None:
    epoch = int(last.value) + 1 if last else 1
    done = await etcd.transaction(
        [Compare.absent(key), Compare.mod_revision(epoch_key, last.mod_revision if last else 0)],
        [Put(key, value_for(epoch), lease), Put(epoch_key, str(epoch).encode())],
    )
    return Leadership(epoch, done.revision, key) if done.succeeded else None


def _ours(leader: KeyValue, epoch: KeyValue | None) -> Leadership | None:
    """The leadership that a transaction of ours took although its answer was lost.

    Both keys were then written at one revision. If they were not, they were read at two different times.
    """
    if epoch is None or epoch.mod_revision != leader.create_revision:
        return None
    return Leadership(int(epoch.value), leader.create_revision, leader.key)


async def _until_deleted(etcd: Etcd, leader: KeyValue) -> None:
    async with contextlib.aclosing(etcd.watch(leader.key, leader.mod_revision + 1)) as batches:
        try:
            async for batch in batches:
                if any(change.kind == "delete" for change in batch):
                    return
        except Compacted:
            return
