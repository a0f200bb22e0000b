"""The Runtime API as a runtime sees it: paths, headers, statuses and bodies are Lambda's."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lambent_proto.frames import WINDOW_BYTES
from lambent_proto.ids import MAX_PAYLOAD_BYTES
from lambent_worker.runtime_api import server
from tests.integration.worker.api_scene import ARN, NEXT, TRACE, ApiScene, Client, api_scene

pytestmark = pytest.mark.integration

OK = b'{"status":"OK"}\n'
BEGUN: tuple[list[object], bytes] = (["begun", "r1", "application/octet-stream"], b"")


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
    assert headers["lambda-runtime-trace-id"] == TRACE.lower()
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
        assert await scene.hears() == BEGUN
        assert await scene.hears() == (["part", "r1"], b"one")
    runtime.writer.write(_chunk(b"two") + b"0\r\n\r\n")
    assert (await runtime.answer())[0] == 202
    if stream:
        assert await scene.hears() == (["part", "r1"], b"two")
    assert await scene.hears() == (["answer", "r1"], b"" if stream else b"onetwo")
    await running(scene, runtime, request="r2")


async def test_a_streamed_answer_that_fails_halfway(scene: ApiScene, runtime: Client) -> None:
    await running(scene, runtime, stream=True)
    document = b'{"errorType":"E","errorMessage":"m"}'
    trailers = b"Lambda-Runtime-Function-Error-Type: E\r\nLambda-Runtime-Function-Error-Body: "
    runtime.writer.write(STREAM.format(path("r1", "response"), "streaming").encode() + _chunk(b"one"))
    runtime.writer.write(b"0\r\n" + trailers + base64.b64encode(document) + b"\r\n\r\n")
    assert (await runtime.answer())[0] == 202
    assert await scene.hears() == BEGUN
    assert await scene.hears() == (["part", "r1"], b"one")
    assert await scene.hears() == (["error", "r1"], document)


async def test_a_streamed_answer_that_breaks_off(scene: ApiScene, runtime: Client) -> None:
    await running(scene, runtime, stream=True)
    runtime.writer.write(STREAM.format(path("r1", "response"), "streaming").encode() + _chunk(b"one"))
    assert await scene.hears() == BEGUN
    assert await scene.hears() == (["part", "r1"], b"one")
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


async def test_a_streamed_answer_is_limited_as_any_other_for_who_wants_it_whole(
    scene: ApiScene, runtime: Client
) -> None:
    await running(scene, runtime)
    runtime.writer.write(STREAM.format(path("r1", "response"), "streaming").encode())
    for _ in range(7):
        runtime.writer.write(_chunk(b"x" * 1_000_000))
    runtime.writer.write(b"0\r\n\r\n")
    assert (await runtime.answer())[0] == 413
    head, error = await scene.hears()
    assert head == ["error", "r1"]
    assert json.loads(error)["errorType"] == "Function.ResponseSizeTooLarge"


async def test_a_streamed_answer_may_be_larger_for_who_takes_its_pieces(
    scene: ApiScene, runtime: Client
) -> None:
    await running(scene, runtime, stream=True)
    runtime.writer.write(STREAM.format(path("r1", "response"), "streaming").encode())
    for _ in range(20):
        runtime.writer.write(_chunk(b"x" * 1_000_000))
    runtime.writer.write(b"0\r\n\r\n")
    assert await scene.hears() == BEGUN
    size = 0
    while (said := await scene.hears())[0] == ["part", "r1"]:
        size += len(said[1])
        scene.takes(len(said[1]))
    assert (size, said) == (20_000_000, (["answer", "r1"], b""))
    assert (await runtime.answer())[0] == 202


@pytest.mark.parametrize("goes_away", [False, True])
async def test_a_streamed_answer_waits_for_who_takes_it(
    scene: ApiScene, runtime: Client, goes_away: bool
) -> None:
    """Once the window is full the runtime's own write waits; who goes away leaves the rest to be dropped."""
    await running(scene, runtime, stream=True)
    runtime.writer.write(STREAM.format(path("r1", "response"), "streaming").encode())
    writing = asyncio.create_task(_write(runtime, 50_000_000))
    assert await scene.hears() == BEGUN
    seen = 0
    while seen < WINDOW_BYTES:
        seen += len((await scene.hears())[1])
    # Nothing is read from here on: another connection of the runtime's is, for as long as one could come.
    other = await scene.client()
    for _ in range(20):
        assert (await other.asks("GET", "/nowhere"))[0] == 404
    assert scene.said.empty()
    assert seen <= WINDOW_BYTES + 70_000
    assert not writing.done()
    if goes_away:
        scene.goes_away()
    untaken = seen
    while not goes_away and seen < 50_000_000:
        scene.takes(untaken)
        untaken = len((await scene.hears())[1])
        seen += untaken
    assert await scene.hears() == (["answer", "r1"], b"")
    await writing
    assert (await runtime.answer())[0] == 202
    await other.close()


