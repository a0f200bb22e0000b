"""An unmodified runtime of AWS's through the whole life of an instance: what our own does over its channel,
others do over the Runtime API."""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lambent_worker.runtimes.api import Runtime
from tests.integration.worker.scene import Scene, scene, until

pytestmark = pytest.mark.integration

RIC = Runtime(
    name="provided.al2023",
    family="provided",
    version="awslambdaric",
    argv=lambda start: (sys.executable, "-m", "awslambdaric", start.handler),
    environment=lambda start: {"PATH": os.environ["PATH"]},
)
SOURCE = """
import os, time
state = []
path = os.environ["TMPDIR"] + "/kept"
def handler(event, context):
    state.append(event)
    open(path, "a").write(str(event))
    if event == "c":
        os._exit(3)
    if event == "t":
        print("asleep", flush=True)
        time.sleep(600)
    if event == "e":
        raise ValueError("no")
    return [open(path).read(), state, os.environ.get("AWS_EXECUTION_ENV")]
"""


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene(tmp_path, runtimes=[RIC]) as it:
        yield it


async def test_calls_errors_crashes_and_timeouts(stage: Scene) -> None:
    """State and `/tmp` last from call to call; a crash or a timeout loses the state, and `/tmp` stays."""
    it = await stage.started(SOURCE, runtime=RIC.name)
    assert (await stage.call(it, "a")).json == ["a", ["a"], None]
    failed = await stage.call(it, "e")
    assert failed.failed
    assert failed.json["errorType"] == "ValueError"
    assert (await stage.call(it, "b")).json[1] == ["a", "e", "b"]
    crashed = await stage.call(it, "c")
    assert crashed.json["errorMessage"].endswith("Runtime exited with error: exit status 3")
    assert (await stage.call(it, "d")).json[:2] == ["aebcd", ["d"]]
    request = stage.deliver(it, "t", timeout_s=1.0)
    log = stage.folder / "logs" / "fn.log"
    await until(lambda: log.exists() and "asleep" in log.read_text())
    stage.host.time_out(it, request, 1.0)
    after = await stage.call(it, "f")
    assert after.json[:2] == ["aebcdtf", ["f"]]
    assert b"Init Duration" in after.tail


async def test_an_init_error(stage: Scene) -> None:
    said = await stage.failed_init("import nowhere", runtime=RIC.name)
    assert said.reason == "init_error"
    assert b"Runtime.ImportModuleError" in said.error


async def test_five_megabytes(stage: Scene) -> None:
    it = await stage.started("def handler(e, c):\n    return e", runtime=RIC.name)
    assert len((await stage.call(it, "x" * 5_000_000)).body) == 5_000_002
