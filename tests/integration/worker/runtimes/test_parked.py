"""Processes that were started before their function was known."""

import functools
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lambent_proto.definition import DEFAULT_MEMORY_MB
from lambent_worker.sandbox.api import Parkable
from tests.integration.worker.backends import namespaces_or_skip
from tests.integration.worker.scene import Files, Ready, Scene, runtimes_here, scene, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

PYTHON = """
import locale
import os
import sys
import time

def handler(event, context):
    with open("/proc/self/environ") as file:
        linker = file.read().split("\\0")
    return {
        "linker": linker,
        "variables": sorted(set(os.environ) - {"LC_CTYPE"}),  # which Python adds where a locale is missing
        "own": os.environ.get("OWN"),
        "folder": os.getcwd(),
        "locale": [locale.getlocale(), sys.getfilesystemencoding(), sys.stdout.encoding],
        "zone": time.tzname,
        "path": sys.path,
        "rehearsed": [name for name in sys.modules if name.startswith("rehearsed")],
        "flags": [sys.flags, sys.version],
    }
"""
NODE = """
const fs = require("node:fs");
exports.handler = async () => ({
  linker: fs.readFileSync("/proc/self/environ", "utf8").split("\\0"),
  variables: Object.keys(process.env).sort(),
  own: process.env.OWN,
  folder: process.cwd(),
  locale: Intl.DateTimeFormat().resolvedOptions().locale,
  zone: Intl.DateTimeFormat().resolvedOptions().timeZone,
  rehearsed: Object.keys(require.cache).filter((file) => file.includes("rehears")),
  heap: require("node:v8").getHeapStatistics().heap_size_limit,
});
"""
JAVA = """
import java.nio.file.*;
import java.util.*;

public class Facts {
    public Map<String, Object> all() throws Exception {
        Map<String, Object> facts = new TreeMap<>();
        facts.put("linker", Files.readString(Path.of("/proc/self/environ")).split("\\0"));
        facts.put("variables", new TreeSet<>(System.getenv().keySet()));
        facts.put("own", System.getenv("OWN"));
        facts.put("folder", Path.of("x").toAbsolutePath().getParent().toString());
        facts.put("locale", Locale.getDefault().toString());
        facts.put("zone", TimeZone.getDefault().getID());
        facts.put("heap", Runtime.getRuntime().maxMemory());
        return facts;
    }
}
"""


@functools.cache
def classes() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="lambent-functions-") as out:
        source = Path(out) / "Facts.java"
        source.write_text(JAVA)
        subprocess.run(["javac", "-d", out, source], check=True, timeout=100)
        return {path.name: path.read_bytes() for path in Path(out).glob("*.class")}


@dataclass(frozen=True)
class Function:
    """It tells all it knows."""

    files: Callable[[], Files]
    handler: str
    rare: dict[str, str]
    """Of the function's environment, and read by a new process alone; it changes nothing of what is told."""
    read_late: frozenset[str] = frozenset()
    """Of INTERPRETED: what a process that runs takes notice of as well."""


FUNCTIONS = {
    "python3.11": Function(
        files=lambda: {"app.py": PYTHON},
        handler="app.handler",
        rare={"MALLOC_ARENA_MAX": "2"},
        read_late=frozenset({"TZ", "LANG", "PATH"}),
    ),
    "nodejs": Function(
        files=lambda: {"index.js": NODE},
        handler="index.handler",
        rare={"NODE_OPTIONS": "--no-deprecation"},
    ),
    "java": Function(files=classes, handler="Facts::all", rare={"JAVA_TOOL_OPTIONS": "-Dx=y"}),
}


INTERPRETED = frozenset({"LANG", "TZ", "PATH", "LD_LIBRARY_PATH"})
"""Variables that the C library or the dynamic linker acts on: they see what a process was started with."""


@pytest.fixture(params=FUNCTIONS)
def name(request: pytest.FixtureRequest) -> str:
    if request.param not in runtimes_here().by_name:
        pytest.skip(f"{request.param} is not on this host")
    return str(request.param)


