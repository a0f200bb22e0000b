"""Parts of two releases in one fleet, and a fleet that goes from one to the next."""

import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from lambent.client import Client
from lambent_proto.protocol import PROTOCOL, RELEASE
from tests.e2e.evidence import Evidence, deploy
from tests.e2e.load import Callers, eventually, known_to
from tests.upgrade import releases
from tests.upgrade.exercise import exercised
from tests.upgrade.fleet import ORDER, WORKERS, MixedFleet, fleet_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

NEW: Final = sys.executable
SMALL: Final = ("placement-1", *WORKERS, "frontend-1")

Other = Callable[[str], str]
"""Gives the interpreter of `previous`, or of a release that speaks `next` or `far` protocols."""


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Other:
    made: dict[str, str] = {}
    speaks = {"next": PROTOCOL + 1, "far": PROTOCOL + 2}

    def python(which: str) -> str:
        if which == "previous" and not releases.previous_is_there():
            pytest.skip(releases.NOT_THERE)
        if which not in made:
            folder = tmp_path_factory.mktemp(which)
            made[which] = (
                releases.previous(folder)
                if which == "previous"
                else releases.that_speaks(speaks[which], folder)
            )
        return made[which]

    return python


@pytest.mark.parametrize(
    ("others", "release"),
    [(("frontend",), "previous"), (("placement", "worker"), "previous"), (("frontend", "worker-1"), "next")],
    ids=lambda it: it if isinstance(it, str) else "+".join(it),
)
async def test_neighbours(others: tuple[str, ...], release: str, other: Other, tmp_path: Path) -> None:
    """Whichever parts are of the other release, everything goes through both."""
    python = other(release)
    pythons = {name: python if name.startswith(others) else NEW for name in SMALL}
    async with fleet_of(tmp_path / "fleet", pythons) as fleet, Client(fleet.endpoint("frontend-1")) as client:
        await all_linked(client)
        await exercised(client, streams=shutil.which("node") is not None)


async def test_a_rolling_upgrade(other: Other, tmp_path: Path) -> None:
    """Every part is stopped and started as the next release, under load: each call has its answer, once."""
    old = other("previous")
    short, long = Evidence(tmp_path / "short"), Evidence(tmp_path / "long")
    async with (
        fleet_of(tmp_path / "fleet", dict.fromkeys(ORDER, old)) as fleet,
        Client(fleet.endpoint("frontend-1")) as one,
        Client(fleet.endpoint("frontend-2")) as two,
    ):
        for name, evidence in {"short": short, "long": long}.items():
            await deploy(one, name, evidence)
            await known_to(two, name)
        callers = Callers([one, two], WORKERS)
        async with (
            callers.calling("short", callers=4, sleep=0.02),
            callers.calling("long", callers=4, sleep=0.5),
        ):
            for name in (*WORKERS, "placement-1", "placement-2", "frontend-1", "frontend-2"):
                await callers.whole()
                keep_ports(fleet, name)
                await fleet.restart(name, NEW)
            await callers.whole()
        assert {node.release for node in (await one.nodes()).nodes} == {RELEASE}
    assert callers.load.errors == []
    calls = [run.call for evidence in (short, long) for run in evidence.runs()]
    assert sorted(calls) == sorted(outcome.call for outcome in callers.load.outcomes), "each ran once"


async def test_too_far_apart(other: Other, tmp_path: Path) -> None:
    """A worker of another age is told so by both sides, takes no part, and the others go on."""
    pythons = dict.fromkeys(SMALL, NEW) | {"worker-2": other("far")}
    async with fleet_of(tmp_path / "fleet", pythons) as fleet, Client(fleet.endpoint("frontend-1")) as client:
        await eventually(partial(connected, client, "worker-1"), "the near worker is there")
        far = {
            "frontend-1": ("worker_too_far_apart", "Upgrade this part through the releases between"),
            "worker-2": ("placement_too_far_apart", "Upgrade the placement at"),
        }
        for name, (event, says) in far.items():
            lines = await eventually(partial(told, fleet, name, event), f"{name} says {event}")
            assert [says in line["reason"] for line in lines] == [True]
        await exercised(client, streams=False, drains=False)
        assert not await connected(client, "worker-2")


def told(fleet: MixedFleet, name: str, event: str) -> list[dict[str, str]]:
    return [line for line in fleet.log(name) if line["event"] == event]


async def connected(client: Client, *names: str) -> bool:
    there = {node.name: node.state for node in (await client.nodes()).nodes}
    return all(there.get(name) == "connected" for name in names)


async def all_linked(client: Client) -> None:
    await eventually(partial(connected, client, *WORKERS), "both workers are there")


def keep_ports(fleet: MixedFleet, name: str) -> None:
    """Clients go on calling a frontend where it was."""
    part = fleet.parts[name]
    config = fleet.folder / f"{name}.toml"
    for door in ("grpc", "http"):
        if address := part.addresses.get(door):
            port = address.rpartition(":")[2]
            config.write_text(config.read_text().replace(f"{door}_port = 0\n", f"{door}_port = {port}\n"))
