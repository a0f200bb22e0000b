"""Two shards: each has a leader and workers of its own, and is nothing to the other one."""

import asyncio
import json
import os
import signal
import tomllib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lambent.client import Client
from lambent_chassis.etcd import Etcd, EtcdServer, find_etcd
from lambent_proto import keys
from lambent_proto.errors import InvalidRequest, NotReady, UnknownNode
from lambent_proto.ids import FunctionName, NodeId
from lambent_proto.shards import shard_of
from tests.e2e.by_hand import running
from tests.e2e.evidence import Evidence, deploy, most_at_once
from tests.e2e.fleet import WITHIN_S, Fleet, up
from tests.e2e.load import Outcome, calling, eventually, one_call

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

SLEEP_S = 0.1


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Eight instances may run."""
    options = ("--shards", "2", "--workers", "1", "--concurrency", "8")
    with running(tmp_path_factory.mktemp("shards"), *options) as fleet:
        yield fleet


@pytest.fixture
async def client(sharded: Fleet) -> AsyncIterator[Client]:
    """Nothing is deployed, and no node drains, before or after."""
    async with Client(sharded.endpoint) as client:
        yield client
        for node in (await client.nodes()).nodes:
            await client.drain(node.name, undo=True)
        for function in await client.list_functions():
            await client.delete_function(function.name)
        await eventually(lambda: _nothing_runs(client), "what was deployed has gone")


async def _nothing_runs(client: Client) -> bool:
    return not await client.instances()


def named(what: str, shard: int) -> str:
    """A function's name of that shard."""
    names = (FunctionName(f"{what}-{number}") for number in range(64))
    return next(it for it in names if shard_of(it, 2) == shard)


async def calls(client: Client, name: str, count: int) -> list[Outcome]:
    return await asyncio.gather(*(one_call(client, name, f"{name}.{n}", SLEEP_S) for n in range(count)))


async def shards_of_instances(client: Client, name: str) -> set[int]:
    """The shards of the nodes on which a function has instances."""
    nodes = {node.name: node.shard for node in (await client.nodes()).nodes}
    return {nodes[instance.node] for instance in await client.instances(name)}


async def test_functions_run_in_their_shards_and_limits_are_exact(
    sharded: Fleet, client: Client, tmp_path: Path
) -> None:
    """One of the 8 is reserved; of the other 7 the first shard has 4 and the second 3."""
    a, b, own = named("a", 0), named("b", 1), named("own", 1)
    evidence = {it: Evidence(tmp_path / it) for it in (a, b, own)}
    await deploy(client, own, evidence[own], concurrency=1)
    for it in (a, b):
        await deploy(client, it, evidence[it])
    outcomes = await asyncio.gather(calls(client, a, 20), calls(client, b, 20), calls(client, own, 8))
    assert [outcome.error for some in outcomes for outcome in some if outcome.error] == []
    most = {it: most_at_once((run.begin, run.end) for run in evidence[it].runs()) for it in evidence}
    assert most == {a: 4, b: 3, own: 1}
    assert [await shards_of_instances(client, it) for it in (a, b, own)] == [{0}, {1}, {1}]
    assert {it.node for it in await client.instances()} == {"worker-s0-1", "worker-s1-1"}
    fleet = await client.concurrency()
    assert (fleet.concurrency, fleet.reserved, fleet.unreserved, fleet.shards) == (8, 1, 7, 2)


async def test_what_reservations_leave_is_one_for_each_shard(
    client: Client, name: str, evidence: Evidence
) -> None:
    """A tenth of 8 is less than that."""
    with pytest.raises(InvalidRequest, match="2 must stay: reserve 6 at most"):
        await deploy(client, name, evidence, concurrency=7)
    with pytest.raises(InvalidRequest, match=r"allowed: 2 to .*one for each shard"):
        await client.set_concurrency(1)
    await deploy(client, name, evidence, concurrency=6)


