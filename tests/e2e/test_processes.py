"""Several frontends behind one port: each serves, one that is killed comes back, and all stop together."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lambent.client import Client
from lambent_chassis.clock import monotonic_s
from loadtest.processes import tree
from tests.e2e.by_hand import running
from tests.e2e.evidence import Evidence, deploy
from tests.e2e.fleet import WITHIN_S, Fleet
from tests.e2e.load import known_to, one_call

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with running(tmp_path_factory.mktemp("two"), "--frontend-processes", "2", "--workers", "1") as fleet:
        yield fleet


async def served_by(endpoint: str) -> str:
    """Whoever takes a new connection."""
    async with Client(endpoint) as client:
        return str((await client.async_invocations.queue()).frontend)


async def all_that_serve(endpoint: str, names: set[str]) -> dict[str, str]:
    """Connects anew until all have been met; each one's identity by its name."""
    met: dict[str, str] = {}
    deadline = monotonic_s() + WITHIN_S
    while set(met) != names:
        assert monotonic_s() < deadline, f"only {met} were met"
        frontend = await served_by(endpoint)
        met[frontend.rpartition(".")[0]] = frontend
    return met


def processes_of(fleet: Fleet) -> set[int]:
    parent = fleet.part("frontend")["pid"]
    return set(tree(parent)) - {parent}


async def test_each_serves_on_the_one_port(two: Fleet, tmp_path: Path) -> None:
    """What was deployed through one of them, in the one instance that it may have."""
    evidence = Evidence(tmp_path / "evidence")
    async with Client(two.endpoint) as client:
        await deploy(client, "shared", evidence, concurrency=1)
    await all_that_serve(two.endpoint, {"frontend-0", "frontend-1"})
    for _ in range(8):
        async with Client(two.endpoint) as client:
            await known_to(client, "shared")
            assert (await one_call(client, "shared")).error is None
    assert len(evidence.births()) == 1


async def test_whichever_is_asked_knows(two: Fleet, tmp_path: Path) -> None:
    """What became of calls that each of them took and served, asked of each."""
    async with Client(two.endpoint) as client:
        await deploy(client, "asked", Evidence(tmp_path / "evidence"), concurrency=1)
        event = await client.async_invocations.begin("asked")
        served = (await client.invoke("asked")).request_id
    met = set[str]()
    deadline = monotonic_s() + WITHIN_S
    while len(met) < 2:
        assert monotonic_s() < deadline, f"only {met} were met"
        async with Client(two.endpoint) as client:
            queue = await client.async_invocations.queue()
            met.add(queue.frontend)
            assert (await client.async_invocations.get("asked", event)).request_id == event
            assert [it.request_id for it in await client.async_invocations.ls("asked")] == [event]
            assert (await client.explain(served)).outcome == "succeeded"
            assert sorted([queue.frontend, *(it.frontend for it in queue.others)]) == sorted(
                (await client.reasons()).frontends
            )


async def test_one_that_is_killed_comes_back(two: Fleet) -> None:
    """As another frontend of the same name, while the other one stays what it was."""
    before = await all_that_serve(two.endpoint, {"frontend-0", "frontend-1"})
    victim = max(processes_of(two))
    os.kill(victim, signal.SIGKILL)
    deadline = monotonic_s() + WITHIN_S
    while victim in (now := processes_of(two)) or len(now) < 2:
        assert monotonic_s() < deadline, f"only {now} run"
    after = await all_that_serve(two.endpoint, {"frontend-0", "frontend-1"})
    while after == before:  # the new one listens a moment after it runs
        assert monotonic_s() < deadline, "the one that was killed is met no more"
        after = await all_that_serve(two.endpoint, {"frontend-0", "frontend-1"})
    assert len(set(after.items()) & set(before.items())) == 1


def test_a_port_that_something_else_has_is_an_error(tmp_path: Path) -> None:
    """Also of somebody who would share it: nobody's calls go to strangers."""
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        environment = os.environ | {"LAMBENT_ETCD": "127.0.0.1:1", "LAMBENT_PACKAGES": str(tmp_path)}
        command = [sys.executable, "-m", "lambent", "frontend", "--processes", "2"]
        done = subprocess.run(
            command,
            env=environment | {"LAMBENT_GRPC_PORT": str(port), "LAMBENT_HTTP_PORT": "0"},
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
    assert done.returncode == 1
    assert f"127.0.0.1:{port}: is something else there?" in done.stderr
