"""Reads ZIP files from people nobody knows: what is unsound is refused before anything is written.

Refused: names that leave the folder, whatever trick they use; links that do, also by way of other links;
devices; two entries for one place; more bytes or files than allowed; bombs; encrypted entries; and entries
that hold another number of bytes than they say.
"""

import io
import mmap
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

MAX_UNZIPPED_BYTES: Final = 262_144_000
"""250 MB for all files together, Lambda's limit."""

MAX_FILES: Final = 65_536

MAX_RATIO: Final = 1_000
"""Deflate reaches 1,032 on zeros alone; what people deploy stays below 100."""

_RATIO_FROM_BYTES: Final = 1024 * 1024
"""Smaller entries may be as dense as they like: they can do no harm."""

_DEEPEST: Final = 128
"""Folders within folders: Python walks and removes them by recursion."""

_LONGEST_NAME: Final = 255
_LONGEST_PATH: Final = 3_072
"""Bytes. Linux allows 255 a component and 4,096 in all, and the folder's own path comes before it."""

_MOST_LINK_HOPS: Final = 40
"""As many as Linux follows."""

_CENTRAL_ENTRY: Final = b"PK\x01\x02"
_LOCAL_ENTRY: Final = struct.Struct("<4s22xHH")
"""A local header: signature, then at its end the sizes of name and extra field."""

_CHUNK: Final = 256 * 1024

_UNREADABLE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OverflowError,
    UnicodeDecodeError,
    ValueError,
)
"""All that zipfile was seen to raise on damaged input."""

Parts = tuple[str, ...]


class BrokenZip(Exception):
    """The ZIP is refused. The message says which entry, and what to do about it."""


@dataclass(frozen=True, slots=True)
class PackageFacts:
    files: int
    """Links among them, folders not."""
    unzipped_bytes: int


@dataclass(frozen=True, slots=True)
class _Entry:
    info: zipfile.ZipInfo
    parts: Parts
    kind: int
    """stat.S_IFREG, S_IFDIR or S_IFLNK."""


def check_zip(source: bytes | Path) -> PackageFacts:
    """Reads all of the ZIP and writes nothing; raises BrokenZip."""
    with _opened(source) as archive:
        entries, _ = _sound_entries(archive)
        for entry in entries:
            for _chunk in _content(archive, entry):
                pass
        return _facts(entries)


def unpack_zip(source: bytes | Path, folder: Path) -> PackageFacts:
    """Writes the files under `folder`, which must not exist; raises BrokenZip, OSError if the disk fails.

    Files are 0644, or 0755 if anybody may execute them, and folders 0755. Contents are found to be unsound
    only while they are written: then the caller throws the folder away.
    """
    with _opened(source) as archive:
        entries, links = _sound_entries(archive)
        _make_folders(folder, entries)
        for entry in entries:
            if entry.kind == stat.S_IFREG:
                _write(archive, entry, folder.joinpath(*entry.parts))
        # Last, so that nothing is ever written through one.
        for parts, target in links.items():
            folder.joinpath(*parts).symlink_to(target)
        return _facts(entries)


def _make_folders(folder: Path, entries: list[_Entry]) -> None:
    folders: set[Parts] = {()}
    for entry in entries:
        depths = len(entry.parts) + (entry.kind == stat.S_IFDIR)
        folders.update(entry.parts[:depth] for depth in range(depths))
    for parts in sorted(folders, key=len):
        path = folder.joinpath(*parts)
        path.mkdir()
        path.chmod(0o755)  # whatever the umask is: others run the function than those who unpack it


def _facts(entries: list[_Entry]) -> PackageFacts:
    files = [entry for entry in entries if entry.kind != stat.S_IFDIR]
    return PackageFacts(len(files), sum(entry.info.file_size for entry in files))


@contextmanager
def _opened(source: bytes | Path) -> Iterator[zipfile.ZipFile]:
    """The archive; whatever goes wrong in reading it, in here or by the caller, becomes BrokenZip."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            _refuse_too_many(file)
            with zipfile.ZipFile(file) as archive:
                yield archive
    except _UNREADABLE as error:
        raise BrokenZip(f"not a readable ZIP: {error}") from error


def _refuse_too_many(file: IO[bytes]) -> None:
    """Counts before zipfile makes an object of each. Files inside files count too, hence the room above."""
    if isinstance(file, io.BytesIO):
        count = file.getvalue().count(_CENTRAL_ENTRY)
    elif os.fstat(file.fileno()).st_size:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            count, at = 0, data.find(_CENTRAL_ENTRY)
            while at >= 0 and count <= 2 * MAX_FILES:
                count, at = count + 1, data.find(_CENTRAL_ENTRY, at + 1)
    else:
        count = 0
    if count > 2 * MAX_FILES:
        raise BrokenZip(f"more than {MAX_FILES:,} files: leave out what the function does not need")


def _sound_entries(archive: zipfile.ZipFile) -> tuple[list[_Entry], dict[Parts, str]]:
    """Every entry, and where the links lead; raises BrokenZip."""
    infos = archive.infolist()
    if len(infos) > MAX_FILES:
        raise BrokenZip(f"{len(infos):,} files, {MAX_FILES:,} are allowed: leave out what is not needed")
    total = sum(info.file_size for info in infos)
    if total > MAX_UNZIPPED_BYTES:
        raise BrokenZip(f"{total:,} bytes unzipped, {MAX_UNZIPPED_BYTES:,} are allowed")
    _refuse_overlaps(archive, infos)
    entries = [_entry(info) for info in infos]
    _refuse_clashes(entries)
    links = {entry.parts: _target(archive, entry) for entry in entries if entry.kind == stat.S_IFLNK}
    for parts in links:
        _refuse_escape(parts, links)
    return entries, links


def _entry(info: zipfile.ZipInfo) -> _Entry:
    """Refuses what can be refused by one entry's own headers."""
    name = info.orig_filename
    if info.flag_bits & 0x1:
        raise BrokenZip(f"{name!r} is encrypted: make the ZIP without a password")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BrokenZip(f"{name!r} is compressed in a way other than deflate (method {info.compress_type})")
    if info.file_size > max(_RATIO_FROM_BYTES, MAX_RATIO * info.compress_size):
        raise BrokenZip(f"{name!r} unpacks to more than {MAX_RATIO:,} times its size: that is a bomb")
    kind = stat.S_IFMT(info.external_attr >> 16) or (stat.S_IFDIR if name.endswith("/") else stat.S_IFREG)
    if kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        raise BrokenZip(f"{name!r} is a device, pipe or socket: only files, folders and links are allowed")
    if (kind == stat.S_IFDIR) != name.endswith("/"):
        raise BrokenZip(f"{name!r} is a folder by its mode or by its name, but not by both")
    if kind == stat.S_IFDIR and info.file_size:
        raise BrokenZip(f"{name!r} is a folder and has content")
    return _Entry(info, _parts(name), kind)


