"""One run: a fleet, callers, faults for so long, then what was promised and what was seen."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from lambent.client import Client
from lambent_chassis.clock import monotonic_s
from lambent_chassis.etcd import Etcd
from lambent_proto import keys
from lambent_proto.errors import LambentError
from tests.chaos import later, parts
from tests.chaos.callers import Call, Callers
from tests.chaos.faults import Fault, Injector
from tests.chaos.fleet import FRONTENDS, MEMBERS, PARTS, kind_of, running
from tests.chaos.hosts import hosts
from tests.chaos.later import Later
from tests.chaos.lives import Watched
from tests.chaos.parts import Answer, Parts
from tests.e2e.load import eventually
from tests.integration.etcd.cluster import sound_etcd

LIMITS: Final = {"one": 1, "three": 3, "eight": 8}
"""Of the functions, by their names. Of each there are callers for half as many again, and two."""

WHOLE_S: Final = 45.0
"""At the latest so long after the last fault every function is served by every frontend."""


@dataclass(frozen=True, slots=True)
class Report:
    broken: list[str]
    faults: list[Fault]
    calls: list[Call]
    """Those that somebody waited for."""
    answers: list[Answer]
    """Of those, the ones in parts."""
    taken: int
    """Asynchronous calls."""
    ran: int
    """How often one of them began."""
    starts: int
    most: dict[str, str]
    """The most instances and calls of a function at one time, beside its limit."""
    led_again_s: list[float]
    """From the loss of a leader to the next epoch."""
    whole_s: float
    """From the last mended fault until every function was served by every frontend."""

    def table(self) -> str:
        kinds = Counter((fault.kind, kind_of(fault.target)) for fault in self.faults)
        errors = Counter(call.error or "answered" for call in self.calls)
        lines = [f"{count:>6}  {kind}: {target}" for (kind, target), count in sorted(kinds.items())]
        lines += ["", *(f"{count:>6}  calls {what}" for what, count in errors.most_common())]
        lines += [f"{len(self.answers):>6}  of them were to be answered in parts"]
        lines += [f"{sum(it.whole for it in self.answers):>6}  of which got all their parts"]
        lines += [f"{self.taken:>6}  asynchronous calls taken, which began {self.ran} times"]
        lines += [f"{self.starts:>6}  instances started", ""]
        lines += [f"most of '{name}' at one time: {most}" for name, most in self.most.items()]
        if self.led_again_s:
            mid, worst = median(self.led_again_s), max(self.led_again_s)
            lines.append(f"led again after {mid:.1f} s (median of {len(self.led_again_s)}), {worst:.1f} s")
        lines.append(f"all served again {self.whole_s:.1f} s after the last fault")
        return "\n".join([*lines, "", *self.broken, f"{len(self.broken)} promises broken"])


async def run(folder: Path, seconds: float, seed: int, say: Callable[[str], None]) -> Report:
    """Raises CannotMakeHosts or NoSoundEtcd."""
    dice = random.Random(seed)
    binary = sound_etcd()
    with hosts([*MEMBERS, *PARTS]) as network:
        async with running(folder, network, binary) as fleet, AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(Client(endpoint)) for endpoint in fleet.endpoints]
            etcd = await stack.enter_async_context(Etcd(fleet.cluster.endpoints))
            functions = [Watched.make(folder, name, limit) for name, limit in LIMITS.items()]
            callers = Callers.of(clients)
            awaited = Parts(clients, callers)
            taken = Later(clients, callers, Watched.make(folder, later.NAME, later.LIMIT, once=False))
            await _deployed(clients, [*functions, taken.function], awaited)
            injector = Injector(fleet, etcd, clients, [*functions, taken.function], dice, say)
            return await _hurt(injector, callers, functions, awaited, taken, seconds)


async def _deployed(clients: list[Client], functions: list[Watched], awaited: Parts) -> None:
    async def ready() -> bool:
        try:
            return all([len((await client.nodes()).nodes) == 3 for client in clients])
        except LambentError:
            return False

    await eventually(ready, "the fleet is up", within_s=60)
    for function in functions:
        await function.deploy(clients[0])
    await awaited.deploy()


async def _hurt(
    injector: Injector,
    callers: Callers,
    functions: list[Watched],
    awaited: Parts,
    taken: Later,
    seconds: float,
) -> Report:
    epochs: list[float] = []
    watching = asyncio.create_task(_epochs(injector.etcd, epochs))

    def dice() -> random.Random:
        return random.Random(injector.dice.random())

    async with asyncio.TaskGroup() as tasks:
        for function in functions:
            for caller in range(function.limit * 3 // 2 + 2):
                tasks.create_task(callers.call_again_and_again(function.name, caller, dice()))
        for caller in range(parts.CALLERS):
            tasks.create_task(awaited.call_again_and_again(caller, dice()))
        for caller in range(later.CALLERS):
            tasks.create_task(taken.call_again_and_again(caller, dice()))
        try:
            await injector.run(seconds)
            whole_s = await _whole(callers, [*LIMITS, parts.NAME])
        finally:
            callers.stopping = True
            watching.cancel()
    missing = await taken.missing()
    watched = [*functions, taken.function]
    broken = [line for function in watched for line in function.broken(callers.calls)]
    broken += [call.told() for call in callers.calls if call.late]
    broken += [answer.told() for answer in awaited.answers if answer.wrong]
    broken += [f"asynchronous call {call} was taken and did not run" for call in missing]
    broken += [] if whole_s < WHOLE_S else [f"not all is served {WHOLE_S:g} s after the last fault"]
    return Report(
        broken,
        injector.done,
        callers.calls,
        awaited.answers,
        len(taken.taken),
        len(taken.function.evidence.runs()),
        sum(len(function.evidence.births()) for function in watched),
        {f.name: f"{f.most_lived()} lived, {f.most_ran()} ran, of {f.limit}" for f in watched},
        _led_again(injector.done, epochs),
        whole_s,
    )


def _led_again(faults: list[Fault], epochs: list[float]) -> list[float]:
    lost = [fault.at for fault in faults if fault.leader]
    return [min(at for at in epochs if at > since) - since for since in lost if epochs[-1] > since]


async def _epochs(etcd: Etcd, epochs: list[float]) -> None:
    """When each began."""
    async for _ in etcd.follow_prefix(keys.EPOCH):
        epochs.append(monotonic_s())  # noqa: PERF401 - each at its own time


async def _whole(callers: Callers, functions: list[str]) -> float:
    """Seconds until each function was served by each frontend to a caller who began after now."""
    since = monotonic_s()

    def all_served() -> bool:
        served = {(call.function, call.frontend) for call in callers.calls if call.ok_since(since)}
        return len(served) == len(functions) * len(FRONTENDS)

    try:
        await eventually(all_served, "every function is served by every frontend", within_s=WHOLE_S)
    except AssertionError:
        return WHOLE_S
    return monotonic_s() - since
