"""Packages on a worker: fetched and unpacked once, whole or not at all."""

import asyncio
import hashlib
import io
import os
import zipfile
from pathlib import Path

import obstore
import pytest
from obstore.store import LocalStore, MemoryStore

from lambent_chassis.zipcheck import PackageFacts, unpack_zip
from lambent_worker.packages import PackageCache, PackageMissing


async def put(store: MemoryStore | LocalStore, text: str = "x = 1", name: str = "app.py") -> str:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(name, text)
    sha256 = hashlib.sha256(data.getvalue()).hexdigest()
    await obstore.put_async(store, f"{sha256}.zip", data.getvalue())
    return sha256


async def test_a_package_is_unpacked_from_a_folder_of_zips(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store", mkdir=True)
    sha256 = await put(store)
    folder = await PackageCache(tmp_path / "cache", store).fetch(sha256)
    assert folder == tmp_path / "cache" / sha256
    assert (folder / "app.py").read_text() == "x = 1"


async def test_it_is_unpacked_once_however_many_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked: list[Path] = []

    def unpack(data: bytes, folder: Path) -> PackageFacts:
        unpacked.append(folder)
        return unpack_zip(data, folder)

    monkeypatch.setattr("lambent_worker.packages.unpack_zip", unpack)
    store = MemoryStore()
    sha256 = await put(store)
    cache = PackageCache(tmp_path, store)
    assert len(set(await asyncio.gather(*(cache.fetch(sha256) for _ in range(20))))) == 1
    await cache.fetch(sha256)
    await PackageCache(tmp_path, store).fetch(sha256)  # nor by the next worker on this machine
    assert len(unpacked) == 1


async def test_one_who_stops_waiting_does_not_stop_the_others(tmp_path: Path) -> None:
    store = MemoryStore()
    sha256 = await put(store)
    cache = PackageCache(tmp_path, store)
    first, second = (asyncio.ensure_future(cache.fetch(sha256)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).is_dir()


async def test_a_package_that_is_not_there(tmp_path: Path) -> None:
    """It is asked for again: it may have come meanwhile."""
    store = MemoryStore()
    cache = PackageCache(tmp_path, store)
    sha256 = await put(MemoryStore())
    with pytest.raises(PackageMissing, match=f"no {sha256}.zip"):
        await cache.fetch(sha256)
    assert await put(store) == sha256
    assert (await cache.fetch(sha256)).is_dir()


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [("app.py", b"damage", "another SHA-256"), ("../app.py", b"", "no sound package: '../app.py' leads out")],
)
async def test_a_package_that_is_not_what_it_should_be(
    tmp_path: Path, name: str, change: bytes, why: str
) -> None:
    """It is refused, and nothing of it stays on the disk."""
    store = MemoryStore()
    sha256 = await put(store, name=name)
    data = bytes((await obstore.get_async(store, f"{sha256}.zip")).bytes())
    await obstore.put_async(store, f"{sha256}.zip", data + change)
    with pytest.raises(PackageMissing, match=why):
        await PackageCache(tmp_path, store).fetch(sha256)
    assert os.listdir(tmp_path) == [".boot"]


async def test_what_a_crash_left_unfinished_is_never_used(tmp_path: Path) -> None:
    store = MemoryStore()
    sha256 = await put(store)
    cache = PackageCache(tmp_path, store)
    await cache.fetch(sha256)
    (tmp_path / ".unfinished-x" / "files").mkdir(parents=True)
    PackageCache(tmp_path, store)
    assert sorted(os.listdir(tmp_path)) == sorted([".boot", sha256])


async def test_after_a_boot_the_cache_starts_empty(tmp_path: Path) -> None:
    """A power cut may keep the rename and lose the files: the package is fetched again."""
    store = MemoryStore()
    sha256 = await put(store)
    folder = await PackageCache(tmp_path, store).fetch(sha256)
    (folder / "app.py").write_text("")
    (tmp_path / ".boot").write_text("another boot")
    folder = await PackageCache(tmp_path, store).fetch(sha256)
    assert (folder / "app.py").read_text() == "x = 1"
