"""The benches that start a fleet of their own, small, for whether they work. Their figures are not judged."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lambent_chassis.clock import monotonic_s
from loadtest.processes import still_there, tree
from tests.repo.tree import ROOT

pytestmark = pytest.mark.e2e

WITHIN_S = 60.0


def run(tmp_path: Path, name: str, *options: str) -> dict[str, Any]:
    """The figures of one of them, quick and with these options."""
    given = [part for option in options for part in ("--set", option)]
    command = [
        sys.executable,
        "-m",
        "loadtest.bench",
        name,
        "--quick",
        "--out",
        str(tmp_path),
        *given,
        "--json",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures: dict[str, Any] = json.loads(done.stdout)[name]
    assert set(figures) <= set(json.loads((tmp_path / "bench.json").read_text()))
    return figures


@pytest.mark.timeout(180)
def test_warm_calls(tmp_path: Path) -> None:
    """By every path, and none of them costs an operation of etcd; the figures that others read are there."""
    figures = run(tmp_path, "warm", "scale=0.05")
    assert figures["etcd_ops_per_warm_call"] == 0
    for path in ("stream", "unary", "http"):
        assert figures[f"{path}_cpu_us"] > 0
    assert figures["stream_calls"] == 1000


@pytest.mark.timeout(180)
def test_a_replay(tmp_path: Path) -> None:
    """A minute of a made trace: the fleet has each call, and it is recorded."""
    figures = run(tmp_path, "replay", "minutes=1", "workers=1")
    assert figures["replay_calls"] > 0
    assert len((tmp_path / "bench" / "replay.csv").read_text().splitlines()) == figures["replay_calls"] + 1
    assert figures["replay_slowdown_p50"] >= 1


@pytest.mark.timeout(180)
def test_a_burst(tmp_path: Path) -> None:
    """Every call is answered, and there is a plot of it."""
    figures = run(tmp_path, "burst", "calls=8", "seconds=0.2", "workers=1")
    assert figures["burst_failures"] == 0
    [plot] = json.loads((tmp_path / "bench" / "burst.json").read_text())["figures"]["plots"]
    assert plot["lines"]["calls answered"][-1][1] == 8


@pytest.mark.timeout(180)
def test_cold_starts_at_a_rate(tmp_path: Path) -> None:
    """Each call of a rate is a cold start."""
    figures = run(tmp_path, "cold-rates", "rates=5,20", "most=12")
    assert figures["cold_at_20_p50_ms"] > 0
    [table] = json.loads((tmp_path / "bench" / "cold-rates.json").read_text())["figures"]["tables"]
    assert [row[1] for row in table["rows"]] == ["10", "12"]


def test_a_queue(tmp_path: Path) -> None:
    """What was taken is run, all of it, and nothing is left in its folder."""
    where = tmp_path / "disk"
    where.mkdir()
    figures = run(tmp_path, "queue", "events=500", f"folder={where}")
    assert figures["queue_drained_per_s"] > 0
    assert list(where.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
@pytest.mark.timeout(180)
def test_one_that_is_cut_short(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """It leaves no fleet behind, and keeps nothing of what was not finished."""
    command = [sys.executable, "-m", "loadtest.bench", "cold", "--set", "starts=1000", "--out", str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any("1000 starts" in line for line in process.stderr)
    everyone = list(tree(process.pid).values())
    assert any(seen.parent == process.pid for seen in everyone)
    process.send_signal(number)
    process.communicate(timeout=90)
    assert process.returncode == code
    deadline = monotonic_s() + WITHIN_S
    while still_there(everyone):
        assert monotonic_s() < deadline, still_there(everyone)
    assert list(tmp_path.glob("**/*.json")) == []
