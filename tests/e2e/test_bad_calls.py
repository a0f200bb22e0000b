"""Calls that are wrong, and functions that fail: each has its own answer, and the next call is served."""

import asyncio
import json

import grpc
import grpc.aio
import pytest

from lambent.client import Client
from lambent_proto.errors import PayloadTooLarge, Throttled, UnknownFunction
from lambent_proto.ids import MAX_PAYLOAD_BYTES
from tests.e2e.by_hand import alive
from tests.e2e.evidence import Evidence, deploy
from tests.e2e.load import eventually, one_call, refusal

pytestmark = pytest.mark.e2e


def text_of(size: int) -> bytes:
    """A JSON text of so many bytes."""
    return b'"' + b"a" * (size - 2) + b'"'


@pytest.mark.parametrize("asked", ["nobody", "known:17", "not a name", ""])
async def test_unknown_function(client: Client, evidence: Evidence, asked: str) -> None:
    """NOT_FOUND; a version or alias that does not exist is as unknown as a name."""
    await deploy(client, "known", evidence)
    with pytest.raises(UnknownFunction):
        await client.invoke(asked)
    assert await refusal(client, asked) is grpc.StatusCode.NOT_FOUND


async def test_largest_payload(client: Client, name: str, evidence: Evidence) -> None:
    """Exactly 6,291,556 bytes go there and come back unharmed; through the stream too."""
    await deploy(client, name, evidence, handler="app.echo")
    payload = text_of(MAX_PAYLOAD_BYTES)
    assert len(payload) == 6_291_556
    assert (await client.invoke(name, payload)).payload == payload
    async with client.stream() as stream:
        assert (await stream.invoke(name, payload)).payload == payload


async def test_payload_over_the_limit(client: Client, name: str, evidence: Evidence) -> None:
    """INVALID_ARGUMENT before anything is started for it; the stream that carried it goes on."""
    await deploy(client, name, evidence)
    payload = text_of(MAX_PAYLOAD_BYTES + 1)
    with pytest.raises(PayloadTooLarge):
        await client.invoke(name, payload)
    assert await refusal(client, name, payload) is grpc.StatusCode.INVALID_ARGUMENT
    assert evidence.births() == []
    async with client.stream() as stream:
        with pytest.raises(PayloadTooLarge):
            await stream.invoke(name, payload)
        assert (await stream.invoke(name, {})).function_error == ""


async def test_answer_over_the_limit(client: Client, name: str, evidence: Evidence) -> None:
    """The function's error, as Lambda names it; the largest that is allowed comes through."""
    await deploy(client, name, evidence, handler="app.answers_with")
    largest = await client.invoke(name, {"bytes": MAX_PAYLOAD_BYTES})
    assert (largest.function_error, largest.payload) == ("", text_of(MAX_PAYLOAD_BYTES))
    over = await client.invoke(name, {"bytes": MAX_PAYLOAD_BYTES + 1})
    assert over.function_error == "Unhandled"
    assert over.json()["errorType"] == "Function.ResponseSizeTooLarge"
    assert len(evidence.births()) == 1


async def test_invalid_json(client: Client, name: str, evidence: Evidence) -> None:
    """Runtime.UnmarshalError, and the instance goes on."""
    await deploy(client, name, evidence, handler="app.echo")
    broken = await client.invoke(name, b'{"a": ')
    assert broken.function_error == "Unhandled"
    assert broken.json()["errorType"] == "Runtime.UnmarshalError"
    assert (await client.invoke(name, {"a": 1})).json() == {"a": 1}
    assert len(evidence.births()) == 1


async def test_an_exception(client: Client, name: str, evidence: Evidence) -> None:
    """The call is OK, the answer is Lambda's error document with the function's own stack."""
    await deploy(client, name, evidence, handler="app.fails")
    failed = await client.invoke(name, {})
    assert failed.function_error == "Unhandled"
    document = failed.json()
    assert (document["errorType"], document["errorMessage"]) == ("ValueError", "not today")
    assert document["requestId"] == failed.request_id
    assert any("in fails" in line for line in document["stackTrace"])


