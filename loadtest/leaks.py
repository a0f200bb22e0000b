"""`make leaks`: thousands of instances come and go in every way that they can, and nothing of them is left.

What is counted before and after: processes, mounts, cgroups, network namespaces, loop devices and folders, of
which there must be as many as before; and descriptors and memory of the worker and its fork server, which may
not grow with the number of instances once everything has been used.
"""

import asyncio
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import click

from lambent_chassis import logs
from lambent_chassis.clock import monotonic_s
from lambent_proto.definition import Definition
from lambent_worker.runtimes.registry import discover
from loadtest.hall import PYTHON, Hall, hall, zipped
from loadtest.measurement import BUILD
from loadtest.processes import tree

AT_ONCE: Final = 6
SAY_EVERY_S: Final = 5.0
WARM_UP: Final = 60
"""Instances before the first count: until then pools and caches fill."""
SETTLES_WITHIN_S: Final = 20.0
"""What the kernel gives back behind the last instance: network namespaces, loop devices."""

MOST_GROWTH_KB_A_START: Final = 1.0
"""Of resident memory, worker and fork server together: an instance leaves nothing behind in a dictionary."""

SOURCE: Final = """
import os, subprocess, sys, time
def handler(event, context):
    open("/tmp/file", "wb").write(b"x" * 100_000)
    if event == "crash":
        os._exit(3)
    if event == "daemon":
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
    if event == "memory":
        return len(bytearray(400 << 20))
    if event == "sleep":
        time.sleep(600)
    return event
"""

Act = Callable[[Hall, Definition], Awaitable[None]]
Facts = dict[str, float]


async def served(it: Hall, definition: Definition) -> None:
    instance = it.start(definition)
    await it.ready(instance)
    await it.call(instance, "echo")
    await it.end(instance)


async def crashed(it: Hall, definition: Definition) -> None:
    instance = it.start(definition)
    await it.ready(instance)
    await it.call(instance, "crash")
    await it.call(instance, "echo")
    await it.end(instance)


async def left_a_daemon(it: Hall, definition: Definition) -> None:
    instance = it.start(definition)
    await it.ready(instance)
    await it.call(instance, "daemon")
    await it.end(instance)


async def out_of_memory(it: Hall, definition: Definition) -> None:
    instance = it.start(definition)
    await it.ready(instance)
    await it.call(instance, "memory")
    await it.end(instance)


async def killed_at_once(it: Hall, definition: Definition) -> None:
    instance = it.start(definition)
    await it.end(instance)


async def killed_while_it_ran(it: Hall, definition: Definition) -> None:
    instance = it.start(definition)
    await it.ready(instance)
    calling = asyncio.ensure_future(it.call(instance, "sleep"))
    await asyncio.sleep(0)
    await it.end(instance)
    calling.cancel()


ACTS: Final[dict[Act, int]] = {
    served: 10,
    crashed: 2,
    left_a_daemon: 2,
    out_of_memory: 1,
    killed_at_once: 2,
    killed_while_it_ran: 2,
}
"""How often, in proportion."""


async def look(starts: int, seconds: float, say: Callable[[str], None]) -> list[str]:
    """Returns what has leaked. Raises CannotStart where this host has no such sandboxes."""
    runtimes = await asyncio.to_thread(discover, BUILD / "runtimes")
    dice = random.Random(1)
    acts, weights = list(ACTS), list(ACTS.values())
    outside = {}
    with tempfile.TemporaryDirectory(prefix="lambent-leaks-") as folder:
        outside = world()
        async with hall("leaks", "namespaces", Path(folder), runtimes, parked=2) as it:
            definition = await it.deploy(zipped({"app.py": SOURCE}), PYTHON, "app.handler")
            await many(
                it, definition, WARM_UP, dice.choices(acts, weights, k=WARM_UP), monotonic_s() + seconds
            )
            before = await settled({}, Path(folder))
            began = monotonic_s()
            chosen = dice.choices(acts, weights, k=starts)
            made = await many(it, definition, starts, chosen, began + seconds, say)
            after = await settled(before, Path(folder))
            say(f"{made} instances in {monotonic_s() - began:.0f} s.")
            leaked = compared(before, after, made)
        end = monotonic_s() + SETTLES_WITHIN_S
        while (left := missing(outside, world())) and monotonic_s() < end:  # noqa: ASYNC110 - of the kernel's
            await asyncio.sleep(0.2)
    return [*leaked, *(f"after the worker's end: {what}" for what in left)]


