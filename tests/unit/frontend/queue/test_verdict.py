"""What becomes of an event after an attempt: Lambda's rules, and those of one's own."""

import pytest

from lambent_frontend.queue.core.verdict import (
    DELIVERIES,
    Again,
    Condition,
    Outcome,
    Over,
    Policy,
    Tally,
    after,
    delivery_again,
    too_old,
)


def story(outcomes: list[Outcome], policy: Policy, took_s: float = 0.0) -> tuple[list[float], Over | None]:
    """How long it waited after each, and how it ended."""
    tally, now = Tally(0.0), 0.0
    waits: list[float] = []
    for outcome in outcomes:
        now += took_s
        verdict = after(outcome, tally, policy, now)
        if isinstance(verdict, Over):
            return waits, verdict
        waits.append(verdict.due - now)
        tally, now = verdict.tally, verdict.due
    return waits, None


def test_a_function_that_fails_is_tried_three_times() -> None:
    """After one minute and then two."""
    waits, over = story([Outcome.FAILED] * 3, Policy())
    assert waits == [60.0, 120.0]
    assert over == Over(Condition.RETRIES_EXHAUSTED, Tally(0.0, 3, 0))


@pytest.mark.parametrize("retries", [0, 1, 2, 7])
def test_as_often_as_is_configured(retries: int) -> None:
    """The last wait goes for all that follow."""
    waits, over = story([Outcome.FAILED] * 20, Policy(retries=retries, delays_s=(1.0, 5.0)))
    assert waits == [1.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0][:retries]
    assert over is not None
    assert over.tally.attempts == retries + 1


def test_the_platform_s_failures_use_no_attempt_up() -> None:
    waits, over = story([Outcome.BROKEN] * 12 + [Outcome.FAILED] * 3, Policy())
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert waits[11] == 300.0
    assert over == Over(Condition.RETRIES_EXHAUSTED, Tally(0.0, 3, 12))


def test_they_go_on_until_it_is_too_old() -> None:
    waits, over = story([Outcome.BROKEN] * 1000, Policy())
    assert over is not None
    assert over.condition is Condition.EVENT_AGE_EXCEEDED
    assert 6 * 3600 - 300 < sum(waits) <= 6 * 3600


def test_a_retry_that_would_come_too_late_is_not_waited_for() -> None:
    waits, over = story([Outcome.FAILED] * 3, Policy(most_age_s=100))
    assert waits == [60.0]
    assert over == Over(Condition.EVENT_AGE_EXCEEDED, Tally(0.0, 2, 0))


@pytest.mark.parametrize(
    ("outcome", "condition"),
    [
        (Outcome.SWITCHED_OFF, Condition.ZERO_RESERVED_CONCURRENCY),
        (Outcome.GONE, Condition.FUNCTION_GONE),
        (Outcome.SUCCEEDED, Condition.SUCCESS),
    ],
)
def test_what_ends_at_once(outcome: Outcome, condition: Condition) -> None:
    assert story([outcome], Policy())[1] is not None
    verdict = after(outcome, Tally(0.0), Policy(), 1.0)
    assert isinstance(verdict, Over)
    assert verdict.condition is condition


def test_age() -> None:
    assert not too_old(Tally(0.0), Policy(most_age_s=60), 60.0)
    assert too_old(Tally(0.0), Policy(most_age_s=60), 60.1)


def test_a_destination_is_tried_for_half_an_hour() -> None:
    waits = [due for n in range(1, DELIVERIES) if (due := delivery_again(n, 0.0)) is not None]
    assert len(waits) == DELIVERIES - 1
    assert 1000 < sum(waits) < 3600
    assert delivery_again(DELIVERIES, 0.0) is None
    assert isinstance(after(Outcome.FAILED, Tally(0.0), Policy(), 0.0), Again)
