"""A `/tmp` on disk has its size, does not count as memory, and leaves nothing behind."""

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lambent_worker.sandbox import tmp_disk
from lambent_worker.sandbox.cgroups import Cgroups, Limits
from lambent_worker.sandbox.tmp_disk import TmpDisks, discard, mount_again

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system from an image"),
]

MB = 1 << 20
WRITE = """
import os, sys
for fd in map(int, sys.argv[3:]): os.write(fd, b"0")
os.chdir(int(sys.argv[1]))
with open("big", "wb", buffering=0) as file:
    for _ in range(int(sys.argv[2])): file.write(b"x" * (1 << 20))
"""


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[TmpDisks]:
    try:
        yield TmpDisks.open(tmp_path)
    except OSError as error:
        pytest.skip(f"this host cannot: {error}")
    assert nothing_left(tmp_path)


def nothing_left(folder: Path) -> bool:
    """The kernel clears a device a moment after its last user is gone."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        attached = []
        for file in Path("/sys/block").glob("loop*/loop/backing_file"):
            with suppress(OSError):
                attached.append(file.read_text())
        if not any(str(folder) in path for path in attached):
            return not list(folder.glob("*.*"))
        time.sleep(0.01)
    return False


def root_of(mount: int) -> int:
    return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=mount)


def fill(file: int, block: bytes) -> None:
    while True:
        os.write(file, block)


@pytest.mark.parametrize("size_mb", [1, 64, 512])
def test_it_holds_its_size_and_little_more(disks: TmpDisks, size_mb: int) -> None:
    """Then there is no space left, and what was written is whole."""
    mount = disks.make(size_mb)
    root = root_of(mount)
    file = os.open("big", os.O_CREAT | os.O_RDWR, dir_fd=root)
    block = bytes(range(256)) * 4096
    with pytest.raises(OSError, match="No space left"):
        fill(file, block)
    written = os.fstat(file).st_size
    assert size_mb * MB <= written < (size_mb * 1.05 + 2) * MB
    assert os.pread(file, MB, 0) == block
    for each in (file, root, mount):
        os.close(each)


def test_it_is_empty_and_open_to_all(disks: TmpDisks) -> None:
    """As /tmp is: sticky, no devices, no set-user-id programs; each has files of its own."""
    first, second = disks.make(16), disks.make(16)
    roots = [root_of(first), root_of(second)]
    assert [os.listdir(root) for root in roots] == [[], []]
    assert stat.S_IMODE(os.fstat(roots[0]).st_mode) == 0o1777
    flags = os.fstatvfs(roots[0]).f_flag
    assert flags & os.ST_NOSUID
    assert flags & os.ST_NODEV
    os.mkdir("x", dir_fd=roots[0])
    assert os.listdir(roots[1]) == []
    for each in (*roots, first, second):
        os.close(each)


def test_what_is_in_it_is_not_memory(disks: TmpDisks) -> None:
    """Four times the memory limit is written, and nobody is killed for it."""
    cgroups = Cgroups.detect()
    if "memory" not in cgroups.given:
        pytest.skip(f"no memory limit on this host: {cgroups.why['memory']}")
    parent = f"lambent-test-tmp-{os.getpid()}"
    cgroup = cgroups.make(parent, "writer")
    mount = disks.make(320)
    try:
        cgroup.limit(Limits(memory_bytes=64 * MB, cpus=2, cpu_weight=1, processes=10))
        root = root_of(mount)
        command = [sys.executable, "-I", "-S", "-c", WRITE, str(root), "256", *map(str, cgroup.joins)]
        done = subprocess.run(command, pass_fds=(root, *cgroup.joins), check=False, timeout=50)
        assert done.returncode == 0
        assert os.stat("big", dir_fd=root).st_size == 256 * MB
        assert cgroup.oom_kills() == 0
        os.close(root)
        cgroup.remove()
    finally:
        discard(mount)
        os.close(mount)
        cgroups.sweep(parent)


def test_a_discarded_one_cannot_be_used(disks: TmpDisks) -> None:
    """And the space on the host's disk is free again."""
    mount = disks.make(16)
    root = root_of(mount)
    os.mkdir("y", dir_fd=root)
    discard(mount)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        os.mkdir("x", dir_fd=root)
    os.close(root)
    os.close(mount)


def test_an_untouched_one_is_kept_for_the_next(disks: TmpDisks) -> None:
    """It holds what a new one holds."""
    disk = disks.make(16)
    os.close(mount_again(disk))
    assert disks.keep(disk, 16)
    assert disks.take_spare(1) is None
    assert disks.take_spare(16) == disk
    assert disks.take_spare(16) is None
    mount = mount_again(disk)
    root = root_of(mount)
    assert os.listdir(root) == []
    os.mkdir("x", dir_fd=root)
    os.close(root)
    os.close(mount)
    assert not disks.keep(disk, 16)
    os.close(disk)


def make_and_remove(root: int) -> None:
    os.mkdir("x", dir_fd=root)
    os.rmdir("x", dir_fd=root)


def write_without_a_name(root: int) -> None:
    file = os.open(".", os.O_TMPFILE | os.O_RDWR, dir_fd=root)
    os.write(file, b"x" * MB)
    os.fsync(file)
    os.close(file)


@pytest.mark.parametrize("use", [make_and_remove, write_without_a_name, os.listdir, os.utime])
def test_a_touched_one_is_not_kept(disks: TmpDisks, use: Callable[[int], object]) -> None:
    """Not even one that is empty again: no instance learns what the one before did."""
    disk = disks.make(16)
    mount = mount_again(disk)
    root = root_of(mount)
    use(root)
    os.close(root)
    os.close(mount)
    kept = disks.keep(disk, 16)
    os.close(disk)
    assert not kept


def test_nothing_is_left_of_who_was_killed(disks: TmpDisks, tmp_path: Path) -> None:
    """No file, no mount, no loop device, whatever moment it was."""
    code = (
        "import sys\nsys.path.insert(0, sys.argv[1])\nfrom pathlib import Path\n"
        "from lambent_worker.sandbox.tmp_disk import TmpDisks\ndisks = TmpDisks.open(Path(sys.argv[2]))\n"
        "while True: disks.make(16); print(flush=True)"
    )
    worker = Path(tmp_disk.__file__).parents[2]
    for lines in range(3):
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code, worker, tmp_path], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        process.kill()
        process.stdout.close()
        assert process.wait(10) == -signal.SIGKILL
        assert nothing_left(tmp_path)
    del disks


def test_a_host_without_mkfs_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tmp_disk, "_FOLDERS", ())
    with pytest.raises(OSError, match=r"e2fsprogs.*mkfs\.ext4"):
        TmpDisks.open(tmp_path)


def test_a_host_without_loop_devices_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tmp_disk, "_LOOP_CONTROL", "/dev/loop-control-that-is-not-there")
    with pytest.raises(OSError, match="no loop devices"):
        TmpDisks.open(tmp_path)


def test_a_plain_user_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(PermissionError, match="only root"):
        TmpDisks.open(tmp_path)
