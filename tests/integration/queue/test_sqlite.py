"""The queue in SQLite's file: one frontend's alone, one fsync for many, and a disk that is full."""

import asyncio
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lambent_frontend.queue.core.lanes import Run
from lambent_frontend.queue.core.verdict import Tally
from lambent_frontend.queue.sqlite import FILE, CannotOpen, SqliteStore
from lambent_frontend.queue.store import Asked, Ending, State
from lambent_frontend.wire import new_request_id
from lambent_proto.errors import NotReady, QueueFull
from lambent_proto.ids import FunctionName

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

F = FunctionName("f")
ASKED = Asked(F, "")
PAYLOAD = b"1" * 50_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of eight megabytes."""
    if os.geteuid() != 0:
        pytest.skip("to mount a small disk takes root")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"this machine mounts nothing: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


async def fill(store: SqliteStore, at_most: int = 1000) -> list[str]:
    """Puts events until one is refused."""
    taken: list[str] = []
    for _ in range(at_most):
        event = new_request_id()
        try:
            await store.put(event, ASKED, PAYLOAD, 1.0, None)
        except QueueFull:
            return taken
        taken.append(event)
    raise AssertionError("it was never full")


async def end_all(store: SqliteStore) -> int:
    items = await store.next("f", 10_000)
    ending = Ending(State.SUCCEEDED, "Success", ended=2.0)
    ended = [await store.end(Run(F, it), ending, Tally(1.0, 1), 2.0, b"null") for it in items]
    return sum(ended)


async def test_many_share_one_commit(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path, most_bytes=10**8, spare_bytes=1)
    await asyncio.gather(*(store.put(new_request_id(), ASKED, b"{}", 1.0, None) for _ in range(500)))
    assert store.commits < 100
    await store.close()


async def test_one_that_fails_takes_no_other_with_it(tmp_path: Path) -> None:
    """Of those that share a transaction."""
    store = SqliteStore.open(tmp_path, most_bytes=10**8, spare_bytes=1)
    events = [new_request_id() for _ in range(50)]
    twice = [*events[:30], events[0], *events[30:]]
    puts = (store.put(it, ASKED, b"{}", 1.0, None) for it in twice)
    results = await asyncio.gather(*puts, return_exceptions=True)
    (failed,) = [it for it in results if isinstance(it, BaseException)]
    assert isinstance(failed, NotReady)
    assert len(await store.next("f", 100)) == 50
    await store.close()


async def test_two_frontends_do_not_share_a_folder(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path, most_bytes=10**8, spare_bytes=1)
    with pytest.raises(CannotOpen, match="another frontend has it"):
        SqliteStore.open(tmp_path, most_bytes=10**8, spare_bytes=1)
    await store.close()
    await SqliteStore.open(tmp_path, most_bytes=10**8, spare_bytes=1).close()


async def test_what_is_no_queue_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"something else" * 100)
    with pytest.raises(CannotOpen, match="not a database"):
        SqliteStore.open(tmp_path, most_bytes=10**8, spare_bytes=1)
    assert (tmp_path / FILE).read_bytes() == b"something else" * 100


async def test_a_queue_of_a_later_release_is_left_as_it_is(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(CannotOpen, match="of another release: form 99"):
        SqliteStore.open(tmp_path, most_bytes=10**8, spare_bytes=1)


async def test_a_full_queue_refuses_and_loses_nothing(tmp_path: Path) -> None:
    """What was taken can end; then there is room again."""
    store = SqliteStore.open(tmp_path, most_bytes=3_000_000, spare_bytes=1)
    taken = await fill(store)
    assert 40 < len(taken) < 62
    assert await end_all(store) == len(taken)
    assert len(await fill(store)) > 40
    await store.close()


async def test_a_full_disk_refuses_and_loses_nothing(small_disk: Path) -> None:
    store = SqliteStore.open(small_disk, most_bytes=10**9, spare_bytes=2_000_000)
    taken = await fill(store)
    assert len(taken) > 20
    assert await end_all(store) == len(taken)
    await store.close()


async def test_a_disk_that_fills_up_by_others_loses_nothing(small_disk: Path) -> None:
    """Of many at one time those that were taken are there, and only those, when the disk has no byte left."""
    blind = -(10**9)  # it does not look at how much is left, as nobody can where others write too
    store = SqliteStore.open(small_disk, most_bytes=10**9, spare_bytes=blind)
    others = small_disk / "others"
    others.write_bytes(b"0" * 4_000_000)
    events = [new_request_id() for _ in range(200)]
    puts = (store.put(it, ASKED, PAYLOAD, 1.0, None) for it in events)
    results = await asyncio.gather(*puts, return_exceptions=True)
    refused = [it for it in results if isinstance(it, BaseException)]
    assert refused
    assert all(isinstance(it, QueueFull) for it in refused), refused
    await store.close()
    others.unlink()
    store = SqliteStore.open(small_disk, most_bytes=10**9, spare_bytes=blind)
    taken = {
        event for event, result in zip(events, results, strict=True) if not isinstance(result, Exception)
    }
    assert {it.id for it in await store.list(ASKED.function, None, 0, 1000)} == taken
    assert taken
    await store.close()
