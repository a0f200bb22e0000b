"""Packages and layers on a worker: fetched once, whole or not at all, merged, held, and given up."""

import asyncio
import hashlib
import io
import os
import stat
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import obstore
import pytest
from obstore.store import LocalStore, MemoryStore

from lambent_chassis.zipcheck import PackageFacts, unpack_zip
from lambent_proto.definition import LayerVersion
from lambent_worker.layers import merge
from lambent_worker.packages import PackageCache, PackageMissing

Store = MemoryStore | LocalStore

LINK = stat.S_IFLNK | 0o777
"""Of an entry whose content is where it leads."""


def zipped(files: Mapping[str, str], mode: int = stat.S_IFREG | 0o644) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (LINK if text.startswith("-> ") else mode) << 16
            archive.writestr(info, text.removeprefix("-> "))
    return data.getvalue()


async def kept(store: Store, data: bytes) -> str:
    sha256 = hashlib.sha256(data).hexdigest()
    await obstore.put_async(store, f"{sha256}.zip", data)
    return sha256


async def put(store: Store, text: str = "x = 1", name: str = "app.py") -> str:
    return await kept(store, zipped({name: text}))


async def put_layers(store: Store, *layers: Mapping[str, str]) -> list[LayerVersion]:
    return [
        LayerVersion(name=f"layer-{n}", version=1, code_sha256=await kept(store, zipped(files)), code_size=1)
        for n, files in enumerate(layers)
    ]


def tree(folder: Path) -> dict[str, str]:
    """What is in a folder: the text of files, where links lead."""
    return {
        path.relative_to(folder).as_posix(): f"-> {path.readlink()}"
        if path.is_symlink()
        else path.read_text()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def listed(root: Path) -> list[str]:
    return sorted(entry for entry in os.listdir(root) if not entry.startswith("."))


async def until(condition: Callable[[], bool]) -> None:
    """What happens in a thread, nobody waits for otherwise."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - a folder has no event
            await asyncio.sleep(0.005)


def unfinished(root: Path) -> list[str]:
    return [entry for entry in os.listdir(root) if entry.startswith(".unfinished-")]


async def test_a_package_is_unpacked_from_a_folder_of_zips(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store", mkdir=True)
    sha256 = await put(store)
    folder = await PackageCache(tmp_path / "cache", store).fetch(sha256)
    assert folder.is_relative_to(tmp_path / "cache" / sha256)
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
    """It goes, as does what is no folder of this cache's; what was finished stays."""
    store = MemoryStore()
    sha256 = await put(store)
    cache = PackageCache(tmp_path, store)
    await cache.fetch(sha256)
    (tmp_path / ".unfinished-x" / "files").mkdir(parents=True)
    (tmp_path / ("0" * 64) / "files").mkdir(parents=True)
    PackageCache(tmp_path, store)
    await until(lambda: sorted(os.listdir(tmp_path)) == sorted([".boot", sha256]))


async def test_after_a_boot_the_cache_starts_empty(tmp_path: Path) -> None:
    """A power cut may keep the rename and lose the files: the package is fetched again."""
    store = MemoryStore()
    sha256 = await put(store)
    folder = await PackageCache(tmp_path, store).fetch(sha256)
    (folder / "app.py").write_text("")
    (tmp_path / ".boot").write_text("another boot")
    cache = PackageCache(tmp_path, store)
    assert listed(tmp_path) == []
    assert ((await cache.fetch(sha256)) / "app.py").read_text() == "x = 1"


async def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    """Another user than the worker's may read packages and merged layers, and change nothing of them."""
    store = MemoryStore()
    code = await kept(store, zipped({"a/run": "x"}, stat.S_IFREG | 0o6777))
    layers = await put_layers(store, {"b/x": "1"}, {"b/y": "2"})
    before = os.umask(0o077)
    try:
        held = await PackageCache(tmp_path, store).hold(code, layers)
    finally:
        os.umask(before)
    assert held.layers is not None
    for folder in (held.code, held.layers):
        for path in (folder.parent, folder, *folder.rglob("*")):
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o755 if path.is_dir() or path.name == "run" else 0o644), path


