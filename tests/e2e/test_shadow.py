"""`lambent shadow` on real fleets: it counts the same with the live policy, and more with a shorter time."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lambent.client import Client
from lambent_proto.errors import NotReady
from lambent_proto.v1.fleet_pb2 import GetShadowResponse
from tests.e2e.by_hand import by_hand, running
from tests.e2e.evidence import Evidence, deploy
from tests.e2e.fleet import Fleet
from tests.e2e.load import calling, eventually, known_to, one_call

pytestmark = pytest.mark.e2e

IDLE_GB_H = 2 / 3600


@contextmanager
def shadowed(folder: Path, shadow: str) -> Iterator[Fleet]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAMBENT_SHADOW", shadow)
        with running(folder, "--worker-memory", "1024") as fleet:
            patch.delenv("LAMBENT_SHADOW")
            yield fleet


async def counted(client: Client, starts: int) -> GetShadowResponse | None:
    """Once the live policy has started so many, and nobody holds a lease: what is left idles."""
    told = await client.shadow()
    if any(it.state != "idle" for it in await client.instances()):
        return None
    return told if sum(told.live.starts.values()) >= starts and told.live.idle_gb_h >= IDLE_GB_H else None


async def test_the_same_policy_counts_the_same(tmp_path: Path, name: str, evidence: Evidence) -> None:
    """More functions than memory, called in turns through two frontends, then one many times at once."""
    with (
        shadowed(tmp_path, "keep_alive=fixed") as fleet,
        by_hand(fleet, "frontend", "second-frontend", grpc_port=0, http_port=0) as second,
    ):
        async with Client(fleet.endpoint) as client, Client(second.addresses["grpc"]) as other:
            names = [f"{name}{number}" for number in range(3)]
            for each in names:
                await deploy(client, each, evidence, memory_mb=1024)
                await known_to(other, each)
            for each in 4 * names:
                for frontend in (client, other):
                    assert (await one_call(frontend, each)).error is None
            async with calling(client, names[0], callers=3, sleep=0.05) as load:
                await load.more(20)
            told = await eventually(lambda: counted(client, 4), "all is idle again")
    assert told.state == "running"
    assert same(told.live.starts, told.shadow.starts, within=1), told
    assert same(told.live.evictions, told.shadow.evictions, within=1), told
    assert same(told.live.warm, told.shadow.warm, within=3), told
    assert told.shadow.idle_gb_h == pytest.approx(told.live.idle_gb_h, rel=0.1)


def same(live: Mapping[str, int], shadow: Mapping[str, int], *, within: int) -> bool:
    return sum(live.values()) > 0 and abs(sum(live.values()) - sum(shadow.values())) <= within


async def test_a_shorter_time_is_more_starts(tmp_path: Path, name: str, evidence: Evidence) -> None:
    """Kept for no time at all each call is cold; the live fleet starts one. A new leader counts anew."""
    with shadowed(tmp_path, "keep_alive_s=0") as fleet:
        async with Client(fleet.endpoint) as client:
            await deploy(client, name, evidence)
            for calls in range(1, 6):
                assert (await one_call(client, name)).error is None
                await eventually(partial(evicted, client, calls), "the shadow ends it")
            told = shown(fleet)
            assert told["live"]["starts"] == {"no_instance": 1}
            assert sum(told["shadow"]["starts"].values()) == 5
            table = fleet.lambent("shadow").stdout.decode()
            assert re.search(r"^starts +1 +5 +\+4$", table, re.MULTILINE)
            fleet.runs_again("placement", fleet.kill("placement"))
            again = await eventually(lambda: led_by(client, told["epoch"]), "another one leads")
            assert not again.live.starts
            assert not again.shadow.starts
            assert (await one_call(client, name)).error is None
            await eventually(partial(all_connected, client), "the new leader knows the workers")


async def all_connected(client: Client) -> bool:
    return {node.state for node in (await client.nodes()).nodes} == {"connected"}


async def evicted(client: Client, times: int) -> bool:
    """By the shadow; its start may have taken longer than the live one's call."""
    return (await client.shadow()).shadow.evictions["keep_alive"] >= times


async def led_by(client: Client, before: int) -> GetShadowResponse | None:
    try:
        told = await client.shadow()
    except NotReady:
        return None
    return told if told.epoch > before else None


def shown(fleet: Fleet) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(fleet.lambent("shadow", "--json").stdout)
    return told


def test_without_a_shadow(shared: Fleet) -> None:
    """It says so, and is no error."""
    assert shown(shared)["state"] == "off"
    said = shared.lambent("shadow")
    assert (said.returncode, said.stdout) == (0, b"")
    assert "`shadow`" in said.stderr.decode()
