"""The line that the log has for a call: what is in it, for which calls, and nothing of anybody's data."""

from structlog.testing import capture_logs

from lambent_frontend.call_log import LOGGING, Kept
from lambent_frontend.calls import Call
from lambent_proto import frames
from lambent_proto.ids import RequestId
from tests.unit.frontend.test_driver import DEFINITION, Heard, attached

SECRET = "s3cret"
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


def call(request: str) -> Call:
    event = b'{"password": "%b"}' % SECRET.encode()
    it = Call(RequestId(request), DEFINITION, event, False, SECRET, 10.0, given_trace=TRACE)
    it.caller = "LK1"
    return it


def lines(kept: Kept) -> list[dict[str, object]]:
    """Of one that succeeds, one that fails, one that is refused, and one whose caller leaves."""
    driver, _ = attached(max_waiting=0)
    driver.told = LOGGING[kept]
    with capture_logs() as logs:
        driver.submit(call("good"), lambda _: None)
        driver.submit(call("refused"), lambda _: None)
        driver.answered(frames.Answer(RequestId("good"), False, 1.5, SECRET.encode(), SECRET.encode()))
        driver.submit(call("bad"), lambda _: None)
        driver.answered(frames.Answer(RequestId("bad"), True, 2.5, None, SECRET.encode() * 2))
        driver.submit(call("left"), lambda _: None)
        driver.abandon(RequestId("left"))
        driver.answered(frames.Answer(RequestId("left"), False, 2.5, None, b""))
    assert SECRET not in str(logs)
    return [dict(it) for it in logs if it["event"] == "call"]


async def test_a_line_for_each_call_that_has_ended() -> None:
    refused, good, bad, left = lines("all")
    waiting_ms = good.pop("waiting_ms")
    assert isinstance(waiting_ms, float)
    assert good == {
        "event": "call",
        "log_level": "info",
        "request_id": "good",
        "function": "f",
        "version": "$LATEST",
        "outcome": "succeeded",
        "message": "",
        "start": "warm",
        "reason": good["reason"],
        "waited_for": "",
        "node": "n1",
        "instance": "i-1",
        "starting_ms": 0.0,
        "init_ms": 0.0,
        "running_ms": 1.5,
        "bytes_in": len(call("good").payload),
        "bytes_out": len(SECRET),
        "access_key": "LK1",
        "trace_id": "5759e988bd862e3fe1be46a994272793",
    }
    assert (bad["outcome"], bad["running_ms"], bad["bytes_out"]) == ("function_error", 2.5, 2 * len(SECRET))
    assert (left["outcome"], left["message"]) == ("cancelled", "the caller went away")
    assert (refused["outcome"], refused["reason"], refused["node"]) == ("throttled", "line_full", "")
    assert refused["message"]


async def test_a_line_for_those_that_did_not_succeed() -> None:
    assert [it["request_id"] for it in lines("failures")] == ["refused", "bad", "left"]
    assert lines("off") == []


async def test_the_bytes_of_an_answer_in_parts() -> None:
    driver, _ = attached()
    driver.told = LOGGING["all"]
    streamed = call("r")
    streamed.parts = Heard()
    with capture_logs() as logs:
        driver.submit(streamed, lambda _: None)
        driver.begun(frames.Begun(RequestId("r"), "text/plain"))
        driver.part(frames.Part(RequestId("r"), b"12345"))
        driver.answered(frames.Answer(RequestId("r"), False, 1.5, None, b""))
    assert [it["bytes_out"] for it in logs] == [5]
