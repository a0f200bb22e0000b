"""Does what was planned to a fleet: each fault harms, waits, and mends what it harmed."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from lambent.client import Client
from lambent_chassis.clock import monotonic_s
from lambent_chassis.etcd import Etcd, EtcdError
from lambent_proto import keys, registrations
from lambent_proto.errors import LambentError
from tests.chaos.disks import Disk
from tests.chaos.fleet import MEMBERS, PLACEMENTS, Fleet
from tests.chaos.lives import Watched
from tests.chaos.schedule import Planned
from tests.integration.etcd.cluster import ClusterMember

LOSES_THE_LEAD: Final = ("kill -9", "SIGSTOP", "a host that dies", "cut off from all", "cut off from etcd")
"""Faults that a placement does not go on leading through, if they last."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One that was done."""

    planned: Planned
    begin: float
    end: float
    """Monotonic seconds: when it was mended."""
    leader: bool
    """It took the leading placement away."""


@dataclass(slots=True)
class Injector:
    fleet: Fleet
    etcd: Etcd
    clients: Sequence[Client]
    functions: Sequence[Watched]
    disks: Mapping[str, Disk]
    """Of etcd's members, by their hosts; without one a disk is never slow."""
    say: Callable[[str], None]
    done: list[Fault] = field(default_factory=list)

    async def run(self, planned: Sequence[Planned]) -> None:
        """Each at its time from now; returns when the last of them is mended."""
        begin = monotonic_s()
        async with asyncio.TaskGroup() as tasks:
            for fault in planned:
                tasks.create_task(self._one(fault, begin + fault.at))

    async def _one(self, planned: Planned, at: float) -> None:
        await asyncio.sleep(at - monotonic_s())
        leads = False
        if planned.kind in LOSES_THE_LEAD and set(planned.hosts) <= set(PLACEMENTS):
            leads = await self._leader() in planned.hosts
        self.say(planned.told() + (" (led)" if leads else ""))
        begin = monotonic_s()
        async with self._harmed(planned):
            await asyncio.sleep(planned.lasts_s)
        self.done.append(Fault(planned, begin, monotonic_s(), leads))

    @asynccontextmanager
    async def _harmed(self, planned: Planned) -> AsyncIterator[None]:
        match planned.kind:
            case "kill -9":
                harm, mend = self._kill, self._start
            case "SIGSTOP":
                harm, mend = self._stop, self._go_on
            case "a host that dies":
                harm, mend = self._die, self._revive
            case "a slow line that loses":
                harm, mend = self._spoil, self._repair
            case "a slow disk":
                harm, mend = self._slow, self._fast
            case "a new version":
                await self._new_version(planned)
                yield
                return
            case _:
                harm, mend = (self._cut, self._mend) if planned.away else (self._isolate, self._join)
        await asyncio.to_thread(harm, planned)
        try:
            yield
        finally:
            await asyncio.to_thread(mend, planned)

    # One host's processes

    def _kill(self, planned: Planned) -> None:
        for host in planned.hosts:
            if host in MEMBERS:
                self._member(host).kill()
            elif self.fleet.parts[host].runs:
                self.fleet.parts[host].process.kill()

    def _start(self, planned: Planned) -> None:
        """Parts are started again by whoever keeps them."""
        self.fleet.start_members()

    def _stop(self, planned: Planned) -> None:
        self._signal(planned, signal.SIGSTOP)

    def _go_on(self, planned: Planned) -> None:
        self._signal(planned, signal.SIGCONT)

    def _signal(self, planned: Planned, number: signal.Signals) -> None:
        for host in planned.hosts:
            if host in MEMBERS:
                self._member(host).send(number)
            elif self.fleet.parts[host].runs:
                self.fleet.parts[host].process.send_signal(number)

    # Hosts

    def _die(self, planned: Planned) -> None:
        self.fleet.dead.update(planned.hosts)
        for host in planned.hosts:
            self.fleet.hosts.isolate(host)
            self.fleet.hosts.kill_all(host)

    def _revive(self, planned: Planned) -> None:
        self._join(planned)
        self.fleet.dead.difference_update(planned.hosts)
        self.fleet.start_members()

    def _slow(self, planned: Planned) -> None:
        for host in planned.hosts:
            if host in self.disks:
                self.disks[host].slow(self._member(host).pid, planned.writes_per_s)

    def _fast(self, planned: Planned) -> None:
        for host in planned.hosts:
            if host in self.disks:
                self.disks[host].fast()

    # Lines

    def _spoil(self, planned: Planned) -> None:
        assert planned.bad is not None
        for host in planned.hosts:
            self.fleet.hosts.spoil(host, planned.bad, planned.number)

    def _repair(self, planned: Planned) -> None:
        for host in planned.hosts:
            self.fleet.hosts.repair(host)

    def _cut(self, planned: Planned) -> None:
        for host in planned.hosts:
            for other in planned.away:
                self.fleet.hosts.cut(host, other)

    def _mend(self, planned: Planned) -> None:
        for host in planned.hosts:
            for other in planned.away:
                self.fleet.hosts.mend(host, other)

    def _isolate(self, planned: Planned) -> None:
        for host in planned.hosts:
            self.fleet.hosts.isolate(host)

    def _join(self, planned: Planned) -> None:
        for host in planned.hosts:
            self.fleet.hosts.join(host)

    # Others

    async def _new_version(self, planned: Planned) -> None:
        function = self.functions[planned.number % len(self.functions)]
        environment = function.environment(planned.number)
        for client in self.clients:
            try:
                await client.update_function(function.name, environment=environment)
            except LambentError:
                continue  # its frontend is away, perhaps
            return

    def _member(self, host: str) -> ClusterMember:
        return self.fleet.cluster.members[MEMBERS.index(host)]

    async def _leader(self) -> str:
        try:
            held = await self.etcd.get(keys.LEADER)
        except EtcdError:
            return ""  # it is hurt itself
        return self.fleet.at(registrations.decode(registrations.Leader, held.value).address) if held else ""
