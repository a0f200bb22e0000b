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
    """What was asked for at one moment. What could not be had is None, and `missing` says why."""

    nodes: Sequence[Node] | None = ()
    instances: Sequence[Instance] | None = ()
    functions: Sequence[FunctionActivity] | None = ()
    missing: Sequence[str] = ()


@dataclass(slots=True)
class NodeRow:
    node: str
    state: str
    memory_mb: int
    memory_used_mb: int
    instances: int
    busy: int | None = 0
    functions: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class FunctionRow:
    """What is not known is None."""

    function: str
    calls_per_s: float | None = None
    failed: float | None = None
    """Shares, of the calls that ended; None where none did."""
    throttled: float | None = None
    cold: float | None = None
    """Of those that ran."""
    waiting: int | None = None
    running: int | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    instances: int | None = None
    busy: int | None = None
    memory_mb: int | None = None


@dataclass(slots=True)
class Snapshot:
    nodes: list[NodeRow]
    functions: list[FunctionRow]
    """Those with the most calls first."""
    calls_per_s: float | None
    failed: float | None
    waiting: int | None
    missing: list[str]


def snapshot(told: Told) -> Snapshot:
    functions = _functions(told.functions, told.instances)
    known = told.functions is not None
    active = told.functions or ()
    return Snapshot(
        nodes=_nodes(told.nodes or (), told.instances),
        functions=functions,
        calls_per_s=sum(it.calls_per_s for it in active) if known else None,
        failed=_share(sum(it.failed for it in active), sum(it.calls for it in active)),
        waiting=sum(it.waiting for it in active) if known else None,
        missing=list(told.missing),
    )


def facts(shot: Snapshot, window_s: float) -> dict[str, Any]:
    """For `--json`; what is not known is null."""
    return {
        "window_s": window_s,
        "calls_per_s": None if shot.calls_per_s is None else round(shot.calls_per_s, 3),
        "failed": shot.failed,
        "waiting": shot.waiting,
        "nodes": [
            {name: getattr(it, name) for name in NodeRow.__slots__} | {"functions": dict(it.functions)}
            for it in shot.nodes
        ],
        "functions": [{name: getattr(it, name) for name in FunctionRow.__slots__} for it in shot.functions],
        "missing": shot.missing,
    }


def _nodes(nodes: Iterable[Node], instances: Sequence[Instance] | None) -> list[NodeRow]:
    busy = None if instances is None else 0
    rows = {
        it.name: NodeRow(it.name, it.state, it.memory_mb, it.memory_used_mb, it.instances, busy)
        for it in nodes
    }
    for it in instances or ():
        row = rows.get(it.node)
        if row is not None:
            row.busy = (row.busy or 0) + (it.state in BUSY_STATES)
            row.functions[it.function_name] += 1
    return [rows[name] for name in sorted(rows)]


def _functions(
    activity: Sequence[FunctionActivity] | None, instances: Sequence[Instance] | None
) -> list[FunctionRow]:
    active = {it.function_name: it for it in activity or ()}
    held: dict[str, list[Instance]] = {name: [] for name in active}
    for instance in instances or ():
        held.setdefault(instance.function_name, []).append(instance)
    rows = [
        _function(
            name,
            None if activity is None else active.get(name, FunctionActivity()),
            None if instances is None else its,
        )
        for name, its in held.items()
    ]
    return sorted(rows, key=lambda it: (-(it.calls_per_s or 0), -(it.waiting or 0), it.function))


def _function(
    name: str, activity: FunctionActivity | None, instances: Sequence[Instance] | None
) -> FunctionRow:
    row = FunctionRow(name)
    if activity is not None:
        row.calls_per_s, row.waiting, row.running = activity.calls_per_s, activity.waiting, activity.running
        row.failed = _share(activity.failed, activity.calls)
        row.throttled = _share(activity.throttled, activity.calls)
        row.cold = _share(activity.cold, activity.ran)
        if sum(activity.took.values()):
            row.p50_ms, row.p99_ms = activity.p50_ms, activity.p99_ms
    if instances is not None:
        row.instances = len(instances)
        row.busy = sum(it.state in BUSY_STATES for it in instances)
        row.memory_mb = sum(it.memory_mb for it in instances)
    return row


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
