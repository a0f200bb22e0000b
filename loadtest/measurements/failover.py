"""How long callers are without what was killed."""

import asyncio
import itertools
import json
import os
import signal
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import uvloop

from lambent.client import Client
from lambent_chassis.clock import monotonic_s
from lambent_proto.errors import LambentError
from loadtest import echo
from loadtest.figures import Figures, Table, spread
from loadtest.fleet import ANY_ISOLATION, Fleet, Off, fleet
from loadtest.measurement import Measurement, Plan

WITHIN_S: Final = 60.0
"""What is not back then is not coming back."""
EVERY_S: Final = 0.01
ANSWER_WITHIN_S: Final = 2.0
LIMITED: Final = "limited"
STEADY: Final = 50
"""Answers before something is killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    workers: int = 2
    watch_s: float = 3.0
    """How long calls that should not notice are watched after the kill."""


@dataclass(slots=True)
class Caller:
    """Makes one call after the other, and knows when they were made and answered."""

    answered: list[tuple[float, float]] = field(default_factory=list)
    """When sent, and when answered."""
    failed: int = 0

    def back_after(self, killed_at: float) -> float | None:
        """Seconds to the first answer to a call that was made after it; None if there is none yet."""
        return next((until - killed_at for since, until in self.answered if since >= killed_at), None)

    def longest_gap(self, since: float) -> float:
        """Between two answers, from the last one before `since` on."""
        ends = [until for _, until in self.answered]
        first = max((number for number, at in enumerate(ends) if at <= since), default=0)
        some = ends[first:]
        return max((b - a for a, b in itertools.pairwise(some)), default=WITHIN_S)


def run(setup: Setup, plan: Plan) -> Figures:
    options = ("--workers", str(setup.workers), "--placements", "2", *ANY_ISOLATION)
    with fleet(*options, restart=True) as running:
        seen = uvloop.run(_all(running, setup, plan))
    return _told(seen)


async def _all(running: Fleet, setup: Setup, plan: Plan) -> dict[str, list[float]]:
    seen: dict[str, list[float]] = {}
    echo.deploy(running.endpoint)
    echo.deploy(running.endpoint, 1, name=LIMITED)
    kinds: tuple[tuple[str, Callable[..., Awaitable[dict[str, float]]]], ...] = (
        ("the leading placement", _placement),
        ("a worker", _worker),
        ("a worker, of a function at its limit", _worker_at_limit),
        ("the frontend", _frontend),
    )
    for number in range(plan.repeats):
        for name, kill in kinds:
            plan.say(f"{number + 1} of {plan.repeats}: {name} is killed")
            for what, value in (await kill(running, setup, number)).items():
                seen.setdefault(what, []).append(value)
            await _whole(running, setup)
    return seen


async def _placement(running: Fleet, setup: Setup, number: int) -> dict[str, float]:
    """Warm calls go on; the first call of a function waits for the next leader."""
    new = f"new{number}"
    echo.deploy(running.endpoint, name=new)
    async with Client(running.endpoint, retries=0) as client, _calling(client, echo.NAME) as warm:
        leader = (await client.nodes()).leader
        killed_at = _kill(running, lambda part: part["addresses"].get("control") == leader)
        await client.invoke(new, b"{}", timeout_s=WITHIN_S)
        cold_s = monotonic_s() - killed_at
        await asyncio.sleep(max(0.0, killed_at + setup.watch_s - monotonic_s()))
    await _delete(running, new)
    return {
        "placement: until a function's first call is answered": cold_s,
        "placement: longest gap between warm answers": warm.longest_gap(killed_at),
        "placement: warm calls that failed": float(warm.failed),
    }


async def _worker(running: Fleet, setup: Setup, number: int) -> dict[str, float]:
    """The one that has the function's instance; the others start it."""
    back_s, failed = await _without_worker(running, echo.NAME)
    return {
        "worker: until calls of a function are answered": back_s,
        "worker: calls that failed": float(failed),
    }


async def _worker_at_limit(running: Fleet, setup: Setup, number: int) -> dict[str, float]:
    """A function at its limit waits until the worker's lease has run out."""
    back_s, _ = await _without_worker(running, LIMITED)
    return {"worker: until those of a function at its limit are": back_s}


