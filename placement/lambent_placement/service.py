"""Placement's control service: gRPC streams to events of the driver's, while this process leads."""

from typing import Any, Final

import grpc
import grpc.aio

from lambent_chassis.clock import monotonic_s
from lambent_chassis.duplex import Outbox, converse
from lambent_chassis.peering import only
from lambent_placement.core import events as on
from lambent_placement.core.provision import allocated, status
from lambent_placement.core.records import Instance, Node, State, Version
from lambent_placement.core.tally import Tally
from lambent_placement.driver import Driver
from lambent_placement.settings import Policy
from lambent_proto.ids import (
    FrontendId,
    InstanceId,
    LeaseNumber,
    NodeId,
    VersionKey,
    frontend_name,
    node_name,
)
from lambent_proto.internal import control_pb2 as wire
from lambent_proto.internal import control_pb2_grpc
from lambent_proto.protocol import apart

Context = grpc.aio.ServicerContext[Any, Any]

NODE_STATES: Final = ("connected", "disconnected", "unreported", "draining", "drained")
"""Of a worker, as listings and metrics call them. What has not reported may run anything that fits there."""


class Placement(control_pb2_grpc.PlacementServicer):
    def __init__(self, policy: Policy, shadow_policy: Policy | None, shard: int = 0) -> None:
        self.driver: Driver | None = None
        """The leadership of the moment; None while another placement leads."""
        self.tally = Tally()
        """What was decided here since this process began."""
        self._shard = shard
        self._policies = str(policy), "" if shadow_policy is None else str(shadow_policy)

    async def _meant(self, context: Context, shard: int) -> None:
        """Who asks may have an address that another shard's placement has taken over since."""
        if shard != self._shard:
            why = f"this placement is of shard {self._shard}, not of {shard}"
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, why)

    async def _leading(self, context: Context) -> Driver:
        if self.driver is None or self.driver.over:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "this placement does not lead")
        assert self.driver is not None
        return self.driver

    async def AttachFrontend(self, request_iterator: Any, context: Context) -> None:  # type: ignore[override]
        driver = await self._leading(context)
        hello = await _hello(request_iterator, context)
        await only(context, "frontend", frontend_name(FrontendId(hello.frontend)))
        await self._meant(context, hello.shard)
        await _near(context, f"frontend {hello.frontend}", hello)
        frontend = FrontendId(hello.frontend)
        outbox = Outbox[wire.FrontendOrder]()
        driver.frontend_attached(
            on.FrontendAttached(
                frontend,
                _held(hello.leases),
                [_wish(demand) for demand in hello.demands],
                [NodeId(node) for node in hello.linked_nodes],
                monotonic_s(),
            ),
            outbox,
        )

        def take(report: wire.FrontendReport) -> None:
            if driver.is_current_frontend(frontend, outbox):
                event = _frontend_event(frontend, report, monotonic_s())
                if event is not None:
                    driver.feed(event)

        try:
            await converse(outbox, context, request_iterator, take)
        finally:
            driver.frontend_detached(frontend, outbox)

    async def AttachWorker(self, request_iterator: Any, context: Context) -> None:  # type: ignore[override]
        driver = await self._leading(context)
        hello = await _hello(request_iterator, context)
        await only(context, "worker", node_name(NodeId(hello.node)))
        await self._meant(context, hello.shard)
        await _near(context, f"worker {hello.node}", hello)
        node = NodeId(hello.node)
        outbox = Outbox[wire.WorkerOrder]()
        instances = [_reported(it) for it in hello.instances if not driver.is_elsewhere(it.instance, node)]
        report = on.NodeReported(node, hello.memory_mb, instances, monotonic_s(), hello.leaving)
        driver.worker_attached(report, outbox)

        def take(report: wire.WorkerReport) -> None:
            if driver.is_current_worker(node, outbox):
                event = _worker_event(node, report, monotonic_s())
                if event is not None and not driver.is_elsewhere(getattr(event, "instance", ""), node):
                    driver.feed(event)

        try:
            await converse(outbox, context, request_iterator, take)
        finally:
            driver.worker_detached(node, outbox)

    async def Describe(self, request: wire.DescribeRequest, context: Context) -> wire.DescribeResponse:
        await only(context, "frontend")
        driver = await self._leading(context)
        await self._meant(context, request.shard)
        books, now = driver.core.books, monotonic_s()
        instances = [_described_instance(instance, now) for instance in books.instances.values()]
        nodes = [_described(driver, node) for node in books.nodes.values()]
        provisioned = [_described_provisioned(version) for version in books.provisioned.values()]
        return wire.DescribeResponse(
            epoch=driver.core.epoch, nodes=nodes, instances=instances, provisioned=provisioned
        )

    async def DescribeShadow(
        self, request: wire.DescribeShadowRequest, context: Context
    ) -> wire.DescribeShadowResponse:
        await only(context, "frontend")
        driver = await self._leading(context)
        await self._meant(context, request.shard)
        live, own = self._policies
        if driver.shadow is None:
            return wire.DescribeShadowResponse(state="off", epoch=driver.core.epoch, live_policy=live)
        report = driver.shadow.report()
        return wire.DescribeShadowResponse(
            state=report.state,
            reason=report.reason,
            epoch=driver.core.epoch,
            counted_s=report.counted_s,
            live_policy=live,
            shadow_policy=own,
            live=_counted(report.live),
            shadow=_counted(report.own),
            cpu_us=report.cpu_us,
        )


