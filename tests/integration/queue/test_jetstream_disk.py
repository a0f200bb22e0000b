"""A full disk under nats-server: what is not kept is refused, and what was taken is there afterwards."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lambent_frontend.queue.jetstream import JetStreamStore
from lambent_frontend.wire import new_request_id
from lambent_proto.errors import NotReady, QueueFull
from lambent_proto.ids import RequestId
from tests.brokers import processes
from tests.integration.queue.test_jetstream import ASKED, F

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

PAYLOAD = b"1" * 100_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 megabytes, of which a nats-server takes three quarters."""
    if os.geteuid() != 0:
        pytest.skip("to mount a small disk takes root")
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"this machine mounts nothing: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


async def opened(url: str, copy: Path) -> JetStreamStore:
    store = await JetStreamStore.open([url], copy, copy.name, most_bytes=10**12)
    await store.hold(copy.name)
    return store


async def take(store: JetStreamStore, number: int) -> list[RequestId]:
    """So many, or as many as there is room for."""
    taken: list[RequestId] = []
    with suppress(QueueFull):
        for _ in range(number):
            event = new_request_id()
            await store.put(event, ASKED, PAYLOAD, 10.0, None)
            taken.append(event)
    return taken


async def lost(url: str, copy: Path, taken: list[RequestId]) -> list[RequestId]:
    """Those of which a frontend that has just started knows nothing."""
    store = await opened(url, copy)
    missing = [event for event in taken if await store.get(F, event) is None]
    await store.close()
    return missing


async def test_what_the_server_has_no_room_for_is_refused(small_disk: Path, tmp_path: Path) -> None:
    """With what to do about it; what it took before is all there."""
    with processes.nats(small_disk) as url:
        store = await opened(url, tmp_path / "one")
        taken = await take(store, 400)
        assert 50 < len(taken) < 400
        with pytest.raises(QueueFull, match="nothing was kept: send it again later, make room on its disk"):
            await store.put(new_request_id(), ASKED, PAYLOAD, 10.0, None)
        await store.close()
        assert await lost(url, tmp_path / "two", taken) == []


async def test_a_disk_that_somebody_else_fills_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    """nats-server stops keeping anything then until it is started again; what it took before is all there."""
    with processes.nats(small_disk) as url:
        store = await opened(url, tmp_path / "one")
        taken = await take(store, 30)
        assert len(taken) == 30
        ballast = os.open(small_disk / "ballast", os.O_CREAT | os.O_WRONLY)
        with suppress(OSError):
            while True:
                os.write(ballast, bytes(4096))
        os.close(ballast)
        refused = new_request_id()
        with pytest.raises((NotReady, QueueFull)):
            await store.put(refused, ASKED, PAYLOAD, 10.0, None)
        await store.close()
    (small_disk / "ballast").unlink()
    with processes.nats(small_disk) as url:
        assert await lost(url, tmp_path / "two", taken) == []
        store = await opened(url, tmp_path / "three")
        assert len(await take(store, 1)) == 1
        await store.close()