@pytest.mark.parametrize(("code", "words"), [(0, "without providing a reason"), (3, "exit status 3")])
async def test_sys_exit(client: Client, name: str, evidence: Evidence, code: int, words: str) -> None:
    """Runtime.ExitError for the call; the instance is gone, the next call has another."""
    await deploy(client, name, evidence, handler="app.exits", concurrency=1)
    for number in (1, 2):
        left = await client.invoke(name, {"code": code})
        assert left.function_error == "Unhandled"
        assert left.json()["errorType"] == "Runtime.ExitError"
        assert words in left.json()["errorMessage"]
        assert len(evidence.births()) == number


async def test_timeout_of_the_function(client: Client, name: str, evidence: Evidence) -> None:
    """Sandbox.Timedout in Lambda's words; the runtime is ended, and launched again for the next call."""
    await deploy(client, name, evidence, concurrency=1, timeout_s=0.5)
    late = await client.invoke(name, {"sleep": 30})
    assert late.function_error == "Unhandled"
    document = json.loads(late.payload)
    assert document["errorType"] == "Sandbox.Timedout"
    assert (
        document["errorMessage"] == f"RequestId: {late.request_id} Error: Task timed out after 0.50 seconds"
    )
    following = await client.invoke(name, {})
    assert following.function_error == ""
    assert following.explanation.start == "warm"
    assert following.explanation.instance == late.explanation.instance
    first, second = evidence.births()
    assert not alive(first.pid)
    assert alive(second.pid)


async def test_deadline_of_the_caller_while_waiting(client: Client, name: str, evidence: Evidence) -> None:
    """A call that found nothing free in its time is throttled with the reason, and never runs."""
    await deploy(client, name, evidence, concurrency=1)
    running = asyncio.create_task(one_call(client, name, "long", 1.5))
    await eventually(evidence.runs, "the long call runs")
    with pytest.raises(Throttled, match=r"became free in 0\.5 s; all 1 instances exist"):
        await client.invoke(name, {"call": "late"}, timeout_s=0.5)
    assert (await running).error is None
    assert (await one_call(client, name, "after")).error is None
    assert [run.call for run in evidence.runs()] == ["long", "after"]


async def test_a_caller_that_goes_away_while_it_runs(client: Client, name: str, evidence: Evidence) -> None:
    """The event is finished, its answer dropped, and the same instance takes the next call."""
    await deploy(client, name, evidence, concurrency=1)
    leaving = asyncio.create_task(client.invoke(name, {"call": "left", "sleep": 1.0}))
    await eventually(evidence.runs, "it runs")
    leaving.cancel()
    following = await one_call(client, name, "after")
    assert following.error is None
    assert following.answer is not None
    assert following.answer.explanation.start == "warm"
    left, after = evidence.runs()
    assert (left.call, after.call) == ("left", "after")
    assert left.end - left.begin >= 1.0
    assert left.end <= after.begin
    assert len(evidence.births()) == 1


async def test_a_stream_that_goes_away(client: Client, name: str, evidence: Evidence) -> None:
    """What ran is finished, what waited never runs; another stream is served."""
    await deploy(client, name, evidence, concurrency=1)
    stream = client.stream()
    calls = [asyncio.create_task(stream.invoke(name, {"call": f"{n}", "sleep": 1.0})) for n in range(3)]
    await eventually(evidence.runs, "one runs")
    await stream.abort()
    await asyncio.gather(*calls, return_exceptions=True)
    async with client.stream() as another:
        assert (await another.invoke(name, {"call": "after"})).function_error == ""
    assert [run.call for run in evidence.runs()] == ["0", "after"]
    assert len(evidence.births()) == 1