async def _hello(reports: Any, context: Context) -> Any:
    """What the first message of a stream holds; the stream ends if it is anything but a hello."""
    first = await anext(aiter(reports), None)
    if first is None or first.WhichOneof("report") != "hello":
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message has to be a hello")
    return first.hello


async def _near(context: Context, who: str, hello: wire.FrontendHello | wire.WorkerHello) -> None:
    """Ends the stream of a part that is too many releases away."""
    if far := apart(who, hello.protocol, hello.release):
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, far)


def _described_instance(instance: Instance, now: float) -> wire.DescribedInstance:
    idle = instance.ready and instance.state is State.IDLE
    return wire.DescribedInstance(
        instance=instance.id,
        version=instance.version,
        node=instance.node,
        state=instance.state.value if instance.ready or instance.state is State.STOPPING else "starting",
        frontend=instance.frontend or "",
        memory_mb=instance.memory_mb,
        idle_s=max(0.0, now - instance.idle_since) if idle else 0.0,
        provisioned=instance.provisioned,
    )


def _described_provisioned(version: Version) -> wire.DescribedProvisioned:
    return wire.DescribedProvisioned(
        version=version.key,
        requested=version.provisioned,
        allocated=allocated(version),
        status=status(version),
        reason=version.provision_error,
    )


def _described(driver: Driver, node: Node) -> wire.DescribedNode:
    worker = driver.workers.get(node.id)
    state = node_state(node)
    return wire.DescribedNode(
        node=node.id,
        state=state,
        address=worker.data_address if worker else "",
        control_address=worker.control_address if worker else "",
        memory_mb=node.memory_mb,
        memory_used_mb=node.used_mb,
        instances=len(node.instances),
        isolation=worker.isolation if worker else "",
        missing_protections=worker.missing_protections if worker else [],
        backend=worker.backend if worker else "",
        runtimes=worker.runtimes if worker else [],
        labels=worker.labels if worker else [],
        release=worker.release if worker else "",
    )


def _counted(tally: Tally) -> wire.Counted:
    return wire.Counted(
        starts=tally.starts,
        warm=tally.warm,
        waits=tally.waits,
        evictions=tally.evictions,
        idle_gb_h=tally.idle_mb_s / 1024 / 3600,
    )


def node_state(node: Node) -> str:
    """One of `NODE_STATES`."""
    if not node.connected:
        return "disconnected" if node.reported else "unreported"
    if node.is_emptied:
        return "draining" if node.instances else "drained"
    return "connected"


def _held(leases: Any) -> list[tuple[InstanceId, LeaseNumber]]:
    return [(InstanceId(lease.instance), LeaseNumber(lease.number)) for lease in leases]


def _wish(demand: wire.Demand) -> on.Wish:
    version, keys = VersionKey(demand.version), tuple(demand.keys)
    return on.Wish(version, demand.wanted, demand.oldest_wait_s, keys)


def _reported(instance: wire.HeldInstance) -> on.Reported:
    return on.Reported(
        InstanceId(instance.instance),
        VersionKey(instance.version),
        instance.memory_mb,
        instance.state,
        LeaseNumber(instance.number),
        FrontendId(instance.frontend) if instance.frontend else None,
        instance.provisioned,
    )


def _frontend_event(frontend: FrontendId, report: wire.FrontendReport, at: float) -> on.Event | None:
    """None for a report of a newer release's that this one does not know."""
    match report.WhichOneof("report"):
        case "demand":
            return on.Demanded(frontend, _wish(report.demand), at)
        case "release":
            return on.Released(frontend, _held(report.release.leases), report.release.sure, at)
        case "recalled":
            version = VersionKey(report.recalled.version)
            return on.Recalled(frontend, version, _held(report.recalled.leases), at)
        case "served":
            calls = [(InstanceId(it.instance), it.key) for it in report.served.calls]
            return on.KeysServed(frontend, calls, at)
        case "link":
            return on.LinkChanged(frontend, NodeId(report.link.node), report.link.up, at)
        case _:
            return None


def _worker_event(node: NodeId, report: wire.WorkerReport, at: float) -> on.Event | None:
    """None for a report of a newer release's that this one does not know."""
    match report.WhichOneof("report"):
        case "ready":
            ready = report.ready
            how = ready.starting_ms, ready.init_ms, at, ready.restored
            return on.InstanceReady(InstanceId(ready.instance), *how)
        case "gone":
            gone = report.gone
            return on.InstanceGone(InstanceId(gone.instance), gone.reason, gone.init_error, at)
        case "freed":
            freed = report.freed
            return on.InstanceFreed(InstanceId(freed.instance), LeaseNumber(freed.number), freed.busy, at)
        case "refused":
            return on.GrantRefused(InstanceId(report.refused.instance), report.refused.reason, at)
        case "leaving":
            return on.NodeLeaving(node, at)
        case _:
            return None
