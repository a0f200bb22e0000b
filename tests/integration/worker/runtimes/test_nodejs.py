"""What is Node.js's own: its ways to answer, its errors and its log."""

import json
import os
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lambent_proto.frames import WINDOW_BYTES
from lambent_worker.channel import frame
from lambent_worker.flow import Flow
from tests.integration.worker.api_scene import api_scene
from tests.integration.worker.scene import Answer, Begun, Exited, Files, Part, Scene, runtimes_here

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif("nodejs" not in runtimes_here().by_name, reason="node is not on this host"),
]


async def answer_of(
    stage: Scene, files: str | Files, event: Any = None, handler: str = "index.handler"
) -> Answer:
    source = {"index.js": files} if isinstance(files, str) else files
    it = await stage.started(source, handler=handler, runtime="nodejs")
    return await stage.call(it, event, timeout_s=20.0)


async def init_error_of(stage: Scene, files: Files, handler: str = "index.handler") -> Any:
    said = await stage.failed_init(files, handler=handler, runtime="nodejs")
    assert isinstance(said, Exited)
    return json.loads(said.error)


WAYS = {
    "async": "exports.handler = async () => 'x'",
    "a promise": "exports.handler = () => Promise.resolve('x')",
    "callback": "exports.handler = (event, context, callback) => callback(null, 'x')",
    "callback later": "exports.handler = (e, c, callback) => { setTimeout(() => callback(null, 'x'), 5) }",
    "done": "exports.handler = (event, context) => context.done(null, 'x')",
    "succeed": "exports.handler = (event, context) => context.succeed('x')",
    "first answer": "exports.handler = (e, c, callback) => { callback(null, 'x'); callback(null, 'y') }",
}


@pytest.mark.parametrize("way", WAYS)
async def test_ways_to_answer(stage: Scene, way: str) -> None:
    """A promise, the callback, and the context's methods all answer, and twice in a row."""
    it = await stage.started({"index.js": WAYS[way]}, handler="index.handler", runtime="nodejs")
    for _ in range(2):
        assert (await stage.call(it)).json == "x"


@pytest.mark.parametrize(
    "source",
    [
        "exports.handler = async () => { throw new TypeError('no') }",
        "exports.handler = () => { throw new TypeError('no') }",
        "exports.handler = (event, context, callback) => callback(new TypeError('no'))",
        "exports.handler = (event, context) => context.fail(new TypeError('no'))",
        "exports.handler = (event, context) => context.done(new TypeError('no'))",
    ],
)
async def test_ways_to_fail(stage: Scene, source: str) -> None:
    """Each of them has a way to fail, with the error's own name."""
    answer = await answer_of(stage, source)
    assert answer.failed
    assert answer.json["errorType"] == "TypeError"
    assert answer.json["errorMessage"] == "no"
    assert answer.json["trace"][0] == "TypeError: no"


async def test_a_callback_waits_for_the_event_loop(stage: Scene) -> None:
    """What is still to be done when the callback is called is done first, unless the function says no."""
    source = """
let done = 0;
exports.handler = (event, context, callback) => {
  context.callbackWaitsForEmptyEventLoop = event;
  const before = done;
  setTimeout(() => { done += 1 }, 300);
  callback(null, before);
};
"""
    it = await stage.started({"index.js": source}, handler="index.handler", runtime="nodejs")
    assert (await stage.call(it, True)).json == 0
    waited = await stage.call(it, False)
    assert waited.json == 1
    assert waited.running_ms < 250


async def test_a_handler_that_never_answers(stage: Scene) -> None:
    """Nothing is left that could answer: the answer is null, at once."""
    assert (await answer_of(stage, "exports.handler = (event, context, callback) => {}")).json is None
    assert (await answer_of(stage, "exports.handler = () => new Promise(() => {})")).json is None