async def _write(runtime: Client, size: int) -> None:
    for _ in range(size // 1_000_000):
        runtime.writer.write(_chunk(b"x" * 1_000_000))
        await runtime.writer.drain()
    runtime.writer.write(b"0\r\n\r\n")


async def test_a_streamed_answer_that_just_fills_its_window(scene: ApiScene, runtime: Client) -> None:
    """Nobody has to take any of it before the runtime may ask for its next event."""
    await running(scene, runtime, stream=True)
    head = STREAM.format(path("r1", "response"), "streaming").encode()
    runtime.writer.write(head + _chunk(b"x" * WINDOW_BYTES) + b"0\r\n\r\n")
    assert await scene.hears() == BEGUN
    while (said := await scene.hears())[0] == ["part", "r1"]:
        pass
    assert said == (["answer", "r1"], b"")
    assert (await runtime.answer())[0] == 202
    await running(scene, runtime, request="r2")


async def test_a_streamed_answer_has_a_limit_too(
    scene: ApiScene, runtime: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is above it ends the call at once, though the runtime goes on; the next call is served."""
    monkeypatch.setattr(server, "MOST_STREAMED_BYTES", 100_000)
    await running(scene, runtime, stream=True)
    runtime.writer.write(STREAM.format(path("r1", "response"), "streaming").encode())
    assert await scene.hears() == BEGUN
    runtime.writer.write(_chunk(b"x" * 100_000))
    size = 0
    while size < 100_000:
        size += len((await scene.hears())[1])
    runtime.writer.write(_chunk(b"x"))
    head, error = await scene.hears()
    assert head == ["error", "r1"]
    assert json.loads(error) == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (100000 bytes).",
    }
    assert (await runtime.answer())[0] == 413
    runtime.writer.write(_chunk(b"x" * 100_000) + b"0\r\n\r\n")
    await running(scene, runtime, request="r2")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("text/event-stream; charset=utf-8", "text/event-stream; charset=utf-8"),
        ("", "application/octet-stream"),
        ("a" * 257, "application/octet-stream"),
    ],
)
async def test_the_type_of_a_streamed_answer(scene: ApiScene, runtime: Client, said: str, told: str) -> None:
    """As the runtime says it, unless that is none."""
    await running(scene, runtime, stream=True)
    head = STREAM.format(path("r1", "response"), f"streaming\r\nContent-Type: {said}")
    runtime.writer.write(head.encode() + b"0\r\n\r\n")
    assert await scene.hears() == (["begun", "r1", told], b"")
    assert await scene.hears() == (["answer", "r1"], b"")


@pytest.mark.parametrize("chunked", [True, False])
async def test_an_answer_that_ends_too_early_fails_the_call(
    scene: ApiScene, runtime: Client, chunked: bool
) -> None:
    """Who still listens is told so, in Lambda's words."""
    await running(scene, runtime)
    size = "Transfer-Encoding: chunked\r\n\r\n9\r\n" if chunked else "Content-Length: 9\r\n\r\n"
    runtime.writer.write(f"POST {path('r1', 'response')} HTTP/1.1\r\n{size}half".encode())
    runtime.writer.write_eof()
    status, headers, body = await runtime.answer()
    assert (status, headers["connection"]) == (400, "close")
    assert json.loads(body) == {
        "errorMessage": "HTTP request detected as truncated",
        "errorType": "TruncatedHTTPRequest",
    }
    head, error = await scene.hears()
    assert head == ["error", "r1"]
    assert json.loads(error)["errorType"] == "Runtime.TruncatedResponse"


async def test_an_answer_is_refused_before_it_is_sent(scene: ApiScene, runtime: Client) -> None:
    """Who asks whether it may send gets the refusal, and no invitation."""
    await running(scene, runtime)
    asking = "POST {} HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    other = await scene.client()
    other.writer.write(asking.format(path("r2", "response")).encode())
    status, headers, _ = await other.answer()
    assert (status, headers["connection"]) == (400, "close")
    assert await other.reader.read() == b""
    await other.close()
    runtime.writer.write(asking.format(path("r1", "response")).encode())
    assert await runtime.reader.readexactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    runtime.writer.write(b"123")
    assert (await runtime.answer())[::2] == (202, OK)
    assert await scene.hears() == (["answer", "r1"], b"123")


async def test_an_answer_may_come_in_chunks(scene: ApiScene, runtime: Client) -> None:
    await running(scene, runtime)
    runtime.writer.write(f"POST {path('r1', 'response')} HTTP/1.1\r\n".encode())
    runtime.writer.write(
        b"Transfer-Encoding: chunked\r\n\r\n" + _chunk(b"[1,") + _chunk(b"2]") + b"0\r\n\r\n"
    )
    assert (await runtime.answer())[0] == 202
    assert await scene.hears() == (["answer", "r1"], b"[1,2]")


async def test_while_one_answer_comes_another_is_refused(scene: ApiScene, runtime: Client) -> None:
    await running(scene, runtime)
    runtime.writer.write(f"POST {path('r1', 'response')} HTTP/1.1\r\nContent-Length: 2\r\n\r\n1".encode())
    other = await scene.client()
    async with asyncio.timeout(20):
        while (await other.asks("POST", path("r1", "error"), b"{}"))[0] != 403:
            pytest.fail("two answers at once were accepted")
    await other.close()
    runtime.writer.write(b"2")
    assert (await runtime.answer())[0] == 202
    assert await scene.hears() == (["answer", "r1"], b"12")


async def test_an_answer_that_is_under_way_when_its_call_is_decided_is_cut_off(
    scene: ApiScene, runtime: Client
) -> None:
    await running(scene, runtime, stream=True)
    runtime.writer.write(STREAM.format(path("r1", "response"), "streaming").encode() + _chunk(b"one"))
    assert await scene.hears() == BEGUN
    assert await scene.hears() == (["part", "r1"], b"one")
    scene.api.abandon()
    runtime.writer.write(_chunk(b"two"))
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            assert await runtime.reader.read() == b""
    assert scene.said.empty()


DOCUMENT = b'{"errorMessage":"m","errorType":"E","stackTrace":["here"]}'
SAID = [
    pytest.param(DOCUMENT, "Runtime.Other", DOCUMENT, id="a document"),
    pytest.param(b'{"errorMessage":"m"}', "", b'{"errorMessage":"m"}', id="half a document"),
    pytest.param(b"", "Runtime.MyReason", "Runtime.MyReason", id="a type of the runtime's"),
    pytest.param(b"no", "Function.MyReason", "Function.MyReason", id="a type of the function's"),
    pytest.param(b"[]", "Function.x", "Function.Unknown", id="no type of the function's"),
    pytest.param(b"1", "MyReason", "Runtime.Unknown", id="no type"),
    pytest.param(b"[" * 60_000, "", "Runtime.Unknown", id="deep JSON"),
    pytest.param(b"{" + b" " * 70_000 + b"}", "", b"{" + b" " * 70_000 + b"}", id="a large document"),
    pytest.param(b"x" * 70_000, "", "Runtime.Unknown", id="a large text"),
]


@pytest.mark.parametrize(("body", "said", "expected"), SAID)
async def test_what_callers_get_of_an_error(
    scene: ApiScene, runtime: Client, body: bytes, said: str, expected: str | bytes
) -> None:
    """The runtime's document as it is; if there is none, one with the type that its header says."""
    await running(scene, runtime)
    headers = {"Lambda_Runtime_Function_Error_Type": said} if said else {}
    assert (await runtime.asks("POST", path("r1", "error"), body, **headers))[::2] == (202, OK)
    head, error = await scene.hears()
    assert head == ["error", "r1"]
    if isinstance(expected, bytes):
        assert error == expected
    else:
        assert json.loads(error)["errorType"] == expected


async def test_an_error_may_come_with_a_large_cause(scene: ApiScene, runtime: Client) -> None:
    """AWS's Python client sends up to 1 MB of it as a header."""
    await running(scene, runtime)
    cause = {"Lambda_Runtime_Function_XRay_Error_Cause": "x" * (1024 * 1024 - 1)}
    assert (await runtime.asks("POST", path("r1", "error"), DOCUMENT, **cause))[0] == 202
    assert await scene.hears() == (["error", "r1"], DOCUMENT)


async def test_a_client_that_offers_http_2_is_answered_with_http_1(scene: ApiScene, runtime: Client) -> None:
    """As Java's own client does with every request."""
    offer: dict[str, Any] = {
        "Connection": "Upgrade, HTTP2-Settings",
        "Upgrade": "h2c",
        "HTTP2_Settings": "AAEAAEAA",
    }
    runtime.send("GET", NEXT, **offer)
    assert await scene.hears() == (["ready"], b"")
    scene.deliver(1)
    assert (await runtime.answer())[2] == b"1"
    assert (await runtime.asks("POST", path("r1", "response"), b"[1]", **offer))[0] == 202
    assert await scene.hears() == (["answer", "r1"], b"[1]")
    await running(scene, runtime, request="r2")


async def test_a_runtime_that_is_copied_waits_until_it_has_been() -> None:
    restore = "/2018-06-01/runtime/restore/"
    async with api_scene(snapstart=True) as scene:
        client = await scene.client()
        status, _, body = await client.asks("POST", f"{restore}error", b"{}")
        assert (status, json.loads(body)["errorType"]) == (403, "InvalidStateTransition")
        client.send("GET", f"{restore}next")
        assert await scene.hears() == (["restorable"], b"")
        scene.api.restored()
        assert (await client.answer())[::2] == (200, b"")
        await running(scene, client)
        await client.close()


@pytest.mark.parametrize("where", ["restore/error", "init/error"])
async def test_a_copy_that_fails_to_come_to_itself(where: str) -> None:
    async with api_scene(snapstart=True) as scene:
        client = await scene.client()
        client.send("GET", "/2018-06-01/runtime/restore/next")
        await scene.hears()
        scene.api.restored()
        await client.answer()
        assert (await client.asks("POST", f"/2018-06-01/runtime/{where}", DOCUMENT))[::2] == (202, OK)
        assert await scene.hears() == (["init_error"], DOCUMENT)
        await client.close()


async def test_who_asks_again_after_its_connection_ended_gets_the_event(
    scene: ApiScene, runtime: Client
) -> None:
    runtime.send("GET", NEXT)
    assert await scene.hears() == (["ready"], b"")
    await runtime.close()
    fresh = await scene.client()
    fresh.send("GET", NEXT)
    scene.deliver(1)
    assert (await fresh.answer())[2] == b"1"
    await fresh.close()


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


async def test_after_a_restart_a_new_runtime_begins_anew(scene: ApiScene, runtime: Client) -> None:
    await running(scene, runtime)
    scene.api.restart()
    fresh = await scene.client()
    fresh.send("GET", NEXT)
    assert await scene.hears() == (["ready"], b"")
    scene.deliver(2, request="r2")
    assert (await fresh.answer())[2] == b"2"
    await fresh.close()
