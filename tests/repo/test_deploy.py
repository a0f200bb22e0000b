"""What is in deploy/ is what systemd takes, and runs the commands that there are."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lambent.cli import lambent

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


def test_there_is_a_unit_for_each_part() -> None:
    assert [it.name for it in UNITS] == [
        f"lambent-{part}.service" for part in ("frontend", "placement", "worker")
    ]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze on the PATH")
@pytest.mark.parametrize("unit", UNITS, ids=lambda it: it.stem)
def test_systemd_takes_it(unit: Path, tmp_path: Path) -> None:
    """Every key is known, with a value that it may have; the program is this interpreter."""
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/lambent/bin/lambent", sys.executable))
    told = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=30, check=False
    )
    said = [line for line in told.stderr.splitlines() if unit.name in line]
    assert (told.returncode, said) == (0, [])


@pytest.mark.parametrize("part", ["frontend", "worker"])
def test_who_has_processes_of_its_own_stops_them_itself(part: str) -> None:
    """By default systemd sends SIGTERM to all of them, and the second one, their parent's, cuts calls off."""
    assert "\nKillMode=mixed\n" in (ROOT / "deploy" / "systemd" / f"lambent-{part}.service").read_text()


@pytest.mark.parametrize("unit", UNITS, ids=lambda it: it.stem)
def test_it_runs_a_part_with_its_settings_file(unit: Path) -> None:
    """Under the name that docs/cluster.md has it copied to."""
    found = re.search(
        r"^ExecStart=/opt/lambent/bin/lambent (\w+) --config /etc/lambent/(\w+)\.toml$",
        unit.read_text(),
        re.M,
    )
    assert found is not None
    part = unit.stem.removeprefix("lambent-")
    assert found.groups() == (part, part)
    assert part in lambent.commands
    assert (ROOT / "deploy" / f"{part}.toml").exists()
