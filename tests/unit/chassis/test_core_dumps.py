"""What a process has in its memory is on no disk after it has crashed."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

CRASH = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
if sys.argv[1] in ("forbidden", "child"):
    from lambent_chassis import core_dumps
    core_dumps.forbid()
if sys.argv[1] == "child":  # as an instance is: another program
    os.execv(sys.executable, [sys.executable, "-c", "import os; os.abort()"])
os.abort()
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path) -> Path:
    """Where this machine writes core files, if it does."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern.startswith("|") or "/" in pattern:
        pytest.skip(f"core files are not written to the working directory here: core_pattern is {pattern}")
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY:
        pytest.skip("the limit of core files cannot be raised here")
    return tmp_path


def crashed(how: str, here: Path) -> list[Path]:
    done = subprocess.run([sys.executable, "-c", CRASH, how], cwd=here, check=False)
    assert done.returncode == -6
    return list(here.iterdir())


@pytest.mark.parametrize("how", ["forbidden", "child"])
def test_no_core_file_is_left(how: str, here: Path) -> None:
    """By a part, nor by what it has started."""
    if not crashed("allowed", here):
        pytest.skip("this machine writes no core files at all")
    for core in here.iterdir():
        core.unlink()
    assert crashed(how, here) == []


def test_programs_of_the_core_pattern_get_nothing_either(here: Path) -> None:
    """Linux starts none for this limit, and does for 0: core(5)."""
    told = "from lambent_chassis import core_dumps as it, serve; import resource\n"
    told += "it.forbid(); print(resource.getrlimit(resource.RLIMIT_CORE))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout == "(1, 1)\n"
