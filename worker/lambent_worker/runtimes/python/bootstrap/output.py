"""Standard output and standard error, which know whether there is something to flush.

Two flushes with nothing to do are a tenth of what a call costs an instance.
"""

from __future__ import annotations

import io
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Output(io.TextIOWrapper):
    unflushed = False
    shared = False
    """Somebody has asked for what is beneath: what is written there is not seen here."""

    def write(self, text: str) -> int:
        self.unflushed = True
        return super().write(text)

    @property
    def buffer(self) -> Any:
        self.shared = self.unflushed = True
        return super().buffer

    def flush(self) -> None:
        self.unflushed = self.shared  # before the flush: another thread may write meanwhile
        super().flush()


def install() -> None:
    """A line is in the log at once, whatever has no end yet when the call ends."""
    sys.stdout = sys.__stdout__ = _over(sys.stdout)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _over(sys.stderr)  # type: ignore[misc]


def _over(stream: Any) -> Output:
    encoding, errors, mode = stream.encoding, stream.errors, stream.mode
    output = Output(stream.detach(), encoding, errors, line_buffering=True)
    output.mode = mode  # type: ignore[misc] # which the interpreter sets as well
    return output


def flush() -> None:
    """What the function printed is in its pipe. A stream of its own in place of ours is flushed always."""
    try:
        if getattr(sys.stdout, "unflushed", True):
            sys.stdout.flush()
        if getattr(sys.stderr, "unflushed", True):
            sys.stderr.flush()
    except (AttributeError, ValueError, OSError):
        return  # the function has closed or replaced them
