"""`make bench-placement`: the CPU that a decision of placement's takes, from ten nodes to ten thousand.

It runs the scheduler that runs in production, without a network around it, each size in a process of its own.
Timed is what is between an event and the commands that follow from it. Each figure is the median of the
rounds; of a start the least is shown too. Whoever else uses the machine makes both larger, the least by less.
"""

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TypeVar

import click

from lambent_placement.core import events as on
from lambent_placement.core.commands import Command, GiveLease, Grant
from lambent_placement.core.scheduler import KEEPS, Scheduler
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

BUILD: Final = Path(__file__).resolve().parent.parent / "build"

SIZES: Final = ((10, 100), (100, 100), (1_000, 100), (10_000, 10))
"""Nodes, and warm instances on each."""
FUNCTIONS: Final = 1_000
COLD: Final = 200
"""Functions without an instance, on top."""
MEMORY_MB: Final = 128
ROOM: Final = 40
"""Further instances that each node has memory for."""
ROUNDS: Final = 15

F: Final = FrontendId("front@1")

Lease = tuple[InstanceId, LeaseNumber]
T = TypeVar("T")


@dataclass
class Figures:
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


def measure(nodes: int, each: int, keep: str) -> Figures:
    fleet = Fleet(nodes, each, keep)
    served = [version for version in fleet.warm if fleet.core.books.versions[version].idle]
    rounds = [_round(fleet, served) for _ in range(ROUNDS)]
    columns = list(zip(*rounds, strict=True))
    warm, release, start, tick = (round(_median(column), 1) for column in columns)
    return Figures(
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


def beside(nodes: int, each: int, keep: str) -> tuple[float, float]:
    """Microseconds of CPU for each event: of the live scheduler with what is put down for a shadow, and of
    the shadow, which has the same policy. Starts, warm demands and what is given back, as many of each as in
    the other figures."""
    fleet = Fleet(nodes, each, keep, shadow=True)
    fleet.look()
    served = [version for version in fleet.warm if fleet.core.books.versions[version].idle]
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time_ns()
        _round(fleet, served)
        events, between = len(fleet.noted), time.process_time_ns()
        fleet.look()
        ended = time.process_time_ns()
        rounds.append(((between - began) / 1000 / events, (ended - between) / 1000 / events))
    live, shadow = (round(_median(column), 1) for column in zip(*rounds, strict=True))
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


def note(figures: list[Figures]) -> None:
    """Into build/bench.json, beside what is there."""
    path = BUILD / "bench.json"
    BUILD.mkdir(exist_ok=True)
    known = json.loads(path.read_text()) if path.exists() else {}
    for it in figures:
        known[f"placement_cpu_us_{it.nodes}_nodes"] = it.start_us
        known[f"placement_warm_cpu_us_{it.nodes}_nodes"] = it.warm_us
    path.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--keep", type=click.Choice(sorted(KEEPS)), default="fixed", help="The policy for what idles.")
@click.option("--shadow", is_flag=True, help="Measure a shadow beside it too.")
def main(as_json: bool, keep: str, shadow: bool) -> None:
    """Measure the CPU of placement's decisions at 10, 100, 1,000 and 10,000 nodes."""
    figures = []
    if not as_json:
        click.echo(
            "CPU of one decision, us           warm  release    start    least     tick  bytes an instance"
        )
    for nodes, each in SIZES:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            it = pool.submit(measure, nodes, each, keep).result()
        figures.append(it)
        if not as_json:
            what = f"{it.nodes:,} nodes, {it.instances:,} instances"
            click.echo(
                f"{what:<32}{it.warm_us:>6.1f}{it.release_us:>9.1f}{it.start_us:>9.1f}"
                f"{it.start_least_us:>9.1f}{it.tick_us:>9.1f}"
                f"{it.bytes_an_instance:>19,.0f}"
            )
    if shadow and not as_json:
        click.echo("CPU of one event, us                    live       shadow")
        for nodes, each in SIZES[:-1]:
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                live_us, shadow_us = pool.submit(beside, nodes, each, keep).result()
            what = f"{nodes:,} nodes, {nodes * each:,} instances"
            click.echo(f"{what:<32}{live_us:>12.1f}{shadow_us:>13.1f}")
    if keep == "fixed":
        note(figures)
    if as_json:
        click.echo(json.dumps([asdict(it) for it in figures]))


if __name__ == "__main__":
    main()
