"""Whether what was accepted is lost: events while all that handles them is killed, one after the other.

Events are sent to a whole fleet, as asynchronous calls and into the sources of triggers. Each part of the
fleet, each member of its etcd and each broker that keeps its messages on disk is killed (`kill -9`) in the
midst of it and started again. Afterwards every event that was taken has to have been processed, or to be
with those that were given up; one of fifty can never be processed. What a source gives out in order is to be
processed in that order.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Final

from lambent.client import Client
from lambent_chassis.clock import monotonic_s
from lambent_proto.errors import LambentError
from tests.brokers import aws, processes
from tests.brokers.processes import Broker
from tests.chaos.account import HEAD, Account, Book, accounts
from tests.chaos.fleet import MEMBERS, PARTS, WORKERS, Fleet, running
from tests.chaos.hosts import NETWORK, hosts
from tests.chaos.senders import Calls, Files, Nats, Rabbit, Redis, Sender, Sqs
from tests.chaos.streams import Kafka, Kinesis
from tests.e2e.load import eventually
from tests.integration.etcd.cluster import sound_etcd

TARGETS: Final = (
    *("frontend-1", "redis", "worker-1", "placement-1", "etcd-1", "nats", "worker-2"),
    *("frontend-2", "rabbitmq", "etcd-2", "placement-2", "worker-3", "etcd-3"),
)
"""In the order in which they are killed."""
EACH: Final = 100
"""Events that are sent to each sender's source about each kill, at the most."""
STUCK_S: Final = 120.0
"""What was not accounted for is lost if nothing changed for so long. The longest that a part of the fleet
waits by itself is less: a trigger whose source failed, half a minute, twice in a row."""
UP_S: Final = 240.0
"""Within which a part has started. The first start of a worker compiles Java: three at a time, on a machine
that others keep busy, took longer than a minute."""
LOOK_EVERY_S: Final = 0.25
BRIDGE: Final = f"{NETWORK}.1"
"""Where the brokers are."""


@dataclass(frozen=True, slots=True)
class LossReport:
    accounts: list[Account]
    kills: list[str]
    seconds: float
    """From the first event to the last that was accounted for."""

    @property
    def broken(self) -> list[str]:
        lost = [name for it in self.accounts for name in it.lost]
        early = [name for it in self.accounts for name in it.disorder]
        return [
            *(f"{name} was taken, and nobody knows what became of it" for name in lost),
            *(f"{name} was processed before one that was taken before it" for name in early),
        ]

    def table(self) -> str:
        taken = sum(it.taken for it in self.accounts)
        lines = [f"{taken} events in {self.seconds:.0f} s, {len(self.kills)} times something was killed"]
        lines += [HEAD, *(it.told for it in self.accounts), ""]
        return "\n".join([*lines, *self.broken[:20], f"{len(self.broken)} events lost or out of order"])


async def run(
    folder: Path,
    events: int,
    say: Callable[[str], None],
    targets: Sequence[str] = TARGETS,
    *,
    in_nats: bool = False,
) -> LossReport:
    """Asynchronous calls are kept in NATS, or in a file of each frontend.

    Raises CannotMakeHosts, NoSoundEtcd or NotInstalled.
    """
    with hosts([*MEMBERS, *PARTS]) as network, ExitStack() as ending:
        brokers = {
            "redis": processes.a_redis(_made(folder / "redis"), BRIDGE),
            "nats": processes.a_nats(_made(folder / "nats"), BRIDGE),
            "rabbitmq": processes.a_rabbitmq(_made(folder / "rabbitmq"), BRIDGE),
        }
        for broker in brokers.values():
            ending.callback(broker.end)
        kafka = processes.a_kafka(BRIDGE)
        ending.callback(kafka.end)
        await asyncio.gather(*(asyncio.to_thread(it.start) for it in (kafka, *brokers.values())))
        server = ending.enter_context(aws.running(address=BRIDGE))
        inbox = _made(folder / "inbox")
        sources = [f"{name}={broker.url}" for name, broker in brokers.items()]
        sources += [
            f"sqs={server.url}",
            f"kinesis={server.url}",
            f"kafka={kafka.url}",
            f"inbox=file://{inbox}",
        ]
        whole, nats = _made(folder / "fleet"), brokers["nats"].url if in_nats else ""
        async with (
            running(whole, network, sound_etcd(), sources, nats) as fleet,
            _clients(fleet) as clients,
        ):
            senders: list[Sender] = [
                Calls(clients),
                Redis(brokers["redis"]),
                Nats(brokers["nats"]),
                Rabbit(brokers["rabbitmq"]),
                Sqs(server),
                Kafka(kafka),
                Kinesis(server),
                Files(inbox),
            ]
            return await _Run(folder, fleet, brokers, senders, say).all(clients, events, targets)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@asynccontextmanager
