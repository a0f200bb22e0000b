"""Leadership with an epoch: at most one leader writes, and every take-over raises the number."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lambent_chassis.etcd.errors import Compacted, EtcdUnavailable, LeaseLost
from lambent_chassis.etcd.lease import Lease
from lambent_chassis.etcd.session import Etcd
from lambent_chassis.etcd.transport import PAUSE_S
from lambent_chassis.etcd.values import Compare, Delete, KeyValue, Put

RESTORED: Final = 10_000
"""How many epochs are left out when etcd has been restored from a backup, more than there can have been
since it was made. Lease numbers have room for eight million."""


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
    etcd: Etcd, key: str, value_for: Callable[[int], bytes], lease: Lease, epoch_key: str, cluster_key: str
) -> Leadership:
    """Waits until leadership is taken, for as long as that takes.

    `value_for(epoch)` is what the leader's key then holds; `epoch_key` holds the epoch in decimal, and is
    raised in the same transaction; `cluster_key` holds the number of the cluster that this was in. In another
    cluster, which is a backup of that one, the epoch is raised by RESTORED.

    One lease campaigns once: revoke it after a campaign that was cancelled, for its last transaction may
    still be under way.

    Raises:
        LeaseLost: the lease was lost first.
    """
    contest = asyncio.create_task(_contest(etcd, key, value_for, lease, epoch_key, cluster_key))
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
    etcd: Etcd, key: str, value_for: Callable[[int], bytes], lease: Lease, epoch_key: str, cluster_key: str
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
            else:
                known = await etcd.get(cluster_key)
                election = _Election(key, epoch_key, epoch, cluster_key, known)
                if taken := await _take(etcd, election, value_for, lease):
                    return taken
        except EtcdUnavailable:
            # Whether it was carried out shows when the key is read again.
            await asyncio.sleep(PAUSE_S)


@dataclass(frozen=True, slots=True)
class _Election:
    """What is there while nobody leads."""

    key: str
    epoch_key: str
    epoch: KeyValue | None
    cluster_key: str
    cluster: KeyValue | None


async def _take(
    etcd: Etcd, there: _Election, value_for: Callable[[int], bytes], lease: Lease
) -> Leadership | None:
    cluster = b"%d" % etcd.cluster
    restored = there.cluster is not None and there.cluster.value != cluster
    epoch = (int(there.epoch.value) if there.epoch else 0) + (RESTORED if restored else 1)
    done = await etcd.transaction(
        [Compare.absent(there.key), _as_read(there.epoch_key, there.epoch)],
        [
            Put(there.key, value_for(epoch), lease),
            Put(there.epoch_key, b"%d" % epoch),
            Put(there.cluster_key, cluster),
        ],
    )
    return Leadership(epoch, done.revision, there.key) if done.succeeded else None


def _as_read(key: str, found: KeyValue | None) -> Compare:
    return Compare.mod_revision(key, found.mod_revision if found else 0)


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
