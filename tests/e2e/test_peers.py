"""`python -m loadtest.peers`, small: that others are really called, and that nothing of them is left."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtest.peers import environments
from loadtest.peers.registry import PEERS
from tests.repo.tree import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

COMMAND = [sys.executable, "-m", "loadtest.peers", "--alone"]
SHORT = ("--rounds", "1", "--seconds", "0.2", "--processes", "2", "--json")


def small_run(folder: Path, *arguments: str, **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [*COMMAND, *SHORT, "--out", str(folder / "peers.json"), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(folder), **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert left_of(folder) == []
    noted: dict[str, Any] = json.loads(done.stdout)
    return noted


def left_of(folder: Path) -> list[str]:
    """Processes that have its name in their environment, as all below a run do."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(folder) in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return found


def test_who_cannot_be_measured_stops_nobody(tmp_path: Path) -> None:
    """Without Redis, Celery is named with the reason, and the next one is called and has its figures."""
    noted = small_run(tmp_path, "celery-redis", "grpc-floor", "--in-flight", "64", PATH=str(tmp_path))
    assert noted["not_measured"] == {"celery-redis": "redis-server not found on the PATH"}
    (row,) = noted["rows"]
    (measured,) = row["rounds"]
    assert row["peer"] == "grpc-floor"
    assert measured["calls"] >= 128
    assert measured["gross_cpu_us"] > 0
    assert 0 < measured["p50_ms"] <= measured["p99_ms"]


def test_celery(tmp_path: Path) -> None:
    """The real one, where it was installed before."""
    celery = next(it for it in PEERS if it.name == "celery-redis")
    if not environments.is_there(celery) or environments.missing(celery):
        pytest.skip("build/peers/celery is not there: python -m loadtest.peers celery-redis makes it")
    noted = small_run(tmp_path, "celery-redis", "--in-flight", "1")
    assert [row["peer"] for row in noted["rows"]] == ["celery-redis"]
    assert noted["versions"]["redis-server"].startswith("Redis")


def test_a_stop(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a turn: nothing is left of the server, of the callers or in the folder."""
    process = subprocess.Popen(
        [
            *COMMAND,
            "grpc-floor",
            "--rounds",
            "100",
            "--seconds",
            "0.2",
            "--out",
            str(tmp_path / "peers.json"),
        ],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stderr is not None
    with process:
        assert "Round 1 of 100" in process.stderr.readline()  # of 64 in flight; now it is called with 1
        assert len(left_of(tmp_path)) >= 3
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    assert "nothing is left running" in said
    assert left_of(tmp_path) == []
    assert list(tmp_path.glob("peer-*")) == []
