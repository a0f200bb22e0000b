"""`lambent up` as a person uses it: it starts, keeps running what it started, and leaves nothing behind."""

import json
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lambent_chassis.etcd import find_etcd
from tests.e2e.fleet import PLAIN, PORTS, gone, up

pytestmark = pytest.mark.e2e


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_starts_and_stops(data: Path, number: signal.Signals) -> None:
    """All parts are up when it says so; one signal ends all of them with exit code 0."""
    with up(data, "--workers", "2") as fleet:
        nodes = json.loads(fleet.lambent("nodes", "--json").stdout)["nodes"]
        assert [(node["name"], node["state"]) for node in nodes] == [
            ("worker-1", "connected"),
            ("worker-2", "connected"),
        ]
        assert {part: fleet.part(part)["pid"] > 0 for part in ("etcd", "placement", "frontend")} == {
            "etcd": True,
            "placement": True,
            "frontend": True,
        }
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        assert fleet.stop(number) == 0
        assert not (data / "parts.json").exists()


def test_says_how_functions_are_isolated(data: Path) -> None:
    """The level that the workers reach here and what is missing, before anything is deployed."""
    command = [sys.executable, "-m", "lambent", "up", "--data", str(data), "--workers", "1", *PLAIN]
    options = [*PORTS, "--sandbox", "process", "--require-isolation", "none"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        lines: list[str] = []
        while not lines or "lambent invoke" not in lines[-1]:
            lines.append(running.stdout.readline())
            assert lines[-1], "it ended"
        config = (data / "config" / "worker-1.toml").read_text()
        running.terminate()
    assert running.returncode == 0
    told = next(number for number, line in enumerate(lines) if "isolated" in line)
    assert lines[told].startswith("Functions are not isolated (sandbox process): ")
    assert lines[told + 1].startswith("Missing: files, environment, ")
    assert 'sandbox = "process"\nrequire_isolation = "none"\n' in config


def test_what_was_deployed_is_kept(data: Path, echo: Path) -> None:
    """The data folder is all that another start needs."""
    with up(data, "--workers", "1") as fleet:
        done = fleet.lambent("deploy", str(echo), "--name", "echo", "--handler", "echo.handler")
        assert done.returncode == 0, done.stderr
        fleet.stop()
    with up(data, "--workers", "1") as fleet:
        assert fleet.lambent("invoke", "echo", "-d", "[1]").stdout == b"[1]\n"
        assert fleet.stop() == 0


def test_one_a_data_folder(data: Path) -> None:
    """A second one on the same folder says who uses it, and does not touch it."""
    with up(data, "--workers", "1") as fleet:
        second = subprocess.run(
            [
                sys.executable,
                "-m",
                "lambent",
                "up",
                "--data",
                str(data),
                "--grpc-port",
                "0",
                "--http-port",
                "0",
                *PLAIN,
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert second.returncode == 1
        assert f"Another `lambent up` (process {fleet.process.pid}) uses {data}" in second.stderr
        assert fleet.lambent("nodes").returncode == 0
        assert fleet.stop() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_nothing_outlives_it(data: Path, echo: Path) -> None:
    """After kill -9 of `up` itself its parts, etcd and all instances end."""
    with up(data, "--workers", "1") as fleet:
        fleet.lambent("deploy", str(echo), "--name", "echo", "--handler", "echo.handler")
        assert fleet.lambent("invoke", "echo").returncode == 0
        everyone = fleet.everyone()
        assert len(everyone) >= 7  # up, etcd, placement, frontend, worker, its spawner, the instance
        fleet.process.kill()
        gone(everyone)


@pytest.mark.parametrize("name", ["frontend", "placement", "worker-1"])
def test_what_ends_is_started_again(data: Path, echo: Path, name: str) -> None:
    """It says which part ended and how, starts it again at once, and the fleet serves again."""
    with up(data, "--workers", "1") as fleet:
        fleet.lambent("deploy", str(echo), "--name", "echo", "--handler", "echo.handler")
        killed = fleet.kill(name)
        fleet.runs_again(name, killed)
        assert f"{name} ended (killed by SIGKILL)" in fleet.said()
        done = fleet.lambent("invoke", "echo", "-d", '"again"')
        assert done.stdout == b'"again"\n', done.stderr
        assert fleet.stop() == 0


@pytest.mark.skipif(bool(find_etcd().warning), reason="this etcd may lose what it acknowledged when killed")
def test_etcd_too(data: Path, echo: Path) -> None:
    """etcd comes back at its address with what it held."""
    with up(data, "--workers", "1") as fleet:
        fleet.lambent("deploy", str(echo), "--name", "echo", "--handler", "echo.handler")
        killed = fleet.kill("etcd")
        fleet.runs_again("etcd", killed)
        done = fleet.lambent("invoke", "echo", "-d", '"again"')
        assert done.stdout == b'"again"\n', done.stderr
        assert fleet.stop() == 0


def test_left_alone(data: Path) -> None:
    """With --no-restart a part that ends stays so; an operator starts it by hand with its own file."""
    with up(data, "--workers", "1", "--no-restart") as fleet:
        frontend = fleet.part("frontend")
        fleet.kill("frontend")
        fleet.ended("frontend")
        assert fleet.lambent("nodes").returncode == 3
        command = [sys.executable, "-m", "lambent", "frontend", "--config", frontend["config"]]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as by_hand:
            try:
                assert by_hand.stdout is not None
                ready = by_hand.stdout.readline()
                where = f"grpc={fleet.endpoint} http={fleet.http} metrics=127.0.0.1:"
                assert ready.startswith(f"lambent frontend frontend ready {where}")
                assert fleet.lambent("nodes").returncode == 0
            finally:
                by_hand.terminate()
        assert by_hand.returncode == 0
        assert fleet.stop() == 0


def test_a_part_that_cannot_start(data: Path) -> None:
    """It says which one and why, with the end of its log, and stops the others."""
    data.mkdir()
    (data / "worker-1").write_text("a file where a folder has to be")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "lambent",
            "up",
            "--data",
            str(data),
            "--grpc-port",
            "0",
            "--http-port",
            "0",
            *PLAIN,
        ],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 1
    assert "worker-1 did not start (exit code 1)" in done.stderr
    assert f"The end of {data}/logs/worker-1.log" in done.stderr
    assert "Everything that was started has been stopped" in done.stderr
    assert "Traceback" not in done.stderr
