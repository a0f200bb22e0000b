"""One run: a fleet, callers, faults for so long, then what was promised and what was seen."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lambent.client import Client
from lambent_chassis.clock import monotonic_s
from lambent_chassis.etcd import Etcd
from lambent_proto import keys
from lambent_proto.errors import LambentError
from loadtest import etcd_counters
from tests.chaos import later, parts
from tests.chaos.callers import Callers
from tests.chaos.disks import CannotSlowDisks, Disk, disks
from tests.chaos.faults import Injector
from tests.chaos.fleet import FRONTENDS, MEMBERS, PARTS, PLACEMENTS, WORKERS, Fleet, running
from tests.chaos.hosts import hosts
from tests.chaos.later import Later
from tests.chaos.lives import Watched
from tests.chaos.parts import Parts
from tests.chaos.report import Calm, Report, led_again
from tests.chaos.schedule import Planned, drawn, majorities, pairs
from tests.e2e.load import eventually
from tests.integration.etcd.cluster import sound_etcd

LIMITS: Final = {"one": 1, "three": 3, "eight": 8}
"""Of the functions, by their names. Of each there are callers for half as many again, and two."""

WHOLE_S: Final = 45.0
"""At the latest so long after the last fault every function is served by every frontend."""

CALM_S: Final = 3.0
"""Before the first fault: how long is counted what calls cost etcd."""


@dataclass(frozen=True, slots=True)
class Task:
    """What to do."""

    seed: int
    seconds: float
    """Of faults that are drawn."""
    partitions: bool = False
    """Then each pair of hosts and each majority is parted from the others, one after the other."""
    replaced: Sequence[str] = (*PLACEMENTS, *WORKERS)
    """Parts that are told to end, one after the other, in the calm at the end."""


@dataclass(slots=True)
class Run:
    task: Task
    fleet: Fleet
    injector: Injector
    callers: Callers
    functions: Sequence[Watched]
    awaited: Parts
    taken: Later
    say: Callable[[str], None]
    whole_s: list[float] = field(default_factory=list)
    """How long it took each time until all was served again."""

    async def all(self) -> Report:
        epochs: list[float] = []
        watching = asyncio.create_task(_epochs(self.injector.etcd, epochs))
        dice = random.Random(self.task.seed)
        async with asyncio.TaskGroup() as tasks:
            for calls in self._calls(dice):
                tasks.create_task(calls)  # type: ignore[arg-type]
            try:
                await self._whole()
                calm = await self._cost()
                await self._hurt()
                failed = await self._replace()
                defined = await self._defined()
            finally:
                self.callers.stopping = True
                watching.cancel()
        missing = await self.taken.missing()
        watched = [*self.functions, self.taken.function]
        calls = self.callers.calls
        broken = [line for function in watched for line in function.broken(calls)]
        broken += [call.told() for call in calls if call.late]
        broken += [answer.told() for answer in self.awaited.answers if answer.wrong]
        broken += [f"asynchronous call {call} was taken and did not run" for call in missing]
        broken += [f"not all was served within {WHOLE_S:g} s after a fault"] * (max(self.whole_s) >= WHOLE_S)
        broken += [f"a planned end of {part} failed call {call}" for part, call in failed]
        broken += [f"the definition of {name} is gone" for name in defined]
        broken += [f"etcd did {calm.operations} operations for {calm.calls} warm calls"] * calm.costs
        return Report(
            seed=self.task.seed,
            seconds=self.task.seconds,
            broken=broken,
            faults=self.injector.done,
            calls=calls,
            answers=self.awaited.answers,
            taken=len(self.taken.taken),
            ran=len(self.taken.function.evidence.runs()),
            starts=sum(len(function.evidence.births()) for function in watched),
            most={it.name: (it.most_lived(), it.most_ran(), it.limit) for it in watched},
            led_again_s=led_again(self.injector.done, epochs),
            whole_s=self.whole_s,
            calm=calm,
            replaced=len(self.task.replaced),
        )

    def _calls(self, dice: random.Random) -> list[object]:
        def own() -> random.Random:
            return random.Random(dice.random())

        calls: list[object] = []
        for function in self.functions:
            again = range(function.limit * 3 // 2 + 2)
            calls += [self.callers.call_again_and_again(function.name, it, own()) for it in again]
        calls += [self.awaited.call_again_and_again(it, own()) for it in range(parts.CALLERS)]
        calls += [self.taken.call_again_and_again(it, own()) for it in range(later.CALLERS)]
        return calls

    async def _cost(self) -> Calm:
        """What etcd does while only warm calls are made."""
        begin, before = monotonic_s(), await asyncio.to_thread(self._operations)
        await asyncio.sleep(CALM_S)
        operations = await asyncio.to_thread(self._operations) - before
        made = sum(call.ok_since(begin) for call in self.callers.calls)
        return Calm(made, operations.total())

    def _operations(self) -> Counter[str]:
        return sum((etcd_counters.read(it).operations for it in self.fleet.cluster.endpoints), Counter())

    async def _hurt(self) -> None:
        if self.task.seconds:
            await self._faults(drawn(self.task.seed, self.task.seconds))
        if self.task.partitions:
            await self._faults(pairs())
            for split in majorities():
                await self._faults(split)

    async def _faults(self, planned: Sequence[Planned]) -> None:
        await self.injector.run(planned)
        await self._whole()

    async def _replace(self) -> list[tuple[str, str]]:
        """Has parts end as an operator would, and gives the calls that failed meanwhile. Frontends are left
        alone: these callers do not go to another one."""
        failed = []
        for name in self.task.replaced:
            begin = monotonic_s()
            self.say(f"told to end: {name}")
            process = self.fleet.parts[name].process
            process.terminate()
            await eventually(lambda: self.fleet.parts[name].process is not process, f"{name} is back", 45)  # noqa: B023
            await self._whole()
            failed += [
                (name, call.told()) for call in self.callers.calls if call.begin > begin and call.error
            ]
        return failed

    def _is_another(self, name: str, process: object) -> bool:
        part = self.fleet.parts[name]
        return part.process is not process and part.runs

    async def _defined(self) -> set[str]:
        """The functions that are not there any more."""
        there = {function.name for function in await self.injector.clients[0].list_functions()}
        return {*LIMITS, parts.NAME, later.NAME} - there

    async def _whole(self) -> None:
        """Waits until each function was served by each frontend to a caller who began after now."""
        since = monotonic_s()
        functions = [*LIMITS, parts.NAME]

        def all_served() -> bool:
            served = {(call.function, call.frontend) for call in self.callers.calls if call.ok_since(since)}
            return len(served) == len(functions) * len(FRONTENDS)

        try:
            await eventually(all_served, "every function is served by every frontend", within_s=WHOLE_S)
        except AssertionError:
            self.whole_s.append(WHOLE_S)
            return
        self.whole_s.append(monotonic_s() - since)


async def run(folder: Path, task: Task, say: Callable[[str], None]) -> Report:
    """Raises CannotMakeHosts or NoSoundEtcd."""
    binary = sound_etcd()
    with hosts([*MEMBERS, *PARTS]) as network, ExitStack() as at_exit:
        slow = _disks(folder, at_exit, say)
        async with running(folder, network, binary) as fleet, AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(Client(endpoint)) for endpoint in fleet.endpoints]
            etcd = await stack.enter_async_context(Etcd(fleet.cluster.endpoints))
            functions = [Watched.make(folder, name, limit) for name, limit in LIMITS.items()]
            callers = Callers.of(clients)
            awaited = Parts(clients, callers)
            taken = Later(clients, callers, Watched.make(folder, later.NAME, later.LIMIT, once=False))
            await _deployed(clients, [*functions, taken.function], awaited)
            injector = Injector(fleet, etcd, clients, [*functions, taken.function], slow, say)
            return await Run(task, fleet, injector, callers, functions, awaited, taken, say).all()


def _disks(folder: Path, at_exit: ExitStack, say: Callable[[str], None]) -> dict[str, Disk]:
    """Of etcd's members, by their hosts; none where this machine cannot have them."""
    try:
        made = at_exit.enter_context(disks(folder / "etcd", [f"m{it}" for it in range(len(MEMBERS))]))
    except CannotSlowDisks as reason:
        say(f"no disk will be slow: {reason}")
        return {}
    return dict(zip(MEMBERS, made.values(), strict=True))


async def _deployed(clients: list[Client], functions: list[Watched], awaited: Parts) -> None:
    async def ready() -> bool:
        try:
            return all([len((await client.nodes()).nodes) == len(WORKERS) for client in clients])
        except LambentError:
            return False

    await eventually(ready, "the fleet is up", within_s=60)
    for function in functions:
        await function.deploy(clients[0])
    await awaited.deploy()


async def _epochs(etcd: Etcd, epochs: list[float]) -> None:
    """When each began."""
    async for _ in etcd.follow_prefix(keys.EPOCH):
        epochs.append(monotonic_s())  # noqa: PERF401 - each at its own time
