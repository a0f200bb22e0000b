"""A line of the log for each call that has ended: whose it was, how it went, and what it took.

Nothing of an event, an answer or an error of the function is in it.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, Literal, NamedTuple

import structlog

from lambent_frontend.calls import Answer, Call

Kept = Literal["off", "failures", "all"]
"""Which calls have a line."""

SUCCEEDED: Final = "succeeded"

CALLER: Final[ContextVar[str]] = ContextVar("access_key", default="")
"""Id of the access key that this task's caller has shown; empty where nobody is asked, and of calls that
Lambent makes itself: those of queues, triggers and schedules."""

_log = structlog.get_logger()


class Told(NamedTuple):
    """A call whose outcome is known."""

    call: Call
    outcome: str
    """One of those in fleet.proto."""
    message: str
    """Lambent's own words, where it did not succeed."""
    how: Answer
    """How it came about, its payload apart; of one that never ran its times are 0."""
    bytes_out: int


def log_call(told: Told) -> None:
    call, how = told.call, told.how
    _log.info(
        "call",
        request_id=call.request_id,
        function=call.definition.name,
        version=call.definition.version,
        outcome=told.outcome,
        message=told.message,
        start=how.start,
        reason=how.reason,
        waited_for=how.waited_for,
        node=how.node,
        instance=how.instance,
        waiting_ms=round(how.waiting_ms, 3),
        starting_ms=round(how.starting_ms, 3),
        init_ms=round(how.init_ms, 3),
        running_ms=round(how.running_ms, 3),
        bytes_in=len(call.payload),
        bytes_out=told.bytes_out,
        access_key=call.caller,
        trace_id=call.trace.partition(";")[0].removeprefix("Root=1-").replace("-", ""),
    )


def _log_failure(told: Told) -> None:
    if told.outcome != SUCCEEDED:
        log_call(told)


LOGGING: Final[dict[Kept, Callable[[Told], None] | None]] = {
    "off": None,
    "failures": _log_failure,
    "all": log_call,
}
