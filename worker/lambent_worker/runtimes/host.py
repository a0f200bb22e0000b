"""What this host has: programs, found and tried out by running them."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

TRY_S: Final = 20.0
"""A program that says nothing for so long does not work: a JVM on a busy machine takes seconds."""


class NotUsable(Exception):
    """The message says why."""


def output_of(*argv: str, folder: Path | None = None, within_s: float = TRY_S) -> str:
    """What a program prints, to standard output and error. Raises NotUsable unless it ends with status 0."""
    try:
        done = subprocess.run(  # noqa: PLW1510 - the status is read
            argv,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=within_s,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise NotUsable(f"{argv[0]} did not end within {within_s:.0f} s") from None
    except OSError as error:
        raise NotUsable(f"{argv[0]} cannot be run: {error.strerror}") from None
    if done.returncode:
        raise NotUsable(f"{argv[0]} ended with status {done.returncode}: {done.stdout.strip()[-500:]}")
    return done.stdout.strip()


def found(program: str) -> Path:
    """Where the PATH has it, links followed. Raises NotUsable."""
    path = shutil.which(program)
    if path is None:
        raise NotUsable(f"there is no {program} on the PATH")
    return Path(path).resolve()


def outside_usr(*folders: Path) -> tuple[Path, ...]:
    """Those that an instance does not see anyway."""
    return tuple(folder for folder in folders if not folder.is_relative_to("/usr"))
