"""`lambent up` where it cannot start, and the settings that it passes on."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.fleet import Fleet

pytestmark = pytest.mark.e2e

LAMBENT = str(Path(sys.executable).with_name("lambent"))
"""The command as the installation made it."""


def lambent(*arguments: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [LAMBENT, *arguments],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """One clear message with the port and what to do, and nothing is started."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = lambent("up", "--data", "data", "--grpc-port", str(port), "--http-port", "0", folder=tmp_path)
    assert done.returncode == 1
    assert f"127.0.0.1:{port} cannot be listened on (Address already in use)" in done.stderr
    assert "choose another port with --grpc-port" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data" / "etcd").exists()


def test_the_port_of_another_fleet(shared: Fleet, tmp_path: Path) -> None:
    """Two frontends never share a port without a word, as Linux would let them; the first one goes on."""
    port = shared.endpoint.rpartition(":")[2]
    done = lambent("up", "--data", "data", "--grpc-port", port, "--http-port", "0", folder=tmp_path)
    assert done.returncode == 1
    assert "cannot be listened on" in done.stderr
    assert shared.lambent("nodes").returncode == 0


def test_a_variable_that_nobody_knows(tmp_path: Path) -> None:
    """It is named, and nothing is started."""
    done = lambent("up", "--data", "data", folder=tmp_path, LAMBENT_MAX_WATING="3")
    assert done.returncode == 1
    assert "LAMBENT_MAX_WATING: no such setting" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_part_with_bad_settings(shared: Fleet, tmp_path: Path) -> None:
    """All faults at once, each with its key; exit code 2."""
    config = tmp_path / "worker.toml"
    told = {"etcd": shared.etcd, "data": "d", "packages": "p", "memory_mb": 1, "lease_ttl_s": 1, "colour": 2}
    config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in told.items()))
    done = lambent("worker", "--config", str(config), folder=tmp_path)
    assert done.returncode == 2
    for key in ("memory_mb", "lease_ttl_s", "colour: no such setting"):
        assert key in done.stderr
    assert "Traceback" not in done.stderr
