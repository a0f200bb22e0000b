"""The doctor tries everything for real, says no where something does not work, and leaves nothing behind."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from lambent_worker.sandbox import doctor
from lambent_worker.sandbox.api import PROTECTIONS
from lambent_worker.sandbox.doctor import Check

pytestmark = pytest.mark.integration

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="what root can do is asked for")

PROBE = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from lambent_worker.sandbox import doctor
if user := int(sys.argv[2]):
    os.setgroups([]); os.setgid(user); os.setuid(user)
print(json.dumps([(check.name, check.ok, check.detail, check.protects) for check in doctor.probe()]))
"""


def probe(user: int = 0) -> list[Check]:
    """In an interpreter of its own, as the command does: these tests have threads of gRPC's, which any fork
    starts anew, and a process with threads can make no user namespace.
    """
    command = [sys.executable, "-I", "-S", "-c", PROBE, str(Path(doctor.__file__).parents[2]), str(user)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found = json.loads(done.stdout)
    return [Check(name, ok, detail, tuple(protects)) for name, ok, detail, protects in found]


def by_name(checks: list[Check]) -> Mapping[str, Check]:
    assert len({check.name for check in checks}) == len(checks)
    return {check.name: check for check in checks}


def said(name: str) -> Check:
    """By this process, in which something is replaced."""
    return by_name(doctor.probe())[name]


def namespaces() -> dict[str, str]:
    return {file.name: os.readlink(file) for file in Path("/proc/self/ns").iterdir()}


def test_every_protection_but_those_of_its_own_is_tried() -> None:
    """And named as operators know it."""
    named = {name for check in probe() for name in check.protects}
    assert named == set(PROTECTIONS)


def state() -> tuple[object, ...]:
    mounts = Path("/proc/self/mountinfo").read_text()
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    cgroups = list(Path("/sys/fs/cgroup").rglob(f"lambent-*-{os.getpid()}"))
    return namespaces(), mounts, children, cgroups, sorted(os.listdir("/proc/self/fd")), os.getcwd()


def probed_and_unchanged() -> None:
    before = state()
    doctor.probe()
    assert state() == before


@as_root
def test_nothing_is_changed() -> None:
    """The namespaces of who asked, its processes, mounts, cgroups and descriptors are as they were."""
    command = [sys.executable, "-c", f"from {__name__} import probed_and_unchanged as it; it()"]
    root = Path(__file__).parents[len(__name__.split(".")) - 1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@as_root
def test_a_plain_user_is_told_what_takes_root() -> None:
    """The rest is tried as that user: it may well work."""
    found = {check.name: (check.ok, check.detail) for check in probe(user=4242)}
    assert found["own users"] == (False, "Operation not permitted")
    assert found["/tmp on disk"] == (False, "only root can mount a file system from an image")
    assert not found["cgroup: memory"][0]
    as_root = by_name(probe())
    assert found["no new privileges"][0] == as_root["no new privileges"].ok
    for name in ("process namespace", "mount namespace", "network namespace", "detached mounts"):
        assert found[name][0] == as_root["user namespace"].ok, found[name]


def refuses() -> str:
    raise OSError("this host refuses")


def dies() -> str:
    os._exit(3)


def hangs() -> str:
    while True:
        time.sleep(600)


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (refuses, "this host refuses"),
        (dies, "the process that tried it died"),
        (hangs, "did not end within 0 s"),
        (partial(doctor._in_child, refuses), "this host refuses"),
    ],
)
def test_what_does_not_work_is_said(block: doctor.Block, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused, crashed or hung: the other answers come all the same."""
    monkeypatch.setattr(doctor, "_TRY_S", 0.2)
    monkeypatch.setattr(doctor, "_BLOCKS", (("broken", ("files",), block),))
    assert said("broken").row == ("broken", "no", "files", why)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def script(path: Path, name: str, text: str) -> None:
    (path / name).write_text(f"#!/bin/sh\n{text}\n")
    (path / name).chmod(0o755)


def test_a_tool_is_run_and_not_only_found(path: Path) -> None:
    """There is a runsc on the PATH, and what it says when it fails is passed on."""
    script(path, "runsc", 'case "$*" in *do*) echo "first" >&2; echo "cannot start" >&2; exit 1;; esac')
    assert said("runsc").row == ("runsc", "no", "own_kernel", "cannot start")
    script(path, "runsc", 'case "$*" in *do*) ;; *) echo "runsc version 1";; esac')
    assert said("runsc").row == ("runsc", "yes", "own_kernel", "runsc version 1")


def test_a_tool_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    checks = by_name(probe())
    assert not checks["bwrap"].ok
    assert checks["bwrap"].detail == "not on the PATH (Debian: bubblewrap)"
    assert not checks["slirp4netns"].ok
