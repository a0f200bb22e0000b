"""All members of etcd lose their data, and are restored from a backup, under a fleet that nobody stopped."""

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from lambent.client import Client
from lambent_chassis.etcd import EtcdBinary
from lambent_proto.errors import LambentError, UnknownFunction
from lambent_proto.v1 import schedules_pb2
from tests.chaos.lives import Watched
from tests.e2e.by_hand import running
from tests.e2e.evidence import RUNTIME, package
from tests.e2e.fleet import Fleet
from tests.e2e.load import calling, eventually
from tests.integration.etcd.cluster import Cluster, NoEtcdctl, NoSoundEtcd, sound_etcd

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

WITHIN_S: Final = 60.0


@pytest.fixture
def binary() -> EtcdBinary:
    try:
        return sound_etcd()
    except NoSoundEtcd as reason:
        pytest.skip(str(reason))


@pytest.fixture
def cluster(binary: EtcdBinary, tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(binary, tmp_path / "etcd")
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


@pytest.fixture
def fleet(cluster: Cluster, tmp_path: Path) -> Iterator[Fleet]:
    inbox, folder = tmp_path / "inbox", tmp_path / "fleet"
    inbox.mkdir()
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAMBENT_SOURCES", f"inbox=file://{inbox}")
        with running(folder, "--etcd", ",".join(cluster.endpoints), "--placements", "2") as fleet:
            yield fleet


async def define(fleet: Fleet, client: Client, kept: Watched) -> None:
    """One of each kind of what etcd alone has."""
    await kept.deploy(client)
    await client.versions.publish(kept.name, description="the first")
    await client.versions.create_alias(kept.name, "live", "1")
    await client.versions.put_provisioned(kept.name, "live", 1)
    await client.publish_layer_version("layer", package({"one.py": ""}))
    await client.create_function(
        "triggered", package({"app.py": "def handler(*_): pass"}), runtime=RUNTIME, handler="app.handler"
    )
    await client.triggers.create("triggered", "arn:aws:lambent-folder:us-east-1:000000000000:inbox")
    yearly = schedules_pb2.ScheduleSettings(function_name="triggered", expression="rate(365 days)")
    await client.schedules.create("yearly", yearly)
    await client.set_concurrency(50)
    done = await command(fleet, "key", "create", "--etcd", ",".join(fleet.etcd), "--allow", "*")
    assert done.returncode == 0, done.stderr


async def command(fleet: Fleet, *words: str) -> "subprocess.CompletedProcess[bytes]":
    return await asyncio.to_thread(fleet.lambent, *words)


async def defined(fleet: Fleet, client: Client) -> dict[str, Any]:
    """What people see of it."""
    keys_told = await command(fleet, "key", "ls", "--etcd", ",".join(fleet.etcd), "--json")
    return {
        "functions": await client.list_functions(all_versions=True),
        "aliases": await client.versions.list_aliases("kept"),
        "provisioned": [
            (it.qualifier, it.requested) for it in await client.versions.list_provisioned("kept")
        ],
        "layers": await client.list_layers(),
        "triggers": [(it.id, it.function_name, it.source) for it in await client.triggers.list()],
        "schedules": [(it.name, it.settings) for it in await client.schedules.ls()],
        "concurrency": (await client.concurrency()).concurrency,
        "keys": keys_told.stdout,
    }


async def another_leads(fleet: Fleet, client: Client) -> int:
    """Ends the placement that leads; the epoch of the one that does then."""

    async def led() -> tuple[int, str]:
        try:
            told = await client.nodes()
        except LambentError:
            return (0, "")
        return (told.epoch, told.leader)

    async def later() -> int:
        return now if (now := (await led())[0]) > before else 0

    before, leader = await led()
    for part in ("placement-1", "placement-2"):
        if fleet.part(part)["addresses"]["control"] == leader:
            fleet.kill(part, signal.SIGTERM)
    return await eventually(later, "another placement leads", WITHIN_S)


async def serves(client: Client, name: str, epoch: int) -> bool:
    try:
        await client.invoke(name, {"call": "", "sleep": 0})
        there = await client.nodes()
    except LambentError:
        return False
    return there.epoch > epoch and sum(node.state == "connected" for node in there.nodes) >= 2


@pytest.mark.parametrize("away_s", [0.0, 15.0], ids=["at once", "after all leases have run out"])
async def test_what_was_backed_up_is_there_again_and_the_fleet_goes_on_by_itself(
    fleet: Fleet, cluster: Cluster, tmp_path: Path, away_s: float
) -> None:
    """What was changed since is as it was before; numbers do not begin again; no limit is exceeded.

    Restored at once, workers have their leases still, and the leader leads: they learn that etcd is another.
    """
    kept = Watched.make(tmp_path, "kept", 2)
    snapshot = tmp_path / "backup.db"
    async with Client(fleet.endpoint) as client:
        await define(fleet, client, kept)
        await another_leads(fleet, client)
        before = await defined(fleet, client)
        await cluster.back_up(snapshot)
        await client.update_function("kept", environment=kept.environment(1))
        await client.versions.publish("kept")
        await client.versions.update_alias("kept", "live", version="2")
        await client.delete_function("triggered")
        await client.create_function(
            "later", package({"app.py": "def handler(*_): pass"}), runtime=RUNTIME, handler="app.handler"
        )
        epoch = await another_leads(fleet, client)
        async with calling(client, "kept:live", callers=3, sleep=0.05) as load:
            await load.more(20)
            cluster.kill()
            await asyncio.sleep(away_s)
            await client.async_invocations.begin("kept", {"call": "accepted", "sleep": 0})
            try:
                await asyncio.to_thread(cluster.restore, snapshot, "restored")
            except NoEtcdctl as missing:
                pytest.skip(str(missing))
            await cluster.ready()
            await eventually(lambda: serves(client, "kept:live", epoch), "all serves again", WITHIN_S)
        await eventually(lambda: is_as(fleet, client, before), "all is as it was", WITHIN_S)
        await eventually(lambda: ran(kept, "accepted"), "what was accepted without etcd has run", WITHIN_S)
        with pytest.raises(UnknownFunction):
            await client.get_function("later")
        assert (await client.invoke("kept:live", {"call": "last"})).explanation.start != "cold"
        assert (await client.versions.publish("kept")).version == "1", "nothing has changed since version 1"
    assert kept.most_lived() <= kept.limit
    births = [birth.instance for birth in kept.evidence.births()]
    assert len(births) == len(set(births)), "an instance's number came twice"


def ran(kept: Watched, call: str) -> bool:
    return any(run.call == call and run.end < float("inf") for run in kept.evidence.runs())


async def is_as(fleet: Fleet, client: Client, before: dict[str, Any]) -> bool:
    try:
        now = await defined(fleet, client)
    except LambentError:
        return False
    return now == before