async def many(
    it: Hall,
    definition: Definition,
    starts: int,
    chosen: list[Act],
    until: float,
    say: Callable[[str], None] = lambda _: None,
) -> int:
    """Some at a time; returns how many there were by `until`."""
    left = iter(chosen)
    done: Counter[str] = Counter()
    said_at = monotonic_s()

    async def one_after_another() -> None:
        nonlocal said_at
        for act in left:
            if monotonic_s() > until:
                return
            await act(it, definition)
            done[act.__name__] += 1
            if monotonic_s() - said_at > SAY_EVERY_S:
                said_at = monotonic_s()
                say(f"{done.total()} of {starts}")

    await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))
    return done.total()


def world() -> Facts:
    """What there is on this host, of ours where that can be told."""
    facts = {"processes": float(len(_sandbox_processes())), "cgroups": float(_cgroups())}
    facts["loop devices"] = sum(1 for it in Path("/sys/block").glob("loop*/loop/backing_file"))
    facts["mounts"] = float(len(Path("/proc/self/mountinfo").read_text().splitlines()))
    return facts


def _sandbox_processes() -> list[int]:
    return [pid for pid in tree(os.getpid()) if pid != os.getpid()]


def _cgroups() -> int:
    return sum(1 for _ in Path("/sys/fs/cgroup").glob("**/lambent-bench-leaks-*/*/"))


async def settled(before: Facts, folder: Path) -> Facts:
    """Once the pools are full again; at the latest after a while."""
    end = monotonic_s() + SETTLES_WITHIN_S
    while True:
        await asyncio.sleep(1.0)
        facts = inside(folder)
        if (before and not compared(before, facts, 1_000_000)) or not before or monotonic_s() > end:
            return facts


def inside(folder: Path) -> Facts:
    """Of the worker and everything beneath it."""
    own = tree(os.getpid())
    facts: Facts = {"processes": len(own), "cgroups": _cgroups(), "descriptors": 0, "resident KB": 0}
    facts["network namespaces"] = len({_link(f"/proc/{pid}/ns/net") for pid in own})
    facts["mounts"] = sum(_mounts(pid) for pid in _servers(list(own)))
    facts["folders"] = sum(1 for _ in folder.glob("leaks/scratch/*"))
    for pid in _servers(list(own)):
        facts["descriptors"] += len(os.listdir(f"/proc/{pid}/fd"))
        facts["resident KB"] += _resident_kb(pid)
    return facts


def _servers(pids: list[int]) -> list[int]:
    """The worker, and its child that serves it."""
    return [pid for pid in pids if pid == os.getpid() or _parent(pid) == os.getpid()]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _mounts(pid: int) -> int:
    return len(Path(f"/proc/{pid}/mountinfo").read_text().splitlines())


def _resident_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def compared(before: Facts, after: Facts, starts: int) -> list[str]:
    leaked = []
    for name, count in after.items():
        more = count - before[name]
        allowed = max(2_000.0, MOST_GROWTH_KB_A_START * starts) if name == "resident KB" else 6.0
        if more > allowed:
            leaked.append(f"{name}: {before[name]:g} before, {count:g} after {starts} instances")
    return leaked


def missing(before: Facts, after: Facts) -> list[str]:
    return [f"{name}: {after[name] - count:g} more" for name, count in before.items() if after[name] > count]


@click.command()
@click.option("--starts", type=click.IntRange(min=1), default=10_000, show_default=True)
@click.option(
    "--seconds", type=float, default=1_800.0, show_default=True, help="Longest time for all of them."
)
def main(starts: int, seconds: float) -> None:
    """Starts and ends instances in every way, and looks for what is left of them."""
    if os.geteuid() != 0:
        raise click.ClickException("only root has all that could leak here: run it as root")
    logs.configure("error")  # each instance would have a line of its own
    leaked = asyncio.run(look(starts, seconds, click.echo))
    for what in leaked:
        click.echo(f"Leaked: {what}", err=True)
    click.echo("Something is left of them." if leaked else "Nothing is left of them.")
    sys.exit(bool(leaked))


if __name__ == "__main__":
    main()
