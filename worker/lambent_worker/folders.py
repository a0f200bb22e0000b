"""Folders that are made once and given up again when all of them together take too much room.

What is held stays. Of the rest, what was not used for longest goes first. The limit is not kept at any price:
what is held stays above it, and what is being made comes on top until it is done.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import structlog

UNFINISHED: Final = ".unfinished-"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_FILES: Final = "files"
_BYTES: Final = "bytes"

_BLOCK: Final = 4096
"""What a file system takes room by."""

_log = structlog.get_logger()


class Folders:
    """Under `root`, which belongs to one process alone. Made and used inside a running loop, by it alone.

    A folder `NAME` holds `files`, and `bytes`, their size; it was last used when it says that it was changed.
    So all is known again after a restart.

    A folder appears whole or not at all: it is made beside its place and renamed, and goes the same way.
    What a crash left half-done is removed by the next process, and after the machine was booted again
    everything is: a rename may have reached the disk before the files did.
    """

    def __init__(self, root: Path, limit_bytes: int) -> None:
        self._root = root
        self._limit_bytes = limit_bytes
        self._sizes: dict[str, int] = {}
        """Bytes by name, what was not used for longest first."""
        self.total = 0
        self._holders: Counter[str] = Counter()
        self._making: dict[str, asyncio.Task[None]] = {}
        self._removing: set[asyncio.Future[None]] = set()
        self._root.mkdir(parents=True, exist_ok=True)
        self._take_stock()
        self._make_room()

    def hold(self, names: Iterable[str]) -> None:
        """They are not given up until they are let go as often; they need not be there yet."""
        self._holders.update(names)

    def let_go(self, names: Iterable[str]) -> None:
        for name in names:
            self._holders[name] -= 1
            if not self._holders[name]:
                del self._holders[name]
            if name in self._sizes:
                self._used(name)
        self._make_room()

    def place(self, name: str) -> Path:
        """Where it is, if it is there, with `files` in it."""
        return self._root / name

    @contextlib.contextmanager
    def held_now(self, name: str) -> Iterator[Path | None]:
        """Its place, with `files` in it, which stays for so long; None if it is not there."""
        if name not in self._sizes:
            yield None
            return
        self.hold([name])
        try:
            yield self.place(name)
        finally:
            self.let_go([name])

    def grew(self, name: str, more: int) -> None:
        """So many bytes were added to its files by whoever holds it."""
        if name not in self._sizes:
            return  # somebody has cleaned up by hand
        self._sizes[name] += more
        self.total += more
        (self._root / name / _BYTES).write_text(str(self._sizes[name]))
        self._make_room()

    async def once(self, name: str, make: Callable[[], Coroutine[Any, Any, None]]) -> Path:
        """The folder's files, for reading. Unless they are there `make` is awaited, once for all who wait.

        `make` calls `add`. What it raises is raised here. Who stops waiting does not stop it.
        """
        files = self._root / name / _FILES
        if name in self._sizes:
            if files.is_dir():
                self._used(name)
                return files
            self._forget(name)  # somebody has cleaned up by hand
        making = self._making.get(name)
        if making is None:
            making = asyncio.create_task(make())
            self._making[name] = making
            making.add_done_callback(lambda done: self._made(name, done))
        await asyncio.shield(making)
        return files

    def _made(self, name: str, making: asyncio.Task[None]) -> None:
        del self._making[name]
        if not making.cancelled():
            making.exception()  # those who still wait for it raise it; if nobody does, it is of no interest

    async def add(self, name: str, fill: Callable[[Path], None]) -> None:
        """`fill` makes the path that it is given, in a thread. Raises what it raises, and OSError."""
        size = await asyncio.to_thread(self._fill, name, fill)
        self._sizes[name] = size
        self.total += size
        self._make_room()

    def _fill(self, name: str, fill: Callable[[Path], None]) -> int:
        unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self._root))
        try:
            unfinished.chmod(0o755)  # others read it than those who made it
            fill(unfinished / _FILES)
            size = _size_of(unfinished)
            (unfinished / _BYTES).write_text(str(size))
            shutil.rmtree(self._root / name, ignore_errors=True)
            os.rename(unfinished, self._root / name)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return size

    def _take_stock(self) -> None:
        boot = _BOOT_ID.read_text()
        marker = self._root / ".boot"
        same_boot = marker.exists() and marker.read_text() == boot
        found = []
        for folder in self._root.iterdir():
            if not folder.is_dir():
                continue
            try:
                found.append((folder.stat().st_mtime_ns, folder.name, int((folder / _BYTES).read_text())))
            except (OSError, ValueError):
                self._remove(folder)
        if not same_boot:
            for _, name, _ in found:
                self._remove(self._set_aside(name))
            found.clear()
        self._sizes = {name: size for _, name, size in sorted(found)}
        self.total = sum(self._sizes.values())
        marker.write_text(boot)

    def _used(self, name: str) -> None:
        self._sizes[name] = self._sizes.pop(name)
        with contextlib.suppress(OSError):  # it matters after a restart alone
            os.utime(self._root / name)

    def _make_room(self) -> None:
        for name in list(self._sizes):
            if self.total <= self._limit_bytes:
                break
            if name not in self._holders:
                self._give_up(name)

    def _give_up(self, name: str) -> None:
        size = self._forget(name)
        try:
            aside = self._set_aside(name)
        except OSError as error:
            _log.warning("folder_not_given_up", name=name, why=str(error))
            return
        self._remove(aside)
        _log.info("folder_given_up", name=name, bytes=size)

    def _forget(self, name: str) -> int:
        size = self._sizes.pop(name)
        self.total -= size
        return size

    def _set_aside(self, name: str) -> Path:
        aside = self._root / f"{UNFINISHED}{secrets.token_hex(8)}"
        os.rename(self._root / name, aside)
        return aside

    def _remove(self, folder: Path) -> None:
        """In a thread; what cannot be removed is tried again at the next start."""
        removing = asyncio.get_running_loop().run_in_executor(None, _remove_all, folder)
        self._removing.add(removing)
        removing.add_done_callback(self._removing.discard)


def _remove_all(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _size_of(folder: Path) -> int:
    """Bytes on the disk, every file and folder in whole blocks."""
    total = 0
    for place, _, names in os.walk(folder):
        total += _BLOCK
        for name in names:
            total += -(-os.lstat(os.path.join(place, name)).st_size // _BLOCK) * _BLOCK
    return total
