"""The control service over real gRPC: whom a leader listens to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest
from structlog.testing import capture_logs

from lambent_placement.core.records import State
from lambent_placement.core.scheduler import Scheduler
from lambent_placement.driver import Driver, Leading
from lambent_placement.service import Placement
from lambent_placement.settings import Policy
from lambent_proto.definition import Definition
from lambent_proto.ids import Epoch, FunctionName, NodeId
from lambent_proto.internal import control_pb2 as wire
from lambent_proto.internal import control_pb2_grpc
from lambent_proto.protocol import PROTOCOL
from lambent_proto.registrations import Worker
from lambent_proto.shards import Shard

SHARD = Shard(1, 2)
DEFINITION = Definition(
    name=FunctionName("f"), revision="1", runtime="python3.11", handler="a.b", code_sha256="00", code_size=1
)


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


@pytest.mark.parametrize("part", ["frontend", "worker"])
async def test_a_part_that_is_too_far_apart_is_refused(part: str) -> None:
    """With both releases in the message, and before anything that it says is taken."""
    async with leading() as (driver, stub):
        method, first = hello(part, SHARD.number)
        first.hello.protocol, first.hello.release = PROTOCOL + 2, "9.1.0"
        stream = getattr(stub, method)()
        await stream.write(first)
        with pytest.raises(grpc.aio.AioRpcError, match=f"of release 9.1.0 and speaks {PROTOCOL + 2}"):
            await stream.read()
        assert (driver.core.books.frontends, driver.core.books.nodes) == ({}, {})


@pytest.mark.parametrize("method", ["Describe", "DescribeShadow"])
async def test_what_is_shown_is_the_shard_that_was_asked_for(method: str) -> None:
    asked = wire.DescribeRequest if method == "Describe" else wire.DescribeShadowRequest
    async with leading() as (_, stub):
        assert (await getattr(stub, method)(asked(shard=1))).epoch == 1
        with pytest.raises(grpc.aio.AioRpcError, match="of shard 1, not of 0"):
            await getattr(stub, method)(asked(shard=0))


async def test_a_worker_has_nothing_to_say_of_what_runs_on_another() -> None:
    """Neither in its stream nor in its hello: names of instances are easily guessed."""
    async with leading() as (driver, stub):
        for name in ("n1@1", "n2@1"):
            driver.register(
                Worker(
                    node=NodeId(name),
                    data_address="",
                    control_address="",
                    memory_mb=512,
                    isolation="process",
                    runtimes=["python3.11"],
                )
            )
        streams = [await attached(stub, name) for name in ("n1@1", "n2@1")]
        await until(lambda: all(it.connected for it in driver.core.books.nodes.values()))
        driver.define(DEFINITION, None)
        driver.provision(DEFINITION.key, 1)
        driver.tick()
        (mine,) = driver.core.books.instances.values()
        own, other = streams if mine.node == "n1@1" else reversed(streams)
        gone = wire.WorkerReport(gone=wire.InstanceGone(instance=mine.id, reason="exited"))
        with capture_logs() as logs:
            await other.write(gone)
            await until(lambda: any(it["event"] == "report_not_taken" for it in logs))
        assert list(driver.core.books.instances) == [mine.id]
        held = wire.HeldInstance(instance=mine.id, version=mine.version, memory_mb=128, state="stopping")
        with capture_logs() as logs:
            await attached(stub, "n2@1" if mine.node == "n1@1" else "n1@1", held)
            await until(lambda: any(it["event"] == "report_not_taken" for it in logs))
        assert mine.state is not State.STOPPING
        await own.write(gone)
        await until(lambda: mine.id not in driver.core.books.instances)


async def attached(stub: Any, node: str, *holding: wire.HeldInstance) -> Any:
    stream = stub.AttachWorker()
    said = wire.WorkerHello(node=node, memory_mb=512, shard=SHARD.number, instances=holding)
    await stream.write(wire.WorkerReport(hello=said))
    return stream


async def until(seen: Callable[[], bool]) -> None:
    while not seen():  # noqa: ASYNC110 - the other side is in this loop, and `leading` has a bound
        await asyncio.sleep(0.001)
