"""What a schedule does when one of its times has come, by table."""

import pytest

from lambent_frontend.schedules.core import LATE_S, Due, Turn, decide, next_due, put_off_s
from lambent_frontend.schedules.expressions import Next, parse
from lambent_frontend.schedules.schedule import Misfire, Overlap, Schedule

MINUTE = 60.0


def _schedule(**fields: object) -> Schedule:
    given = {"name": "s", "function": "f", "expression": "rate(1 minute)"} | fields
    return Schedule(**given)  # type: ignore[arg-type]


def _every_minute(schedule: Schedule) -> Next:
    return parse(schedule.expression, schedule.time_zone, schedule.made_at)


@pytest.mark.parametrize(
    ("overlap", "before_runs", "turn"),
    [
        (Overlap.ALLOW, False, Turn.FIRE),
        (Overlap.ALLOW, True, Turn.FIRE),
        (Overlap.FORBID, False, Turn.FIRE),
        (Overlap.FORBID, True, Turn.OVERLAPS),
        (Overlap.REPLACE, False, Turn.FIRE),
        (Overlap.REPLACE, True, Turn.REPLACE),
    ],
)
def test_overlap(overlap: Overlap, before_runs: bool, turn: Turn) -> None:
    schedule = _schedule(overlap=overlap)
    after = _every_minute(schedule)
    due = next_due(schedule, after, 0.0)
    assert due == Due(MINUTE, MINUTE)
    decision = decide(schedule, after, due, MINUTE + 1, before_runs=before_runs)
    assert (decision.turn, decision.decided_until) == (turn, MINUTE)


@pytest.mark.parametrize(
    ("misfire", "late_s", "turn", "next_at"),
    [
        # Nobody was there for ten minutes and a half: ten times have come, and the last of them is in time.
        (Misfire.SKIP, 9.5 * MINUTE, Turn.MISSED, 10 * MINUTE),
        (Misfire.ONCE, 9.5 * MINUTE, Turn.FIRE, 10 * MINUTE),
        (Misfire.ALL, 9.5 * MINUTE, Turn.FIRE, 2 * MINUTE),
        # In time, if only just.
        (Misfire.SKIP, LATE_S, Turn.FIRE, 2 * MINUTE),
        (Misfire.ONCE, LATE_S, Turn.FIRE, 2 * MINUTE),
        # One missed, and none after it.
        (Misfire.SKIP, LATE_S + 1, Turn.MISSED, 2 * MINUTE),
        (Misfire.ONCE, LATE_S + 1, Turn.FIRE, 2 * MINUTE),
    ],
)
def test_times_that_were_missed(misfire: Misfire, late_s: float, turn: Turn, next_at: float) -> None:
    schedule = _schedule(misfire=misfire)
    after = _every_minute(schedule)
    due = next_due(schedule, after, 0.0)
    assert due is not None
    decision = decide(schedule, after, due, due.at + late_s, before_runs=False)
    assert (decision.turn, after(decision.decided_until)) == (turn, next_at)


def test_all_fires_each_of_them_in_order() -> None:
    schedule = _schedule(misfire=Misfire.ALL)
    assert _fired(schedule, now=5.5 * MINUTE) == [1 * MINUTE, 2 * MINUTE, 3 * MINUTE, 4 * MINUTE, 5 * MINUTE]


@pytest.mark.parametrize(
    ("misfire", "jitter_s", "missed"),
    [(Misfire.SKIP, 600.0, 0), (Misfire.ONCE, 600.0, 1), (Misfire.ONCE, 0.0, 1)],
)
def test_missed_ones_count_once_with_a_jitter_too(misfire: Misfire, jitter_s: float, missed: int) -> None:
    schedule = _schedule(misfire=misfire, jitter_s=jitter_s)
    now = 1000 * MINUTE
    fired = _fired(schedule, now)
    late = [at for at in fired if now - at - jitter_s > LATE_S]
    assert len(late) == missed


@pytest.mark.parametrize("misfire", Misfire)
def test_a_jitter_longer_than_the_period_makes_nothing_missed(misfire: Misfire) -> None:
    """Somebody is there all the time: a time that one before it holds up comes right after that one."""
    schedule = _schedule(misfire=misfire, jitter_s=10 * MINUTE)
    after, until, fired, now = _every_minute(schedule), 0.0, [], 0.0
    while (due := next_due(schedule, after, until)) and due.at <= 100 * MINUTE:
        now = max(now, due.put_off_to)
        decision = decide(schedule, after, due, now, before_runs=False)
        if decision.turn is Turn.FIRE:
            fired.append(due.at)
        until = decision.decided_until
    assert fired == [it * MINUTE for it in range(1, 101)]


def _fired(schedule: Schedule, now: float) -> list[float]:
    after, until, fired = _every_minute(schedule), 0.0, []
    while (due := next_due(schedule, after, until)) and due.put_off_to <= now:
        decision = decide(schedule, after, due, now, before_runs=False)
        if decision.turn is Turn.FIRE:
            fired.append(due.at)
        assert decision.decided_until > until
        until = decision.decided_until
    return fired


def test_the_whole_jitter_is_used_and_no_more() -> None:
    schedule = _schedule(jitter_s=300.0)
    put_off = [put_off_s(schedule, MINUTE * it) for it in range(1000)]
    assert 0 <= min(put_off) < 3
    assert 297 < max(put_off) <= 300
    assert put_off == [put_off_s(schedule, MINUTE * it) for it in range(1000)]
    assert put_off != [put_off_s(_schedule(name="t", jitter_s=300.0), MINUTE * it) for it in range(1000)]


def test_a_schedule_that_comes_no_more() -> None:
    schedule = _schedule(expression="at(1970-01-01T00:01:00)")
    after = parse(schedule.expression, "UTC", 0.0)
    due = next_due(schedule, after, 0.0)
    assert due == Due(MINUTE, MINUTE)
    decision = decide(schedule, after, due, 1e6, before_runs=False)
    assert next_due(schedule, after, decision.decided_until) is None