MERGED = [
    pytest.param([{"a": "1", "b": "1"}, {"b": "2", "c": "2"}], {"a": "1", "b": "2", "c": "2"}, id="files"),
    pytest.param(
        [{"python/a.py": "1", "lib/x": "1"}, {"python/b.py": "2", "lib/x": "2"}, {"lib/x": "3"}],
        {"python/a.py": "1", "python/b.py": "2", "lib/x": "3"},
        id="folders become one",
    ),
    pytest.param([{"a/x": "1", "a/y/z": "1"}, {"a": "2"}], {"a": "2"}, id="a file over a folder"),
    pytest.param([{"a": "1"}, {"a/x": "2"}], {"a/x": "2"}, id="a folder over a file"),
    pytest.param(
        [{"a/x": "1"}, {"a": "2"}, {"a/y": "3"}], {"a/y": "3"}, id="a file between two folders ends the first"
    ),
    pytest.param(
        [{"real/x": "1", "a": "-> real"}, {"a/x": "2"}],
        {"real/x": "1", "a/x": "2"},
        id="a folder over a link does not write through it",
    ),
    pytest.param(
        [{"real": "1", "a": "-> real"}, {"a": "2"}], {"real": "1", "a": "2"}, id="a file over a link"
    ),
    pytest.param(
        [{"a/x": "1", "b": "1"}, {"real/x": "2", "a": "-> real", "b": "-> nowhere"}],
        {"real/x": "2", "a": "-> real", "b": "-> nowhere"},
        id="links over a folder and a file",
    ),
    pytest.param([{"a": "1"}, {"a": "2"}, {"a": "1"}], {"a": "1"}, id="one package in two places"),
    pytest.param([{"a": "1"}], {"a": "1"}, id="one layer alone"),
]


@pytest.mark.parametrize(("layers", "expected"), MERGED)
async def test_later_layers_win(
    tmp_path: Path, layers: list[Mapping[str, str]], expected: dict[str, str]
) -> None:
    """As if their ZIPs were unpacked over each other; the layers themselves stay as they are."""
    store = MemoryStore()
    cache = PackageCache(tmp_path, store)
    versions = await put_layers(store, *layers)
    merged = await cache.layers(versions)
    assert merged is not None
    assert tree(merged) == expected
    assert [tree(await cache.fetch(version.code_sha256)) for version in versions] == layers


async def test_no_layers(tmp_path: Path) -> None:
    """There is nothing to mount then."""
    store = MemoryStore()
    cache = PackageCache(tmp_path, store)
    assert await cache.layers([]) is None
    assert (await cache.hold(await put(store))).layers is None


async def test_the_order_makes_another_folder(tmp_path: Path) -> None:
    """The same layers in the same order share one, whoever asks, and after a restart."""
    store = MemoryStore()
    a, b = await put_layers(store, {"x": "a"}, {"x": "b"})
    cache = PackageCache(tmp_path, store)
    one, two = await cache.layers([a, b]), await cache.layers([b, a])
    assert one is not None
    assert two is not None
    assert (tree(one), tree(two)) == ({"x": "b"}, {"x": "a"})
    assert await cache.layers([a, b]) == one == await PackageCache(tmp_path, store).layers([a, b])


