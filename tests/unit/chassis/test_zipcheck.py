"""ZIPs from people nobody knows: each kind of unsound one is refused, and nothing is written for it."""

import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambent_chassis import zipcheck
from lambent_chassis.zipcheck import BrokenZip, PackageFacts, check_zip, unpack_zip


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content, compress_type=method)
    return data.getvalue()


def entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def link(name: str, target: str) -> tuple[zipfile.ZipInfo, bytes]:
    return entry(name, stat.S_IFLNK | 0o777), target.encode()


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    """With a name that zipfile itself would not write."""
    assert len(old) == len(new)
    return data.replace(old, new)


def with_lies(
    data: bytes, *, size: int | None = None, flags: int | None = None, method: int | None = None
) -> bytes:
    """The single entry's headers, local and central, changed to say something else."""
    changed = bytearray(data)
    central = data.index(b"PK\x01\x02")
    for at, offsets in ((0, (6, 8, 22)), (central, (8, 10, 24))):
        if flags is not None:
            struct.pack_into("<H", changed, at + offsets[0], flags)
        if method is not None:
            struct.pack_into("<H", changed, at + offsets[1], method)
        if size is not None:
            struct.pack_into("<I", changed, at + offsets[2], size)
    return bytes(changed)


def overlapping() -> bytes:
    """A ZIP of two entries, the second of which lies inside the content of the first."""

    def local(name: bytes, content: bytes) -> bytes:
        sizes = (zlib.crc32(content), len(content), len(content), len(name), 0)
        return struct.pack("<4s5H3I2H", b"PK\x03\x04", 20, 0, 0, 0, 0, *sizes) + name + content

    def listed(name: bytes, content: bytes, offset: int) -> bytes:
        sizes = (zlib.crc32(content), len(content), len(content), len(name), 0, 0, 0, 0, 0, offset)
        return struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, *sizes) + name

    inner = local(b"bb", b"y")
    body = local(b"aa", inner)
    directory = listed(b"aa", inner, 0) + listed(b"bb", b"y", len(body) - len(inner))
    return body + directory + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 2, 2, len(directory), len(body), 0)


