"""A fleet that records its calls, and the simulator that reads them."""

import json
from pathlib import Path

import pytest

from tests.e2e.fleet import up

pytestmark = pytest.mark.e2e


def test_what_a_frontend_records_can_be_simulated(tmp_path: Path, echo: Path) -> None:
    """Each call once, over a restart of the fleet too, and the cold starts that there were."""
    record = tmp_path / "calls.csv"
    for again in range(2):
        with up(tmp_path / "data", "--workers", "1", "--record", str(record)) as fleet:
            if not again:
                done = fleet.lambent("deploy", str(echo), "--name", "echo", "--handler", "echo.handler")
                assert done.returncode == 0, done.stderr
            for _ in range(3):
                assert fleet.lambent("invoke", "echo").returncode == 0
            assert fleet.stop() == 0
    assert len(record.read_text().splitlines()) == 1 + 6
    arguments = ("--trace", str(record), "--warm-up", "0", "--policy", "fixed", "--json")
    seen, simulated = json.loads(fleet.lambent("simulate", *arguments).stdout)
    assert (seen["policy"], seen["calls"], seen["cold"]) == ("recorded", 6, 2)
    assert (simulated["calls"], simulated["cold"]) == (6, 1), "it knows nothing of the restart"
