"""What is read from files, and read again when they have changed: nobody has to be told, or started again."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import structlog

T = TypeVar("T")

_log = structlog.get_logger()


class Renewed(Generic[T]):
    """A `stat` for each file whenever it is asked for. What cannot be used changes nothing: the log has
    `WHAT_not_taken` with the reason, and the old goes on."""

    def __init__(self, what: str, files: Sequence[Path], read: Callable[[], T], bad: type[Exception]) -> None:
        """Raises `bad`, as `read` does, where they cannot be used at the start."""
        self._what = what
        self._files = files
        self._read = read
        self._bad = bad
        self._taken = self._look(), read()

    def newest(self) -> T:
        before, known = self._taken
        if (state := self._look()) == before:
            return known
        try:
            known = self._read()
        except self._bad as bad:
            _log.warning(f"{self._what}_not_taken", reason=str(bad))
        else:
            _log.info(f"{self._what}_taken", files=[str(path) for path in self._files])
        # Together: gRPC's threads do this as well, and what one of them read late is seen to be old.
        self._taken = state, known
        return known

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(stamp(path) for path in self._files)


def stamp(path: Path) -> tuple[int, int, int] | None:
    """Other than before if it was written to: its time alone is too coarse for who writes it bit by bit. None
    if it is not there."""
    try:
        there = path.stat()
    except OSError:
        return None
    return there.st_mtime_ns, there.st_ino, there.st_size
