"""Three etcd members, two placements, four workers and two frontends, each on a host of its own, with TLS.

What ends is started again, as an operator's init system would.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from lambent.certificates import FleetCertificates
from lambent_chassis.etcd import EtcdBinary
from tests.chaos.hosts import Hosts
from tests.e2e.by_hand import Part, assert_nothing_is_left
from tests.integration.etcd.cluster import Cluster

MEMBERS: Final = ("etcd-1", "etcd-2", "etcd-3")
PLACEMENTS: Final = ("placement-1", "placement-2")
WORKERS: Final = ("worker-1", "worker-2", "worker-3", "worker-4")
FRONTENDS: Final = ("frontend-1", "frontend-2")
PARTS: Final = (*PLACEMENTS, *WORKERS, *FRONTENDS)

WORKER_TTL_S: Final = 5
"""The shortest that a worker takes."""

PAUSE_S: Final = 0.5
"""Before what has ended is started again."""


LOOK_EVERY_S: Final = 0.05


def kind_of(name: str) -> str:
    """Of a part, a member or a function: what stands before its number."""
    return name.partition("-")[0]


class Fleet:
    def __init__(
        self, folder: Path, hosts: Hosts, binary: EtcdBinary, sources: Sequence[str], nats: str
    ) -> None:
        """`sources` are those of triggers, as the frontends' setting has them; `nats` has the queue, or is
        empty."""
        self.hosts = hosts
        self._sources = list(sources)
        self._nats = nats
        self._certificates = FleetCertificates(folder / "certificates")
        self.cluster = Cluster(binary, folder / "etcd", hosts=[hosts[name] for name in MEMBERS])
        self.parts = {name: self._part(folder, name) for name in PARTS}
        self.ending = False
        self.dead: set[str] = set()
        """Hosts that are dead: nothing is started there."""

    @property
    def endpoints(self) -> list[str]:
        """Of the frontends."""
        return [f"{self.hosts[name].address}:50051" for name in FRONTENDS]

    def at(self, address: str) -> str:
        """The name of the host with the address `HOST:PORT`."""
        where = address.rpartition(":")[0]
        return next(host.name for host in self.hosts.hosts.values() if host.address == where)

    def _part(self, folder: Path, name: str) -> Part:
        kind = kind_of(name)
        told: dict[str, object] = {"name": name, "etcd": self.cluster.endpoints}
        told |= self._certificates.settings(kind, name, of_etcd=False)
        address = self.hosts[name].address
        packages = str(folder / "packages")
        if kind == "placement":
            told |= {"host": address}
        elif kind == "worker":
            told |= {"host": address, "data": str(folder / name), "packages": packages, "memory_mb": 1024}
            told |= {"sandbox": "process", "require_isolation": "none", "lease_ttl_s": WORKER_TTL_S}
        else:
            told |= {"host": address, "grpc_host": address, "packages": packages, "auth": False}
            told |= {"data": str(folder / name), "sources": self._sources}
            told |= {"nats": [self._nats]} if self._nats else {}
        config = folder / f"{name}.toml"
        config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in told.items()))
        return Part(kind, name, config, within=self.hosts[name].within)

    def start_members(self) -> None:
        """Of etcd, those that do not run, but for those whose hosts are dead."""
        alive = [it for name, it in zip(MEMBERS, self.cluster.members, strict=True) if name not in self.dead]
        self.cluster.start(alive)

    async def keep(self, part: Part) -> None:
        """Starts it whenever it does not run, until all is to end."""
        while not self.ending:
            while part.name in self.dead:  # noqa: ASYNC110 - nor for this
                await asyncio.sleep(LOOK_EVERY_S)
            with contextlib.suppress(AssertionError):  # it says in its log why it did not start
                await asyncio.to_thread(part.start)
            while part.runs:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(LOOK_EVERY_S)
            part.process.communicate()
            await asyncio.sleep(PAUSE_S)

    async def end(self, keepers: list[asyncio.Task[None]]) -> None:
        """Kills what runs, and what was just being started."""
        self.ending = True
        while not all(keeper.done() for keeper in keepers):
            for part in self.parts.values():
                if part.runs:
                    part.process.kill()
            await asyncio.sleep(LOOK_EVERY_S)
        self.cluster.kill()


@asynccontextmanager
async def running(
    folder: Path, hosts: Hosts, binary: EtcdBinary, sources: Sequence[str] = (), nats: str = ""
) -> AsyncIterator[Fleet]:
    """All of it. At the end it is killed, and nothing that an instance or a part started may be left then."""
    (folder / "packages").mkdir()
    fleet = Fleet(folder, hosts, binary, sources, nats)
    fleet.cluster.start()
    keepers: list[asyncio.Task[None]] = []
    try:
        await fleet.cluster.ready()
        keepers = [asyncio.create_task(fleet.keep(part)) for part in fleet.parts.values()]
        yield fleet
    finally:
        await fleet.end(keepers)
        assert_nothing_is_left(folder)
