"""Where the ZIPs of functions and layers are kept: by content, in a folder or an S3-compatible store."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from obstore.exceptions import BaseError

from lambent_chassis.zipcheck import BrokenZip, check_zip
from lambent_frontend.rules import MAX_ZIP_BYTES, check_zip_size
from lambent_proto.errors import BrokenPackage, Internal, InvalidRequest, NotReady
from lambent_proto.keys import package_name

if TYPE_CHECKING:
    from obstore.store import ObjectStore


PART_BYTES: Final = 1_000_000
"""How much of a ZIP that is read is in memory at one time."""

_UPLOADED: Final = re.compile(r"uploads/[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
"""Apart from what the frontends keep, so that no name is that of another function's package."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A sound package. The names are those of Definition and LayerVersion."""

    code_sha256: str
    code_size: int
    unzipped_size: int


class Packages:
    def __init__(self, store: "ObjectStore") -> None:
        self._store = store

    async def check(self, package: bytes) -> Checked:
        """Reads all of a ZIP and writes nothing. Raises InvalidRequest or BrokenPackage."""
        check_zip_size(package)
        try:
            facts = await asyncio.to_thread(check_zip, package)
        except BrokenZip as broken:
            raise BrokenPackage(f"the ZIP cannot be taken: {broken}") from None
        digest = await asyncio.to_thread(hashlib.sha256, package)
        return Checked(digest.hexdigest(), len(package), facts.unzipped_bytes)

    async def put(self, package: bytes, sha256: str) -> None:
        """Keeps a checked ZIP. Putting it again does nothing.

        Raises NotReady when the store does not take it.
        """
        name = package_name(sha256)
        try:
            if not await self._holds(name, len(package)):
                await self._store.put_async(name, package)
        except (BaseError, OSError) as error:
            raise NotReady(
                f"the package store does not take the package, nothing was changed: {error}"
            ) from error

    async def read(self, sha256: str) -> tuple[int, AsyncIterator[bytes]] | None:
        """Size and parts of a ZIP; None if it is not there. Raises NotReady when the store does not answer.

        The iterator raises it as well.
        """
        name = package_name(sha256)
        try:
            size = int((await self._store.head_async(name))["size"])
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise _silent(error) from error
        return size, self._parts(name, size)

    async def whole(self, sha256: str) -> AsyncIterator[bytes]:
        """Its parts. Raises Internal if it is not there, and NotReady as `read`."""
        found = await self.read(sha256)
        if found is None:
            raise Internal(f"the package store has no package {sha256}, which is in use")
        return found[1]

    async def uploaded(self, name: str) -> bytes:
        """A ZIP that somebody has put into the store. Raises InvalidRequest, and NotReady as `read`."""
        if not _UPLOADED.fullmatch(name) or ".." in name:
            raise InvalidRequest(
                f"{name[:200]!r} is no name of a ZIP in the package store: it is uploads/NAME, of letters, "
                "digits and - _ . /"
            )
        try:
            size = int((await self._store.head_async(name))["size"])
            if size > MAX_ZIP_BYTES:
                raise InvalidRequest(
                    f"the ZIP {name!r} has {size:,} bytes; at most {MAX_ZIP_BYTES:,} are taken"
                )
            return bytes(await (await self._store.get_async(name)).bytes_async())
        except FileNotFoundError:
            raise InvalidRequest(f"there is no {name!r} in the package store: put it there first") from None
        except (BaseError, OSError) as error:
            raise _silent(error) from error

    async def _parts(self, name: str, size: int) -> AsyncIterator[bytes]:
        for start in range(0, size, PART_BYTES):
            end = min(start + PART_BYTES, size)
            try:
                part = bytes(await self._store.get_range_async(name, start=start, end=end))
            except (BaseError, OSError) as error:
                raise _silent(error) from error
            if len(part) < end - start:
                raise _silent(f"{name} has become shorter")
            yield part

    async def _holds(self, name: str, size: int) -> bool:
        try:
            meta = await self._store.head_async(name)
        except FileNotFoundError:
            return False
        return meta["size"] == size


def _silent(error: object) -> NotReady:
    return NotReady(f"the package store does not give the package: {error}")
