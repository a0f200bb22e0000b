"""The Fleet service: what placement's leader, the workers and this frontend know, for people to read."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any, Final, Protocol, TypeVar

import grpc.aio

from lambent_chassis import grpc_options
from lambent_chassis.etcd import EtcdError
from lambent_frontend.calls import Candidate, Dispatcher
from lambent_frontend.guard import permit_reading
from lambent_frontend.logs import NodeLog, node_log, past_and_future
from lambent_frontend.wire import fill_explanation, priority_told
from lambent_proto import keys
from lambent_proto.errors import NotReady, UnknownNode, UnknownRequest
from lambent_proto.ids import FrontendId, NodeId, RequestId, VersionKey, function_of, node_name
from lambent_proto.internal import control_pb2, control_pb2_grpc
from lambent_proto.status import errors_as_status
from lambent_proto.v1 import fleet_pb2, fleet_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
T = TypeVar("T")
Connect = Callable[[str], grpc.aio.Channel]

DESCRIBE_WITHIN_S: Final = 5.0


def connect_plain(address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, options=grpc_options.CHANNEL)


class Store(Protocol):
    """What is needed of `lambent_chassis.etcd.Etcd`."""

    async def put(self, key: str, value: bytes) -> int: ...

    async def delete(self, key: str) -> bool: ...


WHATS: Final = ("warm", "cold", "snapstart", "waited", "refused", "outcome")
"""What is counted by reason, in this order."""


class Fleet(fleet_pb2_grpc.FleetServicer):
    """`leader` gives the address of placement's leader, empty while none is known.

    A channel lives as long as the request that needs it: requests are people's, and rare.
    """

    def __init__(
        self,
        leader: Callable[[], str],
        dispatcher: Dispatcher,
        frontend: FrontendId,
        store: Store,
        *,
        connect: Connect = connect_plain,
    ) -> None:
        self._leader = leader
        self._dispatcher = dispatcher
        self._frontend = frontend
        self._store = store
        self._connect = connect

    @errors_as_status
    async def ListNodes(
        self, request: fleet_pb2.ListNodesRequest, context: Context
    ) -> fleet_pb2.ListNodesResponse:
        fleet = await self.described()
        nodes = sorted(fleet.nodes, key=lambda node: node.node)
        return fleet_pb2.ListNodesResponse(
            nodes=[_node(node) for node in nodes], epoch=fleet.epoch, leader=self._leader()
        )

    @errors_as_status
    async def ListInstances(
        self, request: fleet_pb2.ListInstancesRequest, context: Context
    ) -> fleet_pb2.ListInstancesResponse:
        instances = [_instance(instance) for instance in (await self.described()).instances]
        if wanted := request.function_name:
            instances = [instance for instance in instances if instance.function_name == wanted]
        instances.sort(key=lambda instance: (instance.function_name, instance.node, instance.id))
        return fleet_pb2.ListInstancesResponse(instances=instances)

    @errors_as_status
    async def DrainNode(
        self, request: fleet_pb2.DrainNodeRequest, context: Context
    ) -> fleet_pb2.DrainNodeResponse:
        try:
            if request.undo:
                await self._store.delete(keys.drain(request.node))
                return fleet_pb2.DrainNodeResponse()
            names = sorted({_name(node.node) for node in (await self.described()).nodes})
            if request.node not in names:
                there = ", ".join(names) or "none"
                raise UnknownNode(f"there is no node {request.node!r}; those that are there: {there}")
            await self._store.put(keys.drain(request.node), b"")
        except EtcdError as error:
            raise NotReady(f"the metadata store does not answer: {error}") from error
        return fleet_pb2.DrainNodeResponse()

    @errors_as_status
    async def Explain(self, request: fleet_pb2.ExplainRequest, context: Context) -> fleet_pb2.ExplainResponse:
        explained = self._dispatcher.explain(RequestId(request.request_id))
        if explained is None:
            raise UnknownRequest(
                f"frontend {self._frontend} does not remember a call {request.request_id!r}: "
                "it keeps its last 10,000; ask the frontend that served it",
                request.request_id,
            )
        response = fleet_pb2.ExplainResponse(
            request_id=explained.request_id,
            function_name=explained.function,
            outcome=explained.outcome,
            message=explained.message,
            frontend=self._frontend,
            priority=priority_told(explained.priority),
            tenant=explained.tenant,
        )
        fill_explanation(response.explanation, explained)
        response.candidates.extend(_candidate(it) for it in explained.candidates)
        return response

    @errors_as_status
    async def CountReasons(
        self, request: fleet_pb2.CountReasonsRequest, context: Context
    ) -> fleet_pb2.CountReasonsResponse:
        counted = sorted(self._dispatcher.counts.items(), key=lambda it: (WHATS.index(it[0].what), -it[1]))
        counts = (fleet_pb2.ReasonCount(what=it.what, reason=it.reason, count=n) for it, n in counted)
        return fleet_pb2.CountReasonsResponse(counts=counts, frontend=self._frontend)

    @errors_as_status
    async def GetShadow(
        self, request: fleet_pb2.GetShadowRequest, context: Context
    ) -> fleet_pb2.GetShadowResponse:
        asked = control_pb2.DescribeShadowRequest()
        told = await self._ask(lambda leader: leader.DescribeShadow(asked, timeout=DESCRIBE_WITHIN_S))
        return fleet_pb2.GetShadowResponse(
            state=told.state,
            reason=told.reason,
            leader=self._leader(),
            epoch=told.epoch,
            counted_s=told.counted_s,
            live_policy=told.live_policy,
            shadow_policy=told.shadow_policy,
            live=_counts(told.live),
            shadow=_counts(told.shadow),
            cpu_us=told.cpu_us,
        )

    # grpc.aio also takes a coroutine that writes by itself, which the generated types do not know.
    @errors_as_status
    async def ReadLogs(self, request: fleet_pb2.ReadLogsRequest, context: Context) -> None:  # type: ignore[override]
        """The nodes are those that are there when the reading begins."""
        fleet = await self.described()
        async with AsyncExitStack() as channels:
            logs: list[NodeLog] = []
            for node in fleet.nodes:
                if node.control_address:
                    channel = await channels.enter_async_context(self._connect(node.control_address))
                    logs.append(node_log(channel, _name(node.node), request.function_name))
            async with aclosing(past_and_future(logs, follow=request.follow)) as batches:
                async for lines in batches:
                    permit_reading(request.function_name)  # who follows may do so for days
                    await context.write(fleet_pb2.ReadLogsResponse(lines=lines))

    async def described(self) -> control_pb2.DescribeResponse:
        """What placement's leader says of the fleet. Raises NotReady."""
        asked = control_pb2.DescribeRequest()
        return await self._ask(lambda leader: leader.Describe(asked, timeout=DESCRIBE_WITHIN_S))

    async def _ask(self, what: "Callable[[control_pb2_grpc.PlacementAsyncStub], Awaitable[T]]") -> T:
        address = self._leader()
        if not address:
            raise NotReady(
                "no placement leads at the moment: functions that are warm go on, try again shortly"
            )
        try:
            async with self._connect(address) as channel:
                return await what(control_pb2_grpc.PlacementStub(channel))
        except grpc.aio.AioRpcError as error:
            raise NotReady(
                f"the leading placement at {address} does not answer: {error.details()}"
            ) from error


