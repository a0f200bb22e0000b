"""What is true of functions in every language: one table, and the same function in each."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lambent_proto.ids import InstanceId
from lambent_proto.tracing import made
from tests.integration.worker import backends
from tests.integration.worker.runtimes.languages import LANGUAGES, Language, skip_unless_here
from tests.integration.worker.scene import Scene, runtimes_here, scene, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

MEMORY_MB = 256
MB = 1024 * 1024


@pytest.fixture(params=LANGUAGES, ids=str)
def language(request: pytest.FixtureRequest) -> Language:
    it: Language = request.param
    skip_unless_here(it)
    return it


@pytest.fixture(params=[backends.process, backends.namespaces_or_skip])
async def stage(request: pytest.FixtureRequest, tmp_path: Path, language: Language) -> AsyncIterator[Scene]:
    """It depends on the language so that a missing one starts nothing."""
    parkable = runtimes_here().by_name[language.runtime].parkable
    async with scene(tmp_path, backend=request.param, parkables=[parkable] if parkable else []) as it:
        yield it


async def started(stage: Scene, language: Language, *, layered: bool = False) -> InstanceId:
    layers = (await stage.layer(language.layer()),) if layered else ()
    return await stage.started(
        language.files(),
        handler=language.handler,
        runtime=language.runtime,
        memory_mb=MEMORY_MB,
        layers=layers,
        mode=0o755,
    )


def is_ours(frame: str) -> bool:
    return "bootstrap" in frame or "lambent" in frame.lower()


def logged(stage: Scene) -> str:
    log = stage.folder / "logs" / "fn.log"
    return log.read_text() if log.exists() else ""


async def test_an_answer_and_state_that_lasts(stage: Scene, language: Language) -> None:
    """What the handler returns is the answer; its module's variables last from call to call."""
    it = await started(stage, language)
    assert (await stage.call(it, {"do": "hello", "name": "Zoë"})).json == {"hello": "Zoë"}
    assert [(await stage.call(it, {"do": "count"})).json for _ in range(200)] == list(range(1, 201))


async def test_an_error_names_its_place(stage: Scene, language: Language) -> None:
    """The caller and the log get type, message and the function's own frames; the instance goes on."""
    it = await started(stage, language)
    assert (await stage.call(it, {"do": "count"})).json == 1
    failed = await stage.call(it, {"do": "fail"})
    assert failed.failed
    assert failed.json["errorType"] == language.fail_type
    assert failed.json["errorMessage"] == "no luck"
    frames = failed.json[language.trace]
    assert any(language.frame in frame for frame in frames), frames
    assert not any(map(is_ours, frames)), frames
    assert (await stage.call(it, {"do": "count"})).json == 2


async def test_what_the_context_says(stage: Scene, language: Language) -> None:
    """The context names the call and the function; what is printed is in the call's log."""
    it = await started(stage, language)
    answer = await stage.call(it, {"do": "facts"}, client_context='{"custom": {"k": "v"}}', timeout_s=3.0)
    facts = answer.json
    assert 1_000 < facts.pop("remaining") <= 3_000
    assert facts.pop("trace", made(answer.request_id)) == made(answer.request_id)  # where it is a variable
    assert facts == {
        "request": answer.request_id,
        "arn": "arn:aws:lambda:us-east-1:000000000000:function:fn",
        "function": "fn",
        "version": "$LATEST",
        "memory": MEMORY_MB,
        "client": "v",
    }
    assert b"a line" in answer.tail


async def test_a_crash_and_a_timeout_lose_the_state_and_keep_tmp(stage: Scene, language: Language) -> None:
    """Both end the runtime, which is started anew for the next call; files in `/tmp` stay."""
    it = await started(stage, language)
    assert (await stage.call(it, {"do": "count"})).json == 1
    assert (await stage.call(it, {"do": "note", "text": "a"})).json == "a"
    crashed = await stage.call(it, {"do": "crash"})
    assert crashed.json == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {crashed.request_id} Error: Runtime exited with error: exit status 3",
    }
    assert (await stage.call(it, {"do": "count"}, timeout_s=30.0)).json == 1
    request = stage.deliver(it, {"do": "sleep"}, timeout_s=1.0)
    await until(lambda: "asleep" in logged(stage))
    error, tail = stage.host.time_out(it, request, 1.0)
    assert b"Sandbox.Timedout" in error
    assert b"Status: timeout" in tail
    assert (await stage.call(it, {"do": "count"}, timeout_s=30.0)).json == 1
    assert (await stage.call(it, {"do": "note", "text": "b"})).json == "ab"


async def test_a_layer(stage: Scene, language: Language) -> None:
    """What a layer holds, where Lambda has it, is found without any setting."""
    it = await started(stage, language, layered=True)
    assert (await stage.call(it, {"do": "layer"})).json == "from the layer"


async def test_five_megabytes(stage: Scene, language: Language) -> None:
    """An event and an answer of 5 MB pass, and one after another on the same connection."""
    it = await started(stage, language)
    for letter in "abc":
        answer = await stage.call(it, {"do": "echo", "data": letter * (5 * MB)}, timeout_s=30.0)
        assert answer.json == letter * (5 * MB)


async def test_an_init_error(stage: Scene, language: Language) -> None:
    """A function that cannot be initialised ends its instance, with the error that it failed with."""
    said = await stage.failed_init(
        language.files(), handler=language.broken, runtime=language.runtime, mode=0o755
    )
    assert said.reason == "init_error"
    error = json.loads(said.error)
    assert error["errorType"] == language.broken_type
    assert "not today" in error["errorMessage"]
    assert not any(is_ours(frame) for frame in error.get(language.trace, [])), error


async def test_more_memory_than_it_has(stage: Scene, language: Language) -> None:
    """Using more than the function's memory ends the call and its runtime; the next call has a new one."""
    if not language.heap_limit and "memory_limit" not in stage.protections:
        pytest.skip(f"{language.runtime} has no limit of its own, and this sandbox has none")
    it = await started(stage, language)
    assert (await stage.call(it, {"do": "count"})).json == 1
    answer = await stage.call(it, {"do": "hog"}, timeout_s=60.0)
    assert answer.failed
    if not language.heap_limit:
        assert answer.json["errorType"] == "Runtime.OutOfMemory"
    assert (await stage.call(it, {"do": "count"}, timeout_s=30.0)).json == 1
