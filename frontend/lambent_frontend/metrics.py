"""What a frontend tells Prometheus: its calls by outcome and reason, how long they took, and what waits."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from lambent_chassis import clock
from lambent_chassis.etcd.answers import Answers
from lambent_frontend.calls import Counted
from lambent_frontend.core.books import Books
from lambent_frontend.core.line import Hold
from lambent_frontend.durations import KINDS, Durations
from lambent_frontend.queue.queue import Queue
from lambent_frontend.queue.store import Counts
from lambent_frontend.triggers.holding import Lag
from lambent_proto.errors import LambentError

QUEUE_WITHIN_S: Final = 2.0
"""What a queue is given to count what is in it; who asks for the page waits for five."""

_NAME: Final = "lambent_frontend"

_log = structlog.get_logger()


class Now(NamedTuple):
    """What there is at the moment that somebody asks."""

    counts: Mapping[Counted, int]
    attempts: Mapping[Counted, int]
    books: Sequence[Books]
    """Of each shard."""
    queue: Counts | None
    lags: Sequence[Lag]
    unix_s: float


class Metrics:
    def __init__(
        self,
        books: Sequence[Books],
        counts: Callable[[], Mapping[Counted, int]],
        attempts: Mapping[Counted, int],
        durations: Durations,
        queue: Queue | None,
        etcd: Answers,
        lags: Callable[[], Iterable[Lag]] = tuple,
        *,
        unix_s: Callable[[], float] = clock.unix_s,
    ) -> None:
        """`books` are those of each shard; without a `queue` nothing is told of one. `lags` are those of the
        triggers that this frontend has."""
        self._books = books
        self._counts = counts
        self._attempts = attempts
        self._durations = durations
        self._queue = queue
        self._etcd = etcd
        self._lags = lags
        self._unix_s = unix_s

    async def page(self) -> bytes:
        queue = await self._counted()
        registry = CollectorRegistry()
        now = Now(self._counts(), self._attempts, self._books, queue, tuple(self._lags()), self._unix_s())
        registry.register(_Page(now, self._durations, self._etcd))
        return generate_latest(registry)

    async def _counted(self) -> Counts | None:
        """None of a queue that does not answer, too: all else is asked for then more than ever."""
        if self._queue is None:
            return None
        try:
            async with asyncio.timeout(QUEUE_WITHIN_S):
                return await self._queue.counts()
        except (LambentError, TimeoutError) as error:
            _log.warning("queue_not_counted", reason=str(error) or f"no answer in {QUEUE_WITHIN_S:g} s")
            return None


class _Page(Collector):
    def __init__(self, now: Now, durations: Durations, etcd: Answers) -> None:
        self._now = now
        self._durations = durations
        self._etcd = etcd

    def collect(self) -> Iterable[Metric]:
        yield from _calls({**self._now.counts, **self._now.attempts})
        yield from _durations(self._durations)
        yield from _levels(self._now.books)
        if self._now.queue is not None:
            yield from _queue(self._now.queue, self._now.unix_s)
        yield _lag(self._now.lags)
        yield from self._etcd.metrics(_NAME)


def _calls(counts: Mapping[Counted, int]) -> Iterator[Metric]:
    for name, meaning, what in (
        ("calls", "Calls that have ended, by how.", "outcome"),
        ("waits", "Calls that could not run at once, by what they waited for.", "waited"),
        ("refusals", "Calls that were refused, by why.", "refused"),
        ("attempts", "Attempts of asynchronous calls, by how they ended.", "attempt"),
    ):
        label = "outcome" if what in ("outcome", "attempt") else "reason"
        family = CounterMetricFamily(f"{_NAME}_{name}", meaning, labels=[label])
        for counted, count in sorted(counts.items()):
            if counted.what == what:
                family.add_metric([counted.reason], count)
        yield family
    family = CounterMetricFamily(
        f"{_NAME}_runs",
        "Calls that were sent to an instance, by what it was and why.",
        labels=["kind", "reason"],
    )
    for counted, count in sorted(counts.items()):
        if counted.what in KINDS:
            family.add_metric([counted.what, counted.reason], count)
    yield family


def _durations(durations: Durations) -> Iterator[Metric]:
    waiting = HistogramMetricFamily(
        f"{_NAME}_waiting_seconds", "From a call's arrival until it was sent to an instance.", labels=["kind"]
    )
    for kind in KINDS:
        durations.waiting[kind].fill(waiting, [kind])
    yield waiting
    for name, meaning, histogram in (
        ("starting", "New instances until their runtime could initialise.", durations.starting),
        ("init", "Initialising functions in new instances.", durations.init),
        ("running", "What functions took for their answers.", durations.running),
    ):
        family = HistogramMetricFamily(f"{_NAME}_{name}_seconds", meaning)
        histogram.fill(family)
        yield family


def _levels(books: Sequence[Books]) -> Iterator[Metric]:
    waiting = sum(len(line.waiting) for it in books for line in it.lines.values())
    yield _gauge("calls_waiting", "Calls in line.", waiting)
    yield _gauge("calls_waiting_bytes", "Bytes of their events.", sum(it.waiting_bytes for it in books))
    yield _gauge("calls", "Calls that wait or run, synchronous and not.", sum(len(it.calls) for it in books))
    leases = GaugeMetricFamily(f"{_NAME}_leases", "Leases on instances, by state.", labels=["state"])
    for hold in Hold:
        held = sum(lease.hold is hold for it in books for lease in it.leases.values())
        leases.add_metric([hold.value], held)
    yield leases
    yield _gauge("workers", "Workers that it is connected to.", sum(len(it.links) for it in books))
    attached = GaugeMetricFamily(
        f"{_NAME}_placement_attached", "1 while it is attached to the leader of the shard.", labels=["shard"]
    )
    for number, it in enumerate(books):
        attached.add_metric([str(number)], it.attached)
    yield attached


def _queue(counts: Counts, unix_s: float) -> Iterator[Metric]:
    events = GaugeMetricFamily(
        f"{_NAME}_queue_events", "Asynchronous calls that are known, by state.", labels=["state"]
    )
    for state, count in sorted(counts.by_state.items()):
        events.add_metric([state], count)
    yield events
    age_s = 0.0 if counts.oldest is None else max(unix_s - counts.oldest, 0.0)
    yield _gauge("queue_oldest_seconds", "Age of the oldest one that has not ended.", age_s)
    yield _gauge("queue_bytes", "What the queue takes.", counts.bytes)
    yield _gauge(
        "queue_most_bytes", "What it may take: above that nothing more is accepted.", counts.most_bytes
    )


def _lag(lags: Sequence[Lag]) -> Metric:
    family = GaugeMetricFamily(
        f"{_NAME}_trigger_lag",
        "Records of the source that its trigger has before it.",
        labels=["trigger", "function"],
    )
    for it in lags:
        family.add_metric([it.trigger, it.function], it.records)
    return family


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{_NAME}_{name}", meaning, value=value)