@pytest.mark.parametrize(
    ("files", "handler"),
    [
        ({"index.mjs": "export const handler = async () => 'x'"}, "index.handler"),
        ({"index.cjs": "exports.handler = async () => 'x'"}, "index.handler"),
        (
            {"index.js": "export const handler = async () => 'x'", "package.json": '{"type": "module"}'},
            "index.handler",
        ),
        ({"src/a/index.js": "exports.handler = async () => 'x'"}, "src/a/index.handler"),
        ({"src/index.js": "exports.deep = {er: async () => 'x'}"}, "src/index.deep.er"),
        ({"index.mjs": "await 0; export default {handler: async () => 'x'}"}, "index.handler"),
    ],
)
async def test_where_handlers_are(stage: Scene, files: Files, handler: str) -> None:
    """Modules of both kinds, in folders, and what they export at any depth."""
    assert (await answer_of(stage, files, handler=handler)).json == "x"


@pytest.mark.parametrize(
    ("files", "handler", "error_type", "message"),
    [
        ({"a.js": ""}, "index.handler", "Runtime.ImportModuleError", "Error: Cannot find module 'index'"),
        (
            {"index.js": "require('nowhere')"},
            "index.handler",
            "Runtime.ImportModuleError",
            "Error: Cannot find module 'nowhere'",
        ),
        (
            {"index.js": "exports.other = 1"},
            "index.handler",
            "Runtime.HandlerNotFound",
            "index.handler is undefined or not exported",
        ),
        (
            {"index.js": "exports.handler = 1"},
            "index.handler",
            "Runtime.HandlerNotFound",
            "index.handler is not a function",
        ),
        (
            {"index.js": "exports.handler = = 1"},
            "index.handler",
            "Runtime.UserCodeSyntaxError",
            "SyntaxError",
        ),
        ({"index.js": ""}, "index", "Runtime.MalformedHandlerName", "Bad handler"),
        ({"index.js": "throw new EvalError('no')"}, "index.handler", "EvalError", "no"),
        (
            {"index.js": "Promise.reject(new Error('no')); exports.handler = () => {}"},
            "index.handler",
            "Runtime.UnhandledPromiseRejection",
            "Error: no",
        ),
    ],
)
async def test_what_cannot_be_initialised(
    stage: Scene, files: Files, handler: str, error_type: str, message: str
) -> None:
    """Each reason has Lambda's name for it."""
    error = await init_error_of(stage, files, handler)
    assert error["errorType"] == error_type
    assert error["errorMessage"].startswith(message)


async def test_what_nobody_catches_fails_the_call(stage: Scene) -> None:
    """A rejection, or an error in a callback of Node.js's, ends the process; the next call gets a new one."""
    source = """
exports.handler = async (event) => {
  if (event === "reject") Promise.reject(new Error("no"));
  if (event === "throw") setTimeout(() => { throw new RangeError("no") }, 1);
  if (event) await new Promise((resolve) => setTimeout(resolve, 10_000));
  return process.pid;
};
"""
    it = await stage.started({"index.js": source}, handler="index.handler", runtime="nodejs")
    first = (await stage.call(it)).json
    rejected = await stage.call(it, "reject")
    assert rejected.json["errorType"] == "Runtime.UnhandledPromiseRejection"
    assert rejected.json["errorMessage"] == "Error: no"
    second = (await stage.call(it, timeout_s=20.0)).json
    assert first != second
    thrown = await stage.call(it, "throw")
    assert thrown.json["errorType"] == "RangeError"


async def test_console_lines_are_lambdas(stage: Scene) -> None:
    """TIME TAB REQUEST TAB LEVEL TAB MESSAGE."""
    source = """
exports.handler = async () => { console.log("a %d", 1, {b: 2}); console.warn("w"); console.error("e") }
"""
    answer = await answer_of(stage, source)
    lines = [line for line in answer.tail.decode().splitlines() if answer.request_id in line and "\t" in line]
    told = [
        line.split("\t")[1:] for line in lines if re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\t", line)
    ]
    assert told == [
        [answer.request_id, "INFO", "a 1 { b: 2 }"],
        [answer.request_id, "WARN", "w"],
        [answer.request_id, "ERROR", "e"],
    ]


async def test_an_answer_in_pieces(stage: Scene) -> None:
    """A streaming handler's pieces are one answer to a caller who does not stream."""
    source = """
exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {
  stream.setContentType("text/plain");
  for (const piece of event) stream.write(piece);
  stream.end();
});
"""
    assert (await answer_of(stage, source, ["a", "b", "c"])).body == b"abc"