async def test_they_are_merged_once_however_many_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And each layer is unpacked once."""
    made: list[str] = []

    def merge_it(layers: Sequence[Path], folder: Path) -> None:
        made.append("merged")
        merge(layers, folder)

    def unpack_it(data: bytes, folder: Path) -> PackageFacts:
        made.append("unpacked")
        return unpack_zip(data, folder)

    monkeypatch.setattr("lambent_worker.packages.merge", merge_it)
    monkeypatch.setattr("lambent_worker.packages.unpack_zip", unpack_it)
    store = MemoryStore()
    layers = await put_layers(store, {"x": "a"}, {"x": "b"})
    cache = PackageCache(tmp_path, store)
    assert len(set(await asyncio.gather(*(cache.layers(layers) for _ in range(20))))) == 1
    await PackageCache(tmp_path, store).layers(layers)
    assert sorted(made) == ["merged", "unpacked", "unpacked"]


async def test_merged_files_take_no_room_twice(tmp_path: Path) -> None:
    """They are the layers' own."""
    store = MemoryStore()
    layers = await put_layers(store, {"a/x": "1"}, {"a/y": "2"})
    cache = PackageCache(tmp_path, store)
    merged = await cache.layers(layers)
    assert merged is not None
    first = await cache.fetch(layers[0].code_sha256)
    assert (merged / "a" / "x").samefile(first / "a" / "x")


async def test_a_layer_that_is_missing(tmp_path: Path) -> None:
    """It is named; nothing is held, and nothing is left of a merge."""
    store = MemoryStore()
    code = await put(store)
    there, missing = await put_layers(store, {"x": "1"}, {"x": "2"})
    await obstore.delete_async(store, f"{missing.code_sha256}.zip")
    cache = PackageCache(tmp_path, store, limit_bytes=0)
    with pytest.raises(PackageMissing, match=f"no {missing.code_sha256}.zip"):
        await cache.hold(code, [there, missing])
    await until(lambda: listed(tmp_path) == [] and not unfinished(tmp_path))


BIG = 100_000


async def put_big(store: Store, count: int) -> list[str]:
    """Each takes 25 blocks of 4 KB, and 2 for its folders."""
    return [await put(store, str(n) * BIG) for n in range(count)]


LIMIT_OF_TWO = 2 * 27 * 4096


async def test_what_was_not_used_for_longest_is_given_up(tmp_path: Path) -> None:
    """A third package of three goes over a limit for two: the one used last stays. It can be had again."""
    store = MemoryStore()
    a, b, c = await put_big(store, 3)
    cache = PackageCache(tmp_path, store, limit_bytes=LIMIT_OF_TWO)
    await cache.fetch(a)
    await cache.fetch(b)
    assert listed(tmp_path) == sorted([a, b])
    await cache.fetch(a)
    await cache.fetch(c)
    assert listed(tmp_path) == sorted([a, c])
    assert (await cache.fetch(b)).is_dir()
    assert listed(tmp_path) == sorted([b, c])
    await until(lambda: not unfinished(tmp_path))


async def test_a_byte_over_the_limit_is_over_it(tmp_path: Path) -> None:
    """Files and folders count as the whole blocks that they take."""
    store = MemoryStore()
    a, b = await put_big(store, 2)
    cache = PackageCache(tmp_path, store, limit_bytes=LIMIT_OF_TWO - 1)
    await cache.fetch(a)
    await cache.fetch(b)
    assert listed(tmp_path) == [b]


async def test_what_an_instance_uses_stays(tmp_path: Path) -> None:
    """Above the limit too, code and layers alike, until the last instance is gone; then the limit is kept."""
    store = MemoryStore()
    a, b, c = await put_big(store, 3)
    layers = await put_layers(store, {"x": "1" * BIG}, {"y": "2"})
    cache = PackageCache(tmp_path, store, limit_bytes=LIMIT_OF_TWO)
    first, second = await cache.hold(a, layers), await cache.hold(a, layers)
    assert first.layers is not None
    for other in (b, c):
        with await cache.hold(other) as held:
            assert tree(held.code) == {"app.py": str([a, b, c].index(other)) * BIG}
    first.release()
    first.release()  # of no effect on the second
    await cache.fetch(b)
    assert tree(first.code) == {"app.py": "0" * BIG}
    assert tree(first.layers) == {"x": "1" * BIG, "y": "2"}
    second.release()
    for other in (b, c):
        await cache.fetch(other)
    assert listed(tmp_path) == sorted([b, c])


