"""Answers in parts, from the function's write to the caller's read.

A function here waits, in the middle of its answer, until its caller has opened a pipe: so what the caller has
read by then came before the answer's end.
"""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import EventStreamError

from lambent import Client, SyncClient
from lambent_proto.errors import LostWithWorker, NotReady, UnknownFunction, UnknownRequest
from tests.e2e.by_hand import Part, by_hand
from tests.e2e.fleet import WITHIN_S, Fleet
from tests.e2e.load import eventually, known_to

pytestmark = pytest.mark.e2e

MOST = 200 * 1024 * 1024
"""Bytes of a streamed answer: Lambda's limit."""

SOURCE = """
const fs = require('node:fs');
const PIECE = Buffer.alloc(64 * 1024, 'x');
const open = (path) => fs.promises.readFile(path);

async function much(stream, size) {
  for (let left = size; left > 0; left -= PIECE.length) {
    const piece = left < PIECE.length ? PIECE.subarray(0, left) : PIECE;
    if (!stream.write(piece)) await new Promise((go) => stream.once('drain', go));
  }
}

exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  if (event.throws === 'at once') throw new TypeError('too early');
  if (event.status) stream = awslambda.HttpResponseStream.from(stream, { statusCode: event.status });
  if (event.type) stream.setContentType(event.type);
  stream.write('first');
  if (event.pipe) await open(event.pipe);
  if (event.throws) throw new TypeError('too late');
  if (event.uncaught) setImmediate(() => { throw new TypeError('nobody caught it'); });
  if (event.uncaught) await new Promise(() => {});
  if (event.exits) process.exit(3);
  if (event.hangs) setInterval(() => {}, 1000);
  if (event.hangs) await new Promise(() => {});
  await much(stream, event.bytes ?? 0);
  stream.write(`pid ${process.pid}`);
  stream.end();
  if (event.done) fs.writeFileSync(event.done, 'x');
});
"""


def package(source: str = SOURCE, name: str = "index.js") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, source)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def streams(shared: Fleet) -> Iterator[str]:
    """A function of one instance that streams."""
    with SyncClient(shared.endpoint) as client:
        client.create_function(
            "streams", package(), runtime="nodejs", handler="index.handler", timeout_s=20, concurrency=1
        )
        yield "streams"
        client.delete_function("streams")


@pytest.fixture
async def client(shared: Fleet) -> AsyncIterator[Client]:
    async with Client(shared.endpoint) as client:
        yield client


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def opened(pipe: Path) -> None:
    """Lets the function go on, which waits there or will."""
    os.close(os.open(pipe, os.O_WRONLY))


async def test_parts_come_before_the_end(client: Client, streams: str, pipe: Path) -> None:
    """Each as it is written, byte for byte; what is known at the beginning and at the end."""
    async with asyncio.timeout(WITHIN_S):
        event = {"pipe": str(pipe), "type": "text/plain"}
        async with client.invoke_with_response_stream(streams, event, tail=True) as answer:
            assert await anext(answer) == b"first"
            assert (answer.content_type, answer.executed_version) == ("text/plain", "$LATEST")
            await asyncio.to_thread(opened, pipe)
            assert b"".join([part async for part in answer]).startswith(b"pid ")
    assert (answer.function_error, answer.error) == ("", b"")
    assert f"REPORT RequestId: {answer.request_id}" in answer.tail.decode()
    assert answer.explanation.running_ms > 0
    explained = await client.explain(answer.request_id)
    assert explained.outcome == "succeeded"


def test_without_asyncio(shared: Fleet, streams: str, pipe: Path) -> None:
    with SyncClient(shared.endpoint) as client:
        with client.invoke_with_response_stream(streams, {"pipe": str(pipe)}) as answer:
            parts = iter(answer)
            assert next(parts) == b"first"
            opened(pipe)
            assert b"".join(parts).startswith(b"pid ")
        assert answer.function_error == ""
        with pytest.raises(UnknownFunction), client.invoke_with_response_stream("nobody"):
            pytest.fail("it was entered")


def test_the_command_line(shared: Fleet, streams: str, pipe: Path) -> None:
    """What the function has written is printed before it goes on."""
    command = [sys.executable, "-m", "lambent", "invoke", streams, "--stream", "-v"]
    process = subprocess.Popen(
        [*command, "-d", json.dumps({"pipe": str(pipe)})],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"LAMBENT_ENDPOINT": shared.endpoint},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.read(5) == b"first"
        opened(pipe)
        out, err = process.communicate(timeout=WITHIN_S)
    finally:
        process.kill()
        process.communicate()
    assert out.startswith(b"pid ")
    assert b"; request " in err
    assert process.returncode == 0
    failed = shared.lambent("invoke", streams, "--stream", "-d", '{"throws": "late"}')
    assert (failed.returncode, failed.stdout) == (1, b"first\n")
    assert b"the function failed: TypeError: too late" in failed.stderr


