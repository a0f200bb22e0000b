"""Errors of a function that only the platform can tell, as Lambda's JSON."""

import json
import signal
from typing import Final

from lambent_worker.sandbox.api import Exit

EXIT_ERROR: Final = "Runtime.ExitError"
TIMED_OUT: Final = "Sandbox.Timedout"
BROKEN_CHANNEL: Final = "Runtime.Unknown"
OUT_OF_MEMORY: Final = "Runtime.OutOfMemory"
NOT_OPENED: Final = "Lambent.EnvironmentNotOpened"


def failure(error_type: str, message: str) -> bytes:
    return json.dumps(
        {"errorType": error_type, "errorMessage": message}, ensure_ascii=False, separators=(",", ":")
    ).encode()


def timed_out(request_id: str, timeout_s: float) -> bytes:
    return failure(TIMED_OUT, f"RequestId: {request_id} Error: Task timed out after {timeout_s:.2f} seconds")


def not_opened(why: str) -> bytes:
    return failure(NOT_OPENED, f"Error: {why}")


def load_took_too_long(limit_s: float) -> bytes:
    return failure(TIMED_OUT, f"Error: the function was not loaded within {limit_s:.2f} seconds")


def exited(request_id: str, exit_: Exit, *, out_of_memory: bool = False) -> bytes:
    """`out_of_memory`: the kernel has killed a process of the instance that went over its limit."""
    return failure(OUT_OF_MEMORY if out_of_memory else EXIT_ERROR, exit_message(request_id, exit_))


def exit_message(request_id: str, exit_: Exit) -> str:
    if exit_.status == 0:
        return f"RequestId: {request_id} Error: Runtime exited without providing a reason"
    return f"RequestId: {request_id} Error: Runtime exited with error: {_how(exit_.status)}"


def extension_crashed(request_id: str, name: str, exit_: Exit) -> bytes:
    message = f"RequestId: {request_id} Error: the extension {name} exited with {_how(exit_.status)}"
    return failure("Extension.Crash", message)


def extension_failed(request_id: str, name: str, error_type: str, reported: str) -> bytes:
    """`reported` is what it said itself about why it cannot go on."""
    return failure(error_type, f"RequestId: {request_id} Error: the extension {name} reported {reported}")


def _how(status: int) -> str:
    if status > 0:
        return f"exit status {status}"
    name = signal.strsignal(-status)
    return f"signal: {name.lower() if name else -status}"


def broken_channel(request_id: str, what: str) -> bytes:
    message = f"RequestId: {request_id} Error: The function disturbed its runtime, which sent {what}"
    return failure(BROKEN_CHANNEL, message)
