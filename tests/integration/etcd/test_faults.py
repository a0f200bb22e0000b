"""What a session does while members are killed, hang, or have lost their majority."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from lambent_chassis.clock import monotonic_s
from lambent_chassis.etcd import Change, Compacted, Etcd, EtcdUnavailable, Snapshot
from tests.integration.etcd.cluster import Cluster, ClusterMember, until
from tests.integration.etcd.proxy import Relay

pytestmark = pytest.mark.integration


class Writer:
    """Puts a new key again and again, and remembers which puts were acknowledged."""

    def __init__(self, etcd: Etcd, room: str) -> None:
        self._etcd = etcd
        self._room = room
        self.acknowledged: list[str] = []

    async def run(self) -> None:
        number = 0
        while True:
            key = f"{self._room}{number:06}"
            with contextlib.suppress(EtcdUnavailable):
                await self._etcd.put(key, b"x" * 100)
                self.acknowledged.append(key)
            number += 1
            await asyncio.sleep(0.001)

    async def more(self, count: int) -> None:
        """Waits for so many more acknowledged puts."""
        enough = len(self.acknowledged) + count
        await until(lambda: len(self.acknowledged) >= enough, timeout_s=30)


@contextlib.asynccontextmanager
async def running(*coroutines: object) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]  # type: ignore[call-overload]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def collect(etcd: Etcd, room: str, start_revision: int, seen: list[Change]) -> None:
    async with contextlib.aclosing(etcd.watch_prefix(room, start_revision)) as batches:
        async for batch in batches:
            seen += batch


async def history(cluster: Cluster, room: str, start_revision: int) -> list[Change]:
    """What etcd itself says happened since a revision, asked afresh and in peace."""
    async with Etcd(cluster.endpoints) as etcd:
        last = max(kv.mod_revision for kv in (await etcd.get_prefix(room)).items)
        seen: list[Change] = []
        async with running(collect(etcd, room, start_revision, seen)):
            await until_seen(seen, last)
        return seen


async def until_seen(seen: list[Change], revision: int, timeout_s: float = 20.0) -> None:
    await until(lambda: bool(seen) and seen[-1].mod_revision >= revision, timeout_s)


def others(cluster: Cluster, member: ClusterMember) -> list[str]:
    return [endpoint for endpoint in cluster.endpoints if endpoint != member.endpoint]


async def test_a_watch_over_kill_9_of_every_member_loses_nothing(cluster: Cluster, room: str) -> None:
    """One member after the other is killed and started again under writes: each change comes once."""
    async with Etcd(cluster.endpoints) as watched, Etcd(cluster.endpoints[::-1]) as written:
        start = await written.put(room + "start", b"") + 1
        seen: list[Change] = []
        writer = Writer(written, room)
        async with running(collect(watched, room, start, seen), writer.run()):
            for member in cluster.members:
                await writer.more(30)
                member.kill()
                await writer.more(30)
                cluster.start()
                await cluster.ready(member)
            await writer.more(30)
        truth = await history(cluster, room, start)
        async with running(collect(watched, room, seen[-1].mod_revision + 1, seen)):
            if seen[-1].mod_revision < truth[-1].mod_revision:
                await until_seen(seen, truth[-1].mod_revision)
    assert seen == truth
    assert {change.key for change in seen} >= set(writer.acknowledged)


async def test_a_kill_in_the_middle_of_a_catch_up_loses_nothing(cluster: Cluster, room: str) -> None:
    """The member is killed after the first of many batches; the next one goes on exactly there."""
    total = 6_000
    async with Etcd(cluster.endpoints) as etcd:
        start = await etcd.put(room + "start", b"") + 1

        async def fill(first: int) -> None:
            for number in range(first, total, 60):
                await etcd.put(f"{room}{number:06}", bytes(1_000))

        await asyncio.gather(*(fill(first) for first in range(60)))
        last = max(kv.mod_revision for kv in (await etcd.get_prefix(room)).items)
    victim = cluster.members[0]
    seen: list[Change] = []
    async with (
        Etcd([victim.endpoint, *others(cluster, victim)]) as etcd,
        contextlib.aclosing(etcd.watch_prefix(room, start)) as batches,
    ):
        async for batch in batches:
            if not seen:
                assert batch[-1].mod_revision < last, "the catch-up came in one batch"
                victim.kill()
            seen += batch
            if seen[-1].mod_revision >= last:
                break
    revisions = [change.mod_revision for change in seen]
    assert revisions == sorted(set(revisions))
    assert len({change.key for change in seen}) == total


@pytest.mark.parametrize("leads", [True, False], ids=["the leader", "a follower"])
async def test_a_hung_member_is_left_within_seconds(cluster: Cluster, room: str, leads: bool) -> None:
    """With its member stopped a watch goes on, a lease is kept and a write arrives, within seconds."""
    leader = await cluster.leader()
    victim = leader if leads else next(member for member in cluster.members if member is not leader)
    async with (
        Etcd([victim.endpoint, *others(cluster, victim)]) as etcd,
        Etcd(others(cluster, victim)) as elsewhere,
    ):
        lease = await etcd.lease(5)
        start = await etcd.put(room + "a", b"", lease)
        seen: list[Change] = []
        async with running(collect(etcd, room, start, seen)):
            await until_seen(seen, start)
            victim.hang()
            hung_at = monotonic_s()
            try:
                async with asyncio.timeout(8):
                    await etcd.put(room + "through another", b"")
                await until_seen(seen, await elsewhere.put(room + "b", b""), timeout_s=8)
                await until(lambda: lease.valid_until >= hung_at + lease.ttl_s, timeout_s=8)
            finally:
                victim.resume()
            await until_seen(seen, await elsewhere.put(room + "c", b""))
        assert monotonic_s() < lease.valid_until
        assert not lease.lost.is_set()
        keys = [change.key.removeprefix(room) for change in seen]
        assert "through another" in keys
        # Once it is resumed, the stopped member may carry out that write a second time, after all others.
        assert [key for key in keys if key != "through another"] == ["a", "b", "c"]
        assert [change.mod_revision for change in seen] == sorted({change.mod_revision for change in seen})


async def test_a_quiet_watch_on_a_member_that_answers_nothing_is_moved(cluster: Cluster, room: str) -> None:
    """Nothing else uses the connection, and TCP sees nothing wrong: the watch itself finds out."""
    async with (
        Relay(cluster.members[0].client_port) as relay,
        Etcd([relay.endpoint, cluster.endpoints[1]]) as etcd,
        Etcd(cluster.endpoints[1:]) as elsewhere,
    ):
        start = await elsewhere.put(room + "a", b"")
        seen: list[Change] = []
        async with running(collect(etcd, room, start, seen)):
            await until_seen(seen, start)
            await asyncio.sleep(2)  # quiet
            relay.mute()
            await until_seen(seen, await elsewhere.put(room + "b", b""), timeout_s=7)


async def test_without_a_majority_operations_fail_and_then_all_goes_on(cluster: Cluster, room: str) -> None:
    """Two of three are gone: reads and writes end in time; once they are back, nothing was lost."""
    survivor = cluster.members[0]
    async with Etcd(cluster.endpoints) as etcd:
        start = await etcd.put(room + "a", b"")
        seen: list[Change] = []
        async with running(collect(etcd, room, start, seen)):
            await until_seen(seen, start)
            for member in cluster.members[1:]:
                member.kill()
            began = monotonic_s()
            answers = await asyncio.gather(
                etcd.get(room + "a"), etcd.put_if_not_exists(room + "b", b""), return_exceptions=True
            )
            assert [type(answer) for answer in answers] == [EtcdUnavailable, EtcdUnavailable]
            assert monotonic_s() - began < 20
            assert survivor.endpoint in str(answers[0])
            cluster.start()
            await cluster.ready()
            await until_seen(seen, await etcd.put(room + "c", b""))
        assert seen == await history(cluster, room, start)


async def test_follow_lists_again_after_a_compaction(cluster: Cluster, room: str) -> None:
    """A watch that a compaction overtook while it was away starts over with what is there now."""
    async with (
        Relay(cluster.members[0].client_port) as relay,
        Etcd([relay.endpoint]) as etcd,
        Etcd(cluster.endpoints) as writer,
        contextlib.aclosing(etcd.follow_prefix(room)) as following,
    ):
        await writer.put(room + "old", b"1")
        first = await anext(following)
        assert isinstance(first, Snapshot)
        assert [kv.key for kv in first.items] == [room + "old"]
        await writer.put(room + "seen", b"2")
        batch = await anext(following)
        assert isinstance(batch, list)
        assert [(change.kind, change.key) for change in batch] == [("put", room + "seen")]
        await relay.cut()
        await writer.delete(room + "old")
        await cluster.compact(await writer.put(room + "new", b"3"))
        relay.mend()
        again = await anext(following)
        assert isinstance(again, Snapshot)
        assert [kv.key for kv in again.items] == [room + "new", room + "seen"]
        await writer.delete(room + "seen")
        last = await anext(following)
        assert isinstance(last, list)
        assert [(change.kind, change.key) for change in last] == [("delete", room + "seen")]


async def test_a_watch_from_a_compacted_revision_says_so(etcd: Etcd, cluster: Cluster, room: str) -> None:
    """It names the oldest revision that is kept."""
    revision = await etcd.put(room + "a", b"1")
    kept = await etcd.put(room + "a", b"2")
    await cluster.compact(kept)
    with pytest.raises(Compacted) as caught:
        await anext(etcd.watch_prefix(room, revision))
    assert caught.value.compact_revision == kept


async def test_a_condition_whose_answer_is_lost_is_not_tried_twice(cluster: Cluster, room: str) -> None:
    """The member took the write and the answer was lost: the caller is told that nobody knows."""
    async with (
        Relay(cluster.members[0].client_port) as relay,
        Etcd([relay.endpoint, cluster.endpoints[1]]) as etcd,
    ):
        relay.mute()
        with pytest.raises(EtcdUnavailable, match="may have been carried out") as caught:
            await etcd.put_if_not_exists(room + "once", b"1")
        assert caught.value.unknown
        found = await etcd.get(room + "once")
        assert found is not None
        assert found.create_revision == found.mod_revision


async def test_a_put_whose_answer_is_lost_is_put_again(cluster: Cluster, room: str) -> None:
    """Twice the same value under a key is the same as once."""
    async with (
        Relay(cluster.members[0].client_port) as relay,
        Etcd([relay.endpoint, cluster.endpoints[1]]) as etcd,
    ):
        relay.mute()
        revision = await etcd.put(room + "again", b"1")
        found = await etcd.get(room + "again")
        assert found is not None
        assert found.mod_revision == revision > found.create_revision


async def test_a_condition_that_was_never_sent_goes_to_the_next_member(cluster: Cluster, room: str) -> None:
    """A follower that is gone makes no result unknown when nothing could be sent to it."""
    leader = await cluster.leader()
    victim = next(member for member in cluster.members if member is not leader)
    victim.kill()
    async with Etcd([victim.endpoint, leader.endpoint]) as etcd:
        assert await etcd.put_if_not_exists(room + "a", b"")


async def test_a_lease_counts_from_when_it_was_asked_for(cluster: Cluster) -> None:
    """Answers that come late do not make its holder rely on it for longer."""
    async with Relay(cluster.members[0].client_port) as relay, Etcd([relay.endpoint]) as etcd:
        lease = await etcd.lease(9)
        granted_until = lease.valid_until
        await asyncio.sleep(1)  # what is sent next is the keep-alive
        relay.delay(0.3)
        await until(lambda: lease.valid_until > granted_until)
        assert monotonic_s() >= relay.first_asked_at + 0.3
        assert lease.valid_until <= relay.first_asked_at + lease.ttl_s + 0.1
