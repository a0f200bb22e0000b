"""The frontend's stream to a shard's leading placement: said anew in full whenever it is opened again."""

from collections.abc import Callable
from typing import Any, assert_never

import structlog

from lambent_chassis.clock import monotonic_s
from lambent_chassis.duplex import Outbox, converse
from lambent_chassis.etcd import Etcd
from lambent_chassis.followed import while_set
from lambent_chassis.peering import Peering
from lambent_chassis.reopened import reopened
from lambent_frontend.calls import Candidate
from lambent_frontend.core import commands as do
from lambent_frontend.core import events as on
from lambent_frontend.driver import Driver, ToPlacement
from lambent_proto import identity, keys, registrations
from lambent_proto.ids import FrontendId, InstanceId, LeaseNumber, NodeId, VersionKey
from lambent_proto.internal import control_pb2 as wire
from lambent_proto.internal import control_pb2_grpc
from lambent_proto.protocol import PROTOCOL, RELEASE, apart


class PlacementStream:
    def __init__(
        self, etcd: Etcd, driver: Driver, frontend: FrontendId, shard: int, peering: Peering
    ) -> None:
        self.leader = ""
        """Address of the leader, empty while none is known."""
        self._etcd = etcd
        self._driver = driver
        self._frontend = frontend
        self._shard = shard
        self._peering = peering
        self._outbox: Outbox[wire.FrontendReport] | None = None
        self._log = structlog.get_logger()
        driver.to_placement = self._say

    async def run(self) -> None:
        """Never returns."""
        await while_set(self._etcd, keys.leader(self._shard), self._attach)

    async def _attach(self, value: bytes) -> None:
        """Opens streams to this leader until cancelled, because another one leads."""
        leader = registrations.decode(registrations.Leader, value)
        if far := apart(f"the placement at {leader.address}", leader.protocol, leader.release):
            self._log.error("placement_too_far_apart", leader=leader.address, reason=far)
            self.leader = ""
            return
        address = self.leader = leader.address

        async def connect(connected: Callable[[], None]) -> None:
            async with self._peering.channel(address, identity.dns_name("placement")) as channel:
                await self._one_stream(control_pb2_grpc.PlacementStub(channel), connected)

        await reopened(address, connect)

    async def _one_stream(
        self, stub: "control_pb2_grpc.PlacementAsyncStub", connected: Callable[[], None]
    ) -> None:
        stream: Any = stub.AttachFrontend()
        await stream.wait_for_connection()
        connected()
        outbox = self._outbox = Outbox[wire.FrontendReport]()
        self._driver.feed(on.PlacementAttached(monotonic_s()))
        try:
            await converse(outbox, stream, stream, self._order)
        finally:
            self._outbox = None
            stream.cancel()
            self._driver.feed(on.PlacementLost())

    def _say(self, command: ToPlacement) -> None:
        if self._outbox is not None:
            self._outbox.put(_report(command, self._frontend, self._shard))

    def _order(self, order: wire.FrontendOrder) -> None:
        if order.lease.candidates:
            instance = InstanceId(order.lease.instance)
            self._driver.chosen(instance, [_candidate(it) for it in order.lease.candidates])
        event = _event(order, monotonic_s())
        if isinstance(event, on.LeaseVoided):
            self._driver.voided(event)
        elif event is not None:
            self._driver.feed(event)


def _report(command: ToPlacement, frontend: FrontendId, shard: int) -> wire.FrontendReport:
    match command:
        case do.Demand():
            return wire.FrontendReport(demand=_demand(command))
        case do.Release():
            return wire.FrontendReport(release=wire.Release(leases=_held(command.leases), sure=command.sure))
        case do.AnswerRecall():
            recalled = wire.Recalled(version=command.version, leases=_held(command.leases))
            return wire.FrontendReport(recalled=recalled)
        case do.TellServed():
            calls = [wire.KeyServed(instance=instance, key=key) for instance, key in command.calls]
            return wire.FrontendReport(served=wire.Served(calls=calls))
        case do.ReportLink():
            return wire.FrontendReport(link=wire.LinkChange(node=command.node, up=command.up))
        case do.Attach():
            return wire.FrontendReport(
                hello=wire.FrontendHello(
                    frontend=frontend,
                    leases=_held(command.leases),
                    demands=[_demand(demand) for demand in command.demands],
                    linked_nodes=command.links,
                    shard=shard,
                    protocol=PROTOCOL,
                    release=RELEASE,
                )
            )
        case _:
            assert_never(command)


def _demand(demand: do.Demand) -> wire.Demand:
    level = demand.wanted, demand.oldest_wait_s
    return wire.Demand(version=demand.version, wanted=level[0], oldest_wait_s=level[1], keys=demand.keys)


def _held(leases: list[tuple[InstanceId, LeaseNumber]]) -> list[wire.HeldLease]:
    return [wire.HeldLease(instance=instance, number=number) for instance, number in leases]


def _candidate(it: wire.Candidate) -> Candidate:
    return Candidate(NodeId(it.node), it.points, it.preferred, it.instances, it.package, it.free, it.sticky)


def _event(order: wire.FrontendOrder, at: float) -> on.Event | None:
    """None for an order of a newer release's that this one does not know."""
    match order.WhichOneof("order"):
        case "lease":
            lease = order.lease
            return on.LeaseGiven(
                InstanceId(lease.instance),
                LeaseNumber(lease.number),
                NodeId(lease.node),
                VersionKey(lease.version),
                lease.starting,
                lease.reason,
                at,
            )
        case "ready":
            ready = order.ready
            instance, number = InstanceId(ready.instance), LeaseNumber(ready.number)
            how = ready.starting_ms, ready.init_ms, at, ready.restored
            return on.LeaseReady(instance, number, *how)
        case "void":
            void = order.void
            return on.LeaseVoided(
                InstanceId(void.instance),
                LeaseNumber(void.number),
                void.reason,
                void.node_lost,
                void.init_error,
                at,
            )
        case "recall":
            return on.RecallAsked(VersionKey(order.recall.version), order.recall.wanted, at)
        case "unmet":
            unmet = order.unmet
            return on.UnmetTold(VersionKey(unmet.version), unmet.reason, unmet.detail, at)
        case _:
            return None
