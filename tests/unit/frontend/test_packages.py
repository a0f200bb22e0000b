"""Packages are kept by content, once."""

import hashlib
from pathlib import Path

import pytest

from lambent_chassis.objects import open_store
from lambent_frontend.packages import Packages
from lambent_proto.errors import NotReady
from lambent_proto.keys import package_name

SHA256 = hashlib.sha256(b"zip bytes").hexdigest()


async def test_a_package_is_kept_under_its_own_hash(tmp_path: Path) -> None:
    """The folder is made, and holds the bytes as they came."""
    packages = Packages(open_store(str(tmp_path / "new" / "packages")))
    await packages.put(b"zip bytes", SHA256)
    (kept,) = (tmp_path / "new" / "packages").iterdir()
    assert (kept.name, kept.read_bytes()) == (f"{SHA256}.zip", b"zip bytes")


async def test_putting_it_again_writes_nothing(tmp_path: Path) -> None:
    """The object stays the one it was."""
    packages = Packages(open_store(str(tmp_path)))
    await packages.put(b"zip bytes", SHA256)
    before = (tmp_path / package_name(SHA256)).stat()
    await packages.put(b"zip bytes", SHA256)
    after = (tmp_path / package_name(SHA256)).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


async def test_a_damaged_object_is_replaced(tmp_path: Path) -> None:
    """One of another size, left by something that is not ours, does not count as kept."""
    packages = Packages(open_store(str(tmp_path)))
    await packages.put(b"zip bytes", SHA256)
    (tmp_path / package_name(SHA256)).write_bytes(b"zip")
    await packages.put(b"zip bytes", SHA256)
    assert (tmp_path / package_name(SHA256)).read_bytes() == b"zip bytes"


async def test_a_url_is_a_store_too(tmp_path: Path) -> None:
    """One library for both: a file URL stands in for S3 here."""
    packages = Packages(open_store(f"file://{tmp_path}"))
    await packages.put(b"zip bytes", SHA256)
    assert (tmp_path / package_name(SHA256)).read_bytes() == b"zip bytes"


async def test_a_store_that_does_not_take_it_is_not_ready(tmp_path: Path) -> None:
    """The caller hears that nothing was changed."""
    packages = Packages(open_store(str(tmp_path / "packages")))
    (tmp_path / "packages").rmdir()
    (tmp_path / "packages").write_text("a file where the folder was")
    with pytest.raises(NotReady, match="nothing was changed"):
        await packages.put(b"zip bytes", SHA256)
