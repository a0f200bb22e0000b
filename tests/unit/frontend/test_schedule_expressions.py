"""When schedules are due, by table, and against a search of every minute."""

from calendar import monthrange
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambent_frontend.schedules.expressions import parse
from lambent_frontend.schedules.schedule import BadSchedule


def _at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def _dues(expression: str, since: str, count: int, zone: str = "UTC") -> list[str]:
    """The next ones, as UTC shows them."""
    moment: float | None = _at(since, zone)
    after = parse(expression, zone, _at(since, zone))
    found: list[str] = []
    for _ in range(count):
        moment = None if moment is None else after(moment)
        if moment is None:
            return [*found, "never"]
        found.append(datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("expression", "since", "expected"),
    [
        ("rate(1 minute)", "2026-01-01T00:00:30", ["2026-01-01 00:01", "2026-01-01 00:02"]),
        ("rate(2 hours)", "2026-01-01T00:00:00", ["2026-01-01 02:00", "2026-01-01 04:00"]),
        ("rate(1 days)", "2026-01-31T12:00:00", ["2026-02-01 12:00", "2026-02-02 12:00"]),
        ("cron(0 12 * * ? *)", "2026-01-01T12:00:00", ["2026-01-02 12:00", "2026-01-03 12:00"]),
        ("cron(0/20 8 ? * mon-fri *)", "2026-01-02T08:30:00", ["2026-01-02 08:40", "2026-01-05 08:00"]),
        ("cron(0 0 L * ? *)", "2026-02-01T00:00:00", ["2026-02-28 00:00", "2026-03-31 00:00"]),
        ("cron(0 0 15W * ? *)", "2026-02-01T00:00:00", ["2026-02-16 00:00", "2026-03-16 00:00"]),
        ("cron(0 0 ? * 6L *)", "2026-02-01T00:00:00", ["2026-02-27 00:00", "2026-03-27 00:00"]),
        ("cron(0 0 ? * 2#1 *)", "2026-02-03T00:00:00", ["2026-03-02 00:00", "2026-04-06 00:00"]),
        ("cron(0 0 1 1 ? 2027)", "2026-01-01T00:00:00", ["2027-01-01 00:00", "never"]),
        ("cron(0 0 29 2 ? *)", "2096-02-29T00:00:00", ["2104-02-29 00:00", "2108-02-29 00:00"]),
        ("cron(0 0 ? 2 1#5 *)", "2032-02-29T00:00:00", ["2060-02-29 00:00", "2088-02-29 00:00"]),
        ("cron(0 0 31 2 ? *)", "2026-01-01T00:00:00", ["never"]),
        ("at(2026-12-24T18:00:00)", "2026-01-01T00:00:00", ["2026-12-24 18:00", "never"]),
        ("at(2026-12-24T18:00:00)", "2026-12-24T18:00:00", ["never"]),
    ],
)
def test_the_next_times(expression: str, since: str, expected: list[str]) -> None:
    assert _dues(expression, since, 2) == expected


@pytest.mark.parametrize(
    ("expression", "since", "expected"),
    [
        # Clocks of Berlin go from 2:00 to 3:00 on 2026-03-29: what would be in between never comes.
        ("cron(30 2 * * ? *)", "2026-03-28T12:00:00", ["2026-03-30 00:30", "2026-03-31 00:30"]),
        ("cron(0 9 * * ? *)", "2026-03-28T12:00:00", ["2026-03-29 07:00", "2026-03-30 07:00"]),
        # And from 3:00 back to 2:00 on 2026-10-25: what they show twice comes once.
        ("cron(30 2 * * ? *)", "2026-10-24T12:00:00", ["2026-10-25 00:30", "2026-10-26 01:30"]),
        ("cron(0/30 * 25 10 ? 2026)", "2026-10-25T02:30:00", ["2026-10-25 02:00", "2026-10-25 02:30"]),
        ("at(2026-07-01T09:00:00)", "2026-01-01T00:00:00", ["2026-07-01 07:00", "never"]),
    ],
)
def test_the_clock_of_a_time_zone(expression: str, since: str, expected: list[str]) -> None:
    assert _dues(expression, since, 2, "Europe/Berlin") == expected


@pytest.mark.parametrize(
    ("expression", "zone", "says"),
    [
        ("every day", "UTC", "it takes rate(5 minutes)"),
        ("rate(0 minutes)", "UTC", "it takes rate(5 minutes)"),
        ("rate(5 seconds)", "UTC", "it takes rate(5 minutes)"),
        ("cron(0 12 * * *)", "UTC", "six fields"),
        ("cron(0 12 * * * *)", "UTC", "question mark"),
        ("cron(61 12 * * ? *)", "UTC", "minute"),
        ("cron(0 12 ? * 8 *)", "UTC", "day-of-week"),
        ("cron(0 12 * * ? *)", "Mars/Olympus", "no time zone"),
        ("cron(0 12 * * ? *)", "../etc/passwd", "no time zone"),
        ("cron(0 12 * * ? *)", "", "no time zone"),
        ("at(2026-02-30T00:00:00)", "UTC", "day"),
        ("at(2026-03-29T02:30:00)", "Europe/Berlin", "leap over"),
    ],
)
def test_what_is_no_schedule(expression: str, zone: str, says: str) -> None:
    with pytest.raises(BadSchedule, match=says.replace("(", r"\(").replace(")", r"\)")):
        parse(expression, zone, 0.0)


