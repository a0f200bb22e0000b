"""The cgroups of this host really hold, stop and end what is in them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lambent_worker.sandbox import cgroup_trees
from lambent_worker.sandbox.cgroup import Cgroup
from lambent_worker.sandbox.cgroup_trees import Tree
from lambent_worker.sandbox.cgroups import Cgroups, Limits

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="cgroups can be made by root alone"),
]

PARENT = f"lambent-test-{os.getpid()}"
MB = 1 << 20
JOIN = "import os, sys\nfor fd in map(int, sys.argv[1:]): os.write(fd, b'0')\n"
SLEEP = JOIN + "import time\nprint('in', flush=True)\ntime.sleep(600)"
FORK = JOIN + "print('in', flush=True)\nwhile True:\n try: os.fork()\n except OSError: pass"
COUNT = JOIN + "n = 0\nwhile True:\n n += 1\n os.write(1, b'%d\\n' % n)"


@pytest.fixture
def cgroups() -> Iterator[Cgroups]:
    found = Cgroups.detect()
    if missing := {"memory", "cpu", "pids", "freeze", "kill"} - found.given:
        pytest.skip(f"this host's cgroups lack {sorted(missing)}: {dict(found.why)}")
    yield found
    found.sweep(PARENT)


def limits(memory_mb: int = 64, cpus: float = 1.0, processes: int = 100) -> Limits:
    return Limits(memory_bytes=memory_mb * MB, cpus=cpus, cpu_weight=1.0, processes=processes)


def start(cgroup: Cgroup, code: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-S", "-c", code, *map(str, cgroup.joins)]
    return subprocess.Popen(command, pass_fds=cgroup.joins, stdout=subprocess.PIPE)


def said(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def ended(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    process.stdout.close()
    return process.wait(40)  # where memory is short, on a slow host, it takes a while to be killed


def gone(cgroup: Cgroup) -> bool:
    end = time.monotonic() + 10
    while cgroup.processes() and time.monotonic() < end:
        time.sleep(0.001)
    return not cgroup.processes()


def left() -> list[Path]:
    return list(Path("/sys/fs/cgroup").rglob(PARENT))


def test_too_much_memory_kills_and_is_counted(cgroups: Cgroups) -> None:
    """No swap helps. The peak stays readable, and starts again once it is reset."""
    cgroup = cgroups.make(PARENT, "memory")
    cgroup.limit(limits(memory_mb=32))
    assert ended(start(cgroup, JOIN + "x = b'x' * (20 << 20)")) == 0
    assert cgroup.oom_kills() == 0
    assert 20 * MB < cgroup.peak_bytes() < 32 * MB
    assert ended(start(cgroup, JOIN + "x = b'x' * (200 << 20)")) == -signal.SIGKILL
    assert cgroup.oom_kills() == 1
    assert 31 * MB < cgroup.peak_bytes() <= 32 * MB
    if cgroup.reset_peak():
        assert cgroup.peak_bytes() < 20 * MB
    cgroup.remove()
    assert not [each for each in left() if list(each.glob("memory"))]


def test_limits_can_be_changed_both_ways(cgroups: Cgroups) -> None:
    """A waiting sandbox gets the limits of the function that takes it."""
    cgroup = cgroups.make(PARENT, "changed")
    for memory_mb in (16, 256, 32):
        cgroup.limit(limits(memory_mb=memory_mb))
        assert ended(start(cgroup, JOIN + "x = b'x' * (100 << 20)")) == (0 if memory_mb == 256 else -9)
    cgroup.remove()


def test_a_fork_bomb_stops_at_the_limit(cgroups: Cgroups) -> None:
    """And a kill ends all of it, though it forks on."""
    cgroup = cgroups.make(PARENT, "bomb")
    cgroup.limit(limits(processes=20))
    bomb = start(cgroup, FORK)
    assert said(bomb) == b"in\n"
    end = time.monotonic() + 10
    while len(cgroup.processes()) < 20 and time.monotonic() < end:
        time.sleep(0.001)
    assert len(cgroup.processes()) == 20
    cgroup.kill()
    assert gone(cgroup)
    assert ended(bomb) == -signal.SIGKILL
    cgroup.remove()


def test_cpu_time_is_limited(cgroups: Cgroups) -> None:
    """A fifth of a CPU is a fifth of a second in each second."""
    cgroup = cgroups.make(PARENT, "cpu")
    cgroup.limit(limits(cpus=0.2))
    burn = "import time\nbegin = time.process_time()\nend = time.monotonic() + 1\n"
    burn += "while time.monotonic() < end: pass\nprint(time.process_time() - begin)"
    process = start(cgroup, JOIN + burn)
    assert float(said(process)) < 0.4
    assert ended(process) == 0
    cgroup.remove()


def test_frozen_processes_stand_still_and_go_on(cgroups: Cgroups) -> None:
    """And a frozen one dies when it is killed."""
    cgroup = cgroups.make(PARENT, "frozen")
    process = start(cgroup, COUNT)
    assert said(process) == b"1\n"
    cgroup.freeze()
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < 0.2:
        with suppress(BlockingIOError):
            if os.read(process.stdout.fileno(), 1 << 20):
                quiet_since = time.monotonic()
    cgroup.thaw()
    os.set_blocking(process.stdout.fileno(), True)
    assert os.read(process.stdout.fileno(), 10)
    cgroup.freeze()
    cgroup.kill()
    assert ended(process) == -signal.SIGKILL
    cgroup.remove()


def test_what_is_in_use_is_not_removed(cgroups: Cgroups) -> None:
    cgroup = cgroups.make(PARENT, "used")
    process = start(cgroup, SLEEP)
    assert said(process) == b"in\n"
    with pytest.raises(OSError, match="still processes"):
        cgroup.remove()
    process.kill()
    assert ended(process) == -signal.SIGKILL
    cgroup.remove()


def test_a_name_is_used_once(cgroups: Cgroups) -> None:
    """The second attempt leaves the first as it is."""
    cgroup = cgroups.make(PARENT, "one")
    with pytest.raises(FileExistsError):
        cgroups.make(PARENT, "one")
    assert ended(start(cgroup, JOIN)) == 0
    cgroup.remove()


def test_a_sweep_ends_what_an_earlier_worker_left(cgroups: Cgroups) -> None:
    """Frozen or not; and there may be nothing."""
    running = cgroups.make(PARENT, "running")
    frozen = cgroups.make(PARENT, "frozen")
    processes = [start(running, SLEEP), start(frozen, SLEEP)]
    assert [said(process) for process in processes] == [b"in\n", b"in\n"]
    frozen.freeze()
    running.close()
    frozen.close()
    Cgroups.detect().sweep(PARENT)
    assert [ended(process) for process in processes] == [-signal.SIGKILL] * 2
    assert not left()
    Cgroups.detect().sweep(PARENT)


@pytest.fixture
def v1_freezer() -> Iterator[Cgroups]:
    mount = "/sys/fs/cgroup/freezer"
    if not os.path.isdir(mount):
        pytest.skip("this host has no v1 freezer")
    tree = Tree(version=1, mount=mount, top=mount)
    found = Cgroups({"freeze": tree, "kill": tree}, {})
    yield found
    found.sweep(PARENT)


def test_the_old_freezer_lets_go_of_what_is_killed(v1_freezer: Cgroups) -> None:
    """Left frozen, it would not die."""
    cgroup = v1_freezer.make(PARENT, "v1")
    process = start(cgroup, SLEEP)
    assert said(process) == b"in\n"
    cgroup.freeze()
    cgroup.kill()
    assert ended(process) == -signal.SIGKILL
    cgroup.remove()


def test_a_sweep_ends_what_the_old_freezer_holds(v1_freezer: Cgroups) -> None:
    cgroup = v1_freezer.make(PARENT, "v1")
    process = start(cgroup, SLEEP)
    assert said(process) == b"in\n"
    cgroup.freeze()
    cgroup.close()
    v1_freezer.sweep(PARENT)
    assert ended(process) == -signal.SIGKILL
    assert not left()


def test_a_host_that_refuses_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """By capability. What works is given all the same, by the next best tree if there is one."""
    trees, _ = cgroup_trees.find_trees()
    broken = Tree(version=1, mount="/sys/fs/cgroup", top="/proc/sys")
    found = {**trees, "memory": [broken], "freeze": [broken, *trees["freeze"]]}
    monkeypatch.setattr("lambent_worker.sandbox.cgroups.find_trees", lambda: (found, {}))
    cgroups = Cgroups.detect()
    assert "/proc/sys" in cgroups.why["memory"]
    assert set(cgroups.why) == {"memory"}
    assert cgroups.given == {"cpu", "pids", "freeze", "kill"}


def test_a_plain_user_is_told_what_is_missing() -> None:
    """Without delegation there is nothing, and that is no error."""
    code = (
        "import os, sys\nsys.path.insert(0, sys.argv[1])\n"
        "from lambent_worker.sandbox.cgroups import Cgroups\n"
        "os.setgroups([])\nos.setuid(65534)\nfound = Cgroups.detect()\n"
        "print(sorted(found.given), sorted(found.why))"
    )
    worker = str(Path(cgroup_trees.__file__).parents[2])
    command = [sys.executable, "-I", "-S", "-c", code, worker]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert answer == "[] ['cpu', 'freeze', 'kill', 'memory', 'pids']\n"
