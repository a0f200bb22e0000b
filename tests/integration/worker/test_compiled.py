"""Packages are compiled once for each Python: the instances that come later import bytecode."""

import asyncio
import hashlib
import io
import os
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import obstore
import pytest
from obstore.store import MemoryStore

from lambent_proto.definition import LayerVersion
from lambent_worker.compiled import Compiler, Job
from lambent_worker.packages import Held, PackageCache
from lambent_worker.runtimes.api import Bytecode

pytestmark = pytest.mark.integration

TAG = sys.implementation.cache_tag
OWN = Bytecode(sys.executable, TAG)
CACHED = f"__pycache__/app.{TAG}.pyc"


class Cache:
    """A package cache with a compiler, and what instances would do with its files."""

    def __init__(self, root: Path) -> None:
        self.store = MemoryStore()
        self.packages = PackageCache(root, self.store)
        self.compiler = Compiler(self.packages.folders)

    async def put(self, files: dict[str, str | bytes]) -> str:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        data = buffer.getvalue()
        sha256 = hashlib.sha256(data).hexdigest()
        await obstore.put_async(self.store, f"{sha256}.zip", data)
        return sha256

    async def compiled(self, files: dict[str, str | bytes]) -> Path:
        held = await self.packages.hold(await self.put(files))
        await self.compile(held)
        held.release()
        return held.code

    async def compile(self, held: Held) -> None:
        for name, shown in zip(held.names, ("/var/task", "/opt"), strict=False):
            self.compiler.want(Job(name, shown, OWN))
        await self.compiler.finished()


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[Cache]:
    cache = Cache(tmp_path / "code")
    async with cache.compiler:
        yield cache


async def run(folder: Path, code: str) -> str:
    """Of an interpreter that imports from a folder as an instance does."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-B", "-c", f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(20):
        said, _ = await process.communicate()
    return said.decode().strip()


async def test_the_next_import_reads_bytecode(cache: Cache) -> None:
    """Not the source: it may be gone, and errors name the file as the instance sees it."""
    folder = await cache.compiled(
        {"app.py": "def f():\n    raise ValueError\n", "lib/deep/mod.py": "X = 1\n"}
    )
    assert (folder / CACHED).is_file()
    assert (folder / f"lib/deep/__pycache__/mod.{TAG}.pyc").is_file()
    (folder / "app.py").write_text("this is no Python")
    assert await run(folder, "import app; print(app.f.__code__.co_firstlineno)") == "1"


async def test_what_is_made_belongs_to_the_worker(cache: Cache) -> None:
    """No instance could have written it, and each may read it."""
    folder = await cache.compiled({"app.py": "X = 1\n"})
    facts = (folder / CACHED).stat()
    assert (facts.st_uid, facts.st_mode & 0o777) == (os.geteuid(), 0o644)
    assert (folder / "__pycache__").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(b"def f(:\n", id="no Python"),
        pytest.param(b"x = '\xff'\n", id="not UTF-8"),
        pytest.param(b"\x00", id="a zero byte"),
        pytest.param(b"# coding: nonsense\n", id="an unknown encoding"),
        pytest.param(("x = " + "-" * 200_000 + "1").encode(), id="too deep"),
        pytest.param(("a = 1" + "0" * 10_000).encode(), id="a number too long"),
    ],
)
async def test_a_source_that_cannot_be_compiled_does_no_harm(cache: Cache, broken: bytes) -> None:
    """It is left as it is, and what comes before it is compiled."""
    folder = await cache.compiled({"app.py": "X = 1\n", "broken.py": broken})
    assert (folder / CACHED).is_file()
    assert not list((folder / "__pycache__").glob("broken.*"))


async def test_bytecode_that_came_with_the_package_stays(cache: Cache) -> None:
    folder = await cache.compiled({"app.py": "X = 1\n", CACHED: b"the user's own"})
    assert (folder / CACHED).read_bytes() == b"the user's own"


async def test_no_link_leads_out(cache: Cache, tmp_path: Path) -> None:
    """Neither is a linked source read, nor is anything written through a folder that is a link."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    held = await cache.packages.hold(await cache.put({"app.py": "X = 1\n", "lib/mod.py": "Y = 2\n"}))
    (held.code / "lib" / "__pycache__").symlink_to(elsewhere)
    (held.code / "linked.py").symlink_to(held.code / "app.py")
    await cache.compile(held)
    assert (held.code / CACHED).is_file()
    assert list(elsewhere.iterdir()) == []
    assert not list((held.code / "__pycache__").glob("linked.*"))
    held.release()


async def test_merged_layers_are_compiled_as_well(cache: Cache) -> None:
    """And the layers that they are made of stay as they were published."""
    first, second = [await cache.put({"python/app.py": f"X = {n}\n"}) for n in (1, 2)]
    layers = [LayerVersion(name=sha, version=1, code_sha256=sha, code_size=1) for sha in (first, second)]
    held = await cache.packages.hold(await cache.put({"main.py": ""}), layers)
    await cache.compile(held)
    assert held.layers
    assert await run(held.layers / "python", "import app; print(app.X, bool(app.__cached__))") == "2 True"
    assert (held.layers / "python" / CACHED).is_file()
    assert not ((await cache.packages.fetch(first)) / "python" / "__pycache__").exists()
    held.release()


async def test_it_counts_and_is_done_once(cache: Cache, tmp_path: Path) -> None:
    """The cache knows what it takes, after a restart too; nobody compiles the package a second time."""
    folder = await cache.compiled({"app.py": "X = 1\n"})
    size = int((folder.parent / "bytes").read_text())
    assert size == cache.packages.folders.total > 4096 * 3
    (folder / CACHED).unlink()
    held = await PackageCache(tmp_path / "code", cache.store).hold(folder.parent.name)
    await cache.compile(held)
    assert not (folder / CACHED).exists()
    held.release()


async def test_what_was_given_up_is_compiled_when_it_is_there_again(tmp_path: Path) -> None:
    """The cache has room for nothing: as soon as nobody holds the package it goes, bytecode and all."""
    cache = Cache(tmp_path / "code")
    cache.packages = PackageCache(tmp_path / "code", cache.store, limit_bytes=0)
    cache.compiler = Compiler(cache.packages.folders)
    async with cache.compiler:
        for _ in range(2):
            held = await cache.packages.hold(await cache.put({"app.py": "X = 1\n"}))
            await cache.compile(held)
            assert (held.code / CACHED).is_file()
            held.release()
            assert not held.code.exists()
