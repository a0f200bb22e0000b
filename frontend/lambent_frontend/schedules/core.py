"""What a schedule is to do when one of its times has come: a function of the schedule, its past and the time.

Its times are dealt with one after the other, each once, in this order of questions:

    1. Is it more than `LATE_S` later than its jitter allows, since nobody was there? Then `skip` fires
       nothing for it and for all others that were missed, `once` fires once for all of them, `all` each.
    2. Does the invocation of the time before still run? Then `forbid` fires nothing, `replace` cancels that
       invocation and fires, `allow` fires beside it.

With a jitter each time is put off by a part of it, which is the same wherever it is computed.
"""

from dataclasses import dataclass
from enum import Enum, auto
from hashlib import blake2b
from typing import Final

from lambent_frontend.schedules.expressions import Next
from lambent_frontend.schedules.schedule import Misfire, Overlap, Schedule

LATE_S: Final = 60.0
"""How much later than its jitter allows a time may be dealt with and still not count as missed: the shortest
period there is, and several times what another frontend needs to take over from one that died."""


class Turn(Enum):
    FIRE = auto()
    REPLACE = auto()
    """Fire, after the invocation of the time before is cancelled."""
    MISSED = auto()
    """Fire nothing, since nobody was there in time."""
    OVERLAPS = auto()
    """Fire nothing, since the invocation of the time before still runs."""


@dataclass(frozen=True, slots=True)
class Due:
    """One of a schedule's times; Unix time, seconds."""

    at: float
    put_off_to: float
    """With its part of the jitter."""


@dataclass(frozen=True, slots=True)
class Decision:
    turn: Turn
    decided_until: float
    """All times up to this one are dealt with."""


def next_due(schedule: Schedule, after: Next, decided_until: float) -> Due | None:
    """The first time not dealt with yet, in the past or to come; None if there is none and will be none.

    `decided_until` is when the schedule was made if none of its times was dealt with.
    """
    at = after(decided_until)
    return None if at is None else Due(at, at + put_off_s(schedule, at))


def decide(schedule: Schedule, after: Next, due: Due, now: float, *, before_runs: bool) -> Decision:
    """`due` has come. `before_runs`: whether the invocation of the time before it still runs."""
    until = due.at
    if _is_missed(schedule, due, now):
        if schedule.misfire is not Misfire.ALL:
            until = _last_missed(schedule, after, due, now)
        if schedule.misfire is Misfire.SKIP:
            return Decision(Turn.MISSED, until)
    if not before_runs or schedule.overlap is Overlap.ALLOW:
        return Decision(Turn.FIRE, until)
    return Decision(Turn.REPLACE if schedule.overlap is Overlap.REPLACE else Turn.OVERLAPS, until)


def put_off_s(schedule: Schedule, at: float) -> float:
    """Seconds from nothing to the schedule's jitter, evenly spread over names and times."""
    digest = blake2b(f"{schedule.name} {at}".encode(), digest_size=8).digest()
    return schedule.jitter_s * int.from_bytes(digest) / 2**64


def _is_missed(schedule: Schedule, due: Due, now: float) -> bool:
    """Counted from the end of the whole jitter: until then it may be held up by the time before it, which is
    dealt with first and may be put off for longer."""
    return now - (due.at + schedule.jitter_s) > LATE_S


def _last_missed(schedule: Schedule, after: Next, first: Due, now: float) -> float:
    """What is earlier by more than the jitter is missed, and is not looked at one by one."""
    last = max(first.at, now - LATE_S - schedule.jitter_s)
    while (due := next_due(schedule, after, last)) and _is_missed(schedule, due, now):
        last = due.at
    return last