@pytest.fixture
async def stage(tmp_path: Path, name: str) -> AsyncIterator[Scene]:
    async with scene(tmp_path, backend=namespaces_or_skip) as it:
        yield it


def parkable_of(name: str) -> Parkable:
    it = runtimes_here().by_name[name].parkable
    assert it is not None
    return it


def waits(parkable: Parkable) -> bool:
    """Whether one of ours reads from its channel: not only is it executed, it is ready to be taken."""
    return any(
        command == [*parkable.argv, ""] and is_ours(pid) and reads_its_channel(pid)
        for pid, command in commands()
    )


def commands() -> list[tuple[int, list[str]]]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            found.append((int(entry.name), (entry / "cmdline").read_text().split("\0")))
        except OSError:
            continue
    return found


def is_ours(pid: int) -> bool:
    while pid > 1:
        if pid == os.getpid():
            return True
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False


def reads_its_channel(pid: int) -> bool:
    try:
        calls = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/syscall")]
    except OSError:
        return False
    return any(call.startswith("0 0x3 ") for call in calls)


async def facts_of(stage: Scene, name: str, memory_mb: int, own: dict[str, str]) -> dict[str, Any]:
    it = FUNCTIONS[name]
    definition = await stage.deploy(
        it.files(), handler=it.handler, runtime=name, memory_mb=memory_mb, environment=own
    )
    instance = stage.start(definition)
    said = await stage.hears()
    assert isinstance(said, Ready), said
    answer = await stage.call(instance, {}, timeout_s=20.0)
    assert not answer.failed, answer.json
    facts: dict[str, Any] = answer.json
    return facts


async def test_it_is_as_if_it_had_been_executed(stage: Scene, name: str) -> None:
    """A function cannot tell by its environment, its folder, its heap, or what the linker has read."""
    parkable, it = parkable_of(name), FUNCTIONS[name]
    memory_mb = parkable.memory_mb or DEFAULT_MEMORY_MB
    await until(lambda: waits(parkable))
    parked = await facts_of(stage, name, memory_mb, {"OWN": "1"})
    executed = await facts_of(stage, name, memory_mb, {"OWN": "1"} | it.rare)
    assert [kind for _, kind in stage.recorder.launches] == ["parked", "new"]
    executed["variables"] = [variable for variable in executed["variables"] if variable not in it.rare]
    for facts in (parked, executed):
        read = dict(line.split("=", 1) for line in facts["linker"] if line)
        facts["linker"] = {variable: read.get(variable) for variable in INTERPRETED - it.read_late}
    assert parked == executed
    await stage.logs.flush()
    lines = [line.text async for batch in stage.logs.read("fn", follow=False) for line in batch]
    assert not [line for line in lines if "rehears" in line], "a rehearsal that fails says so"


async def test_it_does_not_suit_every_function(stage: Scene, name: str) -> None:
    """A function that sets what was settled when the process started, or has other memory, gets a new one."""
    parkable, it = parkable_of(name), FUNCTIONS[name]
    memory_mb = parkable.memory_mb or DEFAULT_MEMORY_MB
    await until(lambda: waits(parkable))
    for own in ({"LD_LIBRARY_PATH": "/tmp"}, it.rare):
        facts = await facts_of(stage, name, memory_mb, own)
        assert {"=".join(item) for item in own.items()} <= set(facts["linker"])
    if parkable.memory_mb:
        await facts_of(stage, name, memory_mb * 2, {})
    assert {kind for _, kind in stage.recorder.launches} == {"new"}


async def test_a_time_zone_of_its_own(stage: Scene, name: str) -> None:
    """A function that sets TZ has that time zone, whoever was parked."""
    parkable = parkable_of(name)
    await until(lambda: waits(parkable))
    facts = await facts_of(stage, name, parkable.memory_mb or DEFAULT_MEMORY_MB, {"TZ": "Asia/Tokyo"})
    assert facts["zone"] in ("Asia/Tokyo", ["JST", "JDT"], ["JST", "JST"])
