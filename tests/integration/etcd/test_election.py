"""Leadership: one at a time, each with an epoch of its own, and whoever took it over knows it."""

import asyncio
import contextlib

import pytest

from lambent_chassis.etcd import Change, Etcd, EtcdUnavailable, Leadership, LeaseLost, Put, campaign, resign
from tests.integration.etcd.cluster import Cluster, until
from tests.integration.etcd.proxy import Relay

pytestmark = pytest.mark.integration


def value_of(name: str, epoch: int) -> bytes:
    return f"{name} {epoch}".encode()


async def test_one_leads_and_the_next_follows_with_the_next_epoch(etcd: Etcd, room: str) -> None:
    """The second campaigner waits; when the leader resigns it leads, and the old leader's writes fail."""
    leader_key, epoch_key = room + "leader", room + "epoch"
    first_lease, second_lease = await etcd.lease(5), await etcd.lease(5)
    first = await campaign(
        etcd, leader_key, lambda epoch: value_of("first", epoch), first_lease, epoch_key, room + "cluster"
    )
    assert first.epoch == 1
    waiting = asyncio.ensure_future(
        campaign(
            etcd,
            leader_key,
            lambda epoch: value_of("second", epoch),
            second_lease,
            epoch_key,
            room + "cluster",
        )
    )
    assert (await etcd.transaction([first.fence], [Put(room + "work", b"1")])).succeeded
    assert not waiting.done()
    await resign(etcd, first)
    async with asyncio.timeout(5):
        second = await waiting
    assert second.epoch == 2
    assert not (await etcd.transaction([first.fence], [Put(room + "work", b"stale")])).succeeded
    assert (await etcd.transaction([second.fence], [Put(room + "work", b"2")])).succeeded
    await resign(etcd, first)
    leader = await etcd.get(leader_key)
    assert leader is not None
    assert (leader.value, leader.create_revision) == (b"second 2", second.create_revision)
    epoch = await etcd.get(epoch_key)
    assert epoch is not None
    assert epoch.value == b"2"


async def test_a_leader_that_vanishes_is_replaced_once_its_lease_is_over(
    etcd: Etcd, cluster: Cluster, room: str
) -> None:
    """Nobody leads before the time the old leader was told to rely on; then the waiting one does."""
    holder = Etcd(cluster.endpoints)
    await holder.connect()
    held = await holder.lease(2)
    await campaign(
        holder, room + "leader", lambda epoch: value_of("old", epoch), held, room + "epoch", room + "cluster"
    )
    await holder.close()
    taken = await campaign(
        etcd,
        room + "leader",
        lambda epoch: value_of("new", epoch),
        await etcd.lease(5),
        room + "epoch",
        room + "cluster",
    )
    assert asyncio.get_running_loop().time() >= held.valid_until
    assert taken.epoch == 2


async def test_a_take_over_whose_answer_is_lost_is_recognised(cluster: Cluster, room: str) -> None:
    """etcd took the transaction and the answer never came: the campaigner leads all the same, and once."""
    async with (
        Relay(cluster.members[0].client_port) as relay,
        Etcd([relay.endpoint, cluster.endpoints[1]]) as etcd,
    ):
        asked = []

        def value_for(epoch: int) -> bytes:
            asked.append(epoch)
            relay.mute()
            return value_of("me", epoch)

        lease = await etcd.lease(8)
        async with asyncio.timeout(10):
            taken = await campaign(etcd, room + "leader", value_for, lease, room + "epoch", room + "cluster")
        leader = await etcd.get(room + "leader")
        assert leader is not None
        assert (taken.epoch, taken.create_revision) == (1, leader.create_revision)
        assert asked == [1]
        assert (await etcd.transaction([taken.fence], [Put(room + "work", b"")])).succeeded


async def test_a_campaigner_whose_lease_is_lost_is_told(etcd: Etcd, room: str) -> None:
    """It does not wait for ever beside a leader, and cannot take the lead with a lease that is gone."""
    lease, other = await etcd.lease(5), await etcd.lease(5)
    await campaign(
        etcd, room + "leader", lambda epoch: value_of("first", epoch), lease, room + "epoch", room + "cluster"
    )
    waiting = asyncio.ensure_future(
        campaign(
            etcd,
            room + "leader",
            lambda epoch: value_of("second", epoch),
            other,
            room + "epoch",
            room + "cluster",
        )
    )
    await asyncio.sleep(0)
    await other.revoke()
    async with asyncio.timeout(5):
        with pytest.raises(LeaseLost):
            await waiting


async def contend(name: str, endpoints: list[str], room: str, believed: list[Leadership]) -> None:
    """Takes the lead and gives it up, again and again."""
    async with Etcd(endpoints) as etcd:
        while True:
            with contextlib.suppress(EtcdUnavailable, LeaseLost):
                lease = await etcd.lease(3)
                believed.append(
                    await campaign(
                        etcd,
                        room + "leader",
                        lambda epoch: value_of(name, epoch),
                        lease,
                        room + "epoch",
                        room + "cluster",
                    )
                )
                await lease.revoke()


async def test_through_kills_of_every_member_each_take_over_has_its_own_epoch(
    cluster: Cluster, room: str
) -> None:
    """Three campaign and resign while members are killed: no epoch comes twice, and none is skipped."""
    believed: list[Leadership] = []
    async with Etcd(cluster.endpoints) as judge:
        start = await judge.put(room, b"") + 1
        contenders = [
            asyncio.ensure_future(
                contend(f"c{first}", cluster.endpoints[first:] + cluster.endpoints[:first], room, believed)
            )
            for first in range(3)
        ]
        for member in cluster.members:
            enough = len(believed) + 10
            member.kill()
            cluster.start()
            await cluster.ready(member)
            await until(lambda enough=enough: len(believed) >= enough, timeout_s=30)  # type: ignore[misc]
        for contender in contenders:
            contender.cancel()
        await asyncio.gather(*contenders, return_exceptions=True)
        epoch = await judge.get(room + "epoch")
        assert epoch is not None
        recorded: list[Change] = []
        async with contextlib.aclosing(judge.watch(room + "leader", start)) as batches:
            while not recorded or recorded[-1].mod_revision < epoch.mod_revision:
                recorded += [change for change in await anext(batches) if change.kind == "put"]
    epochs = {change.mod_revision: int(change.value.split()[1]) for change in recorded}
    assert list(epochs.values()) == list(range(1, len(epochs) + 1))
    assert len({taken.epoch for taken in believed}) == len(believed)
    assert all(epochs[taken.create_revision] == taken.epoch for taken in believed)
