"""The Fleet service: what placement's leaders, the workers and this frontend know, for people to read."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any, Final, Protocol, TypeVar

import grpc.aio

from lambent_chassis.etcd import EtcdError
from lambent_chassis.peering import PLAIN, Peering
from lambent_frontend.guard import permit_reading
from lambent_frontend.logs import NodeLog, node_log, past_and_future
from lambent_frontend.remembered import Remembered
from lambent_proto import identity, keys
from lambent_proto.errors import InvalidRequest, NotReady, UnknownNode
from lambent_proto.ids import FunctionName, NodeId, VersionKey, function_of, node_name
from lambent_proto.internal import control_pb2, control_pb2_grpc
from lambent_proto.shards import shard_of
from lambent_proto.status import errors_as_status
from lambent_proto.v1 import fleet_pb2, fleet_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
T = TypeVar("T")

DESCRIBE_WITHIN_S: Final = 5.0


class Store(Protocol):
    """What is needed of `lambent_chassis.etcd.Etcd`."""

    async def put(self, key: str, value: bytes) -> int: ...

    async def delete(self, key: str) -> bool: ...


class Fleet(fleet_pb2_grpc.FleetServicer):
    """`leaders` gives the address of placement's leader of each shard, empty while none is known.

    A channel lives as long as the request that needs it: requests are people's, and rare.
    """

    def __init__(
        self,
        leaders: Callable[[], Sequence[str]],
        remembered: Remembered,
        store: Store,
        *,
        peering: Peering = PLAIN,
    ) -> None:
        self._leaders = leaders
        self._remembered = remembered
        self._store = store
        self._peering = peering

    @errors_as_status
    async def ListNodes(
        self, request: fleet_pb2.ListNodesRequest, context: Context
    ) -> fleet_pb2.ListNodesResponse:
        leaders = self._leaders()
        response = fleet_pb2.ListNodesResponse(leader=leaders[0])
        nodes: list[tuple[control_pb2.DescribedNode, int]] = []
        for number, told in enumerate(await self._described_all()):
            shard = response.shards.add(number=number, leader=leaders[number])
            if isinstance(told, NotReady):
                shard.missing = told.message
                continue
            shard.epoch = told.epoch
            nodes += [(node, number) for node in told.nodes]
        nodes.sort(key=lambda it: it[0].node)
        response.nodes.extend(_node(node, shard) for node, shard in nodes)
        response.epoch = response.shards[0].epoch
        return response

    @errors_as_status
    async def ListInstances(
        self, request: fleet_pb2.ListInstancesRequest, context: Context
    ) -> fleet_pb2.ListInstancesResponse:
        wanted = FunctionName(request.function_name)
        fleet = [await self.described_for(wanted)] if wanted else await self._described_all()
        there = [told for told in fleet if not isinstance(told, NotReady)]
        instances = [_instance(instance) for told in there for instance in told.instances]
        if wanted:
            instances = [instance for instance in instances if instance.function_name == wanted]
        instances.sort(key=lambda instance: (instance.function_name, instance.node, instance.id))
        missing = [number for number, told in enumerate(fleet) if isinstance(told, NotReady)]
        return fleet_pb2.ListInstancesResponse(instances=instances, missing_shards=missing)

    @errors_as_status
    async def DrainNode(
        self, request: fleet_pb2.DrainNodeRequest, context: Context
    ) -> fleet_pb2.DrainNodeResponse:
        try:
            if request.undo:
                await self._store.delete(keys.drain(request.node))
                return fleet_pb2.DrainNodeResponse()
            fleet = await self._described_all()
            told = [it for it in fleet if not isinstance(it, NotReady)]
            names = sorted({_name(node.node) for it in told for node in it.nodes})
            if request.node not in names:
                for it in fleet:
                    if isinstance(it, NotReady):
                        raise it  # it may be a node of that shard
                there = ", ".join(names) or "none"
                raise UnknownNode(f"there is no node {request.node!r}; those that are there: {there}")
            await self._store.put(keys.drain(request.node), b"")
        except EtcdError as error:
            raise NotReady(f"the metadata store does not answer: {error}") from error
        return fleet_pb2.DrainNodeResponse()

    @errors_as_status
    async def Explain(self, request: fleet_pb2.ExplainRequest, context: Context) -> fleet_pb2.ExplainResponse:
        return await self._remembered.explain(request)

    @errors_as_status
    async def CountReasons(
        self, request: fleet_pb2.CountReasonsRequest, context: Context
    ) -> fleet_pb2.CountReasonsResponse:
        return await self._remembered.reasons(request)

    @errors_as_status
    async def GetActivity(
        self, request: fleet_pb2.GetActivityRequest, context: Context
    ) -> fleet_pb2.GetActivityResponse:
        return await self._remembered.activity(request)

    @errors_as_status
    async def GetShadow(
        self, request: fleet_pb2.GetShadowRequest, context: Context
    ) -> fleet_pb2.GetShadowResponse:
        shards = len(self._leaders())
        if request.shard >= shards:
            raise InvalidRequest(f"there is no shard {request.shard}: this fleet has {shards}, from 0 on")
        asked = control_pb2.DescribeShadowRequest(shard=request.shard)
        told = await self._ask(
            request.shard, lambda leader: leader.DescribeShadow(asked, timeout=DESCRIBE_WITHIN_S)
        )
        return fleet_pb2.GetShadowResponse(
            state=told.state,
            reason=told.reason,
            leader=self._leaders()[request.shard],
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
        fleet = await self.described_for(FunctionName(request.function_name))
        async with AsyncExitStack() as channels:
            logs: list[NodeLog] = []
            for node in fleet.nodes:
                if node.control_address:
                    name = _name(node.node)
                    there = self._peering.channel(node.control_address, identity.dns_name("worker", name))
                    channel = await channels.enter_async_context(there)
                    logs.append(node_log(channel, name, request.function_name))
            async with aclosing(past_and_future(logs, follow=request.follow)) as batches:
                async for lines in batches:
                    permit_reading(request.function_name)  # who follows may do so for days
                    await context.write(fleet_pb2.ReadLogsResponse(lines=lines))

    async def described_for(self, function: FunctionName) -> control_pb2.DescribeResponse:
        """What placement's leader says of the shard that a function belongs to. Raises NotReady."""
        return await self._described(shard_of(function, len(self._leaders())))

    async def _described_all(self) -> Sequence[control_pb2.DescribeResponse | NotReady]:
        """What the leader of each shard says, or why nothing. Raises NotReady where none says anything."""

        async def described(shard: int) -> control_pb2.DescribeResponse | NotReady:
            try:
                return await self._described(shard)
            except NotReady as error:
                return error

        told = await asyncio.gather(*map(described, range(len(self._leaders()))))
        for it in told:
            if not isinstance(it, NotReady):
                return told
        assert isinstance(told[0], NotReady)
        raise told[0]

    async def _described(self, shard: int) -> control_pb2.DescribeResponse:
        asked = control_pb2.DescribeRequest(shard=shard)
        return await self._ask(shard, lambda leader: leader.Describe(asked, timeout=DESCRIBE_WITHIN_S))

    async def _ask(
        self, shard: int, what: "Callable[[control_pb2_grpc.PlacementAsyncStub], Awaitable[T]]"
    ) -> T:
        leaders = self._leaders()
        address, of_shard = leaders[shard], f" of shard {shard}" if len(leaders) > 1 else ""
        if not address:
            raise NotReady(
                f"no placement{of_shard} leads at the moment: "
                "functions that are warm go on, try again shortly"
            )
        try:
            async with self._peering.channel(address, identity.dns_name("placement")) as channel:
                return await what(control_pb2_grpc.PlacementStub(channel))
        except grpc.aio.AioRpcError as error:
            raise NotReady(
                f"the leading placement{of_shard} at {address} does not answer: {error.details()}"
            ) from error


def _name(node: str) -> str:
    return node_name(NodeId(node))


def _node(node: control_pb2.DescribedNode, shard: int) -> fleet_pb2.Node:
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
        release=node.release,
        shard=shard,
    )


def _counts(it: control_pb2.Counted) -> fleet_pb2.PolicyCounts:
    return fleet_pb2.PolicyCounts(
        starts=it.starts, warm=it.warm, waits=it.waits, evictions=it.evictions, idle_gb_h=it.idle_gb_h
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
