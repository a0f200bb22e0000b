"""What goes wrong, drawn by a seed: each fault harms, waits, and mends what it harmed."""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from lambent.client import Client
from lambent_chassis.clock import monotonic_s
from lambent_chassis.etcd import Etcd
from lambent_proto import keys, registrations
from lambent_proto.errors import LambentError
from tests.chaos.fleet import FRONTENDS, MEMBERS, PARTS, PLACEMENTS, WORKER_TTL_S, WORKERS, Fleet, kind_of
from tests.chaos.lives import Watched

BETWEEN_S: Final = (0.5, 2.5)
"""The shortest and the longest pause before the next fault; two may be under way at a time."""

PEERS: Final = {
    "frontend": (*WORKERS, *PLACEMENTS),
    "worker": (*FRONTENDS, *PLACEMENTS),
    "placement": (*WORKERS, *FRONTENDS),
}
"""Who talks to whom, etcd aside."""

FROM_ETCD: Final = 0.3
"""The share of the cuts that part somebody from all of etcd."""

LOSES_THE_LEAD: Final = ("kill -9", "SIGSTOP", "cut from all", "cut from etcd")
"""Faults that a placement does not go on leading through."""


@dataclass(frozen=True, slots=True)
class Fault:
    kind: str
    target: str
    at: float
    leader: bool
    """It took the leading placement away."""


@dataclass(slots=True)
class Injector:
    fleet: Fleet
    etcd: Etcd
    clients: list[Client]
    functions: list[Watched]
    dice: random.Random
    say: Callable[[str], None]
    done: list[Fault] = field(default_factory=list)
    harmed: set[str] = field(default_factory=set)
    """Hosts that a fault is at: no other one touches them."""

    async def run(self, seconds: float) -> None:
        """Faults for so long; returns when the last of them is mended."""
        end = monotonic_s() + seconds
        places = asyncio.Semaphore(2)
        async with asyncio.TaskGroup() as tasks:
            while monotonic_s() < end:
                await places.acquire()
                await asyncio.sleep(self.dice.uniform(*BETWEEN_S))
                task = tasks.create_task(self._one())
                task.add_done_callback(lambda _: places.release())

    async def _one(self) -> None:
        faults: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (4, self._kill),
            (3, self._stop),
            (2, self._kill_etcd),
            (2, self._stop_etcd),
            (3, self._cut),
            (2, self._isolate),
            (2, self._new_version),
        ]
        weights = [weight for weight, _ in faults]
        ((_, fault),) = self.dice.choices(faults, weights)
        await fault()

    async def _kill(self) -> None:
        if (name := self._draw(PARTS)) is None:
            return
        await self._note("kill -9", name)
        self.fleet.parts[name].process.kill()  # nothing, if it has ended meanwhile
        await asyncio.sleep(1.0)
        self.harmed.discard(name)

    async def _stop(self) -> None:
        """Longer than its lease lasts, and then it wakes up."""
        if (name := self._draw(PARTS)) is None:
            return
        part = self.fleet.parts[name]
        await self._note("SIGSTOP", name)
        process = part.process
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(WORKER_TTL_S * 1.4 if name in WORKERS else 3.5)
        process.send_signal(signal.SIGCONT)
        self.harmed.discard(name)

    async def _kill_etcd(self) -> None:
        if (number := self._draw_member()) is None:
            return
        member = self.fleet.cluster.members[number]
        await self._note("kill -9", MEMBERS[number])
        await asyncio.to_thread(member.kill)
        await asyncio.sleep(self.dice.uniform(0.5, 3))
        self.fleet.cluster.start()
        await self.fleet.cluster.ready(member)
        self._release_members()

    async def _stop_etcd(self) -> None:
        if (number := self._draw_member()) is None:
            return
        member = self.fleet.cluster.members[number]
        await self._note("SIGSTOP", MEMBERS[number])
        member.hang()
        await asyncio.sleep(self.dice.uniform(1, 4))
        member.resume()
        await self.fleet.cluster.ready(member)
        self._release_members()

    async def _cut(self) -> None:
        """Between two hosts, both ways, without a word to either."""
        if (one := self._draw(PARTS)) is None:
            return
        peer = self.dice.choice(PEERS[kind_of(one)])
        others = MEMBERS if self.dice.random() < FROM_ETCD else (peer,)
        await self._note(f"cut from {kind_of(others[0])}", one)
        for other in others:
            self.fleet.hosts.cut(one, other)
        await asyncio.sleep(self.dice.uniform(2, 9))
        for other in others:
            self.fleet.hosts.mend(one, other)
        self.harmed.discard(one)

    async def _isolate(self) -> None:
        if (name := self._draw(PARTS)) is None:
            return
        await self._note("cut from all", name)
        self.fleet.hosts.isolate(name)
        await asyncio.sleep(self.dice.uniform(2, 9))
        self.fleet.hosts.join(name)
        self.harmed.discard(name)

    async def _new_version(self) -> None:
        function = self.dice.choice(self.functions)
        self.done.append(Fault("new version", function.name, monotonic_s(), leader=False))
        self.say(f"new version of {function.name}")
        environment = function.environment(self.dice.randrange(10**9))
        for client in self.clients:
            try:
                await client.update_function(function.name, environment=environment)
            except LambentError:
                continue  # its frontend is away, perhaps
            return

    def _draw(self, names: tuple[str, ...]) -> str | None:
        """A host that is whole; one of each kind is always left so."""
        kinds = {kind_of(name) for name in self.harmed}
        free = [name for name in names if self.fleet.parts[name].runs and kind_of(name) not in kinds]
        if not free:
            return None
        name = self.dice.choice(free)
        self.harmed.add(name)
        return name

    def _draw_member(self) -> int | None:
        if self.harmed & set(MEMBERS):
            return None  # the other two are needed
        number = self.dice.randrange(len(MEMBERS))
        self.harmed.add(MEMBERS[number])
        return number

    def _release_members(self) -> None:
        self.harmed -= set(MEMBERS)

    async def _note(self, kind: str, target: str) -> None:
        loses = target in PLACEMENTS and kind in LOSES_THE_LEAD
        leads = loses and await self._leader() == target
        self.done.append(Fault(kind, target, monotonic_s(), leads))
        self.say(f"{kind}: {target}{' (led)' if leads else ''}")

    async def _leader(self) -> str:
        held = await self.etcd.get(keys.LEADER)
        return self.fleet.at(registrations.decode(registrations.Leader, held.value).address) if held else ""