async def _clients(fleet: Fleet) -> AsyncIterator[Sequence[Client]]:
    """Of all frontends, once each knows all workers: what those do at their first start is over then."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(it, retries=0)) for it in fleet.endpoints]

        async def ready() -> bool:
            try:
                return all([len((await client.nodes()).nodes) == len(WORKERS) for client in clients])
            except LambentError:
                return False

        await eventually(ready, "the fleet is up", within_s=UP_S)
        yield clients


class _Run:
    def __init__(
        self,
        folder: Path,
        fleet: Fleet,
        brokers: dict[str, Broker],
        senders: Sequence[Sender],
        say: Callable[[str], None],
    ) -> None:
        self._fleet = fleet
        self._brokers = brokers
        self._senders = senders
        self._say = say
        self._processed = Book(folder / "processed", "process")
        self._given_up = Book(folder / "given-up", "bury")
        self._kills: list[str] = []

    async def all(self, clients: Sequence[Client], events: int, targets: Sequence[str]) -> LossReport:
        await self._processed.deploy(clients[0], "process", concurrency=8)
        graves = await self._given_up.deploy(clients[0], "bury", concurrency=4)
        for sender in self._senders:
            await sender.deploy(clients[0], self._processed.function, self._given_up.function, graves)
        begin = monotonic_s()
        each = math.ceil(events / sum(it.share for it in self._senders))
        at_a_time = min(EACH, math.ceil(each / len(targets)))
        for target in cycle(targets):
            await self._send_and_kill(target, min(at_a_time, each))
            each -= at_a_time
            if each <= 0:
                break
        found, at = await self._accounted()
        return LossReport(found, self._kills, at - begin)

    async def _send_and_kill(self, target: str, events: int) -> None:
        """Half of them are taken by one sender at least when it is killed; it is back before this returns."""
        enough = len(self._senders[0].taken) + events // 2
        async with asyncio.TaskGroup() as sending:
            for sender in self._senders:
                sending.create_task(sender.send(math.ceil(events * sender.share)))
            await eventually(
                lambda: any(len(it.taken) >= enough for it in self._senders), "events are taken", within_s=60
            )
            self._kills.append(target)
            self._say(f"kill -9: {target}; {sum(len(it.taken) for it in self._senders)} events were taken")
            if target in self._brokers:
                await asyncio.to_thread(self._brokers[target].kill)
                await asyncio.to_thread(self._brokers[target].start)
            elif target in MEMBERS:
                member = self._fleet.cluster.members[MEMBERS.index(target)]
                member.kill()
                self._fleet.cluster.start()
                await self._fleet.cluster.ready(member)
            else:
                part = self._fleet.parts[target]
                addresses = part.addresses
                part.process.kill()
                back = partial(lambda part, before: part.addresses is not before, part, addresses)
                await eventually(back, f"{target} serves again", within_s=UP_S)

    async def _accounted(self) -> tuple[list[Account], float]:
        """When nothing is missing, or nothing was found for long; and when the last was found."""
        missing, at = -1, monotonic_s()
        while True:
            found = accounts(self._senders, self._processed.read(), self._given_up.read())
            left = sum(len(it.lost) for it in found)
            if left != missing:
                missing, at = left, monotonic_s()
            if not missing or monotonic_s() - at > STUCK_S:
                return found, at
            await asyncio.sleep(LOOK_EVERY_S)