async def test_a_shard_without_a_leader_is_nothing_to_the_other_one(
    sharded: Fleet, client: Client, tmp_path: Path
) -> None:
    """Its warm functions are served as well; the other's cold ones too, and commands show what there is."""
    lost, other, cold = named("lost", 0), named("other", 1), named("cold", 1)
    evidence = {it: Evidence(tmp_path / it) for it in (lost, other, cold)}
    for it in (lost, other, cold):
        await deploy(client, it, evidence[it])
    load = calling(client, lost, callers=1, sleep=0.0), calling(client, other, callers=1, sleep=0.0)
    async with load[0] as warm, load[1] as others:
        await warm.more(5)
        await others.more(5)
        sharded.process.send_signal(signal.SIGSTOP)  # so that it does not start the leader again
        try:
            killed = sharded.kill("placement-s0-1")
            started = await client.invoke(cold, {"call": "cold"})
            await warm.more(20)
            await others.more(20)
            await eventually(lambda: _is_missing(client, 0), "it is said that shard 0 does not answer")
            listed = await client.list_instances()
            with pytest.raises(NotReady, match="shard 0"):
                await client.instances(lost)
            shown = await asyncio.to_thread(sharded.lambent, "nodes")
        finally:
            sharded.process.send_signal(signal.SIGCONT)
        await asyncio.to_thread(sharded.runs_again, "placement-s0-1", killed)
    assert (warm.errors, others.errors) == ([], [])
    assert (started.explanation.start, started.explanation.node[:10]) == ("cold", "worker-s1-")
    assert list(listed.missing_shards) == [0]
    assert {it.function_name for it in listed.instances} >= {other, cold}
    assert b"worker-s1-1" in shown.stdout
    assert b"worker-s0-1" not in shown.stdout
    assert "Shard 0: " in shown.stderr.decode()
    assert "leads shard 1, epoch 1." in shown.stderr.decode()
    await eventually(lambda: _all_there(client), "the new leader of shard 0 has heard from its workers")
    assert {it.number: it.epoch for it in (await client.nodes()).shards} == {0: 2, 1: 1}


async def _is_missing(client: Client, shard: int) -> bool:
    return bool((await client.nodes()).shards[shard].missing)


async def _all_there(client: Client) -> bool:
    nodes = (await client.nodes()).nodes
    return len(nodes) == 2 and all(node.state == "connected" for node in nodes)


@pytest.mark.parametrize("shard", [0, 1])
async def test_nodes_are_drained_and_calls_explained_in_every_shard(
    sharded: Fleet, client: Client, tmp_path: Path, shard: int
) -> None:
    """A shard whose only node is drained starts nothing, not on the other one's either, which goes on."""
    function, other = named("drained", shard), named("other", 1 - shard)
    node = f"worker-s{shard}-1"
    for it in (function, other):
        await deploy(client, it, Evidence(tmp_path / it))
        cold = await client.invoke(it, {"call": "first"})
        explained = await client.explain(cold.request_id)
        assert (explained.function_name, explained.explanation.start) == (it, "cold")
        assert [it.node for it in explained.candidates] == [cold.explanation.node]
    assert await shards_of_instances(client, function) == {shard}
    done = await asyncio.to_thread(sharded.lambent, "drain", node)
    assert done.returncode == 0, done.stderr
    assert {it.name: it.state for it in (await client.nodes()).nodes} == {
        node: "drained",
        f"worker-s{1 - shard}-1": "connected",
    }
    waiting = asyncio.create_task(client.invoke(function, {"call": "second"}, timeout_s=30))
    assert (await client.invoke(other, {"call": "second"})).explanation.start == "warm"
    assert await client.instances(function) == []
    await client.drain(node, undo=True)
    assert (await waiting).explanation.node == node
    with pytest.raises(UnknownNode, match="those that are there: worker-s0-1, worker-s1-1"):
        await client.drain("worker-1")
    counted = {(it.what, it.reason) for it in (await client.reasons()).counts}
    assert ("outcome", "succeeded") in counted


async def test_shadows_and_logs_of_every_shard(sharded: Fleet, client: Client) -> None:
    """The commands ask whoever has to say something."""
    shown = await asyncio.to_thread(sharded.lambent, "shadow")
    assert shown.stdout.decode().split() == ["Shard", "0", "Shard", "1"]
    assert [(await client.shadow(shard)).state for shard in (0, 1)] == ["off", "off"]
    for function in (named("logs", 0), named("logs", 1)):
        await deploy(client, function, Evidence(sharded.data.parent / function))
        await client.invoke(function, {"call": "first"})
        assert [line async for line in client.logs(function)] != []


