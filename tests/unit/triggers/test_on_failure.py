"""Whom a trigger tells of records that were given up: whatever asynchronous calls may tell."""

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from lambent_frontend.calls import Answer, Call
from lambent_frontend.invoker import Invoker
from lambent_frontend.queue.destinations import Destinations
from lambent_frontend.queue.records import Record
from lambent_frontend.triggers.on_failure import TRIES, OnFailure
from lambent_proto.errors import LambentError
from tests.unit.scripted import AnyFunction, ScriptedDispatcher, answer

pytestmark = pytest.mark.timeout(20)

TOLD = {"requestContext": {"condition": "RetryAttemptsExhausted"}}
FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:graves:live"
WEBHOOK = "https://hooks.example.com/secret?key=x"


class Answering(ScriptedDispatcher):
    def __init__(self, said: Answer | LambentError) -> None:
        super().__init__()
        self._said = said

    def submit(self, call: Call, done: Any) -> None:
        self.calls.append(call)
        done(self._said)


class Adapter:
    """Takes a record after so many refusals."""

    def __init__(self, refusals: int = 0) -> None:
        self.came: list[tuple[str, Record]] = []
        self._refusals = refusals

    async def deliver(self, destination: str, record: Record) -> None:
        self.came.append((destination, record))
        if len(self.came) <= self._refusals:
            raise OSError("it is away")

    async def close(self) -> None: ...


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sleep(_: float) -> None: ...

    monkeypatch.setattr("lambent_frontend.triggers.on_failure.asyncio.sleep", sleep)


def telling(
    adapter: Adapter, said: Answer | LambentError | None = None
) -> tuple[OnFailure, Destinations, Answering]:
    dispatcher = Answering(said or answer(b"null"))
    destinations = Destinations({"https": adapter}, ("https://hooks.example.com/*",), {})
    invoker = Invoker(AnyFunction(), dispatcher, waiting_s=10)
    return OnFailure(invoker, destinations), destinations, dispatcher


async def test_whatever_has_an_adapter() -> None:
    adapter = Adapter()
    tells, _, _ = telling(adapter)
    assert await tells.tell(WEBHOOK, TOLD) == ""
    [(destination, record)] = adapter.came
    assert (destination, json.loads(record.body)) == (WEBHOOK, TOLD)


async def test_one_that_is_away_is_told_later() -> None:
    """It is the same record, by its id."""
    adapter = Adapter(refusals=2)
    tells, _, _ = telling(adapter)
    assert await tells.tell(WEBHOOK, TOLD) == ""
    assert len({record.id for _, record in adapter.came}) == 1


async def test_what_nobody_takes_is_in_the_log() -> None:
    """With all of it, but no more of a webhook than its host."""
    adapter = Adapter(refusals=TRIES)
    tells, _, _ = telling(adapter)
    with capture_logs() as logs:
        problem = await tells.tell(WEBHOOK, TOLD)
    assert len(adapter.came) == TRIES
    assert "https://hooks.example.com could not be told" in problem
    [entry] = [it for it in logs if it["event"] == "destination_not_told"]
    assert entry["told"] == TOLD
    assert "secret" not in str(entry)


async def test_one_that_is_not_allowed_any_more_gets_nothing() -> None:
    adapter = Adapter()
    tells, _, _ = telling(adapter)
    assert "sends nothing to" in await tells.tell("https://other.example.com/", TOLD)
    assert adapter.came == []


async def test_a_function_by_an_asynchronous_call() -> None:
    tells, destinations, dispatcher = telling(Adapter())
    put: list[tuple[str, str, bytes]] = []

    async def put_record(name: str, qualifier: str, record: Record) -> None:
        put.append((name, qualifier, record.body))

    destinations.put_record = put_record
    assert await tells.tell(FUNCTION, TOLD) == ""
    assert put == [("graves", "live", json.dumps(TOLD).encode())]
    assert dispatcher.calls == []


async def test_a_function_where_there_is_no_queue() -> None:
    """It is called, and the call has to succeed."""
    tells, _, dispatcher = telling(Adapter())
    assert await tells.tell(FUNCTION, TOLD) == ""
    [call] = dispatcher.calls
    assert json.loads(call.payload) == TOLD
    tells, _, dispatcher = telling(Adapter(), answer(b"null", failed=True))
    assert "the function failed" in await tells.tell(FUNCTION, TOLD)
    assert len(dispatcher.calls) == TRIES
