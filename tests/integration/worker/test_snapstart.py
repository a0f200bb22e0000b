"""SnapStart: instances that are forked of a process which has imported the function's code."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lambent_proto.definition import Definition
from lambent_proto.ids import InstanceId
from tests.integration.worker import backends
from tests.integration.worker.scene import Ready, Scene, scene

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: snapshots in users of the host's of their own"),
]

PYTHON = "python3.11"


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Scene]:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o555)
    async with scene(tmp_path, backend=backends.namespaces_or_skip) as it:
        yield it


async def several(stage: Scene, files: Any, count: int = 3, **fields: Any) -> list[InstanceId]:
    definition = await stage.deploy(files, snapstart=True, **fields)
    return [await ready(stage, definition) for _ in range(count)]


async def ready(stage: Scene, definition: Definition) -> InstanceId:
    instance = stage.start(definition)
    said = await stage.hears()
    assert isinstance(said, Ready), said
    return instance


async def values(stage: Scene, instances: list[InstanceId], event: Any = None) -> list[Any]:
    answers = []
    for instance in instances:
        answer = await stage.call(instance, event)
        assert not answer.failed, answer.body
        answers.append(answer.json)
    return answers


async def log(stage: Scene) -> str:
    await stage.logs.flush()
    return (stage.folder / "logs" / "fn.log").read_text()


async def test_the_code_is_imported_once_and_globals_are_each_instances_own(stage: Scene) -> None:
    """What was computed at import is there in every instance; what one changes no other sees."""
    source = """
import time
BORN = time.time_ns()
calls = []
def handler(event, context):
    calls.append(1)
    return [BORN, len(calls)]
"""
    instances = await several(stage, source)
    first = await values(stage, instances)
    assert len({born for born, _ in first}) == 1
    assert [calls for _, calls in await values(stage, instances)] == [2, 2, 2]


async def test_what_must_differ_between_instances_does(stage: Scene) -> None:
    """Random numbers, uuids, keys of TLS and names of temporary files, though all were used at import."""
    source = """
import os, random, secrets, ssl, tempfile, uuid
def numbers():
    return [random.random(), str(uuid.uuid4()), str(uuid.uuid1()), os.urandom(8).hex(),
            secrets.token_hex(8), ssl.RAND_bytes(8).hex(), next(tempfile._get_candidate_names())]
AT_IMPORT = numbers()
def handler(event, context):
    return numbers()
"""
    instances = await several(stage, source, count=4)
    for values_of_a_kind in zip(*(await values(stage, instances)), strict=True):
        assert len(set(values_of_a_kind)) == 4
