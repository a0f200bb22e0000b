"""The control service over real gRPC: whom a leader listens to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest

from lambent_placement.core.scheduler import Scheduler
from lambent_placement.driver import Driver, Leading
from lambent_placement.service import Placement
from lambent_placement.settings import Policy
from lambent_proto.ids import Epoch
from lambent_proto.internal import control_pb2 as wire
from lambent_proto.internal import control_pb2_grpc
from lambent_proto.shards import Shard

SHARD = Shard(1, 2)


@asynccontextmanager
async def leading() -> AsyncIterator[tuple[Driver, Any]]:
    """The leader of the second of two shards, and a stub."""
    service = Placement(Policy(), None, SHARD.number)
    driver = service.driver = Driver(
        Leading(Epoch(1), lambda: float("inf")), Scheduler(Epoch(1), shard=SHARD)
    )
    server = grpc.aio.server()
    control_pb2_grpc.add_PlacementServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with asyncio.timeout(20), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield driver, control_pb2_grpc.PlacementStub(channel)
    finally:
        await server.stop(0)


def hello(part: str, shard: int) -> tuple[str, Any]:
    if part == "frontend":
        first = wire.FrontendHello(frontend="f1", linked_nodes=["n@1"], shard=shard)
        return "AttachFrontend", wire.FrontendReport(hello=first)
    return "AttachWorker", wire.WorkerReport(hello=wire.WorkerHello(node="n@1", memory_mb=512, shard=shard))


@pytest.mark.parametrize("part", ["frontend", "worker"])
async def test_a_part_that_means_another_shard_is_refused(part: str) -> None:
    """Its leader may be gone, and this one may have got its address: nothing that it says is taken."""
    method, first = hello(part, 0)
    async with leading() as (driver, stub):
        stream = getattr(stub, method)()
        await stream.write(first)
        with pytest.raises(grpc.aio.AioRpcError, match="of shard 1, not of 0"):
            await stream.read()
        assert (driver.core.books.frontends, driver.core.books.nodes) == ({}, {})


@pytest.mark.parametrize("method", ["Describe", "DescribeShadow"])
async def test_what_is_shown_is_the_shard_that_was_asked_for(method: str) -> None:
    asked = wire.DescribeRequest if method == "Describe" else wire.DescribeShadowRequest
    async with leading() as (_, stub):
        assert (await getattr(stub, method)(asked(shard=1))).epoch == 1
        with pytest.raises(grpc.aio.AioRpcError, match="of shard 1, not of 0"):
            await getattr(stub, method)(asked(shard=0))
