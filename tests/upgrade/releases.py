"""Installations of other releases, each with an interpreter of its own to start parts with."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from typing import Final

from tests.repo.tree import ROOT, files

PREVIOUS: Final = "33a4ab7bcb53e06bdb230c29a5931dccdd796d9d"
"""A commit or a tag: the release before this one. Until there is one, it is the last commit whose parts do
not say which protocol they speak."""

NOT_THERE: Final = f"{PREVIOUS} is not in this clone: fetch the history, git fetch --unshallow"


def previous_is_there() -> bool:
    done = subprocess.run(
        ["git", "cat-file", "-e", f"{PREVIOUS}^{{commit}}"], cwd=ROOT, capture_output=True, check=False
    )
    return done.returncode == 0


def previous(folder: Path) -> str:
    """The interpreter of the previous release."""
    tree = folder / "tree"
    tree.mkdir()
    packed = subprocess.run(["git", "archive", PREVIOUS], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x"], cwd=tree, input=packed, check=True)
    return _installed(tree, folder / "env")


def that_speaks(protocol: int, folder: Path) -> str:
    """The interpreter of a release like this one with another protocol, of which it makes nothing."""
    for path in files():
        (folder / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "tree" / path).write_bytes((ROOT / path).read_bytes())
    told = folder / "tree" / "proto" / "lambent_proto" / "protocol.py"
    text, changed = re.subn(
        r"^PROTOCOL: Final = \d+$", f"PROTOCOL: Final = {protocol}", told.read_text(), flags=re.M
    )
    assert changed == 1
    told.write_text(text)
    return _installed(folder / "tree", folder / "env")


def _installed(tree: Path, env: Path) -> str:
    """Builds the wheel of a tree and installs it. What it depends on is what is installed here."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(env.parent / "wheel")]
    subprocess.run(build, cwd=tree, check=True, capture_output=True)
    venv.create(env, symlinks=True)
    python = env / "bin" / "python"
    purelib = Path(sysconfig.get_path("purelib", "venv", {"base": str(env)}))
    with zipfile.ZipFile(next((env.parent / "wheel").glob("*.whl"))) as wheel:
        wheel.extractall(purelib)
    (purelib / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = subprocess.run(
        [python, "-c", "import lambent; print(lambent.__file__)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=env,
        env={"PATH": os.environ["PATH"]},
    )
    assert Path(where.stdout.strip()).is_relative_to(env), where.stdout
    return str(python)
