"""What a schedule is: which function is invoked when."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MOST_JITTER_S: Final = 86_400.0
"""Of a day: as EventBridge Scheduler's flexible time window."""


class BadSchedule(ValueError):
    """The message says what is wrong with it, and what would be right."""


class Overlap(StrEnum):
    """What happens at a time when the invocation of the time before still runs."""

    ALLOW = "allow"
    FORBID = "forbid"
    REPLACE = "replace"


class Misfire(StrEnum):
    """What happens with times that were missed since nobody was there."""

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    name: str
    function: str
    """Its name, with `:QUALIFIER` if another than `$LATEST` is meant."""
    expression: str
    time_zone: str = "UTC"
    event: bytes = b""
    """JSON; empty: one of the shape of EventBridge's scheduled events."""
    overlap: Overlap = Overlap.ALLOW
    misfire: Misfire = Misfire.ONCE
    jitter_s: float = 0.0
    enabled: bool = True
    made_at: float = 0.0
    """From when its times count, Unix time in seconds: it was made, enabled, or given other times then."""
