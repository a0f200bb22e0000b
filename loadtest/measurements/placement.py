"""The CPU that a decision of placement's takes, from ten nodes to ten thousand.

It runs the scheduler that runs in production, without a network around it, each size in a process of its own.
Timed is what is between an event and the commands that follow from it. Each figure is the median of the
rounds; of a start the least is shown too. Whoever else uses the machine makes both larger, the least by less.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from lambent_placement.core import events as on
from lambent_placement.core.commands import Command, GiveLease, Grant
from lambent_placement.core.scheduler import Scheduler
from lambent_placement.core.shadow import Noted, Shadow, noted, shadow_epoch
from lambent_proto.ids import (
    Epoch,
    FrontendId,
    FunctionName,
    InstanceId,
    LeaseNumber,
    NodeId,
    VersionKey,
)
from loadtest.figures import Budget, Figures, Table
from loadtest.measurement import Measurement, Plan

EACH: Final = {10_000: 10}
"""Warm instances on each node, by how many nodes there are; else 100."""
FUNCTIONS: Final = 1_000
COLD: Final = 200
"""Functions without an instance, on top."""
MEMORY_MB: Final = 128
ROOM: Final = 40
"""Further instances that each node has memory for."""

F: Final = FrontendId("front@1")

Lease = tuple[InstanceId, LeaseNumber]
T = TypeVar("T")


@dataclass
class Decisions:
    """CPU in microseconds, the median of the rounds."""

    nodes: int
    instances: int
    warm_us: float
    """A demand that is met by the most recently used instance."""
    release_us: float
    start_us: float
    """A demand that is met by a new instance on a node that is chosen."""
    start_least_us: float
    """In the quickest of the rounds."""
    tick_us: float
    bytes_an_instance: float


class Fleet:
    def __init__(self, nodes: int, each: int, keep: str, *, shadow: bool = False) -> None:
        self.core = Scheduler(Epoch(1), keep=keep, keep_alive_s=1e9)
        self.core.books.starts = 1_000_000_000
        self.shadow: Shadow | None = None
        if shadow:
            self.shadow = Shadow(Scheduler(shadow_epoch(Epoch(1)), keep=keep, keep_alive_s=1e9))
            self.shadow.scheduler.books.starts = 1_000_000_000
        self.noted: list[Noted] = []
        """What the shadow has not seen yet."""
        self.at = 0.0
        names = [NodeId(f"node-{number}@1") for number in range(nodes)]
        self.hear(on.ConcurrencySet(1_000_000_000, 0.0))
        for name in names:
            self.hear(on.NodeRegistered(name, (each + ROOM) * MEMORY_MB, frozenset({"python3.11"})))
            self.hear(on.NodeReported(name, (each + ROOM) * MEMORY_MB, [], 0.0))
        self.hear(on.FrontendAttached(F, [], [], names, 0.0))
        self.warm = [self._defined(f"f{number}") for number in range(FUNCTIONS)]
        self.cold = [self._defined(f"cold{number}") for number in range(COLD)]
        before = _resident_bytes()
        self._fill(nodes * each)
        self.bytes_an_instance = (_resident_bytes() - before) / (nodes * each)

    def hear(self, event: on.Event) -> list[Command]:
        commands = self.core.handle(event)
        if self.shadow is not None:
            self.noted.append(noted(event, commands, self.core.books))
        return commands

    def look(self) -> None:
        """Lets the shadow see all that there was."""
        assert self.shadow is not None
        for it in self.noted:
            self.shadow.see(it)
        self.noted.clear()

    def _defined(self, name: str) -> VersionKey:
        version = VersionKey(f"{name}:$LATEST:1")
        what = FunctionName(name), version, MEMORY_MB, None, "python3.11", 0.0
        self.hear(on.FunctionDefined(*what, package=name))
        return version

    def _fill(self, instances: int) -> None:
        for number, version in enumerate(self.warm):
            count = instances // FUNCTIONS + (number < instances % FUNCTIONS)
            leases = started(self.demand(version, count))
            for instance, _ in leases:
                self.hear(on.InstanceReady(instance, 1.0, 1.0, self.now()))
            self.give_back(version, leases)

    def now(self) -> float:
        self.at += 1e-5
        return self.at

    def demanded(self, version: VersionKey, wanted: int) -> on.Demanded:
        return on.Demanded(F, on.Wish(version, wanted, 0.0), self.now())

    def given_back(self, version: VersionKey, leases: list[Lease]) -> tuple[on.Demanded, on.Released]:
        return self.demanded(version, 0), on.Released(F, leases, True, self.now())

    def demand(self, version: VersionKey, wanted: int) -> list[Command]:
        return self.hear(self.demanded(version, wanted))

    def give_back(self, version: VersionKey, leases: list[Lease]) -> None:
        for event in self.given_back(version, leases):
            self.hear(event)


def started(commands: list[Command]) -> list[Lease]:
    return [(command.instance, command.number) for command in commands if isinstance(command, Grant)]


def given(commands: list[Command]) -> list[Lease]:
    return [(command.instance, command.number) for command in commands if isinstance(command, GiveLease)]


def measure(nodes: int, each: int, keep: str, rounds: int) -> Decisions:
    fleet = Fleet(nodes, each, keep)
    served = [version for version in fleet.warm if fleet.core.books.versions[version].idle]
    columns = list(zip(*(_round(fleet, served) for _ in range(rounds)), strict=True))
    warm, release, start, tick = (round(_median(column), 1) for column in columns)
    return Decisions(
        nodes=nodes,
        instances=nodes * each,
        warm_us=warm,
        release_us=release,
        start_us=start,
        start_least_us=round(min(columns[2]), 1),
        tick_us=tick,
        bytes_an_instance=round(fleet.bytes_an_instance),
    )


def _round(fleet: Fleet, served: list[VersionKey]) -> tuple[float, float, float, float]:
    hear = fleet.core.handle if fleet.shadow is None else fleet.hear
    demands = [fleet.demanded(version, 1) for version in served]
    warm_us, heard = _timed(lambda: [hear(event) for event in demands])
    leases = [given(commands) for commands in heard]
    pairs = [fleet.given_back(*pair) for pair in zip(served, leases, strict=True)]
    release_us, _ = _timed(lambda: [hear(demand) + hear(release) for demand, release in pairs])
    demands = [fleet.demanded(version, 1) for version in fleet.cold]
    start_us, heard = _timed(lambda: [hear(event) for event in demands])
    new = [started(commands) for commands in heard]
    assert all(len(some) == 1 for some in (*leases, *new)), "a decision was not what it is measured as"
    for version, [(instance, _)] in zip(fleet.cold, new, strict=True):
        fleet.demand(version, 0)
        fleet.hear(on.InstanceReady(instance, 1.0, 1.0, fleet.now()))
        fleet.hear(on.InstanceGone(instance, "killed", b"", fleet.now()))
    tick_us, _ = _timed(lambda: [fleet.hear(on.Tick(fleet.now()))])
    return warm_us, release_us, start_us, tick_us


def beside(nodes: int, each: int, keep: str, rounds: int) -> tuple[float, float]:
    """Microseconds of CPU for each event: of the live scheduler with what is put down for a shadow, and of
    the shadow, which has the same policy. Starts, warm demands and what is given back, as many of each as in
    the other figures."""
    fleet = Fleet(nodes, each, keep, shadow=True)
    fleet.look()
    served = [version for version in fleet.warm if fleet.core.books.versions[version].idle]
    seen = []
    for _ in range(rounds):
        began = time.process_time_ns()
        _round(fleet, served)
        events, between = len(fleet.noted), time.process_time_ns()
        fleet.look()
        ended = time.process_time_ns()
        seen.append(((between - began) / 1000 / events, (ended - between) / 1000 / events))
    live, shadow = (round(_median(column), 1) for column in zip(*seen, strict=True))
    return live, shadow


def _timed(work: Callable[[], list[T]]) -> tuple[float, list[T]]:
    """Microseconds of CPU for each of its results."""
    began = time.process_time_ns()
    done = work()
    return (time.process_time_ns() - began) / 1000 / len(done), done


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    keep: str = "fixed"
    """The policy for what idles."""
    rounds: int = 15
    nodes: tuple[int, ...] = (10, 100, 1_000, 10_000)


def run(setup: Setup, plan: Plan) -> Figures:
    sizes = [(nodes, EACH.get(nodes, 100)) for nodes in setup.nodes]
    decided = []
    for nodes, each in sizes:
        plan.say(f"{nodes:,} nodes")
        decided.append(_apart(measure, nodes, each, setup.keep, setup.rounds))
    shadows = [
        (*size, *_apart(beside, *size, setup.keep, setup.rounds)) for size in sizes if size[0] <= 1_000
    ]
    found = Figures(tables=[_decisions(decided), _shadows(shadows)])
    for it in decided:
        found.flat[f"placement_cpu_us_{it.nodes}_nodes"] = it.start_us
        found.flat[f"placement_warm_cpu_us_{it.nodes}_nodes"] = it.warm_us
        found.flat[f"placement_release_cpu_us_{it.nodes}_nodes"] = it.release_us
    by_nodes = {it.nodes: it for it in decided}
    if large := by_nodes.get(1_000):
        found.budgets.append(
            Budget("a start at 1,000 nodes, 100,000 instances", large.start_us, 20, "µs of CPU")
        )
        if small := by_nodes.get(10):
            ratio = large.start_us / small.start_us
            found.budgets.append(
                Budget("a start, 1,000 nodes against 10: flat", round(ratio, 2), 1.1, "times")
            )
    return found


def _apart(what: Callable[..., Any], *given: object) -> Any:
    """In a process of its own, so that each size begins with an empty heap."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(what, *given).result()


