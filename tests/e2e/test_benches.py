"""The benches that start a fleet of their own, small, for whether they work. Their figures are not judged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repo.tree import ROOT

pytestmark = pytest.mark.e2e


def run(bench: str, *arguments: str) -> str:
    command = [sys.executable, "-m", f"loadtest.{bench}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(180)
def test_a_replay(tmp_path: Path) -> None:
    """A minute of a made trace: the fleet and the simulator have the same calls, and each is recorded."""
    said = run("replay", "--minutes", "1", "--workers", "1", "--out", str(tmp_path))
    noted = json.loads((tmp_path / "replay.json").read_text())
    calls = noted["the fleet"]["calls"]
    assert calls == noted["the simulator"]["calls"] == noted["on the record"]["calls"] > 0
    assert len((tmp_path / "replay.csv").read_text().splitlines()) == calls + 1
    assert "off by" in said


@pytest.mark.timeout(180)
def test_a_burst(tmp_path: Path) -> None:
    """Every call is answered, and there is a plot of it."""
    said = run("burst", "--calls", "8", "--seconds", "0.2", "--workers", "1", "--out", str(tmp_path))
    noted = json.loads((tmp_path / "burst.json").read_text())
    assert noted["milestones_s"]["calls answered"]["count"] == 8
    assert noted["over_time"]["calls_answered"][-1] == 8
    assert "calls answered" in said
    assert "<svg" in (tmp_path / "burst.html").read_text()


def test_a_queue(tmp_path: Path) -> None:
    """What was taken is run, all of it, and nothing is left in its folder."""
    where = tmp_path / "disk"
    where.mkdir()
    said = run("queue", "--events", "500", "--folder", str(where), "--out", str(tmp_path))
    noted = json.loads((tmp_path / "queue.json").read_text())
    assert noted["events"] == 500
    assert 0 < noted["commits"] < 500
    assert "drained a second" in said
    assert list(where.iterdir()) == []
