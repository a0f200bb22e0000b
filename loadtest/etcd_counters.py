"""What an etcd member has done so far, by its own metrics."""

import urllib.request
from collections import Counter
from dataclasses import dataclass
from typing import Final

_OPERATIONS: Final = {f"etcd_mvcc_{kind}_total": kind for kind in ("put", "range", "txn", "delete")} | {
    f"etcd_debugging_mvcc_{kind}_total": kind for kind in ("put", "range", "txn", "delete")
}
"""Operations on keys. Releases differ in which of the two names they have; those with both give one value."""

_HANDLED: Final = "grpc_server_handled_total"


@dataclass(frozen=True, slots=True)
class Counters:
    operations: Counter[str]
    """On keys, by kind; a transaction counts beside what it puts and reads."""
    requests: Counter[str]
    """Finished RPCs, by method. Status and LeaseKeepAlive come with time, not with calls."""

    @classmethod
    def none(cls) -> "Counters":
        return cls(Counter(), Counter())

    def __add__(self, other: "Counters") -> "Counters":
        return Counters(self.operations + other.operations, self.requests + other.requests)

    def since(self, before: "Counters") -> "Counters":
        return Counters(self.operations - before.operations, self.requests - before.requests)


def read(endpoint: str) -> Counters:
    """`endpoint` is HOST:PORT; raises OSError if it does not answer."""
    with urllib.request.urlopen(f"http://{endpoint}/metrics", timeout=10) as response:
        text = response.read().decode()
    operations: Counter[str] = Counter()
    requests: Counter[str] = Counter()
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        series, _, value = line.rpartition(" ")
        name, _, labels = series.partition("{")
        if kind := _OPERATIONS.get(name):
            operations[kind] = max(operations[kind], int(float(value)))
        elif name == _HANDLED:
            requests[_label(labels, "grpc_method")] += int(float(value))
    return Counters(operations, requests)


def _label(labels: str, name: str) -> str:
    return labels.partition(f'{name}="')[2].partition('"')[0]
