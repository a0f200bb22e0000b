"""A disk of its own for each member of etcd, which can be made slow: a file system on a loop device.

The writes of the device are throttled by cgroup v1, so that fdatasync waits, and the process itself does not.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

BLKIO: Final = Path("/sys/fs/cgroup/blkio")
THROTTLE: Final = "blkio.throttle.write_iops_device"
SIZE_MB: Final = 400
"""etcd sets 128 MB aside for its log."""


class CannotSlowDisks(Exception):
    """This machine has no way to do so that is known here; the message says which."""


@dataclass(frozen=True, slots=True)
class Disk:
    mounted: Path
    _group: Path

    @property
    def _device(self) -> str:
        number = self.mounted.stat().st_dev
        return f"{os.major(number)}:{os.minor(number)}"

    def slow(self, pid: int, writes_per_s: int) -> None:
        """For this process alone, from its next write on; a sync is one write at least."""
        self._group.mkdir(exist_ok=True)
        (self._group / "cgroup.procs").write_text(str(pid))
        self._throttle(writes_per_s)

    def fast(self) -> None:
        self._throttle(0)

    def _throttle(self, writes_per_s: int) -> None:
        """0: it is not."""
        (self._group / THROTTLE).write_text(f"{self._device} {writes_per_s}")

    def remove(self) -> None:
        """What is mounted there stays as long as somebody uses it."""
        subprocess.run(["umount", "--lazy", str(self.mounted)], check=False, capture_output=True)
        if self._group.exists():
            for pid in (self._group / "cgroup.procs").read_text().split():
                (BLKIO / "cgroup.procs").write_text(pid)
            self._group.rmdir()


@contextmanager
def disks(folder: Path, names: Sequence[str]) -> Iterator[dict[str, Disk]]:
    """Of each name one, mounted at the folder of that name in `folder`.

    Raises CannotSlowDisks; nothing is left then, nor at the end.
    """
    if os.geteuid() or not (BLKIO / THROTTLE).exists() or shutil.which("mkfs.ext4") is None:
        raise CannotSlowDisks("slow disks need root, mkfs.ext4 and cgroup v1's blkio controller")
    made: dict[str, Disk] = {}
    try:
        for name in names:
            made[name] = _made(folder, name)
        yield made
    finally:
        for disk in made.values():
            disk.remove()


def _made(folder: Path, name: str) -> Disk:
    image, mounted = folder / f"{name}.img", folder / name
    mounted.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(SIZE_MB * 1_000_000)
    try:
        for command in (
            # Without a journal all that a sync has to write is written by whoever asks for it.
            ("mkfs.ext4", "-q", "-O", "^has_journal", "-m", "0", str(image)),
            ("mount", "-o", "loop", str(image), str(mounted)),
        ):
            subprocess.run(command, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as failed:
        raise CannotSlowDisks(f"{' '.join(failed.cmd)}: {failed.stderr.strip()}") from failed
    return Disk(mounted, BLKIO / f"lambent-{os.getpid()}-{name}")
