"""What `Client` can ask and tell the fleet: nodes, instances, concurrency, explanations, logs.

Everything raises LambentError.
"""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc.aio

from lambent.rpc import ASK_WITHIN_S, answer
from lambent_proto.status import from_rpc
from lambent_proto.v1 import fleet_pb2, limits_pb2

if TYPE_CHECKING:
    from lambent_proto.v1.fleet_pb2_grpc import FleetAsyncStub
    from lambent_proto.v1.limits_pb2_grpc import LimitsAsyncStub


class FleetCalls:
    _fleet: "FleetAsyncStub"
    _limits: "LimitsAsyncStub"

    async def concurrency(self) -> limits_pb2.FleetConcurrency:
        """How many instances may run at one time in the whole fleet."""
        request = limits_pb2.GetConcurrencyRequest()
        return await answer(self._limits.GetConcurrency(request, timeout=ASK_WITHIN_S))

    async def set_concurrency(self, concurrency: int) -> limits_pb2.FleetConcurrency:
        request = limits_pb2.SetConcurrencyRequest(concurrency=concurrency)
        return await answer(self._limits.SetConcurrency(request, timeout=ASK_WITHIN_S))

    async def nodes(self) -> fleet_pb2.ListNodesResponse:
        return await answer(self._fleet.ListNodes(fleet_pb2.ListNodesRequest(), timeout=ASK_WITHIN_S))

    async def drain(self, node: str, *, undo: bool = False) -> None:
        """Has a node emptied; `nodes` says when it is. Raises UnknownNode."""
        request = fleet_pb2.DrainNodeRequest(node=node, undo=undo)
        await answer(self._fleet.DrainNode(request, timeout=ASK_WITHIN_S))

    async def shadow(self, shard: int = 0) -> fleet_pb2.GetShadowResponse:
        """What a second policy would have made of the same demand, beside the live one."""
        return await answer(
            self._fleet.GetShadow(fleet_pb2.GetShadowRequest(shard=shard), timeout=ASK_WITHIN_S)
        )

    async def instances(self, function_name: str = "") -> list[fleet_pb2.Instance]:
        """Of one function or of all; `list_instances` says as well which shards are missing."""
        return list((await self.list_instances(function_name)).instances)

    async def list_instances(self, function_name: str = "") -> fleet_pb2.ListInstancesResponse:
        request = fleet_pb2.ListInstancesRequest(function_name=function_name)
        return await answer(self._fleet.ListInstances(request, timeout=ASK_WITHIN_S))

    async def explain(self, request_id: str) -> fleet_pb2.ExplainResponse:
        """What became of a call and why. Whichever frontend served it is asked."""
        request = fleet_pb2.ExplainRequest(request_id=request_id)
        return await answer(self._fleet.Explain(request, timeout=ASK_WITHIN_S))

    async def reasons(self) -> fleet_pb2.CountReasonsResponse:
        """How often each start, wait and refusal had which reason, over all frontends."""
        return await answer(self._fleet.CountReasons(fleet_pb2.CountReasonsRequest(), timeout=ASK_WITHIN_S))

    async def activity(self, window_s: float = 0, calls: int = 0) -> fleet_pb2.GetActivityResponse:
        """How calls went in the last `window_s` seconds, 60 if it is 0, by function, and so many of the last
        ones, over all frontends."""
        request = fleet_pb2.GetActivityRequest(window_s=window_s, calls=calls)
        return await answer(self._fleet.GetActivity(request, timeout=ASK_WITHIN_S))

    async def logs(self, function_name: str, *, follow: bool = False) -> AsyncIterator[fleet_pb2.LogLine]:
        """The log over all nodes, oldest line first; to follow, it goes on until nobody iterates any more."""
        call = self._fleet.ReadLogs(fleet_pb2.ReadLogsRequest(function_name=function_name, follow=follow))
        try:
            async for batch in call:
                for line in batch.lines:
                    yield line
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from error
        finally:
            call.cancel()