def _decisions(decided: Sequence[Decisions]) -> Table:
    heads = (
        "nodes",
        "warm instances",
        "warm",
        "given back",
        "start",
        "start, least",
        "tick",
        "bytes an instance",
    )
    rows = [
        [
            f"{it.nodes:,}",
            f"{it.instances:,}",
            *(f"{us:.1f}" for us in (it.warm_us, it.release_us, it.start_us, it.start_least_us, it.tick_us)),
            f"{it.bytes_an_instance:,.0f}",
        ]
        for it in decided
    ]
    return Table(heads, rows, "µs of CPU for a decision; the median of the rounds:")


def _shadows(shadows: Sequence[tuple[int, int, float, float]]) -> Table:
    rows = [[f"{nodes:,}", f"{live:.1f}", f"{shadow:.1f}"] for nodes, _, live, shadow in shadows]
    return Table(
        ("nodes", "live", "shadow"), rows, "With a [shadow](shadow.md) beside it, µs of CPU for an event:"
    )


MEASUREMENT: Final = Measurement(
    name="placement",
    title="Placement",
    says="""\
One decision of the scheduler that runs in production, without a network around it, with 1,000 functions.
*Warm*: the most recently used instance is leased; *start*: a node is chosen and a new instance granted.""",
    takes_s=(100, 15),
    run=run,
    full=Setup(),
    quick=Setup(rounds=5, nodes=(10, 1_000)),
)
