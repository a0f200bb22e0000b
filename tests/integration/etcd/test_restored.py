"""An etcd that has lost everything and was restored: who was with it before takes it for another one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lambent_chassis.etcd import Etcd, EtcdBinary, EtcdError, EtcdReplaced, campaign
from lambent_chassis.etcd.election import RESTORED
from tests.integration.etcd.cluster import Cluster, NoEtcdctl

pytestmark = pytest.mark.integration

TOKENS = {"a new cluster": "restored", "the same cluster": "etcd-cluster"}
"""Of those that are given to `etcdctl snapshot restore`; the second one is its default, and etcd's."""


@pytest.fixture
async def own(sound_etcd: EtcdBinary, tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(sound_etcd, tmp_path)
    try:
        cluster.start()
        await cluster.ready()
        yield cluster
    finally:
        cluster.kill()


def restore(cluster: Cluster, snapshot: Path, token: str) -> None:
    try:
        cluster.restore(snapshot, token)
    except NoEtcdctl as missing:
        pytest.skip(str(missing))


async def led(etcd: Etcd, lease_s: int = 5) -> int:
    """The epoch of one more leadership, which ends at once."""
    lease = await etcd.lease(lease_s)
    taken = await campaign(etcd, "/leader", lambda epoch: b"%d" % epoch, lease, "/epoch", "/cluster")
    await lease.revoke()
    return taken.epoch


async def until_it_fails(etcd: Etcd) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        async for _ in etcd.follow_prefix("/jobs/"):
            pass


@pytest.mark.timeout(90)
@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
async def test_a_session_that_knew_more_says_so_instead_of_watching_in_silence(
    own: Cluster, tmp_path: Path, token: str
) -> None:
    """A watch from a revision that the backup never had would hear nothing, for ever. A lease is lost."""
    snapshot = tmp_path / "backup.db"
    async with Etcd(own.endpoints) as etcd:
        lease = await etcd.lease(9)
        await etcd.put("/jobs/1", b"", lease)
        await own.back_up(snapshot)
        for number in range(50):
            await etcd.put("/jobs/2", b"%d" % number)
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            following = tasks.create_task(asyncio.wait([asyncio.ensure_future(until_it_fails(etcd))]))
            await etcd.get("/jobs/2")
            await asyncio.to_thread(restore, own, snapshot, token)
            await own.ready()
            ((followed, *_), _) = await following
            assert isinstance(followed.exception(), EtcdReplaced)
            async with Etcd(own.endpoints) as other:
                for _ in range(100):
                    await other.put("/jobs/2", b"later")
            with pytest.raises(EtcdReplaced):  # though its revision has come to where the other one was
                await etcd.put("/jobs/3", b"")
            if token == "restored":
                await lease.lost.wait()


@pytest.mark.timeout(90)
async def test_epochs_do_not_begin_again_where_the_backup_has_them(own: Cluster, tmp_path: Path) -> None:
    """Two that led after the backup was made are not followed by others with their numbers; and the next but
    one has the next number again."""
    snapshot = tmp_path / "backup.db"
    async with Etcd(own.endpoints) as etcd:
        assert await led(etcd) == 1
        await own.back_up(snapshot)
        assert await led(etcd) == 2
        assert await led(etcd) == 3
    await asyncio.to_thread(restore, own, snapshot, "restored")
    await own.ready()
    async with Etcd(own.endpoints) as etcd:
        assert [await led(etcd), await led(etcd)] == [1 + RESTORED, 2 + RESTORED]


@pytest.mark.timeout(60)
async def test_a_member_that_is_behind_is_no_other_etcd(own: Cluster) -> None:
    """It was stopped while the others went on; a session that knows what they know begins to watch at it.

    It is none that leads: what was put to that one just before it stopped would come true after all the rest.
    """
    leader = await own.leader()
    late = next(it for it in own.members if it is not leader)
    others = [it.endpoint for it in own.members if it is not late]
    async with Etcd(others) as etcd, Etcd([late.endpoint]) as other:
        late.hang()
        for number in range(200):
            await etcd.put("/jobs/1", b"%d" % number)
        revision = (await etcd.get_prefix("/jobs/")).revision
        changes = other.watch_prefix("/jobs/", revision + 1)
        first = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        late.resume()
        with contextlib.suppress(EtcdError):
            await own.ready(late)
        await etcd.put("/jobs/1", b"last")
        async with asyncio.timeout(30):
            assert [change.value for change in await first] == [b"last"]
        await changes.aclose()
