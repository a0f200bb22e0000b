"""AWS's own runtime clients, unmodified, as functions that bring their own `bootstrap`, in real sandboxes."""

import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from lambent_worker.sandbox.api import Backend
from tests.integration.worker.backends import namespaces_or_skip, process
from tests.integration.worker.scene import Scene, scene

pytestmark = pytest.mark.integration

PYTHON = os.path.realpath(sys.executable)
NODE_CLIENT = Path(__file__).parents[3] / "build" / "ric" / "node_modules"
"""Where `.ci/run` installs it: it is compiled, which takes minutes."""

HANDLER = """
def handler(event, context):
    if event == "fail":
        raise ValueError("no")
    return {"event": event, "id": context.aws_request_id, "arn": context.invoked_function_arn}
"""
JS_HANDLER = """
exports.handler = async (event, context) => {
    if (event === 'fail') throw new TypeError('no');
    return { event, id: context.awsRequestId };
};
exports.stream = awslambda.streamifyResponse(async (event, stream) => {
    for (const part of ['one ', 'two ', 'three']) stream.write(part);
    stream.end();
});
"""


@pytest.fixture(params=[process, namespaces_or_skip], ids=["process", "namespaces"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    backend: Callable[..., Backend] = request.param
    async with scene(tmp_path, backend=backend) as it:
        yield it


def bundled(*folders: Path) -> dict[str, bytes]:
    """All files below the folders, each folder under its own name."""
    files = {}
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                files[str(path.relative_to(folder.parent))] = path.read_bytes()
    return files


def python_client() -> dict[str, str | bytes]:
    """The package of such a function, as `pip install --target` makes it."""
    spec = find_spec("awslambdaric")
    assert spec is not None
    assert spec.origin is not None
    site = Path(spec.origin).parents[1]
    files: dict[str, str | bytes] = {**bundled(site / "awslambdaric", site / "simplejson")}
    for module in (site / "snapshot_restore_py.py", *site.glob("runtime_client*.so")):
        files[module.name] = module.read_bytes()
    start = f'#!/bin/sh\nexport PYTHONPATH="$LAMBDA_TASK_ROOT"\nexec {PYTHON} -m awslambdaric "$_HANDLER"\n'
    return files | {"bootstrap": start, "app.py": HANDLER}


async def test_the_python_client(stage: Scene) -> None:
    it = await stage.started(python_client(), runtime="provided.al2023", memory_mb=256, mode=0o755)
    for number in range(5):
        answer = await stage.call(it, number)
        assert answer.json["event"] == number
        assert answer.json["id"] == answer.request_id
    failed = await stage.call(it, "fail")
    assert failed.failed
    assert failed.json["errorType"] == "ValueError"
    assert "app.py" in failed.json["stackTrace"][-1]
    assert len((await stage.call(it, "x" * 5_000_000)).json["event"]) == 5_000_000


def node_client() -> dict[str, str | bytes]:
    node = shutil.which("node")
    if node is None or not NODE_CLIENT.is_dir():
        pytest.skip(f"aws-lambda-ric is not installed in {NODE_CLIENT.parent}")
    files: dict[str, str | bytes] = {
        name: content
        for name, content in bundled(NODE_CLIENT).items()
        if (not name.startswith("node_modules/aws-lambda-ric/deps") and "/build/" not in name)
        or name.endswith(".node")
    }
    run = "node_modules/aws-lambda-ric/bin/index.mjs"
    start = f'#!/bin/sh\ncd "$LAMBDA_TASK_ROOT"\nexec {os.path.realpath(node)} {run} "$_HANDLER"\n'
    return files | {"bootstrap": start, "app.js": JS_HANDLER}


async def test_the_node_client(stage: Scene) -> None:
    it = await stage.started(node_client(), runtime="provided.al2023", memory_mb=512, mode=0o755)
    for number in range(5):
        answer = await stage.call(it, number)
        assert (answer.json["event"], answer.json["id"]) == (number, answer.request_id)
    failed = await stage.call(it, "fail")
    assert (failed.failed, failed.json["errorType"]) == (True, "TypeError")


async def test_the_node_client_streams(stage: Scene) -> None:
    """Whoever does not want the pieces gets the whole."""
    told = {"handler": "app.stream", "runtime": "provided.al2023", "memory_mb": 512, "mode": 0o755}
    it = await stage.started(node_client(), **told)
    answer = await stage.call(it, 1)
    assert (answer.failed, answer.body) == (False, b"one two three")
