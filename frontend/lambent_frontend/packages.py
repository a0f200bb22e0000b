"""Where functions' ZIPs are kept: by content, in a local folder or in any S3-compatible store."""

import asyncio
import hashlib
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError

from lambent_proto.errors import NotReady
from lambent_proto.keys import package_name

if TYPE_CHECKING:
    from obstore.store import ObjectStore


class Packages:
    def __init__(self, store: "ObjectStore") -> None:
        self._store = store

    async def put(self, package: bytes) -> str:
        """Keeps a checked ZIP and returns its hex SHA-256. Putting it again does nothing.

        Raises NotReady when the store does not take it.
        """
        digest = await asyncio.to_thread(hashlib.sha256, package)
        sha256 = digest.hexdigest()
        name = package_name(sha256)
        try:
            if not await self._holds(name, len(package)):
                await self._store.put_async(name, package)
        except (BaseError, OSError) as error:
            raise NotReady(
                f"the package store does not take the package, nothing was changed: {error}"
            ) from error
        return sha256

    async def _holds(self, name: str, size: int) -> bool:
        try:
            meta = await self._store.head_async(name)
        except FileNotFoundError:
            return False
        return meta["size"] == size
