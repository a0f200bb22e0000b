"""deploy/cluster makes a fleet over SSH, does nothing the second time, and changes it while calls go on."""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from lambent.client import Client
from tests.chaos.hosts import Host
from tests.e2e.evidence import Evidence, deploy
from tests.e2e.load import calling
from tests.e2e.ssh_hosts import login, ssh_hosts

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

ROOT: Final = Path(__file__).resolve().parents[2]
PARTS: Final = {
    "a": ["etcd", "placement", "frontend", "worker"],
    "b": ["etcd", "placement", "worker"],
    "c": ["etcd", "worker"],
}
WORKER: Final = {"memory_mb": 1024, "sandbox": "process", "require_isolation": "none"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return tmp_path


@pytest.fixture
def hosts(folder: Path) -> Iterator[dict[str, Host]]:
    if shutil.which("etcd") is None:
        pytest.skip("there is no etcd on the PATH")
    with ssh_hosts(list(PARTS), folder) as made:
        yield made


def cluster(folder: Path, hosts: dict[str, Host], **worker: Any) -> list[str]:
    """Brings it up, and returns what was said."""
    told: dict[str, Any] = {
        "wheel": next(folder.glob("*.whl")).name,
        "packages": "/srv/lambent/packages",
        "python": sys.executable,
        "settings.worker": WORKER | worker,
    }
    for name, host in hosts.items():
        told[f"hosts.{name}"] = {"address": host.address, "ssh": login(host, folder), "parts": PARTS[name]}
    lines = []
    for key, value in told.items():
        if isinstance(value, dict):
            lines += [f"[{key}]", *(f"{name} = {json.dumps(it)}" for name, it in value.items())]
        else:
            lines.append(f"{key} = {json.dumps(value)}")
    (folder / "inventory.toml").write_text("\n".join(lines))
    done = subprocess.run(
        [sys.executable, ROOT / "deploy" / "cluster" / "cluster.py", "up", folder / "inventory.toml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout.splitlines()


async def test_a_cluster(folder: Path, hosts: dict[str, Host], tmp_path: Path) -> None:
    said = await asyncio.to_thread(cluster, folder, hosts)
    assert {f"{name}: started: {part}" for name, parts in PARTS.items() for part in parts} <= set(said)

    again = await asyncio.to_thread(cluster, folder, hosts)
    assert [line for line in again if ": " in line and not line.startswith(("The fleet", "A key"))] == []

    evidence = Evidence(tmp_path / "evidence")
    ca = grpc.ssl_channel_credentials((folder / "cluster" / "ca" / "ca.crt").read_bytes())
    token = (folder / "cluster" / "operator-key").read_text().strip()
    endpoint = f"{hosts['a'].address}:50051"
    async with Client(endpoint, credentials=ca, access_key=token) as client:
        await deploy(client, "busy", evidence)
        async with calling(client, "busy", callers=4, sleep=0.05) as load:
            await load.more(20)
            changed = await asyncio.to_thread(cluster, folder, hosts, labels=["zone=a"])
            await load.more(20)
        assert {tuple(node.labels) for node in (await client.nodes()).nodes} == {("zone=a",)}
    restarted = [line for line in changed if "restarting" in line]
    assert restarted == [f"{name}: restarting worker" for name in PARTS]
    assert load.errors == []
    calls = [run.call for run in evidence.runs()]
    assert sorted(calls) == sorted(outcome.call for outcome in load.outcomes), "each ran once"
