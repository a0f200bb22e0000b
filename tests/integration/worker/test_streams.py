"""Streamed answers of runtimes that functions bring, in real sandboxes, to a caller with a window."""

import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from lambent_proto.frames import WINDOW_BYTES
from lambent_proto.ids import InstanceId, RequestId
from lambent_worker.flow import Flow
from lambent_worker.sandbox.api import Backend
from tests.integration.worker.backends import namespaces_or_skip, process
from tests.integration.worker.scene import Answer, Begun, Files, Part, Scene, scene
from tests.integration.worker.test_provided_clients import node_client

pytestmark = pytest.mark.integration

SIZE = 5_000_000
TOLD: Final[dict[str, Any]] = {"runtime": "provided.al2023", "mode": 0o755}

BOOTSTRAP = f"""#!{os.path.realpath(sys.executable)}
import http.client, os

PREFIX = "/2018-06-01/runtime/invocation/"
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])

def parts(much):
    yield b"first"
    if much:
        for _ in range(50):
            yield b"x" * 100_000

while True:
    api.request("GET", PREFIX + "next")
    event = api.getresponse()
    much = event.read() == b'"much"'
    headers = {{"Lambda-Runtime-Function-Response-Mode": "streaming", "Transfer-Encoding": "chunked",
               "Content-Type": "text/event-stream"}}
    url = PREFIX + event.headers["Lambda-Runtime-Aws-Request-Id"] + "/response"
    api.request("POST", url, body=parts(much), headers=headers, encode_chunked=True)
    api.getresponse().read()
"""


@pytest.fixture(params=[process, namespaces_or_skip], ids=["process", "namespaces"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    backend: Callable[..., Backend] = request.param
    async with scene(tmp_path, backend=backend) as it:
        yield it


class Caller:
    """Of one instance, which is called again and again."""

    def __init__(self, stage: Scene, instance: InstanceId) -> None:
        self.stage = stage
        self.instance = instance
        self.request: RequestId

    async def begins(self, event: object) -> str:
        """The content type of the answer."""
        self.request = self.stage.deliver(self.instance, event, timeout_s=20.0, flow=Flow(WINDOW_BYTES))
        said = await self.stage.hears()
        assert isinstance(said, Begun), said
        return said.content_type

    async def part(self) -> bytes | None:
        """None at the end."""
        said = await self.stage.hears()
        if isinstance(said, Answer):
            assert (said.failed, said.body) == (False, b"")
            return None
        assert isinstance(said, Part), said
        return said.data

    def takes(self, size: int) -> None:
        self.stage.host.taken(self.instance, self.request, size)

    def leaves(self) -> None:
        self.stage.host.unheard(self.instance, self.request)

    async def whole(self) -> bytes:
        """All that comes, taken as it does."""
        parts = []
        while (part := await self.part()) is not None:
            parts.append(part)
            self.takes(len(part))
        return b"".join(parts)


async def called(stage: Scene, files: Files, **fields: Any) -> Caller:
    return Caller(stage, await stage.started(files, **fields))


async def test_a_runtime_of_one_s_own(stage: Scene) -> None:
    """As much as the window comes before anything is taken, then the rest; who leaves does not end a call."""
    caller = await called(stage, {"bootstrap": BOOTSTRAP}, **TOLD)
    assert await caller.begins("little") == "text/event-stream"
    assert await caller.whole() == b"first"
    await caller.begins("much")
    came = b""
    while len(came) < WINDOW_BYTES:
        came += await caller.part() or b""
    assert came.startswith(b"first")
    assert len(came) < WINDOW_BYTES + 70_000
    caller.takes(len(came))
    assert len(came + await caller.whole()) == SIZE + 5
    await caller.begins("much")
    assert await caller.part()
    caller.leaves()
    while await caller.part() is not None:
        pass
    assert (await stage.call(caller.instance, "little")).body == b"first"


async def test_aws_s_own_node_client(stage: Scene) -> None:
    caller = await called(stage, node_client(), handler="app.stream", memory_mb=512, **TOLD)
    assert await caller.begins(1) == "application/octet-stream"
    assert await caller.whole() == b"one two three"
