"""A folder becomes a ZIP that the fleet takes, the same one each time."""

import os
import stat
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from lambent.packing import CannotPack, pack
from lambent_chassis.zipcheck import check_zip, unpack_zip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A function with a dependency, a program, a link and what is of no use to anybody else."""
    root = tmp_path / "function"
    for name, text in {
        "app.py": "def handler(event, context): ...",
        "vendor/library/__init__.py": "",
        "bin/tool": "#!/bin/sh\n",
        "__pycache__/app.cpython-311.pyc": "stale",
        "vendor/library/__pycache__/x.pyc": "stale",
        ".git/HEAD": "ref: refs/heads/main",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "bin" / "tool").chmod(0o700)
    (root / "library").symlink_to("vendor/library")
    return root


def test_what_is_in_it(folder: Path) -> None:
    """Files and links under their paths; caches and the history are left out."""
    with zipfile.ZipFile(BytesIO(pack(folder))) as archive:
        assert archive.namelist() == ["app.py", "bin/tool", "library", "vendor/library/__init__.py"]


def test_the_fleet_takes_it(folder: Path, tmp_path: Path) -> None:
    """Checked and unpacked as a worker does, modes and links are what they were."""
    package = pack(folder)
    assert check_zip(package).files == 4
    unpacked = tmp_path / "unpacked"
    unpack_zip(package, unpacked)
    assert (unpacked / "app.py").read_text() == (folder / "app.py").read_text()
    assert stat.S_IMODE((unpacked / "bin" / "tool").stat().st_mode) == 0o755
    assert stat.S_IMODE((unpacked / "app.py").stat().st_mode) == 0o644
    assert os.readlink(unpacked / "library") == "vendor/library"


def test_same_files_same_bytes(folder: Path) -> None:
    """Neither the time nor who may read a file changes the package."""
    before = pack(folder)
    os.utime(folder / "app.py", (1e9, 1e9))
    (folder / "app.py").chmod(0o600)
    assert pack(folder) == before
    (folder / "app.py").write_text("changed")
    assert pack(folder) != before


@pytest.mark.parametrize("target", ["../secret", "/etc/hostname", "vendor/../../secret"])
def test_links_that_leave(folder: Path, target: str) -> None:
    """What would not be there on the worker is said before anything is sent."""
    (folder / "away").symlink_to(target)
    with pytest.raises(CannotPack, match=r"away is a link to .*, outside of the folder"):
        pack(folder)


def test_neither_file_nor_link(folder: Path) -> None:
    """A pipe would be read for ever."""
    os.mkfifo(folder / "pipe")
    with pytest.raises(CannotPack, match="pipe is a device, pipe or socket"):
        pack(folder)


def test_nothing_to_pack(tmp_path: Path) -> None:
    """An empty folder is a mistake."""
    with pytest.raises(CannotPack, match="has no files in it"):
        pack(tmp_path)
