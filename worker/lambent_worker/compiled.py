"""Python's bytecode for packages and layers, made once for each version of Python, in the background.

Without it every instance would compile what it imports: its files are read-only. The first instances of a
package start before it is there, and do just that.

What users wrote is read by a process without rights, and with limits, of the Python that will run it. That
process writes numbered files; where they go is decided here, from the names of the sources.
"""

import asyncio
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import structlog

from lambent_worker.folders import UNFINISHED, Folders
from lambent_worker.runtimes.api import Bytecode

COMPILE_WITHIN_S: Final = 300.0

_SCRIPT: Final = (Path(__file__).parent / "runtimes" / "python" / "compile_sources.py").read_text()
"""Given as text: who runs it may not be able to read our own files."""

_NOBODY: Final = 65534

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Job:
    folder: str
    """A name in the package cache."""
    shown: str
    """Where instances see its files."""
    bytecode: Bytecode


class Compiler:
    """Used as a context manager, which ends what it has begun. One package at a time."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._wanted: set[Job] = set()
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        self._working = asyncio.create_task(self._work())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._working.cancel()
        await asyncio.gather(self._working, return_exceptions=True)

    def want(self, job: Job) -> None:
        """Returns at once. Said for every instance: a folder that was given up may be there again."""
        if job not in self._wanted and not _marker(self._folders.place(job.folder), job).exists():
            self._wanted.add(job)
            self._jobs.put_nowait(job)

    async def finished(self) -> None:
        """Until all that was wanted is done."""
        await self._jobs.join()

    async def _work(self) -> None:
        while True:
            job = await self._jobs.get()
            try:
                await self._compile(job)
            except (OSError, ValueError) as failed:
                _log.warning(
                    "package_not_compiled", package=job.folder, python=job.bytecode.python, why=str(failed)
                )
            finally:
                self._wanted.discard(job)
                self._jobs.task_done()

    async def _compile(self, job: Job) -> None:
        with self._folders.held_now(job.folder) as folder:
            if folder is None or _marker(folder, job).exists():
                return
            files = folder / "files"
            sources = await asyncio.to_thread(lambda: sorted(_sources(files, job.bytecode.tag)))
            if sources:
                with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=folder.parent) as made:
                    await _run(job, files, Path(made), sources)
                    grown = await asyncio.to_thread(_take, Path(made), files, sources, job.bytecode.tag)
                self._folders.grew(job.folder, grown)
                _log.info("package_compiled", package=job.folder, tag=job.bytecode.tag, sources=len(sources))
            _marker(folder, job).touch()


def _marker(folder: Path, job: Job) -> Path:
    """There once it has been compiled, and gone with it."""
    return folder / f"compiled-{job.bytecode.tag}"


def _sources(files: Path, tag: str) -> Iterator[str]:
    """Paths below `files` of what has no bytecode yet; no link is followed."""
    for place, _, names in os.walk(files):
        for name in names:
            path = Path(place, name)
            if (
                name.endswith(".py")
                and stat.S_ISREG(path.lstat().st_mode)
                and not _bytecode(path, tag).exists()
            ):
                yield str(path.relative_to(files))


def _bytecode(source: Path, tag: str) -> Path:
    return source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc"


async def _run(job: Job, files: Path, made: Path, sources: list[str]) -> None:
    """What it cannot compile it leaves out, and when it is ended what it has done by then counts."""
    user = _NOBODY if os.geteuid() == 0 else -1
    if user >= 0:
        os.chown(made, user, user)
    process = await asyncio.create_subprocess_exec(
        *(job.bytecode.python, "-I", "-S", "-B", "-X", "utf8", "-c", _SCRIPT),
        *(str(files), str(made), job.shown, str(user)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(COMPILE_WITHIN_S):
            await process.communicate("\0".join(sources).encode("utf-8", "surrogateescape"))
    except TimeoutError:
        _log.warning(
            "package_compiled_in_part", package=job.folder, why=f"{COMPILE_WITHIN_S:.0f} s were over"
        )
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _take(made: Path, files: Path, sources: list[str], tag: str) -> int:
    """Moves what was made beside its sources; returns how many bytes the folder has grown by."""
    grown = 0
    for number, source in enumerate(sources):
        bytecode = made / str(number)
        place = _bytecode(files / source, tag)
        try:
            facts = bytecode.lstat()
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1 or place.parent.is_symlink():
            continue
        with suppress(FileExistsError):
            place.parent.mkdir()
            place.parent.chmod(0o755)
            grown += 4096
        if os.geteuid() == 0:
            os.chown(bytecode, 0, 0)
        bytecode.chmod(0o644)
        os.rename(bytecode, place)
        grown += -(-facts.st_size // 4096) * 4096
    return grown
