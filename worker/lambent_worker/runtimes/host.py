"""What this host has: programs, found and tried out by running them."""

import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

TRY_S: Final = 20.0
"""A program that says nothing for so long does not work: a JVM on a busy machine takes seconds."""


KEPT: Final = 8
"""Of all that was built of one family: those that were used last."""


class NotUsable(Exception):
    """The message says why."""


def output_of(*argv: str, folder: Path | None = None, within_s: float = TRY_S) -> str:
    """What a program prints, to standard output and error. Raises NotUsable unless it ends with status 0."""
    try:
        done = subprocess.run(
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


def built(build: Path, sources: Sequence[Path], tools: Sequence[str], make: Callable[[Path], None]) -> Path:
    """A folder in `build` that holds what `make` makes of files and folders, made once for each content of
    theirs and each set of `tools`, by their versions. Of what was made before a few are kept: workers
    of several releases, or with several tools, may share `build`.

    Raises NotUsable where `make` does.
    """
    digest = hashlib.sha256("\0".join(tools).encode())
    for source in sources:
        for file in sorted(source.rglob("*")) if source.is_dir() else [source]:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"\0{file.relative_to(source.parent)}\0".encode() + file.read_bytes())
    folder = build / digest.hexdigest()[:16]
    with _alone(build):
        if not folder.is_dir():
            half = build / "half"
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir()
            make(half)
            half.rename(folder)
        folder.touch()
        last = sorted(filter(Path.is_dir, build.iterdir()), key=lambda it: it.stat().st_mtime_ns)
        for old in last[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    return folder


@contextmanager
def _alone(build: Path) -> Iterator[None]:
    """Waits for whoever builds the same. The kernel lifts the lock however the process ends."""
    build.mkdir(parents=True, exist_ok=True)
    with (build / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