def refused(fleet: Fleet, like: str, name: str, **settings: object) -> str:
    """What a part says that does not start, with the settings of `like` but for those given."""
    told = tomllib.loads((fleet.data / "config" / f"{like}.toml").read_text()) | {"name": name, **settings}
    if "data" in told:
        told["data"] = str(fleet.data.parent / f"{name}-refused")
    config = fleet.data.parent / f"{name}-refused.toml"
    config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in told.items()))
    done = fleet.lambent(like.partition("-")[0], "--config", str(config))
    assert (done.returncode, done.stdout) == (1, b"")
    return done.stderr.decode()


@pytest.mark.parametrize("part", ["placement-s0-1", "worker-s1-1", "frontend"])
def test_a_part_that_is_told_of_another_number_does_not_start(sharded: Fleet, part: str) -> None:
    """And says how many there are, and what to do."""
    port = {"grpc_port": 0} if part == "frontend" else {}
    said = refused(sharded, part, f"{part}-more", shards=3, **port)
    assert (
        "this fleet has 2 shards, and the setting `shards` of this part is 3: give it 2 (--shards 2)" in said
    )
    assert "To change the fleet's, stop every part" in said


def test_a_worker_with_a_name_of_another_shard_does_not_start(sharded: Fleet) -> None:
    """Nobody could say which of the two to drain."""
    said = refused(sharded, "worker-s1-1", "worker-s0-1")
    assert "shard 0 has a worker that is called 'worker-s0-1' too" in said


async def test_a_fleet_that_runs_cannot_become_one_of_several_shards(sharded: Fleet) -> None:
    """Where the number is not known any more, parts that run stand in the way of another one."""
    async with Etcd(sharded.etcd) as etcd:
        kept = await etcd.get(keys.SHARDS)
        assert kept is not None
        assert kept.value == b"2"
        await etcd.delete(keys.SHARDS)
        try:
            third = {"shards": 3, "shard": 2}
            said = await asyncio.to_thread(refused, sharded, "placement-s0-1", "placement-third", **third)
            assert "parts of it run, so it cannot have 3: stop every part" in said
            assert await etcd.get(keys.SHARDS) is None
        finally:
            await etcd.put(keys.SHARDS, b"2")


async def two_shards_were(data: Path, *, leased: bool) -> None:
    """What an earlier `up` has left in its etcd; with the lease of a worker that was killed with it."""
    async with (
        asyncio.timeout(WITHIN_S),
        await EtcdServer.start(find_etcd(), data / "etcd") as server,
        Etcd([server.endpoint]) as etcd,
    ):
        await etcd.put(keys.SHARDS, b"2")
        if leased:
            await etcd.put(keys.node(1, NodeId("worker-s1-1@ab12")), b"", await etcd.lease(600))


async def test_up_may_have_another_number_each_time(tmp_path: Path) -> None:
    """With an etcd of its own nothing else runs there."""
    await two_shards_were(tmp_path / "data", leased=False)
    with running(tmp_path, "--workers", "1") as fleet:
        async with Etcd(fleet.etcd) as etcd:
            kept = await etcd.get(keys.SHARDS)
            assert kept is not None
            assert kept.value == b"1"


async def test_up_has_the_number_that_it_had_while_leases_of_a_killed_one_run(tmp_path: Path) -> None:
    """A worker that was killed may have left something: nobody else may count what it ran."""
    await two_shards_were(tmp_path / "data", leased=True)
    too_early = r"had 2 shards and is to have 1, but leases .* wait for 30 s, or start it with --shards 2"
    with pytest.raises(AssertionError, match=too_early), up(tmp_path / "data", "--workers", "1"):
        pytest.fail("it started")


def test_options_of_the_command_line_beat_the_file(sharded: Fleet) -> None:
    """A shard that is not there is refused before anything is started."""
    config = sharded.data / "config" / "worker-s0-1.toml"
    done = sharded.lambent("worker", "--config", str(config), "--shard", "2")
    assert done.returncode == 2
    assert "there is no shard 2 in a fleet with 2 (0 to 1)" in done.stderr.decode()
    assert os.environ.get("LAMBENT_SHARD") is None
