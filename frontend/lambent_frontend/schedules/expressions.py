"""When a schedule is due: `rate(...)`, `cron(...)` and `at(...)` as Amazon EventBridge has them.

* `rate(5 minutes)`: every so many minutes, hours or days, counted from when the schedule was made.
* `cron(0 9 ? * MON-FRI *)`: minutes, hours, days of the month, months, days of the week, years; with `,` `-`
  `*` in each, `/` in all but days of the week, `?` for one of the two kinds of days, `L` and `W` for days of
  the month, `L` and `#` for days of the week. Sunday is 1.
* `at(2026-12-24T18:00:00)`: once.

`cron` and `at` are read on the clock of a time zone. A time that it leaps over in spring never comes, and one
that it shows twice in autumn comes once, the first time: as EventBridge Scheduler has it.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final
from zoneinfo import ZoneInfo

from aws_croniter import AwsCroniter
from aws_croniter.exceptions import AwsCroniterExpressionError

from lambent_frontend.schedules.schedule import BadSchedule

Next = Callable[[float], float | None]
"""The first due time after a moment, or None if there is none any more. Both in Unix time, seconds."""

_RATE: Final = re.compile(r"rate\(\s*([1-9][0-9]{0,6})\s+(minute|hour|day)s?\s*\)")
_CRON: Final = re.compile(r"cron\(\s*(\S+(?: +\S+){5})\s*\)")
_AT: Final = re.compile(r"at\(\s*(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})\s*\)")

_UNIT_S: Final = {"minute": 60, "hour": 3600, "day": 86400}

_LAST_YEAR: Final = 2199
"""EventBridge's."""

_LAST_S: Final = datetime(_LAST_YEAR + 1, 1, 1, tzinfo=UTC).timestamp()
"""No rate comes later than this: there is no way to show the time of one that comes in ten thousand years."""

_SEARCHED_MONTHS: Final = 5
"""The library gives up after ten steps, most of a month or a year: it has looked at this many months by then,
at the least."""


def parse(expression: str, time_zone: str, made_at: float) -> Next:
    """`made_at`: from when a rate counts, Unix time in seconds. Raises BadSchedule."""
    zone = _zone(time_zone)
    if match := _RATE.fullmatch(expression):
        return partial(_after_rate, int(match[1]) * _UNIT_S[match[2]], made_at)
    if match := _CRON.fullmatch(expression):
        return partial(_after_cron, _cron(match[1]), zone)
    if match := _AT.fullmatch(expression):
        return partial(_after_once, _once(match[1], zone))
    raise BadSchedule(
        f"{expression!r} is no schedule: it takes rate(5 minutes), cron(0 9 ? * MON-FRI *), which has six "
        "fields (minutes, hours, days of the month, months, days of the week, years), or "
        "at(2026-12-24T18:00:00)"
    )


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise BadSchedule(f"{name!r} is no time zone: it takes one such as Europe/Berlin or UTC") from error


def _cron(fields: str) -> AwsCroniter:
    try:
        return AwsCroniter(" ".join(fields.upper().split()))
    except (AwsCroniterExpressionError, ValueError) as error:
        raise BadSchedule(f"cron({fields}): {error}") from error


def _once(text: str, zone: ZoneInfo) -> float:
    try:
        moment = _moment(datetime.fromisoformat(text), zone)
    except ValueError as error:
        raise BadSchedule(f"at({text}): {error}") from error
    if moment is None:
        raise BadSchedule(f"at({text}): the clocks of {zone.key} leap over that time")
    return moment


def _after_rate(period_s: int, made_at: float, moment: float) -> float | None:
    due = made_at + period_s * max(1, (moment - made_at) // period_s + 1)
    return due if due <= _LAST_S else None


def _after_once(once: float, moment: float) -> float | None:
    return once if once > moment else None


def _after_cron(cron: AwsCroniter, zone: ZoneInfo, moment: float) -> float | None:
    """The library knows UTC alone, so what the zone's clock shows is passed off as that."""
    shown: datetime | None = datetime.fromtimestamp(moment, zone).replace(tzinfo=UTC)
    while shown is not None:
        shown = _next(cron, shown)
        due = None if shown is None else _moment(shown.replace(tzinfo=None), zone)
        if due is not None and due > moment:
            return due
    return None


def _next(cron: AwsCroniter, shown: datetime) -> datetime | None:
    since = shown
    while since.year <= _LAST_YEAR:
        found: datetime | None = cron.get_next(since)[0]
        if found is not None:
            return found
        month = since.month - 1 + _SEARCHED_MONTHS
        first = datetime(since.year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        since = first - timedelta(minutes=1)
    return None


def _moment(shown: datetime, zone: ZoneInfo) -> float | None:
    """When the zone's clock shows this for the first time; None if it leaps over it."""
    there = shown.replace(tzinfo=zone)
    moment = there.timestamp()
    leapt = datetime.fromtimestamp(moment, zone).replace(tzinfo=None) != shown
    return None if leapt else moment