BAD = [
    pytest.param(lambda: b"", "not a readable ZIP", id="empty"),
    pytest.param(lambda: b"#!/bin/sh\n", "not a readable ZIP", id="no ZIP"),
    pytest.param(lambda: zipped(("a", b"x" * 999))[:-30], "not a readable ZIP", id="cut off"),
    pytest.param(lambda: zipped(("../a", b"")), "leads out of the package", id="parent"),
    pytest.param(lambda: zipped(("a/../../b", b"")), "leads out of the package", id="parent inside"),
    pytest.param(lambda: zipped(("a/..", b"")), "leads out of the package", id="parent at the end"),
    pytest.param(lambda: zipped(("/etc/passwd", b"")), "absolute path", id="absolute"),
    pytest.param(lambda: zipped(("c:evil", b"")), "absolute path", id="drive letter"),
    pytest.param(lambda: zipped(("..\\a", b"")), "backslash", id="backslash"),
    pytest.param(lambda: patched(zipped(("a_b", b"")), b"a_b", b"a\0b"), "NUL", id="NUL"),
    pytest.param(lambda: zipped((".", b"")), "is no name", id="no name"),
    pytest.param(lambda: zipped(("n" * 256, b"")), "longer than a file system takes", id="long name"),
    pytest.param(lambda: zipped(("n/" * 2000 + "n", b"")), "longer than a file system takes", id="long path"),
    pytest.param(lambda: zipped(("n/" * 128 + "n", b"")), "more than 128 folders deep", id="deep"),
    pytest.param(lambda: zipped(link("l", "/etc")), "only relative targets", id="absolute link"),
    pytest.param(lambda: zipped(link("l", "../x")), "leads out of the package", id="link out"),
    pytest.param(
        lambda: zipped(link("a/l", "../../x")), "leads out of the package", id="link out of a folder"
    ),
    pytest.param(
        lambda: zipped(link("deep/x/root", "../.."), link("out", "deep/x/root/../../etc")),
        "leads out of the package",
        id="link out by way of a link",
    ),
    pytest.param(lambda: zipped(link("a", "b"), link("b", "a")), "leads in a circle", id="circle"),
    pytest.param(lambda: zipped(link("l", "")), "only relative targets", id="empty link"),
    pytest.param(lambda: zipped(link("l", "x" * 5000)), "target that is too long", id="long link"),
    pytest.param(
        lambda: zipped(link("l", "d"), ("l/a", b"")), "both a folder and something else", id="below a link"
    ),
    pytest.param(lambda: zipped((entry("d", stat.S_IFCHR | 0o666), b"")), "is a device", id="device"),
    pytest.param(lambda: zipped((entry("p", stat.S_IFIFO | 0o666), b"")), "is a device", id="pipe"),
    pytest.param(
        lambda: zipped((entry("d", stat.S_IFDIR | 0o755), b"")), "not by both", id="folder by mode alone"
    ),
    pytest.param(lambda: zipped(("a/", b"x")), "is a folder and has content", id="folder with content"),
    pytest.param(lambda: zipped(("aa", b"1"), ("ab", b"2")).replace(b"ab", b"aa"), "twice", id="twice"),
    pytest.param(lambda: zipped(("a/b", b""), ("a/./b", b"")), "twice", id="twice in other words"),
    pytest.param(
        lambda: zipped(("a", b""), ("a/b", b"")), "both a folder and something else", id="file and folder"
    ),
    pytest.param(
        lambda: zipped(("a", b""), ("a/", b"")), "both a folder and something else", id="file, then folder"
    ),
    pytest.param(lambda: zipped(("a", b"\0" * 20_000_000)), "that is a bomb", id="dense bomb"),
    pytest.param(overlapping, "overlaps another entry", id="overlapping bomb"),
    pytest.param(lambda: with_lies(zipped(("a", b"x")), flags=1), "is encrypted", id="encrypted"),
    pytest.param(lambda: zipped(("a", b"x"), method=zipfile.ZIP_LZMA), "other than deflate", id="lzma"),
    pytest.param(
        lambda: with_lies(zipped(("a", b"x")), method=97), "other than deflate", id="unknown method"
    ),
    pytest.param(
        lambda: with_lies(zipped(("a", b"x" * 100)), size=50),
        "not a readable ZIP: Bad CRC-32",
        id="says less",
    ),
    pytest.param(
        lambda: with_lies(zipped(("a", b"x" * 100)), size=5000),
        "number of bytes that it says",
        id="says more",
    ),
    pytest.param(
        lambda: patched(zipped(("a", b"hello"), method=zipfile.ZIP_STORED), b"hello", b"jelly"),
        "not a readable ZIP: Bad CRC-32",
        id="damaged",
    ),
]


@pytest.mark.parametrize(("make", "why"), BAD)
def test_refused(make: Callable[[], bytes], why: str, tmp_path: Path) -> None:
    """Refused by the check and by the unpacking, from memory and from a file, with the same reason."""
    data = make()
    file = tmp_path / "package.zip"
    file.write_bytes(data)
    for source in (data, file):
        with pytest.raises(BrokenZip, match=why):
            check_zip(source)
        folder = tmp_path / f"unpacked-{type(source).__name__}"
        with pytest.raises(BrokenZip, match=why):
            unpack_zip(source, folder)
        assert not any(path.is_file() and path.stat().st_size > 5000 for path in folder.rglob("*"))
    assert sorted(path.name for path in tmp_path.iterdir() if "unpacked" not in path.name) == ["package.zip"]