async def test_the_limit_is_kept_when_an_instance_ends(tmp_path: Path) -> None:
    """Not only when the next package comes."""
    store = MemoryStore()
    cache = PackageCache(tmp_path, store, limit_bytes=0)
    with await cache.hold(await put(store), await put_layers(store, {"a": "1"}, {"b": "1"})):
        assert len(listed(tmp_path)) == 2
    assert listed(tmp_path) == []


async def test_one_layer_alone_is_held_too(tmp_path: Path) -> None:
    """Its own package stands in for the merged folder."""
    store = MemoryStore()
    layers = await put_layers(store, {"a": "1"})
    cache = PackageCache(tmp_path, store, limit_bytes=0)
    with await cache.hold(await put(store), layers) as held:
        await cache.fetch(await put(store, "another"))
        assert held.layers is not None
        assert tree(held.layers) == {"a": "1"}


async def test_sizes_and_uses_are_known_after_a_restart(tmp_path: Path) -> None:
    """The next worker gives up what the one before it did not use for longest, by a smaller limit at once."""
    store = MemoryStore()
    a, b, c = await put_big(store, 3)
    cache = PackageCache(tmp_path, store)
    for package in (a, b, c, a):
        await cache.fetch(package)
    cache = PackageCache(tmp_path, store, limit_bytes=LIMIT_OF_TWO)
    assert listed(tmp_path) == sorted([a, c])
    await cache.fetch(b)
    assert listed(tmp_path) == sorted([a, b])


async def test_who_gives_up_waiting_holds_nothing(tmp_path: Path) -> None:
    """An instance that is killed while its package is on its way; the package comes and can go again."""
    store = MemoryStore()
    sha256 = await put(store)
    cache = PackageCache(tmp_path, store, limit_bytes=0)
    holding = asyncio.ensure_future(cache.hold(sha256))
    await asyncio.sleep(0)
    holding.cancel()
    await asyncio.wait([holding])
    with await cache.hold(sha256):
        assert listed(tmp_path) == [sha256]
    assert listed(tmp_path) == []


async def test_what_was_removed_by_hand_is_fetched_again(tmp_path: Path) -> None:
    """Nobody has to restart the worker, and the end of an instance that used it is an end like any other."""
    store = MemoryStore()
    a, b = await put_big(store, 2)
    cache = PackageCache(tmp_path, store, limit_bytes=LIMIT_OF_TWO // 2)
    held = await cache.hold(a)
    os.rename(tmp_path / a, tmp_path.parent / "elsewhere")
    held.release()
    assert (await cache.fetch(a)).is_dir()
    os.rename(tmp_path / a, tmp_path.parent / "elsewhere-too")
    await cache.fetch(b)
    assert listed(tmp_path) == [b]


async def test_many_at_once_over_the_limit(tmp_path: Path) -> None:
    """Instances that come and go, with more packages than there is room for: each has its files."""
    store = MemoryStore()
    names = await put_big(store, 6)
    layers = await put_layers(store, *({"x": str(n), f"{n}": "y" * BIG} for n in range(6)))
    cache = PackageCache(tmp_path, store, limit_bytes=LIMIT_OF_TWO)

    async def live(n: int) -> None:
        mine = [layers[n % 6], layers[(n + 1) % 6]]
        with await cache.hold(names[n % 6], mine) as held:
            assert held.layers is not None
            for _ in range(3):
                await asyncio.sleep(0)
                assert (held.code / "app.py").read_text() == str(n % 6) * BIG
                assert (held.layers / "x").read_text() == str((n + 1) % 6)

    await asyncio.gather(*(live(n) for n in range(60)))
    assert len(listed(tmp_path)) <= 2
    await until(lambda: not unfinished(tmp_path))
