"""Keys, transactions and leases against a real cluster of three."""

import asyncio
import contextlib
import socket

import pytest

from lambent_chassis.clock import monotonic_s
from lambent_chassis.etcd import (
    Change,
    Compare,
    Delete,
    Etcd,
    EtcdClosed,
    EtcdRefused,
    EtcdUnavailable,
    LeaseLost,
    Put,
)
from tests.integration.etcd.cluster import Cluster, free_ports, until

pytestmark = pytest.mark.integration


async def deleted(etcd: Etcd, key: str, revision: int) -> None:
    """Waits until a key was deleted after `revision`."""
    async with contextlib.aclosing(etcd.watch(key, revision + 1)) as batches:
        async for batch in batches:
            if any(change.kind == "delete" for change in batch):
                return


async def test_answers_and_failures_are_counted(cluster: Cluster, room: str) -> None:
    """A member that is not there, answers, and one that says no."""
    (gone,) = free_ports(1)
    async with Etcd([f"127.0.0.1:{gone}", *cluster.endpoints]) as etcd:
        for _ in range(3):
            await etcd.get(room + "a")
        lease = await etcd.lease(5)
        await lease.revoke()
        with pytest.raises(LeaseLost):
            await etcd.put(room + "a", b"", lease)
        told = {
            (sample.name, *sample.labels.values()): sample.value
            for metric in etcd.answers.metrics("part")
            for sample in metric.samples
        }
    assert told["part_etcd_answer_seconds_bucket", "+Inf"] >= 5
    assert told["part_etcd_failures_total", "no_answer"] >= 1
    assert told["part_etcd_failures_total", "refused"] == 1


async def test_a_key_is_read_as_it_was_put(etcd: Etcd, room: str) -> None:
    """Value and revisions come back; an absent key is None; the prefix ends where it should."""
    assert await etcd.get(room + "a") is None
    first = await etcd.put(room + "a", b"1")
    second = await etcd.put(room + "a", b"2")
    await etcd.put(room[:-1] + "0", b"behind the prefix")
    found = await etcd.get(room + "a")
    assert found is not None
    assert (found.value, found.create_revision, found.mod_revision, found.lease_id) == (
        b"2",
        first,
        second,
        0,
    )
    snapshot = await etcd.get_prefix(room)
    assert snapshot.items == [found]
    assert snapshot.revision == second + 1
    assert await etcd.delete(room + "a")
    assert not await etcd.delete(room + "a")


async def test_conditional_writes_happen_once(etcd: Etcd, room: str) -> None:
    """The second creator and the one with an old revision are told no, and change nothing."""
    key = room + "a"
    assert await etcd.put_if_not_exists(key, b"first")
    assert not await etcd.put_if_not_exists(key, b"second")
    found = await etcd.get(key)
    assert found is not None
    assert found.value == b"first"
    assert await etcd.replace(key, b"third", found.mod_revision)
    assert not await etcd.replace(key, b"fourth", found.mod_revision)
    assert [kv.value for kv in (await etcd.get_prefix(room)).items] == [b"third"]


async def test_of_many_who_swap_each_swap_counts(cluster: Cluster, room: str) -> None:
    """A counter raised by compare and swap from three members ends at the number of successes."""
    key = room + "counter"

    async def raise_it(endpoint: str) -> int:
        done = 0
        async with Etcd([endpoint]) as etcd:
            for _ in range(15):
                found = await etcd.get(key)
                assert found is not None
                done += await etcd.replace(key, str(int(found.value) + 1).encode(), found.mod_revision)
        return done

    async with Etcd(cluster.endpoints) as etcd:
        await etcd.put(key, b"0")
        successes = await asyncio.gather(*(raise_it(endpoint) for endpoint in cluster.endpoints))
        found = await etcd.get(key)
    assert found is not None
    assert int(found.value) == sum(successes) > 0


async def test_a_transaction_deletes_a_prefix(etcd: Etcd, room: str) -> None:
    """Every key under it, and none beside it, in the same revision as the rest."""
    for key in ("fn/a", "fn/a/1", "fn/a/2", "fn/a-b"):
        await etcd.put(room + key, b"1")
    done = await etcd.transaction([], [Delete(room + "fn/a"), Delete(room + "fn/a/", prefix=True)])
    left = await etcd.get_prefix(room)
    assert [item.key for item in left.items] == [room + "fn/a-b"]
    assert left.revision == done.revision


