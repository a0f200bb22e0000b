"""`lambent drain`: a node is emptied under load, and no caller notices."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from lambent.client import Client
from lambent_proto.errors import UnknownNode
from tests.e2e.by_hand import running
from tests.e2e.evidence import Evidence, deploy
from tests.e2e.fleet import Fleet
from tests.e2e.load import Outcome, eventually, one_call

pytestmark = pytest.mark.e2e

SLEEP_S = 0.05


@pytest.fixture(scope="module")
def drained_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with running(tmp_path_factory.mktemp("drain")) as fleet:
        yield fleet


@pytest.fixture
async def client(drained_fleet: Fleet) -> AsyncIterator[Client]:
    """Of a fleet with two workers, none of which drains before or after."""
    async with Client(drained_fleet.endpoint) as client:
        yield client
        for node in (await client.nodes()).nodes:
            await client.drain(node.name, undo=True)
        for function in await client.list_functions():
            await client.delete_function(function.name)


async def calls(client: Client, name: str, over: asyncio.Event) -> list[Outcome]:
    outcomes: list[Outcome] = []
    while not over.is_set():
        outcomes.append(await one_call(client, name, f"{id(outcomes)}.{len(outcomes)}", SLEEP_S))
    return outcomes


async def used(client: Client, name: str) -> dict[str, int]:
    """How many instances each node has of a function."""
    counts: dict[str, int] = {}
    for instance in await client.instances(name):
        counts[instance.node] = counts.get(instance.node, 0) + 1
    return counts


async def test_a_node_is_emptied_under_load(client: Client, name: str, evidence: Evidence) -> None:
    """Every call is answered, the node says that it is empty, and nothing starts there any more."""
    await deploy(client, name, evidence)
    over = asyncio.Event()
    callers = [asyncio.create_task(calls(client, name, over)) for _ in range(6)]
    node = await eventually(lambda: _both_nodes(client, name), "both nodes have instances")
    await client.drain(node)
    await eventually(lambda: _state(client, node, "drained"), "the node is empty", 30.0)
    assert node not in await used(client, name)
    over.set()
    outcomes = [outcome for some in await asyncio.gather(*callers) for outcome in some]
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    await client.drain(node, undo=True)
    await eventually(lambda: _state(client, node, "connected"), "it may have instances again")


async def _both_nodes(client: Client, name: str) -> str:
    counts = await used(client, name)
    return min(counts) if len(counts) == 2 else ""


async def _state(client: Client, name: str, state: str) -> bool:
    return any(it.name == name and it.state == state for it in (await client.nodes()).nodes)


async def test_an_idle_instance_is_replaced_before_it_goes(
    client: Client, name: str, evidence: Evidence
) -> None:
    """The call after the drain is warm, on the other node."""
    await deploy(client, name, evidence)
    await one_call(client, name, "first", 0.0)
    (node,) = await used(client, name)
    await client.drain(node)
    await eventually(lambda: _state(client, node, "drained"), "the node is empty", 30.0)
    done = await client.invoke(name, {"call": "second"})
    assert (done.explanation.start, done.explanation.node == node) == ("warm", False)


async def test_a_node_that_is_not_there(client: Client) -> None:
    """The error names those that are."""
    with pytest.raises(UnknownNode, match="worker-1, worker-2"):
        await client.drain("worker-9")


async def test_the_command_waits_until_the_node_is_empty(
    drained_fleet: Fleet, client: Client, name: str, evidence: Evidence
) -> None:
    """And says how far it is; the listing shows the state."""
    await deploy(client, name, evidence)
    await one_call(client, name, "first", 0.0)
    (node,) = await used(client, name)
    done = await asyncio.to_thread(drained_fleet.lambent, "drain", node)
    assert done.returncode == 0, done.stderr
    assert f"{node} is empty" in done.stderr.decode()
    assert b"drained" in (await asyncio.to_thread(drained_fleet.lambent, "nodes")).stdout
    undone = await asyncio.to_thread(drained_fleet.lambent, "drain", node, "--undo")
    assert undone.returncode == 0, undone.stderr
