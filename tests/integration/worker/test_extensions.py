"""Extensions in a layer: launched before the runtime, told of each call and of the end, and waited for."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.worker.scene import Exited, Scene, scene
from tests.integration.worker.test_ric_in_host import RIC

pytestmark = pytest.mark.integration

EXTENSION = """#!/usr/bin/env python3
import http.client, json, os, sys
host = os.environ["AWS_LAMBDA_RUNTIME_API"]
connection = http.client.HTTPConnection(host)
def ask(method, path, body=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, "/2020-01-01/extension/" + path, body, headers)
    answer = connection.getresponse()
    return answer, json.loads(answer.read())
answer, facts = ask("POST", "register", json.dumps({"events": ["INVOKE", "SHUTDOWN"]}),
                    Lambda_Extension_Name=os.path.basename(sys.argv[0]))
me = answer.headers["Lambda-Extension-Identifier"]
print("registered", facts["functionName"], facts["handler"], flush=True)
while True:
    _, event = ask("GET", "event/next", Lambda_Extension_Identifier=me)
    print("extension", event["eventType"], event.get("requestId", event.get("shutdownReason")), flush=True)
    if event["eventType"] == "SHUTDOWN":
        break
"""
ECHO = "def handler(e, c):\n    print('function', e)\n    return e"


@pytest.fixture(params=["python3.11", RIC.name])
async def runtime(request: pytest.FixtureRequest) -> str:
    """Ours, which does not speak to the Runtime API, and one that does."""
    return str(request.param)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene(tmp_path, runtimes=[RIC]) as it:
        yield it


async def _log(stage: Scene) -> str:
    await stage.logs.flush()
    return (stage.folder / "logs" / "fn.log").read_text()


async def test_an_extension_is_told_of_each_call(stage: Scene, runtime: str) -> None:
    """It registers before the function is ready, and hears of each call once, with its request id."""
    layer = await stage.layer({"extensions/watcher": EXTENSION})
    it = await stage.started(ECHO, runtime=runtime, layers=(layer,))
    assert "registered fn app.handler" in await _log(stage)
    answers = [await stage.call(it, n) for n in range(3)]
    assert [answer.json for answer in answers] == [0, 1, 2]
    for answer in answers:
        async with asyncio.timeout(20):
            while f"extension INVOKE {answer.request_id}" not in await _log(stage):  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.01)


async def test_an_extension_is_told_of_the_end(stage: Scene, runtime: str) -> None:
    """It has time for a last word; the instance is gone as soon as it has said it."""
    layer = await stage.layer({"extensions/watcher": EXTENSION})
    it = await stage.started(ECHO, runtime=runtime, layers=(layer,))
    stage.host.kill(it, graceful=True)
    assert await stage.hears() == Exited(it, "killed", b"")
    assert "extension SHUTDOWN spindown" in await _log(stage)


async def test_an_extension_that_never_registers_holds_up_init(tmp_path: Path, runtime: str) -> None:
    """Init ends when all have asked for their first event; it takes its limit, and then the call's time."""
    async with scene(tmp_path, runtimes=[RIC], init_limit_s=0.5) as stage:
        layer = await stage.layer({"extensions/silent": "#!/bin/sh\nexec sleep 600\n"})
        it = await stage.started(ECHO, runtime=runtime, layers=(layer,))
        await stage.logs.flush()
        assert "Phase: init\tStatus: timeout" in await _log(stage)
        stage.host.kill(it)
        assert await stage.hears() == Exited(it, "killed", b"")


async def test_an_extension_that_crashes_fails_the_call(stage: Scene, runtime: str) -> None:
    layer = await stage.layer({"extensions/fragile": "#!/bin/sh\nsleep 0.2\nexit 7\n"})
    said = await stage.failed_init(ECHO, runtime=runtime, layers=(layer,))
    assert said.reason == "init_error"
    assert b"Extension.Crash" in said.error
    assert b"fragile exited with exit status 7" in said.error


FAILS = EXTENSION.replace(
    "while True:",
    """
said = {"Lambda_Extension_Identifier": me, "Lambda_Extension_Function_Error_Type": "My.Reason"}
if "init" in sys.argv[0]:
    ask("POST", "init/error", **said)
while True:""",
).replace(
    "        break\n",
    """        break
    ask("POST", "exit/error", **said)
""",
)


async def test_an_extension_that_cannot_start_fails_the_init(stage: Scene, runtime: str) -> None:
    layer = await stage.layer({"extensions/fails-init": FAILS})
    said = await stage.failed_init(ECHO, runtime=runtime, layers=(layer,))
    assert said.reason == "init_error"
    assert json.loads(said.error) == {
        "errorType": "Extension.InitError",
        "errorMessage": "RequestId:  Error: the extension fails-init reported My.Reason",
    }


async def test_an_extension_that_gives_up_fails_its_call_alone(stage: Scene, runtime: str) -> None:
    """The runtime and the extension begin anew with the next call, which takes its turn again."""
    layer = await stage.layer({"extensions/fails": FAILS})
    it = await stage.started(
        "import time\ndef handler(e, c):\n    time.sleep(e)", runtime=runtime, layers=(layer,)
    )
    for _ in range(2):
        answer = await stage.call(it, 600)
        assert answer.failed
        assert answer.json["errorType"] == "Extension.ExitError"