async def test_a_transaction_does_all_of_one_branch(etcd: Etcd, room: str) -> None:
    """Both branches carry puts and deletes, in one revision, and the result names it."""
    a, b = room + "a", room + "b"
    done = await etcd.transaction([Compare.absent(a)], [Put(a, b"1"), Put(b, b"1")])
    assert done.succeeded
    assert {kv.mod_revision for kv in (await etcd.get_prefix(room)).items} == {done.revision}
    fence = Compare.create_revision(a, done.revision)
    assert (await etcd.transaction([fence], [Put(a, b"2"), Delete(b)])).succeeded
    other = await etcd.transaction(
        [Compare.create_revision(a, done.revision + 1)], [Delete(a)], [Put(b, b"no")]
    )
    assert not other.succeeded
    assert [(kv.key, kv.value) for kv in (await etcd.get_prefix(room)).items] == [(a, b"2"), (b, b"no")]
    assert await etcd.delete_prefix(room) == 2


async def test_a_wrong_request_is_refused_at_once(etcd: Etcd, room: str) -> None:
    """Too large, too many and the same key twice are the caller's fault, and are not tried again."""
    began = monotonic_s()
    with pytest.raises(EtcdRefused, match="too large"):
        await etcd.put(room + "a", b"x" * 2_000_000)
    with pytest.raises(EtcdRefused, match="too many operations"):
        await etcd.transaction([], [Put(f"{room}{number}", b"") for number in range(129)])
    with pytest.raises(EtcdRefused, match="duplicate key"):
        await etcd.transaction([], [Put(room, b"1"), Put(room, b"2")])
    assert monotonic_s() - began < 2


async def test_lists_of_more_than_eight_megabytes(etcd: Etcd, room: str) -> None:
    """gRPC's usual limit of 4 MB is none here, neither for a list nor for what a watch has to catch up."""
    before = (await etcd.get_prefix(room)).revision
    for part in range(0, 90, 9):
        async with asyncio.TaskGroup() as puts:
            for number in range(part, part + 9):
                puts.create_task(etcd.put(f"{room}{number:03}", bytes(100_000)))
    snapshot = await etcd.get_prefix(room)
    assert sum(len(kv.value) for kv in snapshot.items) == 9_000_000
    seen: list[Change] = []
    async with contextlib.aclosing(etcd.watch_prefix(room, before + 1)) as batches:
        async for batch in batches:
            seen += batch
            if len(seen) == 90:
                break
    assert sum(len(change.value) for change in seen) == 9_000_000
    await etcd.delete_prefix(room)


async def test_a_list_of_several_pages_is_of_one_revision(etcd: Etcd, room: str) -> None:
    """More keys than one page are all there, in order, although others are put meanwhile."""
    for part in range(25):
        await etcd.transaction([], [Put(f"{room}{part:02}{number:03}", b"") for number in range(100)])

    async def disturb() -> None:
        for number in range(10_000):
            await etcd.put(f"{room}zz{number}", b"")

    disturbing = asyncio.create_task(disturb())
    try:
        snapshot = await etcd.get_prefix(room)
    finally:
        disturbing.cancel()
        await asyncio.gather(disturbing, return_exceptions=True)
    assert len([kv for kv in snapshot.items if not kv.key.startswith(room + "zz")]) == 2_500
    assert [kv.key for kv in snapshot.items] == sorted({kv.key for kv in snapshot.items})
    assert max(kv.mod_revision for kv in snapshot.items) <= snapshot.revision


async def test_keys_live_as_long_as_their_lease(etcd: Etcd, room: str) -> None:
    """A lease outlives its TTL while it is kept; revoking it deletes its keys and tells the holder."""
    lease = await etcd.lease(2)
    revision = await etcd.put(room + "a", b"", lease)
    valid_until = lease.valid_until
    await until(lambda: lease.valid_until >= valid_until + 2.5)
    assert not lease.lost.is_set()
    assert (await etcd.get(room + "a")) is not None
    await lease.revoke()
    assert lease.lost.is_set()
    assert lease.valid_until <= monotonic_s()
    await deleted(etcd, room + "a", revision)
    with pytest.raises(LeaseLost):
        await etcd.put(room + "a", b"", lease)
    await lease.revoke()


