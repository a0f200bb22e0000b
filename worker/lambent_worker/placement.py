"""The worker's stream to the leading placement: said anew in full whenever it has to be opened again."""

from collections.abc import Callable
from typing import Any, assert_never

import structlog

from lambent_chassis.clock import monotonic_s
from lambent_chassis.duplex import Outbox, converse
from lambent_chassis.etcd import Etcd
from lambent_chassis.followed import while_set
from lambent_chassis.peering import Peering
from lambent_chassis.reopened import reopened
from lambent_proto import identity, keys, registrations
from lambent_proto.definition import Definition
from lambent_proto.ids import Epoch, FrontendId, InstanceId, LeaseNumber, VersionKey
from lambent_proto.internal import control_pb2 as wire
from lambent_proto.internal import control_pb2_grpc
from lambent_proto.protocol import PROTOCOL, RELEASE, apart
from lambent_worker.agent import Agent, Report
from lambent_worker.core import commands as do
from lambent_worker.core import events as on


class PlacementStream:
    def __init__(self, etcd: Etcd, agent: Agent, shard: int, peering: Peering) -> None:
        self._etcd = etcd
        self._agent = agent
        self._shard = shard
        self._peering = peering
        self._outbox: Outbox[wire.WorkerReport] | None = None
        self._log = structlog.get_logger()
        agent.report = self._say

    async def run(self) -> None:
        """Never returns. To be called only once this worker is registered: a leader that has read the list
        of workers must know of every one that another leader may have given grants to."""
        await while_set(self._etcd, keys.leader(self._shard), self._attach)

    async def _attach(self, value: bytes) -> None:
        """Opens streams to this leader until cancelled, because another one leads."""
        leader = registrations.decode(registrations.Leader, value)
        if far := apart(f"the placement at {leader.address}", leader.protocol, leader.release):
            self._log.error("placement_too_far_apart", leader=leader.address, reason=far)
            return
        epoch = Epoch(leader.epoch)

        async def connect(connected: Callable[[], None]) -> None:
            async with self._peering.channel(leader.address, identity.dns_name("placement")) as channel:
                await self._one_stream(control_pb2_grpc.PlacementStub(channel), epoch, connected)

        await reopened(leader.address, connect)

    async def _one_stream(
        self, stub: "control_pb2_grpc.PlacementAsyncStub", epoch: Epoch, connected: Callable[[], None]
    ) -> None:
        stream: Any = stub.AttachWorker()
        await stream.wait_for_connection()
        connected()
        outbox = self._outbox = Outbox[wire.WorkerReport]()
        self._agent.feed(on.LeaderFollowed(epoch))
        outbox.put(wire.WorkerReport(hello=self._hello()))
        try:
            await converse(outbox, stream, stream, self._order)
        finally:
            self._outbox = None
            stream.cancel()

    def _hello(self) -> wire.WorkerHello:
        core = self._agent.core
        return wire.WorkerHello(
            node=self._agent.node,
            memory_mb=core.memory_mb,
            leaving=core.leaving,
            shard=self._shard,
            protocol=PROTOCOL,
            release=RELEASE,
            instances=[
                wire.HeldInstance(
                    instance=instance.id,
                    version=instance.version,
                    memory_mb=instance.memory_mb,
                    state=instance.state.value,
                    number=instance.number,
                    frontend=instance.frontend or "",
                    provisioned=instance.provisioned,
                )
                for instance in core.instances.values()
            ],
        )

    def _say(self, report: Report) -> None:
        if self._outbox is not None:
            self._outbox.put(_report(report))

    def _order(self, order: wire.WorkerOrder) -> None:
        epoch = Epoch(order.epoch)
        match order.WhichOneof("order"):
            case "grant":
                self._grant(epoch, order.grant)
            case "evict":
                evict = order.evict
                instance, number = InstanceId(evict.instance), LeaseNumber(evict.number)
                self._agent.feed(on.EvictArrived(epoch, instance, number, evict.reason))
            case "fence":
                instance, number = InstanceId(order.fence.instance), LeaseNumber(order.fence.number)
                self._agent.feed(on.FenceArrived(epoch, instance, number))
            case _:
                pass  # an order of a newer release's

    def _grant(self, epoch: Epoch, grant: wire.Grant) -> None:
        self._agent.granted(
            Definition.decode(grant.definition),
            on.GrantArrived(
                epoch,
                InstanceId(grant.instance),
                VersionKey(grant.version),
                grant.memory_mb,
                LeaseNumber(grant.number),
                FrontendId(grant.frontend) if grant.frontend else None,
                monotonic_s(),
                grant.provisioned,
            ),
        )


def _report(report: Report) -> wire.WorkerReport:
    match report:
        case do.ReportReady():
            ready = wire.InstanceReady(
                instance=report.instance,
                starting_ms=report.starting_ms,
                init_ms=report.init_ms,
                restored=report.restored,
            )
            return wire.WorkerReport(ready=ready)
        case do.ReportGone():
            gone = wire.InstanceGone(instance=report.instance, reason=report.reason, init_error=report.error)
            return wire.WorkerReport(gone=gone)
        case do.ReportFreed():
            freed = wire.InstanceFreed(instance=report.instance, number=report.number, busy=report.busy)
            return wire.WorkerReport(freed=freed)
        case do.ReportRefused():
            refused = wire.GrantRefused(instance=report.instance, reason=report.reason)
            return wire.WorkerReport(refused=refused)
        case do.ReportLeaving():
            return wire.WorkerReport(leaving=wire.Leaving())
        case _:
            assert_never(report)
