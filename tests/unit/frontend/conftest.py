"""A real etcd for the tests of the catalogue: one process a module, an empty prefix a test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from lambent_chassis.etcd import Etcd, EtcdServer, find_etcd
from lambent_proto import keys
from tests import certificates
from tests.unit import scripted


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def etcd_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EtcdServer]:
    folder = tmp_path_factory.mktemp("etcd")
    async with await EtcdServer.start(find_etcd(), folder) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def etcd(etcd_server: EtcdServer) -> AsyncIterator[Etcd]:
    async with Etcd([etcd_server.endpoint]) as session:
        mine = [keys.FUNCTIONS, keys.VERSION_NUMBERS, keys.LAYERS, keys.LAYER_VERSIONS, keys.FRONTENDS]
        mine += [keys.ALL_OF_SCHEDULES, keys.QUEUE_CLAIMS]
        for prefix in (*mine, "/lambent/trigger"):  # all that begins so
            await session.delete_prefix(prefix)
        yield session


@pytest.fixture(params=["grpcio", "own"])
def door(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whose gRPC server `serving` starts; for the tests that have to hold for both."""
    monkeypatch.setattr(scripted, "OWN", request.param == "own")
    return str(request.param)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Of `localhost` and 127.0.0.1, and its key."""
    return certificates.make(tmp_path)
