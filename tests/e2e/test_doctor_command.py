"""`lambent worker doctor` as an operator uses it, before there is a fleet."""

import json
import subprocess
import sys

import pytest

from lambent.cli.options import BACKENDS, LEVELS
from lambent_worker.sandbox.api import PROTECTIONS

pytestmark = pytest.mark.e2e


def doctor(*options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "lambent", "worker", "doctor", *options],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_as_json() -> None:
    """Each backend with its level or why it cannot start, each protection given or missing, all checks."""
    told = json.loads(doctor("--json"))
    assert [it["backend"] for it in told["backends"]] == list(BACKENDS)
    for it in told["backends"]:
        if it["isolation"] is None:
            assert it["why_not"]
        else:
            assert it["isolation"] in LEVELS
            assert {*it["given"], *it["missing"]} == set(PROTECTIONS)
            assert all(it["missing"].values())
    process = told["backends"][-1]
    assert (process["isolation"], process["given"]) == ("none", [])
    assert {"name", "ok", "detail", "protects"} == set(told["checks"][0])


def test_for_people() -> None:
    """Three tables: what each backend reaches, who gives each protection, what this host can do."""
    backends, protections, host = doctor().split("\n\n")
    assert backends.splitlines()[0].split() == ["BACKEND", "ISOLATION", "MISSING"]
    assert [line.split()[0] for line in backends.splitlines()[1:]] == list(BACKENDS)
    assert [line.split()[0] for line in protections.splitlines()[1:]] == list(PROTECTIONS)
    assert host.splitlines()[0].split() == ["ON", "THIS", "HOST", "WORKS", "NEEDED", "FOR", "DETAIL"]
