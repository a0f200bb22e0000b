"""Several layers as one folder: each is laid over those before it, as if their ZIPs were unpacked in turn.

Of two files with one name the later layer's stays; two folders become one. Where a folder meets a file or a
link, the later layer's stays alone: nothing is ever written through a link. Files are hard links and take no
room twice: the layers must be on the same file system, and nobody may change what is in them.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path


def merge(layers: Iterable[Path], folder: Path) -> None:
    """Makes `folder`, which must not exist. Raises OSError; then the caller throws the folder away."""
    _make(folder)
    for layer in layers:
        _lay_over(layer, folder)


def _lay_over(layer: Path, folder: Path) -> None:
    for entry in os.scandir(layer):
        place = folder / entry.name
        is_folder = _is_folder(place)
        if entry.is_dir(follow_symlinks=False):
            if not is_folder:
                place.unlink(missing_ok=True)
                _make(place)
            _lay_over(Path(entry.path), place)
        else:
            if is_folder:
                shutil.rmtree(place)
            place.unlink(missing_ok=True)
            os.link(entry.path, place, follow_symlinks=False)


def _is_folder(place: Path) -> bool:
    return place.is_dir() and not place.is_symlink()


def _make(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)  # whatever the umask is: others run the function than those who unpack it
