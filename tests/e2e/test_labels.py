"""Functions that ask for nodes with labels: where their instances go, and what a caller is told of it."""

import json
from collections.abc import AsyncIterator, Iterator

import pytest

from lambent.client import Client
from lambent_proto.errors import Throttled
from tests.e2e.by_hand import by_hand, running
from tests.e2e.evidence import Evidence, deploy
from tests.e2e.fleet import Fleet

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A large worker without labels, and a small one with two."""
    options = ("--workers", "1", "--worker-memory", "4096")
    with running(tmp_path_factory.mktemp("labels"), *options) as fleet:
        labels = ["zone=a", "gpu=true"]
        with by_hand(fleet, "worker-1", "marked", memory_mb=1024, labels=labels):
            yield fleet


@pytest.fixture
async def client(fleet: Fleet) -> AsyncIterator[Client]:
    async with Client(fleet.endpoint) as client:
        yield client


async def node_of(client: Client, name: str) -> str:
    return (await client.invoke(name, {})).explanation.node


async def test_labels_decide_where_an_instance_goes(client: Client, name: str, evidence: Evidence) -> None:
    """The emptier node without a wish, the marked one if it is preferred or required."""
    await deploy(client, f"{name}-none", evidence)
    await deploy(client, f"{name}-prefers", evidence, prefer=["zone=a"])
    await deploy(client, f"{name}-needs", evidence, require=["gpu=true"])
    nodes = {suffix: await node_of(client, f"{name}{suffix}") for suffix in ("-none", "-prefers", "-needs")}
    assert nodes == {"-none": "worker-1", "-prefers": "marked", "-needs": "marked"}


async def test_a_label_that_no_node_has(client: Client, name: str, evidence: Evidence) -> None:
    """The call is refused at its deadline, with the label that is missing; given up, the function runs."""
    await deploy(client, name, evidence, require=["disk=ssd", "zone=a"])
    with pytest.raises(Throttled, match=r"no worker of the fleet with the runtime .* has disk=ssd, zone=a"):
        await client.invoke(name, {}, timeout_s=1.0)
    await client.update_function(name, require=[])
    assert await node_of(client, name) == "worker-1"


async def test_a_choice_is_explained(fleet: Fleet, client: Client, name: str, evidence: Evidence) -> None:
    """Both nodes with what spoke for each, the one taken first; a warm call was not placed anew."""
    await deploy(client, name, evidence, prefer=["zone=a"])
    first = await client.invoke(name, {})
    second = await client.invoke(name, {})
    told = (await client.explain(first.request_id)).candidates
    assert [(it.node, it.preferred) for it in told] == [("marked", 1), ("worker-1", 0)]
    assert told[0].points > told[1].points > 0
    assert not (await client.explain(second.request_id)).candidates
    shown = fleet.lambent("explain", first.request_id).stdout.decode()
    assert "Nodes compared" in shown
    assert shown.index("marked") < shown.rindex("worker-1")
    assert (
        json.loads(fleet.lambent("explain", first.request_id, "--json").stdout)["candidates"][0]["preferred"]
        == 1
    )


def test_labels_on_the_command_line(fleet: Fleet) -> None:
    """Nodes show theirs; what is not a label is refused before anything is asked."""
    listed = fleet.lambent("nodes").stdout.decode()
    assert [line for line in listed.splitlines() if line.endswith("gpu=true zone=a")]
    wrong = fleet.lambent("function", "update", "f", "--require", "gpu")
    assert wrong.returncode == 2
    assert "'gpu' is not KEY=VALUE" in wrong.stderr.decode()
