"""AWS's own Python client, as it comes from PyPI, is the judge of the Runtime API."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.integration.worker.api_scene import ApiScene, api_scene

pytestmark = pytest.mark.integration

SOURCE = """
def hello(event, context):
    return {"hello": event, "id": context.aws_request_id, "arn": context.invoked_function_arn,
            "left": context.get_remaining_time_in_millis() > 0}

def fails(event, context):
    raise ValueError("no")

def echo(event, context):
    return event
"""


@asynccontextmanager
async def ric(folder: Path, handler: str, source: str = SOURCE) -> AsyncIterator[ApiScene]:
    (folder / "app.py").write_text(source)
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_LAMBDA_FUNCTION_NAME": "fn",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "LAMBDA_TASK_ROOT": str(folder),
        "_HANDLER": handler,
    }
    async with api_scene() as scene:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "awslambdaric",
            handler,
            cwd=folder,
            env=environment | {"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{scene.port}"},
        )
        try:
            yield scene
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def test_hello(tmp_path: Path) -> None:
    async with ric(tmp_path, "app.hello") as scene:
        assert await scene.hears() == (["ready"], b"")
        for number in range(20):
            scene.deliver(number, request=f"r{number}")
            head, body = await scene.hears()
            assert head == ["answer", f"r{number}"]
            assert json.loads(body) == {
                "hello": number,
                "id": f"r{number}",
                "arn": "arn:aws:lambda:us-east-1:000000000000:function:fn",
                "left": True,
            }


async def test_an_exception(tmp_path: Path) -> None:
    async with ric(tmp_path, "app.fails") as scene:
        await scene.hears()
        scene.deliver(1)
        head, body = await scene.hears()
        assert head == ["error", "r1"]
        document = json.loads(body)
        assert (document["errorType"], document["errorMessage"]) == ("ValueError", "no")
        assert "app.py" in document["stackTrace"][0]


async def test_a_module_that_cannot_be_imported(tmp_path: Path) -> None:
    async with ric(tmp_path, "nowhere.hello") as scene:
        head, body = await scene.hears()
        assert head == ["init_error"]
        assert json.loads(body)["errorType"] == "Runtime.ImportModuleError"


async def test_five_megabytes(tmp_path: Path) -> None:
    async with ric(tmp_path, "app.echo") as scene:
        await scene.hears()
        scene.deliver("x" * 5_000_000)
        head, body = await scene.hears()
        assert (head, len(body)) == (["answer", "r1"], 5_000_002)


async def test_too_large_an_answer(tmp_path: Path) -> None:
    async with ric(tmp_path, "app.hello", "def hello(e, c):\n    return 'x' * e") as scene:
        await scene.hears()
        scene.deliver(7_000_000)
        head, body = await scene.hears()
        assert head == ["error", "r1"]
        assert json.loads(body)["errorType"] == "Function.ResponseSizeTooLarge"
