"""What becomes of an event after an attempt: done, again and when, or given up and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from lambent_frontend.queue.core.lanes import pause_s

RETRIES: Final = 2
MOST_AGE_S: Final = 21_600.0
DELAYS_S: Final = (60.0, 120.0)
"""Lambda's: how often an event is run again after the function failed, how old it may become, the waits."""

DELIVERIES: Final = 12
"""How often a destination is tried before its record is given up: for half an hour."""


class Outcome(Enum):
    """Of an attempt."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The function failed, or ran too long."""
    BROKEN = "broken"
    """The platform failed under it; it may have run."""
    SWITCHED_OFF = "switched_off"
    """The function's concurrency is 0."""
    GONE = "gone"
    """There is no such function, version or alias any more."""


class Condition(Enum):
    """Why an event ended, in Lambda's words where it has some."""

    SUCCESS = "Success"
    RETRIES_EXHAUSTED = "RetriesExhausted"
    EVENT_AGE_EXCEEDED = "EventAgeExceeded"
    ZERO_RESERVED_CONCURRENCY = "ZeroReservedConcurrency"
    FUNCTION_GONE = "FunctionGone"


@dataclass(frozen=True, slots=True)
class Policy:
    retries: int = RETRIES
    most_age_s: float = MOST_AGE_S
    delays_s: Sequence[float] = DELAYS_S
    """Before the first retry, the second, and so on; the last one goes for all that follow."""


class Tally(NamedTuple):
    """What an event has behind it."""

    received: float
    attempts: int = 0
    """That the function failed: these are counted."""
    breaks: int = 0
    """That the platform failed: these are not."""


class Again(NamedTuple):
    due: float
    tally: Tally


class Over(NamedTuple):
    condition: Condition
    tally: Tally


def too_old(tally: Tally, policy: Policy, now: float) -> bool:
    return now - tally.received > policy.most_age_s


def after(outcome: Outcome, tally: Tally, policy: Policy, now: float) -> Again | Over:
    match outcome:
        case Outcome.SUCCEEDED:
            return Over(Condition.SUCCESS, tally._replace(attempts=tally.attempts + 1))
        case Outcome.SWITCHED_OFF:
            return Over(Condition.ZERO_RESERVED_CONCURRENCY, tally)
        case Outcome.GONE:
            return Over(Condition.FUNCTION_GONE, tally)
        case Outcome.FAILED:
            tally = tally._replace(attempts=tally.attempts + 1)
            if tally.attempts > policy.retries:
                return Over(Condition.RETRIES_EXHAUSTED, tally)
            wait_s = policy.delays_s[min(tally.attempts, len(policy.delays_s)) - 1]
        case Outcome.BROKEN:
            tally = tally._replace(breaks=tally.breaks + 1)
            wait_s = pause_s(tally.breaks)
    if too_old(tally, policy, now + wait_s):  # it would only wait for its end
        return Over(Condition.EVENT_AGE_EXCEEDED, tally)
    return Again(now + wait_s, tally)


def delivery_again(failures: int, now: float) -> float | None:
    """When a record goes to its destination again after so many failures; None: it is given up."""
    return None if failures >= DELIVERIES else now + pause_s(failures)
