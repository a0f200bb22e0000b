"""What a newcomer runs first."""

import subprocess
import sys

import pytest

from tests.repo.tree import ROOT

pytestmark = pytest.mark.e2e


@pytest.mark.timeout(180)
def test_the_demo() -> None:
    """It does what it says, prints its tables, and judges for itself that nothing is left running."""
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.demo"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for title in ("latency, ms", "starts", "instances", "CPU per call, ms"):
        assert f"\n{title}" in done.stdout
    assert "2000 warm calls from 32 callers" in done.stdout
    assert "nothing is left running" in done.stdout
