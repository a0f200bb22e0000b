"""How etcd answers one session: how long it takes, and how often it does not."""

from collections.abc import Iterator
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric

from lambent_chassis.metrics import Histogram

FAILURES: Final = ("no_answer", "refused")
"""No member answered that was asked; or it answered that it will not."""


class Answers:
    """Of each request to a member, renewals of leases included; watches are none."""

    def __init__(self) -> None:
        self.answered = Histogram()
        self.failed = dict.fromkeys(FAILURES, 0)

    def metrics(self, part: str) -> Iterator[Metric]:
        """By the names that docs/metrics.md has for `lambent_PART`."""
        seconds = HistogramMetricFamily(f"{part}_etcd_answer_seconds", "What etcd took for its answers.")
        self.answered.fill(seconds)
        yield seconds
        failed = CounterMetricFamily(
            f"{part}_etcd_failures", "Requests to etcd that failed, by how.", labels=["reason"]
        )
        for reason, count in self.failed.items():
            failed.add_metric([reason], count)
        yield failed
