"""A folder on the frontend's machine. A file is called with once it has not changed for two seconds."""

import asyncio
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from lambent_frontend.triggers.core.objects import Listing, Object
from lambent_frontend.triggers.sources.base import SourceFailed
from lambent_frontend.triggers.sources.objects import ANY, MOST_OBJECTS, ObjectSource

SETTLE_S: Final = 2.0


class Folder(ObjectSource):
    """With all folders below it. What has a name that begins with a dot is not seen, nor are links and what
    is no file: so a file may be written under such a name and then renamed."""

    settle_s = SETTLE_S

    async def all(self, listing: Listing) -> None:
        root = Path(unquote(urlsplit(self.url).path))
        try:
            found = await asyncio.to_thread(lambda: _listed(root, self.named.stream, listing))
        except OSError as error:
            raise SourceFailed(f"the folder cannot be read: {error.strerror}: {error.filename}") from error
        if self.identity == ANY and len(found) == 1:
            [self.identity] = found
        if found != {self.identity}:
            raise SourceFailed(
                f"{root} is not the folder that it was: is its disk not mounted? Nothing is read there, and "
                "what was processed is remembered until the folder is back. If it was made anew for good, "
                "delete the trigger and make it again"
            )


def _identity(root: Path) -> str:
    """Its inode: that of a disk's root is another one than that of the empty folder which it is mounted on.
    The device's number is not in it, as it changes when a machine starts and from one machine to another."""
    return f"inode {os.stat(root).st_ino}"


def _listed(root: Path, prefix: str, listing: Listing) -> set[str]:
    """Which folder it was, before and afterwards. Raises OSError for what cannot be read: else what is in it
    would seem to be gone."""
    before = _identity(root)
    for folder, folders, files in os.walk(root, onerror=_failed):
        folders[:] = [it for it in folders if not it.startswith(".")]
        for each in _objects(root, folder, files):
            if each.key.startswith(prefix):
                listing.add(each)
        if len(listing.marks) > MOST_OBJECTS:
            break
    return {before, _identity(root)}


def _failed(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _objects(root: Path, folder: str, files: list[str]) -> Iterator[Object]:
    for name in files:
        path = os.path.join(folder, name)
        if name.startswith("."):
            continue
        try:
            known = os.lstat(path)
        except FileNotFoundError:  # it went meanwhile
            continue
        if stat.S_ISREG(known.st_mode):
            state = f"{known.st_mtime_ns} {known.st_size} {known.st_ino}"
            etag = hashlib.md5(state.encode(), usedforsecurity=False).hexdigest()
            yield Object(os.path.relpath(path, root), state, known.st_size, known.st_mtime, etag)
