"""Where functions' ZIPs are kept: by content, in a local folder or in any S3-compatible store."""

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError
from obstore.store import LocalStore, from_url

from lambent_proto.errors import NotReady

if TYPE_CHECKING:
    from obstore.store import ObjectStore


def object_name(sha256: str) -> str:
    """Name of a package in the store, by the hex SHA-256 of its ZIP."""
    return f"{sha256}.zip"


def open_store(location: str) -> "ObjectStore":
    """A folder's path, made if it is not there, or a URL such as `s3://bucket/prefix`.

    An S3 endpoint, region and credentials come from the usual AWS_ variables. Raises obstore's BaseError for
    a location that cannot be used.
    """
    if "://" in location:
        return from_url(location)
    return LocalStore(Path(location).absolute(), mkdir=True)


class Packages:
    def __init__(self, store: "ObjectStore") -> None:
        self._store = store

    async def put(self, package: bytes) -> str:
        """Keeps a checked ZIP and returns its hex SHA-256. Putting it again does nothing.

        Raises NotReady when the store does not take it.
        """
        digest = await asyncio.to_thread(hashlib.sha256, package)
        sha256 = digest.hexdigest()
        name = object_name(sha256)
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
