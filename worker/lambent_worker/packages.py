"""Packages on this worker: each is fetched and unpacked once, and never changed afterwards."""

import asyncio
import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from lambent_chassis.zipcheck import BrokenZip, unpack_zip
from lambent_proto.keys import package_name

_UNFINISHED: Final = ".unfinished-"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class PackageMissing(Exception):
    """The package cannot be had, or is not what its name says. The message says which."""


class PackageCache:
    """Unpacked packages under `root`, which belongs to one worker alone, each named by its SHA-256.

    A folder appears whole or not at all: it is unpacked beside its place and renamed. What a crash left
    half-done is removed by the next worker, and after the machine was booted again everything is: a rename
    may have reached the disk before the files did.
    """

    def __init__(self, root: Path, store: ObjectStore) -> None:
        self._root = root
        self._store = store
        self._fetching: dict[str, asyncio.Task[Path]] = {}
        self._root.mkdir(parents=True, exist_ok=True)
        self._clean()

    def _clean(self) -> None:
        boot = _BOOT_ID.read_text()
        marker = self._root / ".boot"
        same_boot = marker.exists() and marker.read_text() == boot
        for entry in self._root.iterdir():
            if entry.is_dir() and not (same_boot and not entry.name.startswith(_UNFINISHED)):
                shutil.rmtree(entry)
        marker.write_text(boot)

    async def fetch(self, sha256_hex: str) -> Path:
        """The folder with the package's files, for reading; raises PackageMissing."""
        folder = self._root / sha256_hex
        if folder.is_dir():
            return folder
        fetching = self._fetching.get(sha256_hex)
        if fetching is None:
            fetching = asyncio.create_task(self._fetch(sha256_hex, folder))
            self._fetching[sha256_hex] = fetching
            fetching.add_done_callback(lambda done: self._fetched(sha256_hex, done))
        return await asyncio.shield(fetching)

    def _fetched(self, sha256_hex: str, fetching: asyncio.Task[Path]) -> None:
        del self._fetching[sha256_hex]
        if not fetching.cancelled():
            fetching.exception()  # those who still wait for it raise it; if nobody does, it is of no interest

    async def _fetch(self, sha256_hex: str, folder: Path) -> Path:
        try:
            result = await obstore.get_async(self._store, package_name(sha256_hex))
            data = bytes(await result.bytes_async())
        except FileNotFoundError:
            raise PackageMissing(f"the package store has no {sha256_hex}.zip") from None
        except (BaseError, OSError) as error:
            raise PackageMissing(f"the package store failed on {sha256_hex}.zip: {error}") from error
        await asyncio.to_thread(self._unpack, data, sha256_hex, folder)
        return folder

    def _unpack(self, data: bytes, sha256_hex: str, folder: Path) -> None:
        if hashlib.sha256(data).hexdigest() != sha256_hex:
            raise PackageMissing(f"{sha256_hex}.zip in the package store has another SHA-256: it was damaged")
        unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self._root))
        try:
            unpack_zip(data, unfinished / "files")
            os.rename(unfinished / "files", folder)
        except BrokenZip as broken:
            raise PackageMissing(f"{sha256_hex}.zip is no sound package: {broken}") from broken
        except OSError as error:
            raise PackageMissing(f"{sha256_hex}.zip cannot be unpacked here: {error}") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