@pytest.mark.parametrize(
    ("event", "error_type"),
    [
        ({"throws": "late"}, "TypeError"),
        ({"uncaught": True}, "TypeError"),
        ({"exits": True}, "Runtime.TruncatedResponse"),
        ({"hangs": True}, "Sandbox.Timedout"),
    ],
    ids=["throws", "throws where nobody catches", "exits", "takes too long"],
)
async def test_a_function_that_fails_in_the_middle(
    client: Client, streams: str, pipe: Path, event: dict[str, object], error_type: str
) -> None:
    """What it had written comes, then the error; the next call is served."""
    if "hangs" in event:
        await client.update_function(streams, timeout_s=1)
    async with asyncio.timeout(WITHIN_S):
        async with client.invoke_with_response_stream(streams, event | {"pipe": str(pipe)}) as answer:
            assert await anext(answer) == b"first"
            await asyncio.to_thread(opened, pipe)
            assert [part async for part in answer] == []
        assert answer.function_error == "Unhandled"
        # Of a runtime that exits its exit and the end of its connection are seen, in whichever order.
        seen = json.loads(answer.error)["errorType"].replace("Runtime.ExitError", error_type)
        assert seen == error_type
        if "hangs" in event:
            await client.update_function(streams, timeout_s=20)
        assert (await client.invoke(streams, {})).payload.startswith(b"firstpid ")


async def test_a_function_that_fails_before_it_writes(client: Client, streams: str) -> None:
    async with client.invoke_with_response_stream(streams, {"throws": "at once"}) as answer:
        assert [part async for part in answer] == []
    assert json.loads(answer.error)["errorMessage"] == "too early"


async def test_the_head_of_an_http_answer_passes_through(client: Client, streams: str) -> None:
    """JSON and eight NUL bytes, and the content type that says so."""
    async with client.invoke_with_response_stream(streams, {"status": 201}) as answer:
        whole = b"".join([part async for part in answer])
    assert answer.content_type == "application/vnd.awslambda.http-integration-response"
    assert whole.startswith(b'{"statusCode":201}' + bytes(8) + b"first")


async def test_who_wants_it_whole_gets_it_whole(client: Client, streams: str) -> None:
    """Up to the limit of an answer that is not taken in parts."""
    assert len((await client.invoke(streams, {"bytes": 6_000_000})).payload) > 6_000_000
    done = await client.invoke(streams, {"bytes": 7_000_000})
    assert (done.function_error, done.json()["errorType"]) == ("Unhandled", "Function.ResponseSizeTooLarge")


async def test_a_function_that_does_not_stream(shared: Fleet, client: Client) -> None:
    source = "def handler(event, context):\n    return event"
    await client.create_function("whole", package(source, "app.py"), runtime="python", handler="app.handler")
    async with client.invoke_with_response_stream("whole", {"a": "ü" * 300_000}) as answer:
        assert json.loads(b"".join([part async for part in answer])) == {"a": "ü" * 300_000}
    assert (answer.content_type, answer.function_error) == ("application/json", "")
    await client.delete_function("whole")


async def test_two_hundred_megabytes_for_a_slow_reader(shared: Fleet, client: Client, streams: str) -> None:
    """They come whole, and at no time does any part of the fleet hold more than some of them."""
    pids = [shared.part(part)["pid"] for part in ("frontend", "worker-1", "worker-2")]
    before = [_peak_kb(pid) for pid in pids]
    async with asyncio.timeout(60):
        async with client.invoke_with_response_stream(streams, {"bytes": MOST - 100}) as answer:
            size = len(await anext(answer))
            for _ in range(200):  # time in which all of it would come, if nothing held it up
                await client.nodes()
            async for part in answer:
                size += len(part)
        assert answer.function_error == ""
    assert MOST - 100 < size <= MOST
    grown_mb = [(_peak_kb(pid) - kb) / 1024 for pid, kb in zip(pids, before, strict=True)]
    assert max(grown_mb) < 40, grown_mb


async def test_more_than_two_hundred_megabytes(client: Client, streams: str) -> None:
    """The stream ends there, with Lambda's error."""
    async with asyncio.timeout(60):
        async with client.invoke_with_response_stream(streams, {"bytes": MOST + 1}) as answer:
            size = sum([len(part) async for part in answer])
        assert MOST - 100_000 < size <= MOST
        assert json.loads(answer.error)["errorType"] == "Function.ResponseSizeTooLarge"


