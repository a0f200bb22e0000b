"""What a frontend tells Prometheus, read by Prometheus' own parser."""

from collections import Counter
from typing import cast

from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from lambent_chassis.clock import monotonic_s
from lambent_chassis.etcd.answers import Answers
from lambent_frontend.calls import Call, Counted
from lambent_frontend.driver import Driver
from lambent_frontend.metrics import Metrics
from lambent_frontend.queue.queue import Queue
from lambent_frontend.queue.store import Counts
from lambent_frontend.triggers.holding import Lag
from lambent_proto import frames
from lambent_proto.errors import NotReady
from lambent_proto.ids import RequestId
from tests.unit.frontend.dispatcher_rows import ready, starting
from tests.unit.frontend.test_driver import DEFINITION, attached

Page = dict[str, float]


class Queued:
    """A queue of which only its counts are asked."""

    async def counts(self) -> Counts:
        return Counts({"queued": 3, "dead": 1}, 4_000, 10_000, 940.0)


class Away:
    """One that is not there, as NATS may be."""

    async def counts(self) -> Counts:
        raise NotReady("NATS does not answer")


def metrics(driver: Driver, queue: Queue | None = None, attempts: Counter[Counted] | None = None) -> Metrics:
    return Metrics(
        [driver.core.books],
        lambda: driver.counts,
        attempts or Counter(),
        driver.durations,
        queue,
        Answers(),
        lambda: [Lag("t-1", "f:live", 12)],
        unix_s=lambda: 1_000.0,
    )


async def read(metrics: Metrics) -> Page:
    """By name, with the labels' values behind it."""
    return {
        " ".join([sample.name.removeprefix("lambent_frontend_"), *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families((await metrics.page()).decode())
        for sample in family.samples
    }


def submit(driver: Driver, request: str, size: int = 2) -> RequestId:
    request_id = RequestId(request)
    driver.submit(Call(request_id, DEFINITION, bytes(size), False, "", 10.0), lambda answer: None)
    return request_id


async def test_calls_by_outcome_and_how_long_they_took() -> None:
    """One warm and one cold, which waited; the third does not fit into the line."""
    driver, _ = attached()
    first, second = submit(driver, "r-1"), submit(driver, "r-2")
    submit(driver, "r-3")
    driver.feed(starting("i-2"))
    driver.feed(ready("i-2", at=monotonic_s()))
    driver.answered(frames.Answer(first, False, 30.0, None, b"1"))
    driver.answered(frames.Answer(second, True, 400.0, None, b"1"))
    page = await read(metrics(driver))
    assert page["calls_total succeeded"] == 1
    assert page["calls_total function_error"] == 1
    assert page["calls_total throttled"] == 1
    assert page["refusals_total line_full"] == 1
    assert (page["waiting_seconds_count warm"], page["waiting_seconds_count cold"]) == (1, 1)
    assert (page["init_seconds_count"], page["starting_seconds_count"]) == (1, 1)
    assert page["running_seconds_count"] == 2
    assert abs(page["running_seconds_sum"] - 0.43) < 1e-9
    by_bucket = [page[f"running_seconds_bucket {end}"] for end in ("0.025", "0.05", "0.25", "0.5", "+Inf")]
    assert by_bucket == [0, 1, 1, 2, 2]
    assert sum(count for name, count in page.items() if name.startswith("runs_total cold")) == 1


async def test_what_there_is_right_now() -> None:
    """One runs, one waits with its 300 bytes."""
    driver, _ = attached()
    submit(driver, "r-1")
    submit(driver, "r-2", size=300)
    page = await read(metrics(driver))
    assert (page["calls"], page["calls_waiting"], page["calls_waiting_bytes"]) == (2, 1, 300)
    assert (page["leases busy"], page["leases idle"], page["workers"]) == (1, 0, 1)
    assert page["placement_attached 0"] == 1
    assert page["trigger_lag f:live t-1"] == 12


async def test_what_a_call_took_that_nobody_answered_is_not_known() -> None:
    """It waited, and that is told."""
    driver, _ = attached()
    driver.abandon(submit(driver, "r-1"))
    page = await read(metrics(driver))
    assert page["calls_total cancelled"] == 1
    assert (page["waiting_seconds_count warm"], page["running_seconds_count"]) == (1, 0)


async def test_the_queue_is_told_where_there_is_one() -> None:
    driver, _ = attached()
    attempts = Counter({Counted("attempt", "succeeded"): 5})
    page = await read(metrics(driver, cast("Queue", Queued()), attempts))
    assert (page["queue_events queued"], page["queue_events dead"]) == (3, 1)
    assert (page["queue_bytes"], page["queue_most_bytes"]) == (4_000, 10_000)
    assert page["queue_oldest_seconds"] == 60
    assert page["attempts_total succeeded"] == 5
    assert not [name for name in await read(metrics(driver)) if name.startswith("queue")]


async def test_a_queue_that_does_not_answer_is_left_out() -> None:
    """Everything else is told: it is then that somebody looks."""
    driver, _ = attached()
    with capture_logs() as logs:
        page = await read(metrics(driver, cast("Queue", Away())))
    assert page["workers"] == 1
    assert not [name for name in page if name.startswith("queue")]
    assert [(it["event"], it["reason"]) for it in logs] == [("queue_not_counted", "NATS does not answer")]
