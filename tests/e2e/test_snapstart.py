"""SnapStart through a whole fleet."""

import json
import os
import re
from pathlib import Path

import pytest

from tests.e2e.fleet import up

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: snapshots in users of the host's of their own"),
]

CODE = """
import time
import snapshot_restore_py
restored = []
snapshot_restore_py.register_after_restore(restored.append, "restored")
BORN = time.time_ns()
def handler(event, context):
    return [BORN, restored]
"""


def test_a_function_with_snapstart_says_how_it_was_started(tmp_path: Path) -> None:
    """The first call waits for a restore and is told so; the next finds the instance warm."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "app.py").write_text(CODE)
    with up(tmp_path / "data", "--sandbox", "namespaces", "--workers", "1") as fleet:
        options = ("--name", "snap", "--handler", "app.handler", "--snapstart")
        deployed = fleet.lambent("deploy", str(code), *options)
        assert deployed.returncode == 0, deployed.stderr
        first, second = (fleet.lambent("invoke", "snap", "-v") for _ in range(2))
        assert first.returncode == 0, first.stderr
        assert re.search(r"snapstart \(no_instance\).*restoring \d", first.stderr.decode())
        assert re.search(r"warm", second.stderr.decode())
        assert json.loads(first.stdout) == json.loads(second.stdout)
        assert json.loads(first.stdout)[1] == ["restored"]
        fleet.stop()