def _name(node: str) -> str:
    return node_name(NodeId(node))


def _node(node: control_pb2.DescribedNode) -> fleet_pb2.Node:
    name, _, incarnation = node.node.partition("@")
    return fleet_pb2.Node(
        name=name,
        incarnation=incarnation,
        state=node.state,
        address=node.address,
        memory_mb=node.memory_mb,
        memory_used_mb=node.memory_used_mb,
        instances=node.instances,
        isolation=node.isolation,
        missing_protections=node.missing_protections,
        backend=node.backend,
        runtimes=node.runtimes,
        labels=node.labels,
    )


def _counts(it: control_pb2.Counted) -> fleet_pb2.PolicyCounts:
    return fleet_pb2.PolicyCounts(
        starts=it.starts, warm=it.warm, waits=it.waits, evictions=it.evictions, idle_gb_h=it.idle_gb_h
    )


def _candidate(it: Candidate) -> fleet_pb2.Candidate:
    return fleet_pb2.Candidate(
        node=_name(it.node),
        points=it.points,
        preferred=it.preferred,
        instances=it.instances,
        package=it.package,
        free=it.free,
        sticky=it.sticky,
    )


def _instance(instance: control_pb2.DescribedInstance) -> fleet_pb2.Instance:
    version = VersionKey(instance.version)
    _, version_name, revision = version.split(":", 2)
    return fleet_pb2.Instance(
        id=instance.instance,
        function_name=function_of(version),
        version=version_name,
        revision_id=revision,
        node=_name(instance.node),
        state=instance.state,
        frontend=instance.frontend,
        memory_mb=instance.memory_mb,
        idle_s=instance.idle_s,
    )
