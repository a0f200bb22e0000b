"""What deploy/cluster says of an inventory before it touches a host, and what it would put there."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

from lambent import certificates
from lambent_frontend.settings import FrontendSettings
from lambent_placement.settings import PlacementSettings
from lambent_worker.settings import WorkerSettings

CLUSTER: Final = Path(__file__).resolve().parents[2] / "deploy" / "cluster"


def check(text: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    (folder / "lambent.whl").touch()
    (folder / "inventory.toml").write_text(text)
    command = [sys.executable, str(CLUSTER / "cluster.py"), "check", str(folder / "inventory.toml")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def example() -> str:
    text = (CLUSTER / "inventory.example.toml").read_text()
    return text.replace("../../dist/lambent-0.1.0-py3-none-any.whl", "lambent.whl")


def test_the_example(tmp_path: Path) -> None:
    """As it is, and with all comments lifted."""
    for text in (example(), re.sub(r"^# (\w+ = )", r"\1", example(), flags=re.MULTILINE)):
        told = check(text, tmp_path)
        assert told.stdout == "4 hosts, and all their settings are sound.\n", told.stderr


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('parts = ["etcd", "placement", "worker"]', 'parts = ["worker"]', "2 hosts have etcd: take 3"),
        ("memory_mb = 49152", "memory = 49152", "d, worker:"),
        ('address = "10.0.0.4"', "", "hosts.d.address: missing"),
        ("[hosts.d]", "[hosts.d]\nport = 22", "hosts.d.port: no such key"),
        ('parts = ["worker"]', 'parts = ["wroker"]', "'wroker' is none of etcd, placement, worker, frontend"),
        ('wheel = "lambent.whl"', 'wheel = "none.whl"', "there is no such file"),
        (
            'packages = "/srv/lambent/packages"',
            'packages = "/mnt/nfs"',
            "frontends may write below /srv/lambent/",
        ),
    ],
)
def test_what_is_wrong_is_said_first(old: str, new: str, says: str, tmp_path: Path) -> None:
    """And nothing is touched: no host is asked, no certificate made."""
    told = check(example().replace(old, new), tmp_path)
    assert told.returncode == 1
    assert says in told.stderr
    assert "Traceback" not in told.stderr
    assert not (tmp_path / "cluster").exists()


def test_what_a_host_gets(tmp_path: Path) -> None:
    """Settings that each part takes, the host's own last, and an etcd that knows its members."""
    (tmp_path / "lambent.whl").touch()
    (tmp_path / "inventory.toml").write_text(example())
    ask = (
        "import sys, json, pathlib, inventory as it; fleet = it.read(pathlib.Path(sys.argv[1]));"
        "print(json.dumps({host.name: it.files(fleet, host) for host in fleet.hosts}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", ask, tmp_path / "inventory.toml"], cwd=CLUSTER, capture_output=True, check=True
    )
    files = json.loads(done.stdout)
    assert sorted(files["d"]) == ["worker.toml"]
    worker = WorkerSettings(**tomllib.loads(files["d"]["worker.toml"]))
    assert (worker.name, worker.memory_mb, worker.labels, worker.metrics_port) == (
        "d",
        49152,
        ["zone=b"],
        9103,
    )
    assert worker.etcd == [f"https://10.0.0.{number}:2379" for number in (1, 2, 3)]
    FrontendSettings(**tomllib.loads(files["a"]["frontend.toml"]))
    PlacementSettings(**tomllib.loads(files["a"]["placement.toml"]))
    etcd = json.loads(files["b"]["etcd.json"])
    assert etcd["name"] == "b"
    assert etcd["initial-cluster"].split(",") == [
        f"{name}=https://10.0.0.{number}:2380" for number, name in enumerate("abc", start=1)
    ]
    assert etcd["client-transport-security"]["client-cert-auth"]


def installed(folder: Path, broken: str) -> tuple[int, str]:
    """What host.sh ends with where the command `broken` fails as it puts a file there, and what is there."""
    commands = folder / "commands"
    commands.mkdir()
    (commands / broken).write_text("#!/bin/sh\nexit 1\n")
    (commands / broken).chmod(0o755)
    (folder / "new").write_text("new")
    (folder / "there").write_text("old")
    (folder / "there.new").write_text("a part")
    owner = f"{os.getuid()}:{os.getgid()}"
    script = (
        f". '{CLUSTER}/host.sh'; state='{folder}'; PATH='{commands}':$PATH; cd '{folder}'\n"
        f"if install_if_other new there 644 {owner} worker; then echo done; fi"
    )
    done = subprocess.run(["sh", "-c", script, str(CLUSTER / "host.sh"), "pending"], check=False)
    return done.returncode, (folder / "there").read_text()


@pytest.mark.parametrize("broken", ["install", "touch", "mv"])
def test_a_file_that_cannot_be_put_in_its_place_ends_the_script(broken: str, tmp_path: Path) -> None:
    assert installed(tmp_path, broken) == (1, "old")


def test_a_restart_is_remembered_before_the_file_is_there(tmp_path: Path) -> None:
    """Or it would be forgotten where the script is interrupted in between."""
    installed(tmp_path, "mv")
    assert (tmp_path / "pending-worker").exists()


def test_a_file_is_put_in_its_place(tmp_path: Path) -> None:
    assert installed(tmp_path, "none") == (0, "new")


def test_certificates_follow_what_parts_are_reached_under(tmp_path: Path) -> None:
    """A name that clients are to use from now on is in a new certificate; what is right already stays."""
    (tmp_path / "lambent.whl").touch()
    sign = "import sys, pathlib, inventory, cluster; cluster.sign(inventory.read(pathlib.Path(sys.argv[1])))"

    def signed(text: str) -> dict[str, bytes]:
        (tmp_path / "inventory.toml").write_text(text)
        command = [sys.executable, "-c", sign, str(tmp_path / "inventory.toml")]
        subprocess.run(command, cwd=CLUSTER, capture_output=True, check=True)
        return {it.name: it.read_bytes() for it in (tmp_path / "cluster").glob("*.crt")}

    before = signed(example())
    assert signed(example()) == before
    after = signed(example().replace("# names =", "names ="))
    assert {name for name in after if after[name] != before[name]} == {"frontend-a.crt", "frontend-b.crt"}
    assert "lambent.example.com" in certificates.show(tmp_path / "cluster" / "frontend-a.crt").names
