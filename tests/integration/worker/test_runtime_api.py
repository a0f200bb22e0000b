"""The Runtime API as a runtime sees it: paths, headers, statuses and bodies are Lambda's."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lambent_proto.ids import MAX_PAYLOAD_BYTES
from tests.integration.worker.api_scene import ARN, NEXT, ApiScene, Client, api_scene

pytestmark = pytest.mark.integration

OK = b'{"status":"OK"}\n'


def path(request: str, kind: str) -> str:
    return f"/2018-06-01/runtime/invocation/{request}/{kind}"


@pytest.fixture
async def scene() -> AsyncIterator[ApiScene]:
    async with api_scene() as it:
        yield it


@pytest.fixture
async def runtime(scene: ApiScene) -> AsyncIterator[Client]:
    client = await scene.client()
    yield client
    await client.close()


async def running(
    scene: ApiScene, runtime: Client, event: Any = None, **fields: Any
) -> tuple[dict[str, str], bytes]:
    """The runtime has been handed a call; its headers and its event."""
    runtime.send("GET", NEXT)
    if not scene.api._is_ready:
        assert await scene.hears() == (["ready"], b"")
    scene.deliver(event, **fields)
    status, headers, body = await runtime.answer()
    assert status == 200
    return headers, body


async def test_an_event_and_its_answer(scene: ApiScene, runtime: Client) -> None:
    headers, body = await running(scene, runtime, {"n": 1}, context='{"custom":\n{"k":"ü"}}')
    assert body == b'{"n": 1}'
    assert headers["lambda-runtime-aws-request-id"] == "r1"
    assert headers["lambda-runtime-invoked-function-arn"] == ARN
    assert int(headers["lambda-runtime-deadline-ms"]) > 1_700_000_000_000
    assert json.loads(headers["lambda-runtime-client-context"]) == {"custom": {"k": "ü"}}
    assert await runtime.asks("POST", path("r1", "response"), b'"done"') == (
        202,
        {"content-type": "application/json", "content-length": "16"},
        OK,
    )
    assert await scene.hears() == (["answer", "r1"], b'"done"')
    await running(scene, runtime, 2, request="r2")
    document = b'{"errorType":"E","errorMessage":"m","stackTrace":[]}'
    assert (await runtime.asks("POST", path("r2", "error"), document))[::2] == (202, OK)
    assert await scene.hears() == (["error", "r2"], document)


async def test_an_event_that_comes_before_the_runtime_asks_waits_for_it(
    scene: ApiScene, runtime: Client
) -> None:
    await running(scene, runtime)
    await runtime.asks("POST", path("r1", "response"), b"1")
    scene.deliver(2, request="r2")
    status, headers, body = await runtime.asks("GET", NEXT)
    assert (status, headers["lambda-runtime-aws-request-id"], body) == (200, "r2", b"2")


async def test_init_error(scene: ApiScene, runtime: Client) -> None:
    document = b'{"errorType":"Runtime.ImportModuleError","errorMessage":"m"}'
    status, _, body = await runtime.asks("POST", "/2018-06-01/runtime/init/error", document)
    assert (status, body) == (202, OK)
    assert await scene.hears() == (["init_error"], document)
    status, _, body = await runtime.asks("GET", NEXT)
    assert status == 403
    assert json.loads(body) == {
        "errorMessage": "State transition from InitError to Ready failed for runtime. "
        "Error: State transition is not allowed",
        "errorType": "InvalidStateTransition",
    }


REFUSED = [
    pytest.param("response", "r2", 400, "InvalidRequestID", id="another call's response"),
    pytest.param("error", "r2", 400, "InvalidRequestID", id="another call's error"),
    pytest.param("response", "r1", 403, "InvalidStateTransition", id="a second response"),
    pytest.param("error", "r1", 403, "InvalidStateTransition", id="an error after the response"),
]


@pytest.mark.parametrize(("kind", "request_id", "status", "error_type"), REFUSED)
async def test_what_is_refused(
    scene: ApiScene, runtime: Client, kind: str, request_id: str, status: int, error_type: str
) -> None:
    await running(scene, runtime)
    await runtime.asks("POST", path("r1", "response"), b"1")
    await scene.hears()
    got, _, body = await runtime.asks("POST", path(request_id, kind), b"{}")
    assert (got, json.loads(body)["errorType"]) == (status, error_type)
    assert scene.said.empty()


async def test_two_waits_at_once_are_refused(scene: ApiScene, runtime: Client) -> None:
    runtime.send("GET", NEXT)
    await scene.hears()
    other = await scene.client()
    status, _, body = await other.asks("GET", NEXT)
    assert (status, json.loads(body)["errorType"]) == (403, "InvalidStateTransition")
    await other.close()
    scene.deliver("for the first")
    assert (await runtime.answer())[2] == b'"for the first"'


async def test_a_late_answer_is_refused(scene: ApiScene, runtime: Client) -> None:
    await running(scene, runtime)
    scene.api.abandon()
    status, _, body = await runtime.asks("POST", path("r1", "response"), b"1")
    assert (status, json.loads(body)["errorType"]) == (400, "InvalidRequestID")
    assert scene.said.empty()


async def test_five_megabytes_in_and_out_and_one_byte_too_many(scene: ApiScene, runtime: Client) -> None:
    _, body = await running(scene, runtime, "x" * 5_000_000)
    assert len(body) == 5_000_002
    assert (await runtime.asks("POST", path("r1", "response"), body))[0] == 202
    assert await scene.hears() == (["answer", "r1"], body)
    await running(scene, runtime, request="r2")
    status, _, said = await runtime.asks("POST", path("r2", "response"), b"x" * (MAX_PAYLOAD_BYTES + 1))
    assert status == 413
    assert json.loads(said) == {
        "errorMessage": "Exceeded maximum allowed payload size (6291556 bytes).",
        "errorType": "RequestEntityTooLarge",
    }
    head, error = await scene.hears()
    assert head == ["error", "r2"]
    assert json.loads(error)["errorType"] == "Function.ResponseSizeTooLarge"
    await running(scene, runtime, request="r3")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


STREAM = (
    "POST {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    "Lambda-Runtime-Function-Response-Mode: {}\r\n"
    "Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n"
)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_streamed_answer(scene: ApiScene, runtime: Client, stream: bool) -> None:
    """Its pieces come as they are sent to who wants them, and at once at the end to who does not."""
    await running(scene, runtime, stream=stream)
    runtime.writer.write(STREAM.format(path("r1", "response"), "streaming").encode() + _chunk(b"one"))
    if stream:
        assert await scene.hears() == (["chunk", "r1"], b"one")
    runtime.writer.write(_chunk(b"two") + b"0\r\n\r\n")
    assert (await runtime.answer())[0] == 202
    if stream:
        assert await scene.hears() == (["chunk", "r1"], b"two")
    assert await scene.hears() == (["answer", "r1"], b"" if stream else b"onetwo")
    await running(scene, runtime, request="r2")


async def test_a_streamed_answer_that_fails_halfway(scene: ApiScene, runtime: Client) -> None:
    await running(scene, runtime, stream=True)
    document = b'{"errorType":"E","errorMessage":"m"}'
    trailers = b"Lambda-Runtime-Function-Error-Type: E\r\nLambda-Runtime-Function-Error-Body: "
    runtime.writer.write(STREAM.format(path("r1", "response"), "streaming").encode() + _chunk(b"one"))
    runtime.writer.write(b"0\r\n" + trailers + base64.b64encode(document) + b"\r\n\r\n")
    assert (await runtime.answer())[0] == 202
    assert await scene.hears() == (["chunk", "r1"], b"one")
    assert await scene.hears() == (["error", "r1"], document)


async def test_a_streamed_answer_that_breaks_off(scene: ApiScene, runtime: Client) -> None:
    await running(scene, runtime, stream=True)
    runtime.writer.write(STREAM.format(path("r1", "response"), "streaming").encode() + _chunk(b"one"))
    assert await scene.hears() == (["chunk", "r1"], b"one")
    await runtime.close()
    head, body = await scene.hears()
    assert head == ["error", "r1"]
    assert json.loads(body)["errorType"] == "Runtime.TruncatedResponse"


async def test_another_response_mode_fails_the_call(scene: ApiScene, runtime: Client) -> None:
    await running(scene, runtime)
    runtime.writer.write(STREAM.format(path("r1", "response"), "sideways").encode() + b"0\r\n\r\n")
    status, _, body = await runtime.answer()
    assert (status, json.loads(body)["errorType"]) == (400, "InvalidFunctionResponseMode")
    head, error = await scene.hears()
    assert head == ["error", "r1"]
    assert json.loads(error)["errorType"] == "Runtime.InvalidResponseModeHeader"
    await running(scene, runtime, request="r2")


async def test_unknown_paths_and_methods(scene: ApiScene, runtime: Client) -> None:
    unknown = (
        ("GET", "/"),
        ("GET", "/2018-06-01/runtime/nothing"),
        ("POST", path("r1", "nothing")),
        ("GET", "/2018-06-01/runtime/restore/next"),  # of functions that are copied
    )
    for method, where in unknown:
        status, headers, body = await runtime.asks(method, where)
        assert (status, body) == (404, b"404 page not found\n")
        assert headers["content-type"] == "text/plain; charset=utf-8"
    for method, where in (("DELETE", NEXT), ("GET", "/2020-01-01/extension/register")):
        status, _, body = await runtime.asks(method, where)
        assert (status, body) == (405, b"")


GARBAGE = [
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9, id="TLS"),
    pytest.param(b"GET / HTTP/1.1\r\n" + b"a: " + b"x" * 2_000_000 + b"\r\n\r\n", id="a long header"),
    pytest.param(b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", id="negative length"),
    pytest.param(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 600_000, id="many headers"),
    pytest.param(b"x" * 70_000, id="no end of a line"),
    pytest.param(b"GET / HTTP/1.1\r\n\r\n" * 1000, id="many requests at once"),
]


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_what_is_no_http_ends_its_connection_alone(
    scene: ApiScene, runtime: Client, garbage: bytes
) -> None:
    other = await scene.client()
    other.writer.write(garbage)
    async with asyncio.timeout(20):
        await other.reader.read()
    await other.close()
    await running(scene, runtime, "still served")


async def test_many_connections_are_held_in_line(scene: ApiScene, runtime: Client) -> None:
    """More than anybody needs: the ones beyond wait, and nobody else notices."""
    await running(scene, runtime)
    others = [await scene.client() for _ in range(100)]
    await runtime.asks("POST", path("r1", "response"), b"1")
    for other in others:
        await other.close()
    assert (await scene.hears())[0] == ["answer", "r1"]
    fresh = await scene.client()
    assert (await fresh.asks("GET", "/"))[0] == 404
    await fresh.close()


async def test_after_a_restart_a_new_runtime_begins_anew(scene: ApiScene, runtime: Client) -> None:
    await running(scene, runtime)
    scene.api.restart()
    fresh = await scene.client()
    fresh.send("GET", NEXT)
    assert await scene.hears() == (["ready"], b"")
    scene.deliver(2, request="r2")
    assert (await fresh.answer())[2] == b"2"
    await fresh.close()
