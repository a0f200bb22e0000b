"""What a placement tells Prometheus: its books while it leads, and what was decided in this process."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lambent_chassis.etcd.answers import Answers
from lambent_placement.core.records import State
from lambent_placement.core.tally import Tally
from lambent_placement.driver import Driver
from lambent_placement.service import NODE_STATES, node_state

_MB: Final = 1024 * 1024
_NAME: Final = "lambent_placement"


class Metrics(Collector):
    def __init__(self, driver: Callable[[], Driver | None], tally: Tally, shard: int) -> None:
        """`driver` is the leadership of the moment; None while another one leads."""
        self.etcd: Answers | None = None
        """Of the session, once there is one."""
        self._driver = driver
        self._tally = tally
        self._shard = shard
        self._registry = CollectorRegistry()
        self._registry.register(self)

    async def page(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        driver = self._driver()
        if driver is not None and driver.over:
            driver = None
        yield _gauge("shard", "Number of the fleet's shard that it is of; the first is 0.", self._shard)
        yield _gauge("leading", "1 while it leads.", driver is not None)
        yield from self._counted()
        if self.etcd is not None:
            yield from self.etcd.metrics(_NAME)
        if driver is not None:
            yield from _books(driver)

    def _counted(self) -> Iterator[Metric]:
        for name, meaning, counts in (
            ("starts", "Instances that were started, by why there and then.", self._tally.starts),
            ("warm_leases", "Leases on instances that were ready, by why that one.", self._tally.warm),
            ("waits", "How often a frontend was told that it has to wait, by why.", self._tally.waits),
            ("evictions", "Instances that were told to stop, by why.", self._tally.evictions),
        ):
            yield _counter(name, meaning, counts)


def _books(driver: Driver) -> Iterator[Metric]:
    books, pool = driver.core.books, driver.core.books.pool
    yield _gauge("epoch", "How often leadership has changed hands.", driver.core.epoch)
    yield _gauge(
        "lease_left_seconds", "How long it may lead if etcd says nothing more.", driver.lease_left_s()
    )
    yield _gauge(
        "frontends", "Frontends that are attached.", sum(it.attached for it in books.frontends.values())
    )
    states = Counter(node_state(node) for node in books.nodes.values())
    yield _labelled("nodes", "Workers, by state.", "state", {it: states[it] for it in NODE_STATES})
    instances = Counter(instance.state for instance in books.instances.values())
    by_state = {state.value: instances[state] for state in State}
    yield _labelled("instances", "Instances that exist, as far as it knows, by state.", "state", by_state)
    yield _gauge(
        "instances_unreported", "Instances that may be on workers that have not reported.", books.unreported
    )
    memory = sum(node.memory_mb for node in books.nodes.values()) * _MB
    used = sum(node.used_mb for node in books.nodes.values()) * _MB
    yield _gauge("memory_bytes", "Memory for instances, of all workers.", memory)
    yield _gauge("memory_granted_bytes", "What of it instances have.", used)
    yield _gauge("concurrency", "What functions that reserve nothing share.", pool.size)
    yield _gauge("concurrency_used", "Running instances of those.", pool.used)
    yield _gauge("waiting_versions", "Versions of functions whose demand is not met.", len(books.needy))


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{_NAME}_{name}", meaning, value=value)


def _labelled(name: str, meaning: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(f"{_NAME}_{name}", meaning, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _counter(name: str, meaning: str, counts: Counter[str]) -> Metric:
    family = CounterMetricFamily(f"{_NAME}_{name}", meaning, labels=["reason"])
    for reason, count in sorted(counts.items()):
        family.add_metric([reason], count)
    return family
