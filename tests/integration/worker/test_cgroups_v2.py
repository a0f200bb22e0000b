"""The cgroups of a host that has v2 alone: a kernel of our own, in user mode, runs the same tests there."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="the other kernel sees this host's files as root alone"),
    pytest.mark.skipif(
        not shutil.which("linux.uml"), reason="there is no user mode Linux (Debian: user-mode-linux)"
    ),
    pytest.mark.timeout(180),
]

INIT = """#!/bin/sh
mount -t proc none /proc
mount -t sysfs none /sys
mkdir {folder}/root && mount --bind {root} {folder}/root
mount -t tmpfs none /tmp
mkdir -p {root} && mount --bind {folder}/root {root}
mount -t cgroup2 none /sys/fs/cgroup
{prepare}
cd {root} && {command} > {answer} 2>&1
echo o > /proc/sysrq-trigger
sleep 60
"""

DELEGATE = """
cd /sys/fs/cgroup && mkdir -p slice/unit
for folder in . slice; do echo '+memory +cpu +pids' > $folder/cgroup.subtree_control; done
for file in . cgroup.procs cgroup.threads cgroup.subtree_control; do chown 4242 slice/unit/$file; done
echo $$ > slice/unit/cgroup.procs
"""

AS_A_PLAIN_USER = """
import os, sys
sys.path.insert(0, "worker")
from lambent_worker.sandbox.cgroups import Cgroup, Cgroups, Limits
os.setgroups([]); os.setgid(4242); os.setuid(4242)
for _ in range(2):
    cgroups = Cgroups.detect()
    print(sorted(cgroups.given), open("/proc/self/cgroup").read().strip())
cgroup = cgroups.make("lambent-x", "y")
cgroup.limit(Limits(memory_bytes=32 << 20, cpus=0.5, cpu_weight=1, processes=10))
child = os.fork()
if not child:
    os.write(cgroup.joins[0], b"0")
    b"x" * (100 << 20)
print(os.waitpid(child, 0)[1], cgroup.oom_kills())
cgroup.remove()
"""


def boot(folder: Path, command: str, prepare: str = "") -> str:
    """What it prints, run as root there with this host's files, and a /tmp of its own."""
    answer = folder / "answer"
    told = started(
        folder, INIT.format(root=ROOT, folder=folder, command=command, answer=answer, prepare=prepare)
    )
    assert answer.exists(), told[-4000:]
    return answer.read_text()


def started(folder: Path, init: str) -> str:
    """The other kernel, up to its end, with this script as its first process. What it said."""
    script = folder / "init"
    script.write_text(init)
    script.chmod(0o755)
    kernel = ["linux.uml", "mem=512M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw", "con=null"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder)}
    done = subprocess.run(
        [*kernel, f"init={script}", f"umid=lambent{os.getpid()}"],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.fixture(autouse=True)
def it_runs_here(folder: Path) -> None:
    """With a first process that only says so: there are processors that this kernel knows too little of."""
    sign = folder / "it-runs"
    started(
        folder, f"#!/bin/sh\ntouch {sign}\nmount -t proc none /proc\necho o > /proc/sysrq-trigger\nsleep 60\n"
    )
    if not sign.exists():
        pytest.skip("user mode Linux starts no process on this processor")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Outside /tmp, which is another one there."""
    made = Path("/var/tmp") / f"lambent-test-{os.getpid()}"
    made.mkdir()
    yield made
    shutil.rmtree(made)


def test_the_same_holds_on_v2(folder: Path) -> None:
    tests = "tests/integration/worker/test_cgroups.py"
    options = "-q -p no:cacheprovider --noconftest"
    answer = boot(folder, f"{sys.executable} -B -m pytest {options} {tests}")
    assert " passed" in answer, answer
    assert "failed" not in answer, answer
    assert "error" not in answer, answer


def test_a_plain_user_gets_what_was_delegated(folder: Path) -> None:
    """Its own processes make way once, and not one level deeper with each start."""
    (folder / "program").write_text(AS_A_PLAIN_USER)
    answer = boot(folder, f"{sys.executable} -I -S {folder}/program", DELEGATE)
    given = "['cpu', 'freeze', 'kill', 'memory', 'pids'] 0::/slice/unit/worker\n"
    assert answer == 2 * given + "9 1\n"