async def test_an_answer_to_http_in_pieces(stage: Scene) -> None:
    """Status and headers come first, then eight zero bytes, then the body."""
    source = """
exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  stream = awslambda.HttpResponseStream.from(stream, {statusCode: 201});
  stream.write("body");
  stream.end();
});
"""
    assert (await answer_of(stage, source)).body == b'{"statusCode":201}' + bytes(8) + b"body"


async def test_an_answer_in_pieces_to_who_takes_them(stage: Scene) -> None:
    """Values go as JSON, and the function's own mark says when it has written enough for now."""
    source = """
exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  stream.setContentType("application/x-ndjson");
  const goesOn = [stream.write({ a: 1 }), stream.write(Buffer.from("\\n"))];
  stream.end(goesOn.join());
}, { highWaterMark: 8 });
"""
    it = await stage.started({"index.js": source}, handler="index.handler", runtime="nodejs")
    stage.deliver(it, flow=Flow(WINDOW_BYTES), timeout_s=20.0)
    assert await stage.hears() == Begun(it, "application/x-ndjson")
    body = b""
    while isinstance(said := await stage.hears(), Part):
        body += said.data
    assert body == b'{"a":1}\ntrue,false'
    assert isinstance(said, Answer)
    assert (said.failed, said.body) == (False, b"")


@pytest.mark.parametrize(
    "late", ["stream.setContentType('a/b');", "awslambda.HttpResponseStream.from(stream, {statusCode: 201});"]
)
async def test_what_comes_too_late_for_a_stream(stage: Scene, late: str) -> None:
    """It fails the call, and is not left out without a word."""
    source = f"""
exports.handler = awslambda.streamifyResponse(async (event, stream) => {{
  stream.write('half');
  {late}
  stream.end();
}});
"""
    answer = await answer_of(stage, source)
    assert (answer.failed, answer.json["errorType"]) == (True, "Runtime.InvalidStreamingOperation")


@pytest.mark.parametrize("written", ["", "stream.write('half');"])
async def test_a_stream_that_fails(stage: Scene, written: str) -> None:
    """Before its first piece and after it, an error is the answer."""
    source = f"""
exports.handler = awslambda.streamifyResponse(async (event, stream) => {{
  {written}
  await new Promise((resolve) => setTimeout(resolve, 5));
  throw new RangeError("no");
}});
"""
    answer = await answer_of(stage, source)
    assert answer.failed
    assert answer.json["errorType"] == "RangeError"


async def test_a_parked_process_becomes_the_functions(tmp_path: Path) -> None:
    """It starts without a function, is told which one on its channel, and goes on as if started so."""
    (tmp_path / "index.js").write_text(
        "exports.handler = async () => [process.env.K, process.cwd(), require('m')]"
    )
    module = tmp_path / "layer" / "m.js"
    module.parent.mkdir()
    module.write_text("module.exports = 'm'")
    runtimes = tmp_path / "runtimes"
    runtimes_here().install(runtimes)
    parkable = runtimes_here().by_name["nodejs"].parkable
    assert parkable is not None
    argv = [word.replace("/var/runtime", str(runtimes)) for word in parkable.argv]
    ours, theirs = socket.socketpair()
    async with api_scene() as scene:
        process = subprocess.Popen(  # noqa: ASYNC220 - it is forked and executed in a moment
            argv, pass_fds=[3], env={"GONE": "1"}, preexec_fn=lambda: os.dup2(theirs.fileno(), 3)
        )
        theirs.close()
        environment = {
            "K": "v",
            "LAMBDA_TASK_ROOT": str(tmp_path),
            "_HANDLER": "index.handler",
            "NODE_PATH": str(module.parent),
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{scene.port}",
            "PATH": os.environ["PATH"],
        }
        body = json.dumps({"environment": environment, "folder": str(tmp_path)}).encode()
        ours.sendall(frame(["specialise"], body))
        try:
            assert (await scene.hears())[0] == ["ready"]
            scene.deliver({})
            assert await scene.hears() == (
                ["answer", "r1"],
                json.dumps(["v", str(tmp_path), "m"]).replace(" ", "").encode(),
            )
        finally:
            process.kill()
            process.wait()
            ours.close()
