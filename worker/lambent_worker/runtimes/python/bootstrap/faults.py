"""Errors as Lambda writes them: what failed, in the function's own frames, as JSON."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import suppress

from .wire import MAX_PAYLOAD_BYTES, encode

LONGEST_MESSAGE = 256 * 1024
"""Characters kept of an error message that would not fit into an answer."""

NOT_THE_USERS = (os.path.dirname(__file__), os.path.dirname(importlib.__file__), "<frozen importlib")


class Fault(Exception):
    """A failure with a name of Lambda's own, rather than that of an exception's class."""

    def __init__(self, error_type: str, message: str, stack: list[str] | None = None) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.stack = stack or []


def failure(error: Exception, request_id: str) -> bytes:
    """Lambda's JSON for an exception. The log gets it too, as on Lambda."""
    if isinstance(error, Fault):
        name, stack = error.error_type, error.stack
        logged = stack or _frames_of_user(error.__cause__)
    else:
        name = type(error).__name__
        stack = logged = _frames_of_user(error)
    message = _message(error)
    trace = "".join(logged)
    _log(f"[ERROR] {name}: {message[:LONGEST_MESSAGE]}\nTraceback (most recent call last):\n{trace}")
    if name == "Function.ResponseSizeTooLarge":
        return encode({"errorType": name, "errorMessage": message}).encode()
    fields = {"errorMessage": message, "errorType": name, "requestId": request_id, "stackTrace": stack}
    body = encode(fields).encode("utf-8", "backslashreplace")
    if len(body) > MAX_PAYLOAD_BYTES:
        fields.update(errorMessage=message[:LONGEST_MESSAGE], stackTrace=[])
        body = encode(fields).encode("utf-8", "backslashreplace")
    return body


def _message(error: Exception) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001 - a function's own __str__ may raise anything
        return f"<its message cannot be read: {type(broken).__name__}>"


def _frames_of_user(error: BaseException | None) -> list[str]:
    """The traceback as Lambda writes it: one text per frame, without this folder's and importlib's."""
    import linecache

    stack = []
    trace = error.__traceback__ if error is not None else None
    while trace is not None:
        code, line = trace.tb_frame.f_code, trace.tb_lineno
        if not code.co_filename.startswith(NOT_THE_USERS):
            text = linecache.getline(code.co_filename, line).strip()
            source = f"    {text}\n" if text else ""
            stack.append(f'  File "{code.co_filename}", line {line}, in {code.co_name}\n{source}')
        trace = trace.tb_next
    return stack


def _log(text: str) -> None:
    # Its output may be closed or replaced: then nobody reads it.
    with suppress(AttributeError, ValueError, OSError):
        sys.stdout.write(text)
