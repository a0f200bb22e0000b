"""A fact that whoever comes first writes down, against a real etcd."""

import asyncio

import pytest

from lambent_chassis.etcd import Etcd
from lambent_chassis.settled import settled
from tests.integration.etcd.cluster import Cluster

pytestmark = pytest.mark.integration


async def test_whoever_comes_first_settles_it_for_all(cluster: Cluster, room: str) -> None:
    """Of many at once all hear the same, and it stays."""
    key, sessions = f"{room}fact", [Etcd(cluster.endpoints) for _ in range(8)]
    async with asyncio.timeout(20):
        for session in sessions:
            await session.connect()
        told = await asyncio.gather(
            *(settled(session, key, b"%d" % number, ()) for number, session in enumerate(sessions))
        )
        assert len(set(told)) == 1
        assert await settled(sessions[0], key, b"other", ()) == told[0]
        for session in sessions:
            await session.close()


async def test_nothing_is_settled_where_it_is_too_late(etcd: Etcd, room: str) -> None:
    """While something is there that would have needed it; what was settled before holds all the same."""
    key, before = f"{room}fact", (f"{room}none/", f"{room}parts/")
    async with asyncio.timeout(20):
        await etcd.put(f"{room}parts/1", b"")
        assert await settled(etcd, key, b"1", before) is None
        assert await etcd.get(key) is None
        await etcd.delete(f"{room}parts/1")
        assert await settled(etcd, key, b"2", before) == b"2"
        await etcd.put(f"{room}parts/1", b"")
        assert await settled(etcd, key, b"3", before) == b"2"
