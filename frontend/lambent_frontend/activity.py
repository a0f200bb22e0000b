"""What was called of late: made of what drivers remember when somebody asks, and costing nothing else."""

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from lambent_frontend.driver import Driver, Finished
from lambent_proto.ids import RequestId, function_of
from lambent_proto.v1 import fleet_pb2

LOOKED_AT: Final = 2000
"""Calls at the most, about a microsecond of the loop each: where there are more, less of the time is seen."""

LEAST_SPAN_S: Final = 0.05
"""So that a burst of calls is not told as a rate of millions."""

_FAILED: Final = frozenset({"function_error", "timed_out", "lost", "failed"})
_ANSWERED: Final = frozenset({"succeeded", "function_error"})

_STEP: Final = 1.1
"""From one bucket of times to the next, so that a quantile is told within a twentieth."""
_LOG_STEP: Final = math.log(_STEP)


@dataclass(slots=True)
class Count:
    """Of one function."""

    calls: int = 0
    failed: int = 0
    throttled: int = 0
    ran: int = 0
    cold: int = 0
    waiting: int = 0
    running: int = 0
    calls_per_s: float = 0.0
    took: Counter[int] = field(default_factory=Counter)


_Kind = tuple[str, str, bool, bool]
"""Function, outcome, whether it ran, and cold."""

Counts = Mapping[str, Count]
"""By function."""


def counted(drivers: Sequence[Driver], now: float, window_s: float) -> Counts:
    counts: dict[str, Count] = {}
    for driver in drivers:
        span_s = _count_ended(counts, driver, now, window_s)
        for version, line in driver.core.books.lines.items():
            if line.waiting or line.busy:
                count = counts.setdefault(function_of(version), Count())
                count.waiting += len(line.waiting)
                count.running += line.busy
        for count in counts.values():  # a function is of one driver alone
            count.calls_per_s = count.calls_per_s or count.calls / span_s
    return counts


def _count_ended(counts: dict[str, Count], driver: Driver, now: float, window_s: float) -> float:
    """Returns the seconds that were looked at."""
    alike: defaultdict[_Kind, list[float]] = defaultdict(list)
    begins, oldest = now - window_s, now
    for it in islice(reversed(driver.finished.values()), LOOKED_AT):
        sent, ms = it.sent, it.running_ms
        if sent is not None:
            ms += sent.waited_s * 1000
        at = it.arrived_at + ms / 1000  # as _ended_at
        if at < oldest:
            oldest = at
        if at >= begins:
            alike[it.function, it.outcome, sent is not None, sent is not None and sent.cold].append(ms)
    for kind, took in alike.items():
        _add(counts.setdefault(kind[0], Count()), kind, took)
    if len(driver.finished) < LOOKED_AT:
        return window_s
    return max(min(window_s, now - oldest), LEAST_SPAN_S)


def _add(count: Count, kind: _Kind, took: list[float]) -> None:
    _, outcome, ran, cold = kind
    calls = len(took)
    count.calls += calls
    count.failed += calls * (outcome in _FAILED)
    count.throttled += calls * (outcome == "throttled")
    count.ran += calls * ran
    count.cold += calls * cold
    if ran and outcome in _ANSWERED:
        count.took.update(map(_bucket, took))


def _ended_at(it: Finished) -> float:
    """About: what was given up while it ran, or in line, had more time than is known."""
    return it.arrived_at + (it.sent.waited_s if it.sent else 0.0) + it.running_ms / 1000


def recent(drivers: Sequence[Driver], now: float, most: int) -> list[tuple[RequestId, float]]:
    """The last calls, the newest first, and how many seconds ago each ended."""
    ended = (
        (request_id, max(now - _ended_at(it), 0.0))
        for driver in drivers
        for request_id, it in islice(reversed(driver.finished.items()), most)
    )
    return heapq.nsmallest(most, ended, key=lambda it: it[1])


def told(counts: Counts) -> list[fleet_pb2.FunctionActivity]:
    return [
        fleet_pb2.FunctionActivity(
            function_name=function,
            calls_per_s=it.calls_per_s,
            calls=it.calls,
            failed=it.failed,
            throttled=it.throttled,
            ran=it.ran,
            cold=it.cold,
            waiting=it.waiting,
            running=it.running,
            took=it.took,
        )
        for function, it in counts.items()
    ]


def merged(told: Iterable[fleet_pb2.FunctionActivity]) -> list[fleet_pb2.FunctionActivity]:
    """What several frontends tell of each function, together, with its quantiles."""
    by_name: dict[str, fleet_pb2.FunctionActivity] = {}
    for it in told:
        whole = by_name.setdefault(
            it.function_name, fleet_pb2.FunctionActivity(function_name=it.function_name)
        )
        whole.calls_per_s += it.calls_per_s
        whole.calls += it.calls
        whole.failed += it.failed
        whole.throttled += it.throttled
        whole.ran += it.ran
        whole.cold += it.cold
        whole.waiting += it.waiting
        whole.running += it.running
        for bucket, number in it.took.items():
            whole.took[bucket] += number
    for whole in by_name.values():
        whole.p50_ms = quantile(whole.took, 0.5)
        whole.p99_ms = quantile(whole.took, 0.99)
    return [by_name[name] for name in sorted(by_name)]


def _bucket(ms: float) -> int:
    return math.ceil(math.log(max(ms, 0.001)) / _LOG_STEP)


def quantile(took: Mapping[int, int], share: float) -> float:
    """Milliseconds, the middle of the bucket that it is in; 0 if there are none."""
    rank = math.ceil(sum(took.values()) * share)
    for bucket in sorted(took):
        rank -= took[bucket]
        if rank <= 0:
            return float(_STEP ** (bucket - 0.5))
    return 0.0
