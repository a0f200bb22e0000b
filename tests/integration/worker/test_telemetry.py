"""Extensions that subscribe to telemetry: what they are told, and that nobody waits for them."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.worker import backends
from tests.integration.worker.scene import Exited, Scene, scene

pytestmark = pytest.mark.integration

EXTENSION = """#!/usr/bin/env python3
import http.client, http.server, json, os, sys, threading
host, port = os.environ["AWS_LAMBDA_RUNTIME_API"], int(os.environ["TO_PORT"])
class Sink(http.server.BaseHTTPRequestHandler):
    refused = 0
    def do_POST(self):
        events = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = 200
        if Sink.refused < int(os.environ.get("REFUSE", 0)):
            Sink.refused += 1
            status, events = 500, []
        sys.stdout.write("".join(f"TOLD {json.dumps(it)}\\n" for it in events))
        sys.stdout.flush()
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_): pass
def serve():
    Sink.protocol_version = os.environ.get("HTTP", "HTTP/1.1")
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Sink).serve_forever()
threading.Thread(target=serve, daemon=True).start()
connection = http.client.HTTPConnection(host)
def ask(method, path, body=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer, answer.read().decode()
answer, _ = ask("POST", "/2020-01-01/extension/register", json.dumps({"events": ["INVOKE", "SHUTDOWN"]}),
                Lambda_Extension_Name=os.path.basename(sys.argv[0]))
me = {"Lambda_Extension_Identifier": answer.headers["Lambda-Extension-Identifier"]}
answer, said = ask("PUT", os.environ.get("API", "/2022-07-01/telemetry"), os.environ["WANTED"], **me)
print("SAID", answer.status, said.strip(), flush=True)
while True:
    _, event = ask("GET", "/2020-01-01/extension/event/next", **me)
    if json.loads(event)["eventType"] == "SHUTDOWN":
        break
"""
FUNCTION = """
import os
print("imported")
def handler(event, context):
    print("called with", event)
    if event == "raise":
        raise ValueError("no")
    if event == "exit":
        os._exit(3)
    return event
"""
BUFFERING = {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25}


@pytest.fixture(params=[backends.process, backends.namespaces_or_skip], ids=["process", "namespaces"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene(tmp_path, backend=request.param) as it:
        yield it


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


async def started(stage: Scene, *types: str, **environment: str) -> Any:
    port = free_port()
    wanted = {
        "schemaVersion": "2022-12-13",
        "destination": {"protocol": "HTTP", "URI": f"http://sandbox.localdomain:{port}/told"},
        "types": types or ["platform", "function"],
        "buffering": BUFFERING,
    }
    layer = await stage.layer({"extensions/listener": EXTENSION})
    variables = {"TO_PORT": f"{port}", "WANTED": json.dumps(wanted), **environment}
    return await stage.started(FUNCTION, layers=(layer,), environment=variables)


async def log(stage: Scene) -> str:
    await stage.logs.flush()
    return (stage.folder / "logs" / "fn.log").read_text()


async def told(stage: Scene, enough: Callable[[list[Any]], bool]) -> list[Any]:
    """All that the extension was told until it was enough."""
    async with asyncio.timeout(20):
        while True:
            lines = [line.partition("TOLD ")[2] for line in (await log(stage)).splitlines()]
            events = [json.loads(line) for line in lines if line]
            if enough(events):
                return events
            await asyncio.sleep(0.01)


def reports(count: int, kind: str = "platform.report") -> Callable[[list[Any]], bool]:
    return lambda events: sum(it["type"] == kind for it in events) >= count


async def test_an_extension_is_told_what_happens(stage: Scene) -> None:
    """In order, from the beginning of init, each event once and in Lambda's shape."""
    it = await started(stage)
    answers = [await stage.call(it, n) for n in range(2)]
    events = await told(stage, reports(2))
    assert 'SAID 200 "OK"' in await log(stage)
    of_calls = ["platform.start", "function", "platform.runtimeDone", "platform.report"]
    kinds = [event["type"] for event in events]
    assert kinds[-8:] == of_calls * 2
    in_init = kinds[:-8]
    assert in_init[-3:] == ["platform.initRuntimeDone", "platform.extension", "platform.initReport"]
    assert sorted(in_init[:-3]) == ["function", "platform.initStart", "platform.telemetrySubscription"]
    by_kind = {event["type"]: event["record"] for event in events}
    assert by_kind["function"] == "called with 1"
    assert by_kind["platform.start"] == {"requestId": answers[1].request_id, "version": "$LATEST"}
    assert by_kind["platform.extension"] == {
        "name": "listener",
        "state": "Ready",
        "events": ["INVOKE", "SHUTDOWN"],
    }
    subscription = {"name": "listener", "state": "Subscribed", "types": ["platform", "function"]}
    assert by_kind["platform.telemetrySubscription"] == subscription
    assert by_kind["platform.initReport"]["metrics"]["durationMs"] > 0
    first, second = (event["record"] for event in events if event["type"] == "platform.report")
    assert first["status"] == "success"
    assert set(first["metrics"]) - set(second["metrics"]) == {"initDurationMs"}
    assert second["metrics"]["memorySizeMB"] == 128
    assert all(event["time"].endswith("Z") and len(event["time"]) == 24 for event in events)


async def test_an_error_is_told_with_its_type(stage: Scene) -> None:
    it = await started(stage)
    assert (await stage.call(it, "raise")).failed
    done = (await told(stage, reports(1)))[-2]
    assert done["type"] == "platform.runtimeDone"
    assert (done["record"]["status"], done["record"]["errorType"]) == ("error", "ValueError")


async def test_the_next_run_is_told_how_the_one_before_ended(stage: Scene) -> None:
    """The extension ends with a runtime that crashes, and may not have been told of it."""
    it = await started(stage)
    assert (await stage.call(it, "exit")).failed
    assert (await stage.call(it, 2, timeout_s=20)).json == 2
    events = await told(stage, lambda events: reports(2)(events) and reports(1, "function")(events))
    statuses = [event["record"]["status"] for event in events if event["type"] == "platform.report"]
    assert sorted(set(statuses)) == ["failure", "success"]
    assert [event["record"]["phase"] for event in events if event["type"] == "platform.initStart"][-1:] == [
        "invoke"
    ]


@pytest.mark.parametrize("http", ["HTTP/1.0", "HTTP/1.1"])
async def test_what_is_refused_is_sent_again(stage: Scene, http: str) -> None:
    it = await started(stage, "platform", REFUSE="2", HTTP=http)
    await stage.call(it, 1)
    assert reports(1, "platform.initStart")(await told(stage, reports(1)))


async def test_the_older_logs_api_knows_fewer_events(stage: Scene) -> None:
    port = free_port()
    wanted = {
        "destination": {"protocol": "HTTP", "URI": f"http://sandbox:{port}", "method": "POST"},
        "types": ["platform"],
        "buffering": BUFFERING,
    }
    it = await started(stage, TO_PORT=f"{port}", WANTED=json.dumps(wanted), API="/2020-08-15/logs")
    await stage.call(it, 1)
    kinds = [event["type"] for event in await told(stage, reports(1))]
    assert kinds == [
        "platform.logsSubscription",
        "platform.extension",
        "platform.start",
        "platform.end",
        "platform.report",
    ]


async def test_a_wrong_subscription_is_refused_with_all_that_is_wrong(stage: Scene) -> None:
    wanted = {"schemaVersion": "2022-12-13", "destination": {"protocol": "HTTP", "URI": "http://sandbox"}}
    await started(stage, WANTED=json.dumps(wanted))
    said = await log(stage)
    assert "SAID 400" in said
    assert "types should not be empty; URI port is not provided" in said


async def test_calls_do_not_wait_for_an_extension_that_does_not_listen(stage: Scene) -> None:
    """It is told later, if it ever listens."""
    it = await started(stage, TO_PORT=f"{free_port()}")
    for n in range(20):
        assert (await stage.call(it, n)).json == n
    stage.host.kill(it)
    assert await stage.hears() == Exited(it, "killed", b"")


async def test_the_last_is_told_before_the_end(stage: Scene) -> None:
    """Also what was to wait for more: the batch is sent when the extension is told of the end."""
    port = free_port()
    wanted = {
        "schemaVersion": "2022-12-13",
        "destination": {"protocol": "HTTP", "URI": f"http://sandbox:{port}"},
        "types": ["platform"],
        "buffering": {"timeoutMs": 30_000},
    }
    linger = EXTENSION.replace("        break", "        import time; time.sleep(1); break")
    layer = await stage.layer({"extensions/listener": linger})
    variables = {"TO_PORT": f"{port}", "WANTED": json.dumps(wanted)}
    it = await stage.started(FUNCTION, layers=(layer,), environment=variables)
    await stage.call(it, 1)
    assert not reports(1, "platform.start")(await told(stage, lambda _: True))
    stage.host.kill(it, graceful=True)
    assert await stage.hears() == Exited(it, "killed", b"")
    await told(stage, reports(1))