async def test_a_lease_nobody_keeps_runs_out_and_not_too_early(
    etcd: Etcd, cluster: Cluster, room: str
) -> None:
    """After the holder has gone its keys go, but not before the time it was told to rely on."""
    async with Etcd(cluster.endpoints) as holder:
        lease = await holder.lease(2)
        revision = await holder.put(room + "a", b"", lease)
    await deleted(etcd, room + "a", revision)
    assert monotonic_s() >= lease.valid_until


async def test_a_put_without_a_lease_takes_the_key_off_it(etcd: Etcd, room: str) -> None:
    """etcd's own rule, which is why every write of a leased key passes the lease."""
    lease = await etcd.lease(5)
    await etcd.put(room + "kept", b"", lease)
    await etcd.put(room + "freed", b"", lease)
    await etcd.put(room + "kept", b"again", lease)
    await etcd.put(room + "freed", b"again")
    await lease.revoke()
    assert [kv.key for kv in (await etcd.get_prefix(room)).items] == [room + "freed"]


async def test_a_lease_revoked_elsewhere_is_lost(etcd: Etcd, cluster: Cluster) -> None:
    """The holder is told with the next keep-alive, and its time is up."""
    lease = await etcd.lease(3)
    await cluster.etcdctl(f"--endpoints={cluster.endpoints[1]}", "lease", "revoke", f"{lease.id:x}")
    async with asyncio.timeout(3):
        await lease.lost.wait()
    assert lease.valid_until <= monotonic_s()


async def test_nobody_there_is_said_with_the_endpoints() -> None:
    """Connecting to where no etcd is fails within seconds, and names where that was."""
    ports = free_ports(2)
    endpoints = [f"127.0.0.1:{port}" for port in ports]
    began = monotonic_s()
    with pytest.raises(EtcdUnavailable, match=f"{endpoints[0]}, {endpoints[1]}") as caught:
        await Etcd(endpoints).connect()
    assert not caught.value.unknown
    assert monotonic_s() - began < 7


@pytest.mark.parametrize("endpoint", ["", "localhost", "ftp://localhost:1", "http://localhost"])
def test_a_malformed_endpoint_is_named(endpoint: str) -> None:
    """Before anything is connected."""
    with pytest.raises(ValueError, match="give host:port"):
        Etcd([endpoint])


async def test_a_closed_session_says_so(cluster: Cluster, room: str) -> None:
    """Neither later calls nor a watch that waits are left hanging, nor end as if they were cancelled."""
    etcd = Etcd(cluster.endpoints)
    await etcd.connect()
    changes = etcd.watch_prefix(room, await etcd.put(room, b""))
    await anext(changes)
    waiting = asyncio.ensure_future(anext(changes))
    getting = asyncio.ensure_future(etcd.get(room))
    await asyncio.sleep(0)
    await etcd.close()
    with pytest.raises(EtcdClosed):
        await etcd.get(room)
    with pytest.raises(EtcdClosed):
        await waiting
    with pytest.raises(EtcdClosed):
        await getting


async def test_closing_ends_those_who_wait_for_a_connection() -> None:
    """Somebody listens and never answers: a call and a watch that wait for it end with the session."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        etcd = Etcd([f"127.0.0.1:{silent.getsockname()[1]}"])
        connecting = asyncio.ensure_future(etcd.connect())
        await asyncio.sleep(0.1)
        getting = asyncio.ensure_future(etcd.get("/a"))
        watching = asyncio.ensure_future(anext(etcd.watch_prefix("/a", 1)))
        await asyncio.sleep(0.1)
        await etcd.close()
        for waiting in (connecting, getting, watching):
            with pytest.raises(EtcdClosed):
                await waiting


async def test_a_watch_from_nowhere_is_refused(etcd: Etcd, room: str) -> None:
    """Revision 0 means now to etcd, and would be another now after every reconnect."""
    with pytest.raises(ValueError, match="revision to start from"):
        await anext(etcd.watch_prefix(room, 0))
