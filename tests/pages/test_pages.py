"""What README and docs tell to type is typed, block by block, in a home of its own, beside a fleet."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from lambent.cli.up import up
from lambent.client import Client
from tests.e2e.by_hand import running
from tests.e2e.fleet import Fleet
from tests.pages.reading import Block, Step, blocks, differs

pytestmark = pytest.mark.e2e

ROOT: Final = Path(__file__).resolve().parents[2]
ALL: Final = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES: Final = [page for page in ALL if not all(block.not_run for block in blocks(page))]
LEFT_OUT: Final = [(page, block) for page in ALL for block in blocks(page) if block.not_run]
STEP_S: Final = 60


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The `lambent up` of all pages."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "inbox").mkdir()
    sources = f"inbox=file://{folder / 'inbox'},sqs=http://127.0.0.1:9,jobs=redis://127.0.0.1:9"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAMBENT_SOURCES", sources)
        with running(folder) as fleet:
            patch.undo()
            yield fleet


@pytest.fixture
async def reader(fleet: Fleet, tmp_path: Path) -> AsyncIterator["Reader"]:
    """Who finds the fleet as it was: nothing is deployed, and nothing drained."""
    yield Reader(fleet, tmp_path)
    async with Client(fleet.endpoint) as client:
        for schedule in await client.schedules.ls():
            await client.schedules.delete(schedule.name)
        for trigger in await client.triggers.list():
            await client.triggers.delete(trigger.id)
        for function in await client.list_functions():
            await client.delete_function(function.name)
        for node in (await client.nodes()).nodes:
            await client.drain(node.name, undo=True)


class Reader:
    """A shell in a home of its own; what it sets, and where it goes, lasts from one step to the next."""

    def __init__(self, fleet: Fleet, home: Path) -> None:
        self._state = home / "state"
        self._folder = home / "home"
        self._folder.mkdir()
        for there in ("examples", "deploy"):
            shutil.copytree(ROOT / there, self._folder / there)
        self._addresses = {
            "10.0.0.1:2379": fleet.etcd[0],
            ":9000": ":" + fleet.http.rpartition(":")[2],
            ":50051": ":" + fleet.endpoint.rpartition(":")[2],
        }
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("LAMBENT_", "AWS_"))
        }
        self._environment = kept | {
            "HOME": str(self._folder),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "LAMBENT_ENDPOINT": fleet.endpoint,
        }

    def does(self, step: Step) -> tuple[int, str]:
        """The exit code, and what was printed, with the addresses of the page."""
        if words := re.fullmatch(r"lambent up\b([^#\n]*)(?:#.*)?\n", step.text):
            up.make_context("up", words[1].split())  # it runs already; its options are real ones
            return 0, ""
        text = step.text
        for of_page, of_fleet in self._addresses.items():
            text = text.replace(of_page, of_fleet)
        if step.language == "python":
            text = f"python - <<'END'\n{text}END\n"
        script = (
            f'if [ -e {self._state} ]; then . {self._state}; cd "$PWD"; fi\nset -aeuo pipefail\n{text}\n'
            f"export -p > {self._state}\n"
        )
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=STEP_S,
            check=False,
        )
        printed = done.stdout
        for of_page, of_fleet in self._addresses.items():
            printed = printed.replace(of_fleet, of_page)
        return done.returncode, printed


@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
async def test_a_page(page: Path, reader: Reader) -> None:
    """Each step succeeds, and prints what the page shows."""
    for block in blocks(page):
        if block.not_run:
            continue
        for step in block.steps:
            code, printed = await asyncio.to_thread(reader.does, step)
            where = f"{page.name}:{step.line}: {step.text}"
            assert code == 0, f"{where}ended with {code}:\n{printed}"
            assert step.seen is None or not (line := differs(step.seen, printed)), (
                f"{where}does not print {line!r}:\n{printed}"
            )


@pytest.mark.parametrize(
    ("page", "block"), LEFT_OUT, ids=[f"{page.name}:{block.line}" for page, block in LEFT_OUT]
)
def test_what_is_left_out(page: Path, block: Block) -> None:
    """It says why."""
    pytest.skip(f"{page.name}:{block.line} is not run: {block.not_run}")
