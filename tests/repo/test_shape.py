"""What is installed is what is here: every package whole, generated code fresh."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from tests.repo.tree import ROOT, files

PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
    "packages"
]


def test_a_room_holds_its_package() -> None:
    """Room X holds the import package lambent_X, and nothing else that can be imported."""
    rooms = {
        path.parts[0] for path in files() if path.suffix == ".py" and path.parent.name.startswith("lambent_")
    }
    held = {path.parts[:2] for path in files() if path.parts[0] in rooms and path.name == "__init__.py"}
    assert held == {(room, f"lambent_{room}") for room in rooms}
    assert {f"{room}/lambent_{room}" for room in rooms} | {"lambent"} == set(PACKAGES)


def test_the_wheel_is_complete(tmp_path: Path) -> None:
    """Every file of every package is in the wheel; a room that is forgotten builds without a word."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        built = {name for name in wheel.namelist() if ".dist-info/" not in name}
    roots = [Path(package) for package in PACKAGES]
    here = {
        path.relative_to(root.parent).as_posix()
        for path in files()
        for root in roots
        if path.is_relative_to(root)
    }
    assert built == here


def test_generated_code_is_fresh() -> None:
    """What `make proto` would write is what is committed."""
    done = subprocess.run(
        [sys.executable, ROOT / "proto" / "generate.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