async def test_a_caller_that_goes_away(client: Client, streams: str, tmp_path: Path) -> None:
    """The function runs to its end, though it writes more than anybody holds; its instance is used again."""
    done = tmp_path / "done"
    whole = (await client.invoke(streams, {})).payload
    async with client.invoke_with_response_stream(
        streams, {"bytes": 20_000_000, "done": str(done)}
    ) as answer:
        assert (await anext(answer)).startswith(b"first")
    await eventually(done.exists, "the function has ended")
    again = await client.invoke(streams, {})
    assert (again.payload, again.explanation.start) == (whole, "warm")
    assert (await client.explain(answer.request_id)).outcome == "cancelled"


async def test_a_caller_too_slow_for_the_function_s_time(client: Client, streams: str) -> None:
    """Its time goes on while it waits to write; what was on its way comes, then the timeout."""

    async def outcome(request_id: str) -> str:
        try:
            return (await client.explain(request_id)).outcome
        except UnknownRequest:  # it runs
            return ""

    await client.update_function(streams, timeout_s=1)
    async with client.invoke_with_response_stream(streams, {"bytes": 50_000_000}) as answer:
        assert (await anext(answer)).startswith(b"first")
        found = await eventually(lambda: outcome(answer.request_id), "the call is over")
        size = sum([len(part) async for part in answer])
    assert (found, answer.function_error) == ("function_error", "Unhandled")
    assert json.loads(answer.error)["errorType"] == "Sandbox.Timedout"
    assert size < 20_000_000  # what gRPC and the sockets between hold, and a window
    await client.update_function(streams, timeout_s=20)
    assert (await client.invoke(streams, {})).payload.startswith(b"firstpid ")


async def test_a_frontend_that_stops_in_the_middle(shared: Fleet, streams: str, pipe: Path) -> None:
    """It finishes what it has begun, and ends."""

    async def refuses(client: Client) -> bool:
        try:
            await client.invoke("nobody")
        except UnknownFunction:
            return False
        except NotReady:
            return True
        pytest.fail("there is no such function")

    with by_hand(shared, "frontend", "stopped-in-stream", grpc_port=0, http_port=0) as part:
        async with asyncio.timeout(WITHIN_S), Client(part.addresses["grpc"]) as its_client:
            await known_to(its_client, streams)
            async with its_client.invoke_with_response_stream(streams, {"pipe": str(pipe)}) as answer:
                assert await anext(answer) == b"first"
                part.process.send_signal(signal.SIGTERM)
                await eventually(lambda: refuses(its_client), "it takes no more")
                await asyncio.to_thread(opened, pipe)
                assert b"".join([it async for it in answer]).startswith(b"pid ")
        assert await asyncio.to_thread(part.process.wait, 20) == 0


@contextmanager
def events(fleet: Fleet, name: str, event: object) -> Iterator[Iterator[dict[str, Any]]]:
    """As boto3 reads them, once the first is there."""
    aws = boto3.client(
        "lambda",
        endpoint_url=f"http://{fleet.http}",
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    with closing(aws):
        answer = aws.invoke_with_response_stream(FunctionName=name, Payload=json.dumps(event).encode())
        with closing(answer["EventStream"]) as came:
            yield iter(came)


@pytest.fixture
def lonely(shared: Fleet) -> Iterator[Part]:
    """A worker to be lost, which alone runs what asks for it."""
    with by_hand(shared, "worker-1", "lonely", labels=["to-be=lost"]) as part:
        yield part


async def test_a_worker_that_is_lost_in_the_middle(
    shared: Fleet, client: Client, lonely: Part, pipe: Path
) -> None:
    """The parts that came, then the error that says so: nobody knows how far the function got."""
    await client.create_function(
        "lost", package(), runtime="nodejs", handler="index.handler", require=["to-be=lost"], timeout_s=20
    )
    try:
        with events(shared, "lost", {"pipe": str(pipe)}) as over_http:
            async with (
                asyncio.timeout(WITHIN_S),
                client.invoke_with_response_stream("lost", {"pipe": str(pipe)}) as answer,
            ):
                assert await anext(answer) == b"first"
                assert await asyncio.to_thread(next, over_http) == {"PayloadChunk": {"Payload": b"first"}}
                lonely.kill()
                with pytest.raises(LostWithWorker):
                    await anext(answer)
                with pytest.raises(EventStreamError, match="ServiceException"):
                    await asyncio.to_thread(next, over_http)
    finally:
        await client.delete_function("lost")


def _peak_kb(pid: int) -> int:
    """Most memory that the process ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
