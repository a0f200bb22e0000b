"""An instance that nobody calls gets no CPU, and is thawed for its next call as if nothing had happened."""

from pathlib import Path

import pytest

from tests.integration.worker.backends import NAME, namespaces_or_skip
from tests.integration.worker.scene import Exited, scene, until

pytestmark = pytest.mark.integration

COUNTING = """
import threading, time
count = 0
def work():
    global count
    while True:
        count += 1
        time.sleep(0.001)
threading.Thread(target=work, daemon=True).start()
def handler(event, context):
    return count
"""


def _is_frozen() -> bool:
    """Whether any cgroup of this test's worker says so."""
    try:
        return any(
            word in path.read_text()
            for file, word in (("cgroup.events", "frozen 1"), ("freezer.state", "FROZEN"))
            for depth in ("", "*/")
            for path in Path("/sys/fs/cgroup").glob(f"{depth}lambent-{NAME}/*/{file}")
        )
    except OSError:
        return False  # one of them has just gone


async def test_it_stands_still_between_calls(tmp_path: Path) -> None:
    async with scene(tmp_path, backend=namespaces_or_skip, freeze_after_s=0.05) as stage:
        it = await stage.started(COUNTING)
        before = (await stage.call(it)).json
        await until(_is_frozen)
        after = (await stage.call(it)).json
        assert after > before  # it ran until it was frozen
        await until(_is_frozen)
        assert (await stage.call(it)).json > after


async def test_a_frozen_instance_can_be_killed(tmp_path: Path) -> None:
    """What is frozen does not die before it is thawed, on some hosts: nobody has to wait for that."""
    async with scene(tmp_path, backend=namespaces_or_skip, freeze_after_s=0.05) as stage:
        it = await stage.started(COUNTING)
        await until(_is_frozen)
        stage.host.kill(it)
        assert await stage.hears() == Exited(it, "killed", b"")
