"""A cluster shared by the tests of a module, healed before each; a session with all three members."""

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from lambent_chassis.etcd import Etcd, EtcdBinary
from tests.integration.etcd.cluster import Cluster, NoSoundEtcd
from tests.integration.etcd.cluster import sound_etcd as found


@pytest.fixture(scope="session")
def sound_etcd() -> EtcdBinary:
    """An etcd that may be killed: not one that then loses what it acknowledged."""
    try:
        return found()
    except NoSoundEtcd as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def running_cluster(sound_etcd: EtcdBinary, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(sound_etcd, tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


@pytest.fixture
async def cluster(running_cluster: Cluster) -> Cluster:
    running_cluster.heal()
    await running_cluster.ready()
    return running_cluster


@pytest.fixture
async def etcd(cluster: Cluster) -> AsyncIterator[Etcd]:
    async with Etcd(cluster.endpoints) as session:
        yield session


@pytest.fixture
def room() -> str:
    """A prefix of this test's own."""
    return f"/test/{secrets.token_hex(4)}/"
