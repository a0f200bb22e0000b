"""The Fleet service between real gRPC servers: a placement that describes, workers that keep logs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

import grpc.aio
import pytest

from lambent.client import Client
from lambent_chassis import grpc_options
from lambent_frontend.calls import Candidate, Explained
from lambent_frontend.core.call import Priority
from lambent_frontend.fleet import Fleet
from lambent_frontend.guard import Guard
from lambent_frontend.remembered import Remembered
from lambent_proto.access import Rule, new_access_key
from lambent_proto.errors import InvalidRequest, NotReady, UnknownKey, UnknownNode, UnknownRequest
from lambent_proto.ids import NodeId, RequestId
from lambent_proto.internal import control_pb2, control_pb2_grpc
from lambent_proto.v1 import fleet_pb2, invoke_pb2
from tests.unit.scripted import FRONTEND, Known, NoStore, ScriptedDispatcher, serving


class Placement(control_pb2_grpc.PlacementServicer):
    def __init__(self) -> None:
        self.described = control_pb2.DescribeResponse(epoch=3)
        self.shadow = control_pb2.DescribeShadowResponse(state="off", epoch=3)

    def add_node(self, node: str, control_address: str = "") -> None:
        self.described.nodes.add(
            node=node,
            state="connected",
            address="10.0.0.1:7000",
            memory_mb=2048,
            memory_used_mb=256,
            instances=2,
            isolation="namespaces",
            missing_protections=["cpu_limit"],
            backend="bwrap",
            runtimes=["python3.11", "python"],
            labels=["zone=a"],
            control_address=control_address,
        )

    async def Describe(self, request: object, context: object) -> control_pb2.DescribeResponse:
        return self.described

    async def DescribeShadow(self, request: object, context: object) -> control_pb2.DescribeShadowResponse:
        return self.shadow

    def AttachFrontend(self, request_iterator: object, context: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    AttachWorker = AttachFrontend  # type: ignore[assignment]


class WorkerLogs(control_pb2_grpc.WorkerLogsServicer):
    """Says what it has, batch by batch, and to a follower what is told later."""

    def __init__(self, *lines: tuple[float, str]) -> None:
        self.lines = list(lines)
        self.later: asyncio.Queue[tuple[float, str]] = asyncio.Queue()
        self.followed = asyncio.Event()

    async def ReadLogs(
        self, request: control_pb2.ReadWorkerLogsRequest, context: object
    ) -> AsyncIterator[control_pb2.WorkerLogLines]:
        for at, text in self.lines:
            yield control_pb2.WorkerLogLines(lines=[self._line(request, at, text)])
        if request.follow:
            self.followed.set()
            while True:
                yield control_pb2.WorkerLogLines(lines=[self._line(request, *await self.later.get())])

    def _line(
        self, request: control_pb2.ReadWorkerLogsRequest, at: float, text: str
    ) -> control_pb2.WorkerLogLine:
        return control_pb2.WorkerLogLine(
            at=at, instance="i-1", request_id="r-1", text=f"{request.function_name} {text}"
        )


@asynccontextmanager
async def listening(placement: Placement | None = None, logs: WorkerLogs | None = None) -> AsyncIterator[str]:
    server = grpc.aio.server(options=grpc_options.SERVER)
    if placement is not None:
        control_pb2_grpc.add_PlacementServicer_to_server(placement, server)
    if logs is not None:
        control_pb2_grpc.add_WorkerLogsServicer_to_server(logs, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@asynccontextmanager
async def fleet_of(
    placement: Placement | None, dispatcher: ScriptedDispatcher | None = None, leader: str = ""
) -> AsyncIterator[Client]:
    dispatcher = dispatcher or ScriptedDispatcher()
    async with listening(placement) as address:
        fleet = Fleet(
            lambda: [leader or (address if placement else "")], Remembered(dispatcher, FRONTEND), NoStore()
        )
        async with serving(dispatcher, fleet=fleet) as frontend, Client(frontend) as client:
            yield client


async def test_a_shadow_is_shown_as_placement_tells() -> None:
    """Both columns, since when, and who leads; nothing is made up."""
    placement = Placement()
    live = control_pb2.Counted(starts={"no_instance": 2}, warm={"provisioned": 3}, idle_gb_h=0.5)
    other = control_pb2.Counted(waits={"no_memory": 4}, evictions={"keep_alive": 5}, idle_gb_h=0.25)
    placement.shadow = control_pb2.DescribeShadowResponse(
        state="failed",
        reason="why",
        epoch=3,
        counted_s=60.0,
        live_policy="a",
        shadow_policy="b",
        live=live,
        shadow=other,
        cpu_us=7.0,
    )
    async with fleet_of(placement) as client:
        told = await client.shadow()
    assert (told.state, told.reason, told.epoch, told.counted_s, told.cpu_us) == (
        "failed",
        "why",
        3,
        60.0,
        7.0,
    )
    assert (told.live_policy, told.shadow_policy) == ("a", "b")
    assert told.leader.startswith("127.0.0.1:")
    assert (dict(told.live.starts), dict(told.live.warm)) == ({"no_instance": 2}, {"provisioned": 3})
    assert (dict(told.shadow.waits), dict(told.shadow.evictions)) == ({"no_memory": 4}, {"keep_alive": 5})
    assert told.live.idle_gb_h == 0.5
    assert told.shadow.idle_gb_h == 0.25


async def test_nodes_are_shown_by_their_names() -> None:
    """The incarnation is apart; how it is isolated, what is missing, and what it can run are shown."""
    placement = Placement()
    placement.add_node("b@2")
    placement.add_node("a@77")
    async with fleet_of(placement) as client:
        answer = await client.nodes()
    assert [(node.name, node.incarnation) for node in answer.nodes] == [("a", "77"), ("b", "2")]
    node = answer.nodes[0]
    assert (node.state, node.memory_mb, node.memory_used_mb, node.instances) == ("connected", 2048, 256, 2)
    assert (node.isolation, node.backend) == ("namespaces", "bwrap")
    assert (list(node.missing_protections), list(node.runtimes)) == (["cpu_limit"], ["python3.11", "python"])
    assert answer.epoch == 3
    assert answer.leader


async def test_instances_of_all_functions_or_of_one() -> None:
    """The version key is taken apart, the node goes by its name."""
    placement = Placement()
    for instance, version in (("i-2", "g:$LATEST:rev2"), ("i-1", "f:$LATEST:rev1")):
        placement.described.instances.add(
            instance=instance, version=version, node="a@1", state="idle", memory_mb=128, idle_s=4.5
        )
    async with fleet_of(placement) as client:
        everything = await client.instances()
        only_g = await client.instances("g")
    assert [instance.id for instance in everything] == ["i-1", "i-2"]
    (g,) = only_g
    assert (g.function_name, g.version, g.revision_id, g.node) == ("g", "$LATEST", "rev2", "a")
    assert (g.state, g.memory_mb, g.idle_s) == ("idle", 128, 4.5)


async def test_without_a_leader_the_fleet_is_not_ready() -> None:
    """The message says so, and that warm functions go on."""
    async with fleet_of(None) as client:
        with pytest.raises(NotReady, match="no placement leads"):
            await client.nodes()
        with pytest.raises(NotReady, match="no placement leads"):
            _ = [line async for line in client.logs("f")]


async def test_a_leader_that_does_not_answer_is_named() -> None:
    """The caller hears who, and that it is to be tried again."""
    async with fleet_of(Placement(), leader="127.0.0.1:1") as client:
        with pytest.raises(NotReady, match="does not answer"):
            await client.nodes()


async def test_a_call_is_explained() -> None:
    """All that the dispatcher remembers, and who served it."""
    dispatcher = ScriptedDispatcher()
    dispatcher.explained[RequestId("r-1")] = Explained(
        RequestId("r-1"),
        "f",
        "succeeded",
        "",
        "cold",
        "no instance",
        "n1",
        "i-1",
        1,
        2,
        3,
        4,
        "a new one",
        "none",
        [Candidate(NodeId("n1@7"), 3.25, 1, 2, True, 0.25)],
        Priority.LOW,
        "team a",
    )
    async with fleet_of(None, dispatcher) as client:
        explained = await client.explain("r-1")
        assert explained.explanation == invoke_pb2.Explanation(
            start="cold",
            reason="no instance",
            node="n1",
            instance="i-1",
            waiting_ms=1,
            starting_ms=2,
            init_ms=3,
            running_ms=4,
            waited_for="a new one",
            isolation="none",
        )
        assert (explained.function_name, explained.outcome) == ("f", "succeeded")
        assert explained.frontend == FRONTEND
        assert (explained.priority, explained.tenant) == (invoke_pb2.PRIORITY_LOW, "team a")
        assert list(explained.candidates) == [
            fleet_pb2.Candidate(node="n1", points=3.25, preferred=1, instances=2, package=True, free=0.25)
        ]
        with pytest.raises(UnknownRequest, match="r-2"):
            await client.explain("r-2")


async def test_logs_of_all_nodes_oldest_first() -> None:
    """Merged by time, each line with its node."""
    one, two = WorkerLogs((1.0, "a"), (4.0, "d")), WorkerLogs((2.0, "b"), (3.0, "c"))
    async with listening(logs=one) as first, listening(logs=two) as second:
        placement = Placement()
        placement.add_node("n1@1", first)
        placement.add_node("n2@1", second)
        async with fleet_of(placement) as client:
            lines = [(line.at, line.node, line.text) async for line in client.logs("f")]
    assert lines == [(1.0, "n1", "f a"), (2.0, "n2", "f b"), (3.0, "n2", "f c"), (4.0, "n1", "f d")]


async def test_following_goes_on_and_repeats_nothing() -> None:
    """The past once, also a line that was written twice; then each new line, from whichever node."""
    one, two = WorkerLogs((1.0, "a"), (1.0, "a")), WorkerLogs((2.0, "b"))
    async with listening(logs=one) as first, listening(logs=two) as second:
        placement = Placement()
        placement.add_node("n1@1", first)
        placement.add_node("n2@1", second)
        async with fleet_of(placement) as client:
            texts = []
            async with asyncio.timeout(20):
                async for line in client.logs("f", follow=True):
                    texts.append(line.text)
                    if len(texts) == 3:
                        await one.followed.wait()
                        one.later.put_nowait((5.0, "a"))
                    elif len(texts) == 4:
                        await two.followed.wait()
                        two.later.put_nowait((6.0, "c"))
                    elif len(texts) == 5:
                        break
    assert texts == ["f a", "f a", "f b", "f a", "f c"]


async def test_who_follows_reads_no_further_once_the_key_is_deleted() -> None:
    """Though nothing new was asked for: a log may be followed for days."""
    one = new_access_key([Rule.parse("ReadLogs@f")], "tests", 0.0)
    known, logs, dispatcher = Known(one), WorkerLogs((1.0, "a")), ScriptedDispatcher()
    placement = Placement()
    async with listening(placement) as leader, listening(logs=logs) as worker:
        placement.add_node("n1@1", worker)
        fleet = Fleet(lambda: [leader], Remembered(dispatcher, FRONTEND), NoStore())
        async with (
            asyncio.timeout(20),
            serving(dispatcher, fleet=fleet, guard=Guard(known)) as frontend,
            Client(frontend, access_key=one.token) as client,
        ):
            following = client.logs("f", follow=True)
            assert (await anext(following)).text == "f a"
            await logs.followed.wait()
            known.forget(one)
            logs.later.put_nowait((2.0, "b"))
            with pytest.raises(UnknownKey):
                await anext(following)


async def test_a_node_that_cannot_be_read_is_a_line() -> None:
    """The others' lines are all there."""
    async with listening(logs=WorkerLogs((1.0, "a"))) as first:
        placement = Placement()
        placement.add_node("n1@1", first)
        placement.add_node("n2@1", "127.0.0.1:1")
        async with fleet_of(placement) as client:
            lines = [line async for line in client.logs("f")]
    assert sorted(line.node for line in lines) == ["n1", "n2"]
    assert any("log of node n2 cannot be read" in line.text for line in lines)
    assert any(line.text == "f a" for line in lines)