def test_a_bad_structure_creates_not_even_the_folder(tmp_path: Path) -> None:
    with pytest.raises(BrokenZip):
        unpack_zip(zipped(("good", b"x"), ("../a", b"")), tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("limit", "value", "why"),
    [
        ("MAX_UNZIPPED_BYTES", 2_999, "3,000 bytes unzipped, 2,999 are allowed"),
        ("MAX_FILES", 2, "3 files, 2 are allowed"),
    ],
)
def test_limits_are_for_all_files_together(
    limit: str, value: int, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = zipped(*((name, b"x" * 1000) for name in "abc"))
    assert check_zip(data) == PackageFacts(files=3, unzipped_bytes=3000)
    monkeypatch.setattr(zipcheck, limit, value)
    with pytest.raises(BrokenZip, match=why):
        check_zip(data)


def test_lambdas_limit_is_the_limit() -> None:
    assert zipcheck.MAX_UNZIPPED_BYTES == 262_144_000


def test_an_endless_directory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """Counting costs nothing, while zipfile makes an object of each."""
    data = b"PK\x01\x02" * (2 * zipcheck.MAX_FILES + 1) + zipped(("a", b""))
    (tmp_path / "a.zip").write_bytes(data)
    for source in (data, tmp_path / "a.zip"):
        with pytest.raises(BrokenZip, match="more than 65,536 files"):
            check_zip(source)


def test_modes_and_links_are_kept(tmp_path: Path) -> None:
    """Executables stay executable, everything else is 0644 and 0755 whatever the umask, links stay links."""
    data = zipped(
        (entry("run.sh", stat.S_IFREG | 0o700), b"#!"),
        (entry("secret", stat.S_IFREG | stat.S_ISUID | 0o600), b"s"),
        ("lib/a.so.1", b"so"),
        link("lib/a.so", "a.so.1"),
        link("up", "lib/../run.sh"),
        ("empty/", b""),
        ("./dot/x", b""),
        ("dot/", b""),
    )
    before = os.umask(0o077)
    try:
        facts = unpack_zip(data, tmp_path / "out")
    finally:
        os.umask(before)
    out = tmp_path / "out"
    assert facts == check_zip(data)
    assert facts.files == 6
    modes = {str(path.relative_to(out)): stat.S_IMODE(path.lstat().st_mode) for path in out.rglob("*")}
    assert {name: mode for name, mode in modes.items() if name not in ("lib/a.so", "up")} == {
        "run.sh": 0o755,
        "secret": 0o644,
        "lib": 0o755,
        "lib/a.so.1": 0o644,
        "empty": 0o755,
        "dot": 0o755,
        "dot/x": 0o644,
    }
    assert stat.S_IMODE(out.stat().st_mode) == 0o755
    assert (out / "lib" / "a.so").readlink() == Path("a.so.1")
    assert (out / "up").read_bytes() == b"#!"


NAMES = st.text(
    st.characters(exclude_characters="/\\\0:", exclude_categories=["Cs"]), min_size=1, max_size=20
)
PATHS = st.lists(NAMES.filter(lambda name: name not in (".", "..")), min_size=1, max_size=4).map("/".join)


@settings(deadline=None, max_examples=60)
@given(files=st.dictionaries(PATHS, st.binary(max_size=3000), max_size=8), stored=st.booleans())
def test_what_was_packed_is_what_is_unpacked(
    files: dict[str, bytes], stored: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any files under any names come back byte for byte."""
    clash = any(other.startswith(name + "/") for name in files for other in files)
    data = zipped(*files.items(), method=zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED)
    out = tmp_path_factory.mktemp("round") / "out"
    if clash:
        with pytest.raises(BrokenZip):
            check_zip(data)
        return
    assert check_zip(data) == unpack_zip(data, out)
    found = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert found == files


@settings(deadline=None, max_examples=300)
@given(at=st.integers(0, 400), bits=st.integers(1, 255), cut=st.integers(0, 60))
def test_damage_is_refused_or_harmless(
    at: int, bits: int, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A flipped byte or a missing end is BrokenZip or a package within its folder, and nothing else."""
    data = bytearray(zipped(("app.py", b"def handler(): pass\n" * 9), link("l", "app.py"), ("d/x", b"1")))
    data[at % len(data)] ^= bits
    folder = tmp_path_factory.mktemp("damage")
    try:
        check_zip(bytes(data[: len(data) - cut]))
        unpack_zip(bytes(data[: len(data) - cut]), folder / "out")
    except BrokenZip:
        return
    assert [path.name for path in folder.iterdir()] == ["out"]
