"""The tests of the cores can fail: each bug of a list, planted in a copy, is seen by its check."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.simulation.planted_bugs import BUGS, FRONTEND, PLACEMENT, WORKER, Bug

ROOT = Path(__file__).parents[2]
FAILED = 1
SEEDS = 40
PYTEST = ["-m", "pytest", "-x", "-q", "--noconftest", "--assert=plain", "--import-mode=importlib"]
PYTEST += [
    "-c",
    os.devnull,
    f"--rootdir={ROOT}",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:asyncio",
    "-p",
    "no:timeout",
]
"""As little of pytest as there is, for it starts once a bug."""
TABLES = {
    room: sorted((ROOT / f"tests/unit/{room}").glob("test_core_*.py"))
    for room in (FRONTEND, PLACEMENT, WORKER)
}
SIMULATE = f"""
from tests.simulation.seeds import run_seed
import sys
sys.exit(any(run_seed(seed)[1] for seed in range({SEEDS})))
"""


def command_for(bug: Bug) -> list[str]:
    match bug.check:
        case "table":
            return [*PYTEST, *map(str, TABLES[bug.room])]
        case "property":
            return [*PYTEST, "-p", "tests.simulation.hurried", f"tests/property/test_{bug.room}_core.py"]
        case _:
            return ["-c", SIMULATE]


def place_of(bug: Bug) -> Path:
    """The one file of the room's core that holds the bug's text, once."""
    core = ROOT / bug.room / f"lambent_{bug.room}" / "core"
    counts = {path: path.read_text().count(bug.text) for path in core.glob("*.py")}
    places = [path for path, count in counts.items() if count]
    assert sum(counts.values()) == 1, f"'{bug.name}': its text is there {sum(counts.values())} times"
    return places[0]


def plant(bug: Bug, folder: Path) -> None:
    """Copies the room's core into the folder, with the bug in it."""
    place = place_of(bug)
    package = place.parent.parent
    copy = folder / package.name
    shutil.copytree(place.parent, copy / "core", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(package / "__init__.py", copy)
    (copy / "core" / place.name).write_text(place.read_text().replace(bug.text, bug.instead))


def survived(bug: Bug, folder: Path) -> str:
    """Why a bug was not seen; empty if it was. Only a failed test counts, not one that could not begin."""
    plant(bug, folder)
    done = subprocess.run(
        [sys.executable, *command_for(bug)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode == FAILED and "Error" not in done.stderr:
        return ""
    said = f"{done.stdout[-500:]}{done.stderr[-500:]}"
    return f"{bug.room}: {bug.name} ({bug.check}, exit code {done.returncode})\n{said}"


@pytest.mark.simulation
@pytest.mark.timeout(600)
def test_every_planted_bug_is_seen(tmp_path: Path) -> None:
    """A check that no bug can break would prove nothing."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda n: survived(BUGS[n], tmp_path / str(n)), range(len(BUGS))))
    alive = [result for result in results if result]
    assert not alive, f"{len(alive)} of {len(BUGS)} bugs were not seen:\n" + "\n".join(alive)


def test_every_bug_finds_its_place() -> None:
    """The list is kept with the code."""
    for bug in BUGS:
        place_of(bug)