def _field(least: int, most: int) -> st.SearchStrategy[str]:
    number = st.integers(least, most)
    return st.one_of(
        st.just("*"),
        number.map(str),
        st.tuples(number, number).map(lambda it: f"{min(it)}-{max(it)}"),
        st.lists(number, min_size=2, max_size=3).map(lambda it: ",".join(map(str, it))),
    )


def _with_steps(least: int, most: int) -> st.SearchStrategy[str]:
    steps = st.tuples(st.integers(least, most), st.integers(1, most)).map(lambda it: f"{it[0]}/{it[1]}")
    return st.one_of(_field(least, most), steps)


DAYS_OF_MONTH = st.one_of(_with_steps(1, 31), st.just("L"), st.integers(1, 31).map(lambda it: f"{it}W"))
DAYS_OF_WEEK = st.one_of(
    _field(1, 7),
    st.integers(1, 7).map(lambda it: f"{it}L"),
    st.tuples(st.integers(1, 7), st.integers(1, 5)).map(lambda it: f"{it[0]}#{it[1]}"),
)
DAYS = st.one_of(DAYS_OF_MONTH.map(lambda it: (it, "?")), DAYS_OF_WEEK.map(lambda it: ("?", it)))
MOMENTS = st.datetimes(datetime(2023, 1, 1), datetime(2029, 1, 1))  # noqa: DTZ001 - naive, as hypothesis wants it


@settings(max_examples=150, deadline=None)
@given(_with_steps(0, 59), _with_steps(0, 23), DAYS, _with_steps(1, 12), MOMENTS)
def test_no_earlier_minute_matches(
    minutes: str, hours: str, days: tuple[str, str], months: str, since: datetime
) -> None:
    """What is found matches field by field, and nothing in the 60 days before does."""
    fields = (minutes, hours, days[0], months, days[1])
    after = parse(f"cron({minutes} {hours} {days[0]} {months} {days[1]} *)", "UTC", 0.0)
    start = since.replace(tzinfo=UTC, second=0, microsecond=0)
    found = after(start.timestamp())
    end = start + timedelta(days=60)
    if found is not None:
        due = datetime.fromtimestamp(found, UTC)
        assert _matches(fields, due)
        end = min(end, due)
    day = start
    while day < end:
        if not _day_matches(fields, day):
            day = (day + timedelta(days=1)).replace(hour=0, minute=0)
            continue
        for minute in range(1440):
            moment = day.replace(hour=0, minute=0) + timedelta(minutes=minute)
            assert not (start < moment < end and _matches(fields, moment)), moment
        day = (day + timedelta(days=1)).replace(hour=0, minute=0)


def _matches(fields: tuple[str, ...], moment: datetime) -> bool:
    return (
        _in(fields[0], moment.minute, 59) and _in(fields[1], moment.hour, 23) and _day_matches(fields, moment)
    )


def _day_matches(fields: tuple[str, ...], day: datetime) -> bool:
    if not _in(fields[3], day.month, 12):
        return False
    last = monthrange(day.year, day.month)[1]
    weekday = day.isoweekday() % 7 + 1
    of_month, of_week = fields[2], fields[4]
    if of_month == "L":
        return day.day == last
    if of_month.endswith("W"):
        return day.day == _working_day(day, int(of_month[:-1]), last)
    if of_week.endswith("L"):
        return weekday == int(of_week[:-1]) and day.day > last - 7
    if "#" in of_week:
        wanted, nth = map(int, of_week.split("#"))
        return weekday == wanted and (day.day - 1) // 7 + 1 == nth
    return _in(of_month, day.day, 31) if of_week == "?" else _in(of_week, weekday, 7)


def _working_day(day: datetime, wanted: int, last: int) -> int:
    """The one nearest to the wanted day that is in its month; 0 if the month has no such day."""
    if wanted > last:
        return 0
    near = [wanted, wanted - 1, wanted + 1, wanted - 2, wanted + 2]
    return next(it for it in near if 1 <= it <= last and day.replace(day=it).isoweekday() <= 5)


def _in(field: str, value: int, most: int) -> bool:
    if field == "*":
        return True
    if "/" in field:
        first, step = map(int, field.split("/"))
        return first <= value <= most and (value - first) % step == 0
    if "-" in field:
        first, last = map(int, field.split("-"))
        return first <= value <= last
    return value in map(int, field.split(","))