@asynccontextmanager
async def fleet_of_two(*placements: Placement | None, store: NoStore | None = None) -> AsyncIterator[Client]:
    """Of two shards; None: nobody leads it."""
    dispatcher = ScriptedDispatcher()
    async with listening(placements[0]) as first, listening(placements[1]) as second:
        there = zip((first, second), placements, strict=True)
        leaders = [address if placement else "" for address, placement in there]
        fleet = Fleet(lambda: leaders, Remembered(dispatcher, FRONTEND), store or NoStore())
        async with serving(dispatcher, fleet=fleet) as frontend, Client(frontend) as client:
            yield client


async def test_nodes_and_instances_of_all_shards() -> None:
    """Each node with its shard, each shard with its leader; a function's instances are asked of its own."""
    one, two = Placement(), Placement()
    one.add_node("b@2")
    two.add_node("a@77")
    two.described.epoch = 8
    one.described.instances.add(instance="1-1", version="f:$LATEST:rev1", node="b@2")
    two.described.instances.add(instance="s1-1-1", version="A:$LATEST:rev1", node="a@77")
    async with fleet_of_two(one, two) as client:
        answer = await client.nodes()
        everything = await client.instances()
        of_second = await client.instances("A")
    assert [(node.name, node.shard) for node in answer.nodes] == [("a", 1), ("b", 0)]
    assert [(it.number, it.epoch, it.missing) for it in answer.shards] == [(0, 3, ""), (1, 8, "")]
    assert (answer.epoch, answer.leader) == (3, answer.shards[0].leader)
    assert [it.id for it in everything] == ["s1-1-1", "1-1"]
    assert [it.id for it in of_second] == ["s1-1-1"]


