"""A folder on the frontend's machine. A file is called with once it has not changed for two seconds."""

import asyncio
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from lambent_frontend.triggers.core.objects import Object
from lambent_frontend.triggers.sources.base import SourceFailed
from lambent_frontend.triggers.sources.objects import MOST_OBJECTS, ObjectSource

SETTLE_S: Final = 2.0


class Folder(ObjectSource):
    """With all folders below it. What has a name that begins with a dot is not seen, nor are links and what
    is no file: so a file may be written under such a name and then renamed."""

    settle_s = SETTLE_S

    async def all(self) -> list[Object]:
        root = Path(unquote(urlsplit(self.url).path))
        try:
            return await asyncio.to_thread(lambda: _listed(root, self.named.stream))
        except OSError as error:
            raise SourceFailed(f"the folder cannot be read: {error.strerror}: {error.filename}") from error


def _listed(root: Path, prefix: str) -> list[Object]:
    """Raises OSError for what cannot be read: else what is in it would seem to be gone."""
    found: list[Object] = []
    os.stat(root)
    for folder, folders, files in os.walk(root, onerror=_failed):
        folders[:] = [it for it in folders if not it.startswith(".")]
        found += [it for it in _objects(root, folder, files) if it.key.startswith(prefix)]
        if len(found) > MOST_OBJECTS:
            break
    return found


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
