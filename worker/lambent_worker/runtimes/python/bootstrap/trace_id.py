"""The trace id of the running call, in the process's environment.

`os.environ[name] = value` ends in `setenv`, and glibc keeps every value that it was ever given there: with
another one for each call some 150 bytes a call, for as long as the process lives. So what C code and new
processes see is an entry of our own, given to `putenv`, whose bytes are written over.
"""

from __future__ import annotations

import os

try:
    from ctypes import CDLL, create_string_buffer

    _putenv = CDLL(None).putenv
except (ImportError, OSError, AttributeError):  # an interpreter that was built without it
    _putenv = None

NAME = "_X_AMZN_TRACE_ID"
ROOM = 1024

_encoded_name = NAME.encode()
_entry = create_string_buffer(ROOM) if _putenv else None


def put(trace_id: str) -> None:
    """For `os.environ`, for `getenv` of C, and for processes that are started from here on."""
    value = trace_id.encode()
    entry = _encoded_name + b"=" + value
    if _putenv is None or len(entry) >= ROOM:
        os.environ[NAME] = trace_id
        return
    _entry.value = entry  # type: ignore[union-attr]
    _putenv(_entry)  # each time: the function may have taken it out
    os.environ._data[_encoded_name] = value  # type: ignore[attr-defined]