async def _without_worker(running: Fleet, function: str) -> tuple[float, int]:
    async with Client(running.endpoint, retries=0) as client, _calling(client, function) as caller:
        node = (await client.invoke(function, b"{}")).explanation.node
        killed_at = _kill(running, lambda part: part["name"] == node.partition("@")[0])
        return await _back(caller, killed_at), caller.failed


async def _frontend(running: Fleet, setup: Setup, number: int) -> dict[str, float]:
    """The only one: `lambent up` starts it again, and clients find it at the same address."""
    async with Client(running.endpoint, retries=0) as client, _calling(client, echo.NAME) as calls:
        killed_at = _kill(running, lambda part: part["name"].startswith("frontend"))
        back_s = await _back(calls, killed_at)
    return {"frontend: until calls are answered by the next one": back_s}


@asynccontextmanager
async def _calling(client: Client, function: str) -> AsyncIterator[Caller]:
    """Once it is steady; it ends with the block."""
    caller = Caller()

    async def call() -> None:
        while True:
            since = monotonic_s()
            try:
                await client.invoke(function, b"{}", timeout_s=ANSWER_WITHIN_S)
                caller.answered.append((since, monotonic_s()))
            except LambentError:
                caller.failed += 1
            await asyncio.sleep(EVERY_S)

    task = asyncio.create_task(call())
    try:
        async with asyncio.timeout(WITHIN_S):
            while len(caller.answered) < STEADY:  # noqa: ASYNC110 - of the fleet's
                await asyncio.sleep(EVERY_S)
        caller.failed = 0
        yield caller
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _back(caller: Caller, killed_at: float) -> float:
    async with asyncio.timeout(WITHIN_S):
        while (back_s := caller.back_after(killed_at)) is None:  # noqa: ASYNC110 - the same
            await asyncio.sleep(EVERY_S)
    return back_s


def _parts(running: Fleet) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = json.loads((running.data / "parts.json").read_text())["parts"]
    return parts


def _kill(running: Fleet, which: Callable[[dict[str, Any]], bool]) -> float:
    """When it was killed. Raises Off if there is no such part."""
    part = next((it for it in _parts(running) if it["pid"] and which(it)), None)
    if part is None:
        raise Off(f"none of these is the part that is to be killed: {_parts(running)}")
    os.kill(part["pid"], signal.SIGKILL)
    return monotonic_s()


async def _whole(running: Fleet, setup: Setup) -> None:
    """Until all parts run again, and all workers are known."""
    async with asyncio.timeout(WITHIN_S), Client(running.endpoint) as client:
        while not all(part["pid"] for part in _parts(running)):  # noqa: ASYNC110 - of a file
            await asyncio.sleep(0.1)
        while True:
            try:
                if len((await client.nodes()).nodes) == setup.workers:
                    return
            except LambentError:
                pass
            await asyncio.sleep(0.1)


async def _delete(running: Fleet, name: str) -> None:
    async with Client(running.endpoint) as client:
        await client.delete_function(name)


def _told(seen: dict[str, list[float]]) -> Figures:
    found = Figures()
    rows = []
    for what, values in seen.items():
        counted = "failed" in what
        rows.append([what, spread(values, 0 if counted else 2), "calls" if counted else "s"])
        key = "failover_" + "".join(it if it.isalnum() else "_" for it in what).replace("__", "_")
        found.flat[key if counted else f"{key}_s"] = round(statistics.median(values), 3)
    found.tables.append(Table(("killed with SIGKILL", "", ""), rows))
    return found


MEASUREMENT: Final = Measurement(
    name="failover",
    title="Fail-over",
    says="""\
Parts are killed in turns while a caller makes one call after the other, without retries. The second
placement follows when the first one's lease of two seconds has run out; what a killed worker had at its
limit may run elsewhere once its lease of ten seconds has, before which nobody knows that its instances are
gone.""",
    takes_s=(180, 60),
    run=run,
    full=Setup(),
    quick=Setup(watch_s=2.0),
)