async def test_a_shard_without_a_leader_hides_nothing_of_the_others() -> None:
    """What is missing is said; a function of the other shard is shown, one of this shard is not ready."""
    two = Placement()
    two.add_node("a@77")
    two.described.instances.add(instance="s1-1-1", version="A:$LATEST:rev1", node="a@77")
    async with fleet_of_two(None, two) as client:
        answer = await client.nodes()
        assert [node.name for node in answer.nodes] == ["a"]
        assert "no placement of shard 0 leads" in answer.shards[0].missing
        listed = await client.list_instances()
        assert ([it.id for it in listed.instances], list(listed.missing_shards)) == (["s1-1-1"], [0])
        assert [it.id for it in await client.instances("A")] == ["s1-1-1"]
        with pytest.raises(NotReady, match="no placement of shard 0 leads"):
            await client.instances("f")
        with pytest.raises(NotReady, match="no placement of shard 0 leads"):
            await client.drain("b")
    async with fleet_of_two(None, None) as client:
        with pytest.raises(NotReady, match="no placement of shard 0 leads"):
            await client.nodes()


async def test_the_shadow_of_each_shard() -> None:
    """By its number; another is not there."""
    one, two = Placement(), Placement()
    two.shadow.epoch = 9
    async with fleet_of_two(one, two) as client:
        assert [(await client.shadow(shard)).epoch for shard in (0, 1)] == [3, 9]
        with pytest.raises(InvalidRequest, match="no shard 2: this fleet has 2"):
            await client.shadow(2)


async def test_a_node_of_any_shard_is_drained() -> None:
    """By its name, which the error lists where there is none such."""

    class Store(NoStore):
        drained: ClassVar[list[str]] = []

        async def put(self, key: str, value: bytes) -> int:
            self.drained.append(key)
            return 1

    one, two = Placement(), Placement()
    one.add_node("b@2")
    two.add_node("a@77")
    async with fleet_of_two(one, two, store=Store()) as client:
        await client.drain("a")
        with pytest.raises(UnknownNode, match="a, b"):
            await client.drain("c")
    assert Store.drained == ["/lambent/drain/a"]


async def test_logs_are_those_of_the_shard_of_the_function() -> None:
    """The workers of another shard have none, and may be away."""
    one, two = Placement(), Placement()
    one.add_node("b@2", "127.0.0.1:1")
    async with listening(logs=WorkerLogs((1.0, "a"))) as address:
        two.add_node("a@77", address)
        async with fleet_of_two(one, two) as client:
            assert [line.text async for line in client.logs("A")] == ["A a"]
