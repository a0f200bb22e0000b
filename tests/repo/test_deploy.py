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
ETCD = ROOT / "deploy" / "cluster" / "lambent-etcd.service"
SCRIPTS = sorted((ROOT / "deploy").rglob("*.sh"))


def test_there_is_a_unit_for_each_part() -> None:
    assert [it.name for it in UNITS] == [
        f"lambent-{part}.service" for part in ("frontend", "placement", "worker")
    ]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze on the PATH")
@pytest.mark.parametrize("unit", [*UNITS, ETCD], ids=lambda it: it.stem)
def test_systemd_takes_it(unit: Path, tmp_path: Path) -> None:
    """Every key is known, with a value that it may have; the program is this interpreter."""
    copy = tmp_path / unit.name
    text = unit.read_text()
    for program in ("/opt/lambent/bin/lambent", "/usr/bin/etcd"):
        text = text.replace(program, sys.executable)
    copy.write_text(text)
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


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="there is no shellcheck on the PATH")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda it: it.name)
def test_scripts_are_sound(script: Path) -> None:
    told = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (0, "")


def test_what_is_of_one_host_has_folders_of_its_own() -> None:
    """A folder of state belongs to one unit's user: systemd gives it to whoever starts last."""
    folders = [re.findall(r"^StateDirectory=(.+)$", it.read_text(), re.M) for it in [*UNITS, ETCD]]
    named = [name for found in folders for name in found]
    assert sorted(named) == ["lambent/etcd", "lambent/frontend", "lambent/worker"]
