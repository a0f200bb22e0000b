"""The trace id of the running call, in the process's environment.

`os.environ[name] = value` ends in `setenv`, and glibc keeps every value that it was ever given there: with
another one for each call some 150 bytes a call, for as long as the process lives. So what C code and new
processes see is an entry of our own, given to `putenv`, whose bytes are written over.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME = "_X_AMZN_TRACE_ID"
ROOM = 1024


def _entry() -> tuple[Any, Any] | None:
    """A buffer, and C's `putenv`; None in an interpreter that was built without ctypes."""
    try:
        from ctypes import CDLL, create_string_buffer

        return create_string_buffer(ROOM), CDLL(None).putenv
    except (ImportError, OSError, AttributeError):
        return None


_encoded_name = NAME.encode()
_ours = _entry()


def put(trace_id: str) -> None:
    """For `os.environ`, for `getenv` of C, and for processes that are started from here on."""
    value = trace_id.encode()
    entry = _encoded_name + b"=" + value
    if _ours is None or len(entry) >= ROOM:
        os.environ[NAME] = trace_id
        return
    buffer, putenv = _ours
    buffer.value = entry
    putenv(buffer)  # each time: the function may have taken it out
    os.environ._data[_encoded_name] = value  # type: ignore[attr-defined]
