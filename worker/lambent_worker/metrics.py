"""What a worker tells Prometheus.

What changes all the time is read when it is asked for; only starts are counted as they happen.
"""

from collections.abc import Iterable
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from lambent_chassis.etcd.answers import Answers
from lambent_worker.core.agent import Agent, State
from lambent_worker.sandbox.api import PROTECTIONS, Protections

_MB: Final = 1024 * 1024


class Metrics:
    def __init__(
        self, protections: Protections, core: Agent, shard: int = 0, etcd: Answers | None = None
    ) -> None:
        self._registry = CollectorRegistry()
        self._starts = Counter(
            "lambent_worker_starts",
            "Runtimes started: new (a process was made for it), parked (one was waiting), "
            "again (in an instance that lost its runtime to a crash or a timeout).",
            ["runtime", "kind"],
            registry=self._registry,
        )
        self._isolation(protections)
        self._load(core)
        if etcd is not None:
            self._registry.register(_OfEtcd(etcd))
        self._gauge("shard", "Number of the fleet's shard that it belongs to; the first is 0.").set(shard)

    def launched(self, runtime: str, kind: str) -> None:
        """A runtime was started in an instance. `kind` is one of those that `lambent_worker_starts` names."""
        self._starts.labels(runtime, kind).inc()

    async def page(self) -> bytes:
        return generate_latest(self._registry)

    def _isolation(self, protections: Protections) -> None:
        self._gauge(
            "isolation_level", "1 at the level of isolation that the sandboxes reach.", "level", "backend"
        ).labels(protections.level, protections.backend).set(1)
        protection = self._gauge("protection", "1 if the sandboxes give this protection.", "name")
        for name in PROTECTIONS:
            protection.labels(name).set(name in protections.given)

    def _load(self, core: Agent) -> None:
        instances = self._gauge("instances", "Instances that exist.", "state")
        for state in State:
            instances.labels(state.value).set_function(partial(_count, core, state))
        granted = self._gauge("memory_granted_bytes", "Memory that was granted to instances.")
        granted.set_function(lambda: core.memory_used_mb * _MB)
        self._gauge("memory_bytes", "Memory for all instances together.").set(core.memory_mb * _MB)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"lambent_worker_{name}", meaning, labels, registry=self._registry)


class _OfEtcd(Collector):
    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def collect(self) -> Iterable[Metric]:
        return self._answers.metrics("lambent_worker")


def _count(core: Agent, state: State) -> int:
    return sum(instance.state is state for instance in core.instances.values())
