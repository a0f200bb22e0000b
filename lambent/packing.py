"""A folder as a ZIP. The same files make the same bytes, whenever and wherever they are packed."""

import io
import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

LEFT_OUT: Final = frozenset({"__pycache__", ".git"})

_DATE: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest that a ZIP can say."""

_UNIX: Final = 3
"""Whose modes the entries carry, by the ZIP format's own numbers."""


class CannotPack(Exception):
    """The folder holds something that no package can; the message says what."""


def pack(folder: Path) -> bytes:
    """Raises CannotPack, or OSError if something cannot be read."""
    paths = list(_content(folder))
    if not paths:
        raise CannotPack(f"{folder} has no files in it.")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            _add(archive, folder, path)
    return buffer.getvalue()


def _content(folder: Path) -> Iterator[Path]:
    """Files and links, those that lead to folders too, in an order that depends on the names alone."""
    for entry in sorted(folder.iterdir(), key=lambda path: path.name):
        if entry.name in LEFT_OUT:
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _content(entry)
        else:
            yield entry


def _add(archive: zipfile.ZipFile, folder: Path, path: Path) -> None:
    mode = path.lstat().st_mode
    info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _DATE)
    info.create_system = _UNIX
    if stat.S_ISLNK(mode):
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, _target(folder, path))
    elif stat.S_ISREG(mode):
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = (stat.S_IFREG | (0o755 if mode & 0o111 else 0o644)) << 16
        archive.writestr(info, path.read_bytes())
    else:
        raise CannotPack(f"{path} is a device, pipe or socket: leave it out.")


def _target(folder: Path, link: Path) -> str:
    target = os.readlink(link)
    inside = (link.parent / target).resolve().is_relative_to(folder.resolve())
    if os.path.isabs(target) or not inside:
        raise CannotPack(f"{link} is a link to {target}, outside of the folder: copy it in, or leave it out.")
    return target
