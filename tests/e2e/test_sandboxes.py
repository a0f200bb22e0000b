"""A whole fleet whose functions are shut in: deployed, called, explained, killed and cleaned up after."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lambent_chassis.clock import monotonic_s
from tests.e2e.by_hand import running
from tests.e2e.fleet import WITHIN_S, Fleet

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root reaches the level namespaces"),
]

ISOLATED = ("--sandbox", "namespaces", "--require-isolation", "namespaces", "--workers", "1")
FACTS = """
import os
def handler(event, context):
    return {"pid": os.getpid(), "root": sorted(os.listdir("/")), "opt": sorted(os.listdir("/opt"))}
"""
LOOK = "const fs = require('fs'); exports.handler = async () => fs.readFileSync('/opt/word.txt', 'utf8')"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with running(tmp_path_factory.mktemp("isolated"), *ISOLATED) as fleet:
        yield fleet


def said(done: "subprocess.CompletedProcess[bytes]") -> Any:
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def deploy(fleet: Fleet, folder: Path, name: str, files: dict[str, str], *options: str) -> None:
    folder.mkdir()
    for file, text in files.items():
        (folder / file).write_text(text)
    done = fleet.lambent("deploy", str(folder), "--name", name, *options)
    assert done.returncode == 0, done.stderr.decode()


def test_a_function_sees_its_sandbox_alone(fleet: Fleet, tmp_path: Path) -> None:
    """And its answer tells how it was shut in, as the listing of the nodes does."""
    deploy(fleet, tmp_path / "f", "facts", {"app.py": FACTS}, "--handler", "app.handler")
    done = fleet.lambent("invoke", "facts", "-v")
    seen = said(done)
    assert seen["pid"] < 100
    assert set(seen["root"]) <= {
        *(
            "bin",
            "dev",
            "etc",
            "lib",
            "lib32",
            "lib64",
            "libx32",
            "opt",
            "proc",
            "root",
            "sbin",
            "tmp",
            "usr",
            "var",
        ),
        *(part.split("/")[1] for part in (sys.base_prefix, sys.prefix)),
    }
    assert seen["opt"] in ([], ["lib"])  # an empty folder
    assert "isolation namespaces" in done.stderr.decode()
    [node] = said(fleet.lambent("nodes", "--json"))["nodes"]
    assert (node["backend"], node["isolation"]) == ("namespaces", "namespaces")
    assert "python3.11" in node["runtimes"]


def test_a_layer_is_at_opt(fleet: Fleet, tmp_path: Path) -> None:
    """For another language too, which speaks to the Runtime API."""
    (tmp_path / "layer").mkdir()
    (tmp_path / "layer" / "word.txt").write_text("from the layer")
    published = fleet.lambent("layer", "publish", str(tmp_path / "layer"), "--name", "words")
    assert published.returncode == 0, published.stderr.decode()
    options = ("--runtime", "nodejs", "--handler", "index.handler", "--layer", "words:1")
    if "nodejs" not in said(fleet.lambent("nodes", "--json"))["nodes"][0]["runtimes"]:
        pytest.skip("there is no Node.js on this host")
    deploy(fleet, tmp_path / "f", "look", {"index.js": LOOK}, *options)
    assert said(fleet.lambent("invoke", "look")) == "from the layer"


def test_a_killed_worker_leaves_nothing_and_comes_back(fleet: Fleet, tmp_path: Path) -> None:
    deploy(fleet, tmp_path / "f", "again", {"app.py": FACTS}, "--handler", "app.handler")
    assert said(fleet.lambent("invoke", "again"))
    killed = fleet.kill("worker-1")
    fleet.runs_again("worker-1", killed)
    deadline = monotonic_s() + WITHIN_S
    while (done := fleet.lambent("invoke", "again")).returncode != 0:
        assert monotonic_s() < deadline, done.stderr.decode()
    assert said(done)["pid"] < 100


def test_a_worker_below_the_required_level_does_not_start(tmp_path: Path) -> None:
    """It says what is missing, and how to run all the same."""
    command = [
        sys.executable,
        "-m",
        "lambent",
        "up",
        "--data",
        str(tmp_path / "data"),
        "--grpc-port",
        "0",
        "--http-port",
        "0",
    ]
    options = ("--sandbox", "process", "--require-isolation", "landlock", "--no-restart")
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "reaches the isolation level none on this host, and landlock is required" in done.stderr
    assert "--require-isolation none" in done.stderr
