"""What a person is told when a command fails: what happened, whose fault it is, what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from lambent_proto.errors import (
    AccessDenied,
    BrokenPackage,
    Contended,
    DeadlinePassed,
    Internal,
    LambentError,
    LostWithWorker,
    NoCredentials,
    NotReady,
    PayloadTooLarge,
    PlatformError,
    RevisionMismatch,
    Throttled,
    Unconfirmed,
    UnknownAlias,
    UnknownFunction,
    UnknownKey,
    UnknownLayer,
)

USAGE: Final = 2
SERVICE: Final = 3

_WHAT_TO_DO: Final[dict[type[LambentError], str]] = {
    AccessDenied: "Nothing was done: ask whoever operates the fleet.",
    BrokenPackage: "Nothing was deployed: correct the package and send it again.",
    Contended: "Try again.",
    DeadlinePassed: "The function may still finish it: decide before calling again.",
    Internal: "That is Lambent's fault: look at the log of the frontend.",
    LostWithWorker: "It may have run: decide before calling again.",
    NoCredentials: "Nothing was done.",
    NotReady: "Nothing ran. Is a fleet running there? `lambent up` starts one; --endpoint names another.",
    PayloadTooLarge: "Nothing ran: send less, or where to find it.",
    RevisionMismatch: "Nothing was changed: look at what there is now with `lambent function get`.",
    Throttled: "Nothing ran: call again later, or raise the limit (`lambent function update --concurrency`).",
    Unconfirmed: "It may have been done: look at what there is before doing it again.",
    UnknownAlias: "`lambent alias ls NAME` lists what the function has.",
    UnknownFunction: "`lambent function ls` lists what there is.",
    UnknownKey: "Nothing was done: is LAMBENT_KEY what `lambent key create` printed as the token?",
    UnknownLayer: "Nothing was changed: `lambent layer ls` lists what there is.",
}


class FailedCommand(Exception):
    """Ends the command with a message to standard error and an exit code."""

    def __init__(self, message: str, exit_code: int = SERVICE) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


@contextmanager
def explained() -> Iterator[None]:
    """Makes an error of the service one of the command."""
    try:
        yield
    except LambentError as error:
        lines = [error.message, _WHAT_TO_DO.get(type(error), "")]
        if error.request_id and isinstance(error, PlatformError):
            lines.append(f"Request {error.request_id}: `lambent explain` may say more.")
        raise FailedCommand("\n".join(line for line in lines if line)) from error