def _parts(name: str) -> Parts:
    if "\0" in name or "\\" in name:
        raise BrokenZip(f"{name!r} has a backslash or a NUL in its name: make the ZIP with forward slashes")
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        raise BrokenZip(f"{name!r} is an absolute path: make the ZIP from inside the folder")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise BrokenZip(f"{name!r} leads out of the package")
    encoded = [len(part.encode(errors="surrogatepass")) for part in parts]
    if not parts and not name.endswith("/"):
        raise BrokenZip(f"{name!r} is no name")
    if max(encoded, default=0) > _LONGEST_NAME or sum(encoded) + len(encoded) > _LONGEST_PATH:
        raise BrokenZip(f"{name[:80]!r}... is longer than a file system takes")
    if len(parts) > _DEEPEST:
        raise BrokenZip(f"{name[:80]!r}... is more than {_DEEPEST} folders deep")
    return parts


def _refuse_clashes(entries: list[_Entry]) -> None:
    """Two entries for one place, or an entry below one that is not a folder."""
    files: set[Parts] = set()
    for entry in entries:
        if entry.kind == stat.S_IFDIR:
            continue
        if entry.parts in files:
            raise BrokenZip(f"{'/'.join(entry.parts)!r} is in the ZIP twice")
        files.add(entry.parts)
    for entry in entries:
        above = len(entry.parts) + (entry.kind == stat.S_IFDIR)
        for depth in range(1, above):
            if entry.parts[:depth] in files:
                raise BrokenZip(f"{'/'.join(entry.parts[:depth])!r} is both a folder and something else")


def _refuse_overlaps(archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo]) -> None:
    """Entries that share their bytes make a small ZIP unpack to petabytes."""
    ends_before = archive.start_dir
    file = archive.fp
    assert file is not None, "the archive is open"
    for info in sorted(infos, key=lambda info: info.header_offset, reverse=True):
        file.seek(info.header_offset)
        signature, name_size, extra_size = _LOCAL_ENTRY.unpack(file.read(_LOCAL_ENTRY.size))
        if signature != b"PK\x03\x04":
            raise BrokenZip(f"{info.orig_filename!r} has no header where the directory says")
        end = info.header_offset + _LOCAL_ENTRY.size + name_size + extra_size + info.compress_size
        if end > ends_before:
            raise BrokenZip(f"{info.orig_filename!r} overlaps another entry: that is a bomb")
        ends_before = info.header_offset


def _target(archive: zipfile.ZipFile, link: _Entry) -> str:
    name = "/".join(link.parts)
    if link.info.file_size > _LONGEST_PATH:
        raise BrokenZip(f"the link {name!r} has a target that is too long")
    try:
        target = b"".join(_content(archive, link)).decode()
    except UnicodeDecodeError:
        raise BrokenZip(f"the link {name!r} has a target that is not UTF-8") from None
    if not target or target.startswith("/") or "\0" in target or "\\" in target:
        raise BrokenZip(f"the link {name!r} leads to {target!r}: only relative targets are allowed")
    return target


def _refuse_escape(link: Parts, links: Mapping[Parts, str]) -> None:
    """Follows a link as the kernel would, and refuses it if any step leaves the package."""
    name, here = "/".join(link), list(link[:-1])
    ahead, hops = links[link].split("/")[::-1], 0
    while ahead:
        part = ahead.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not here:
                raise BrokenZip(f"the link {name!r} leads out of the package")
            here.pop()
            continue
        here.append(part)
        if (onward := links.get(tuple(here))) is not None:
            here.pop()
            hops += 1
            if hops > _MOST_LINK_HOPS:
                raise BrokenZip(f"the link {name!r} leads in a circle")
            ahead += onward.split("/")[::-1]


def _content(archive: zipfile.ZipFile, entry: _Entry) -> Iterator[bytes]:
    """What the entry holds; BrokenZip unless size and checksum are what it says."""
    left = entry.info.file_size
    with archive.open(entry.info) as content:
        # zipfile stops at the size it was told; an entry with more in it fails its checksum there.
        while chunk := content.read(min(_CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                break
            yield chunk
    if left:
        raise BrokenZip(f"{entry.info.orig_filename!r} does not hold the number of bytes that it says")


def _write(archive: zipfile.ZipFile, entry: _Entry, path: Path) -> None:
    executable = entry.info.external_attr >> 16 & 0o111
    with path.open("xb") as file:
        os.fchmod(file.fileno(), 0o755 if executable else 0o644)
        file.writelines(_content(archive, entry))
