"""Packages and layers on this worker: each is fetched and unpacked once, and never changed afterwards."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from lambent_chassis.zipcheck import BrokenZip, unpack_zip
from lambent_proto.definition import LayerVersion
from lambent_proto.keys import package_name
from lambent_worker.folders import Folders
from lambent_worker.layers import merge

DEFAULT_LIMIT_BYTES: Final = 10_240 * 1024 * 1024


class PackageMissing(Exception):
    """The package cannot be had, or is not what its name says. The message says which."""


class Held:
    """Code and layers of one instance, which stay where they are until `release`, or the end of a `with`."""

    def __init__(
        self, names: Sequence[str], code: Path, layers: Path | None, release: Callable[[], None]
    ) -> None:
        self.names = names
        """In the cache: of the code, then of the layers if there are any."""
        self.code = code
        """The unpacked package: `/var/task`."""
        self.layers = layers
        """All layers merged: `/opt`. None without layers."""
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Nothing uses the files any more. The second time it does nothing."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class PackageCache:
    """Unpacked packages and merged layers under `root`, which belongs to one worker alone.

    A package is named by its SHA-256, merged layers by that of theirs. What is held stays; of the rest, what
    was not used for longest is given up when all of it is above `limit_bytes`. Merged layers count in full
    although they share their files with the layers: whichever goes first, the sum is never too low.
    """

    def __init__(self, root: Path, store: ObjectStore, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._store = store
        self.folders = Folders(root, limit_bytes)

    async def hold(self, code_sha256: str, layers: Sequence[LayerVersion] = ()) -> Held:
        """Code and merged layers until they are released. Raises PackageMissing, and holds nothing then."""
        names = [code_sha256, *([_name_of(layers)] if layers else [])]
        self.folders.hold(names)
        try:
            if not layers:
                code, merged = await self.fetch(code_sha256), None
            else:
                code, merged = await asyncio.gather(self.fetch(code_sha256), self.layers(layers))
        except BaseException:
            self.folders.let_go(names)
            raise
        return Held(names, code, merged, lambda: self.folders.let_go(names))

    async def fetch(self, sha256_hex: str) -> Path:
        """The folder with the package's files, for reading. It may be given up unless it is held.

        Raises PackageMissing.
        """
        return await self.folders.once(sha256_hex, lambda: self._fetch(sha256_hex))

    async def layers(self, layers: Sequence[LayerVersion]) -> Path | None:
        """One folder with the files of all, of two with one name the later one's; None without layers.

        For reading; it may be given up unless it is held. Raises PackageMissing.
        """
        if not layers:
            return None
        if len(layers) == 1:
            return await self.fetch(layers[0].code_sha256)
        return await self.folders.once(_name_of(layers), lambda: self._merge(layers))

    async def _fetch(self, sha256_hex: str) -> None:
        try:
            result = await obstore.get_async(self._store, package_name(sha256_hex))
            data = bytes(await result.bytes_async())
        except FileNotFoundError:
            raise PackageMissing(f"the package store has no {sha256_hex}.zip") from None
        except (BaseError, OSError) as error:
            raise PackageMissing(f"the package store failed on {sha256_hex}.zip: {error}") from error
        try:
            await self.folders.add(sha256_hex, lambda files: _unpack(data, sha256_hex, files))
        except BrokenZip as broken:
            raise PackageMissing(f"{sha256_hex}.zip is no sound package: {broken}") from broken
        except OSError as error:
            raise PackageMissing(f"{sha256_hex}.zip cannot be unpacked here: {error}") from error

    async def _merge(self, layers: Sequence[LayerVersion]) -> None:
        packages = [layer.code_sha256 for layer in layers]
        self.folders.hold(packages)
        try:
            unpacked = await asyncio.gather(*map(self.fetch, packages))
            await self.folders.add(_name_of(layers), lambda files: merge(unpacked, files))
        except OSError as error:
            names = ", ".join(f"{layer.name}:{layer.version}" for layer in layers)
            raise PackageMissing(f"the layers {names} cannot be merged here: {error}") from error
        finally:
            self.folders.let_go(packages)


def _name_of(layers: Sequence[LayerVersion]) -> str:
    """One layer needs no merging: it is its package."""
    packages = [layer.code_sha256 for layer in layers]
    return packages[0] if len(packages) == 1 else hashlib.sha256(" ".join(packages).encode()).hexdigest()


def _unpack(data: bytes, sha256_hex: str, files: Path) -> None:
    if hashlib.sha256(data).hexdigest() != sha256_hex:
        raise PackageMissing(f"{sha256_hex}.zip in the package store has another SHA-256: it was damaged")
    unpack_zip(data, files)
