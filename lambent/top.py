"""What `lambent top` shows: the fleet of one moment, a function of what a frontend tells."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lambent_proto.v1.fleet_pb2 import FunctionActivity, Instance, Node

BUSY_STATES = frozenset({"leased", "fencing"})
"""Of instances that a frontend has for its calls."""


@dataclass(frozen=True, slots=True)
class Told:
    """What was asked for at one moment; `missing` says what of it could not be had, and why."""

    nodes: Sequence[Node] = ()
    instances: Sequence[Instance] = ()
    functions: Sequence[FunctionActivity] = ()
    missing: Sequence[str] = ()


@dataclass(slots=True)
class NodeRow:
    node: str
    state: str
    memory_mb: int
    memory_used_mb: int
    instances: int
    busy: int = 0
    functions: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class FunctionRow:
    function: str
    calls_per_s: float = 0.0
    failed: float | None = None
    """Shares, of the calls that ended; None where none did."""
    throttled: float | None = None
    cold: float | None = None
    """Of those that ran."""
    waiting: int = 0
    running: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    instances: int = 0
    busy: int = 0
    memory_mb: int = 0


@dataclass(slots=True)
class Snapshot:
    nodes: list[NodeRow]
    functions: list[FunctionRow]
    """Those with the most calls first."""
    calls_per_s: float
    failed: float | None
    waiting: int
    missing: list[str]


def snapshot(told: Told) -> Snapshot:
    functions = _functions(told.functions, told.instances)
    ended = sum(it.calls for it in told.functions)
    return Snapshot(
        nodes=_nodes(told.nodes, told.instances),
        functions=functions,
        calls_per_s=sum(it.calls_per_s for it in functions),
        failed=_share(sum(it.failed for it in told.functions), ended),
        waiting=sum(it.waiting for it in functions),
        missing=list(told.missing),
    )


def facts(shot: Snapshot, window_s: float) -> dict[str, Any]:
    """For `--json`; what is not known is null."""
    return {
        "window_s": window_s,
        "calls_per_s": round(shot.calls_per_s, 3),
        "failed": shot.failed,
        "waiting": shot.waiting,
        "nodes": [
            {name: getattr(it, name) for name in NodeRow.__slots__} | {"functions": dict(it.functions)}
            for it in shot.nodes
        ],
        "functions": [{name: getattr(it, name) for name in FunctionRow.__slots__} for it in shot.functions],
        "missing": shot.missing,
    }


def _nodes(nodes: Iterable[Node], instances: Iterable[Instance]) -> list[NodeRow]:
    rows = {
        it.name: NodeRow(it.name, it.state, it.memory_mb, it.memory_used_mb, it.instances) for it in nodes
    }
    for it in instances:
        row = rows.get(it.node)
        if row is not None:
            row.busy += it.state in BUSY_STATES
            row.functions[it.function_name] += 1
    return [rows[name] for name in sorted(rows)]


def _functions(activity: Iterable[FunctionActivity], instances: Iterable[Instance]) -> list[FunctionRow]:
    rows: dict[str, FunctionRow] = {}
    for it in activity:
        answered = sum(it.took.values())
        rows[it.function_name] = FunctionRow(
            it.function_name,
            it.calls_per_s,
            _share(it.failed, it.calls),
            _share(it.throttled, it.calls),
            _share(it.cold, it.ran),
            it.waiting,
            it.running,
            it.p50_ms if answered else None,
            it.p99_ms if answered else None,
        )
    for instance in instances:
        row = rows.setdefault(instance.function_name, FunctionRow(instance.function_name))
        row.instances += 1
        row.busy += instance.state in BUSY_STATES
        row.memory_mb += instance.memory_mb
    return sorted(rows.values(), key=lambda it: (-it.calls_per_s, -it.waiting, it.function))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
