"""An environment of its own for each peer, made on first use: their pins would fight with each other's."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from loadtest.peers.peer import Peer

ROOT: Final = Path(__file__).resolve().parent.parent.parent
FOLDER: Final = ROOT / "build" / "peers"
INSTALL_WITHIN_S: Final = 1200.0

_LISTED: Final = ".packages"
"""In an environment that is whole: what was installed."""


class Unavailable(Exception):
    """Why a peer cannot be measured here."""


def folder(peer: Peer) -> Path:
    return FOLDER / peer.folder


def python(peer: Peer) -> str:
    return str(folder(peer) / "bin" / "python") if peer.pip else sys.executable


def is_there(peer: Peer) -> bool:
    listed = folder(peer) / _LISTED
    wanted = _wanted(peer)
    return not wanted or (listed.exists() and listed.read_text() == wanted)


def missing(peer: Peer) -> list[str]:
    """Programs that it needs and the PATH has not."""
    needed = (*peer.programs, *(("npm",) if peer.npm and not is_there(peer) else ()))
    return [program for program in needed if shutil.which(program) is None]


def make(peer: Peer, say: Callable[[str], None]) -> None:
    """Raises Unavailable with the reason."""
    if lacking := missing(peer):
        raise Unavailable(f"{', '.join(lacking)} not found on the PATH")
    if is_there(peer):
        return
    where, wanted = folder(peer), _wanted(peer)
    say(f"Installing {wanted} into {os.path.relpath(where)}, once.")
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir(parents=True)
    if peer.pip:
        _run(peer, sys.executable, "-m", "venv", str(where))
        pip = (python(peer), "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
        if peer.no_dependencies:
            _run(peer, *pip, "--no-deps", peer.pip[0])
        _run(peer, *pip, *(peer.pip[1:] if peer.no_dependencies else peer.pip))
    if peer.npm:
        _run(peer, "npm", "install", "--no-audit", "--no-fund", "--prefix", str(where), *peer.npm)
    (where / _LISTED).write_text(wanted)


def versions(peer: Peer) -> dict[str, str]:
    """Of the programs that it needs, in their own words; what is pinned is in its packages."""
    return {program: _version(program) for program in peer.programs}


def _version(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if lines else "of unknown version"


def _wanted(peer: Peer) -> str:
    return ", ".join((*peer.pip, *peer.npm))


def _run(peer: Peer, *command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_WITHIN_S)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"it was not installed within {INSTALL_WITHIN_S:g} s") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        errors = [line for line in said if "error" in line.lower()] or said or ["it said nothing"]
        raise Unavailable(f"`{Path(command[0]).name} {' '.join(command[1:4])} ...` failed: {errors[-1]}")
