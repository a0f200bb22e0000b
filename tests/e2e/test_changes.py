"""New code, new settings and deletion while callers call: nobody's call fails for it."""

import asyncio
import time

import pytest

from lambent.client import Client
from lambent_proto.errors import RevisionMismatch, UnknownFunction
from tests.e2e.by_hand import alive
from tests.e2e.evidence import APP, Evidence, deploy, most_at_once, package
from tests.e2e.load import calling, eventually, one_call

pytestmark = pytest.mark.e2e


async def test_new_code_under_load(client: Client, name: str, evidence: Evidence) -> None:
    """No call fails, those that begin after the update run the new code, and the old instances go away."""
    first = await deploy(client, name, evidence, concurrency=4)
    async with calling(client, name, callers=8, sleep=0.05) as load:
        await load.more(40)
        old = evidence.pids()
        second = await client.update_function(name, package({"app.py": APP.replace("first", "second")}))
        updated_at = time.monotonic()
        await load.more(60)
        await eventually(lambda: not any(map(alive, old)), "the old instances are gone")
    assert second.revision_id != first.revision_id
    assert load.errors == []
    answers = [
        (outcome.begin, outcome.answer.json()["answer"]) for outcome in load.outcomes if outcome.answer
    ]
    assert {answer for begin, answer in answers if begin > updated_at} == {"second"}
    assert {answer for _, answer in answers} == {"first", "second"}
    assert {i.revision_id for i in await client.instances(name)} == {second.revision_id}
    assert most_at_once((run.begin, run.end) for run in evidence.runs()) == 4


async def test_a_lower_limit_under_load(client: Client, name: str, evidence: Evidence) -> None:
    """No call fails; soon no more instances exist than the new limit allows."""
    await deploy(client, name, evidence, concurrency=4)
    async with calling(client, name, callers=8, sleep=0.05) as load:
        await load.more(40)
        assert len(evidence.births()) == 4
        await client.update_function(name, concurrency=1)
        await eventually(lambda: _count_is(client, name, 1), "one instance is left")
        lowered_at = time.monotonic()
        await load.more(10)
    assert load.errors == []
    assert most_at_once((run.begin, run.end) for run in evidence.runs() if run.begin > lowered_at) == 1


async def _count_is(client: Client, name: str, count: int) -> bool:
    return len(await client.instances(name)) == count


async def test_two_people_at_once(client: Client, name: str, evidence: Evidence) -> None:
    """With the revision that was looked at, only the first change is made."""
    looked_at = await deploy(client, name, evidence)
    await client.update_function(name, description="mine", revision_id=looked_at.revision_id)
    with pytest.raises(RevisionMismatch):
        await client.update_function(name, description="theirs", revision_id=looked_at.revision_id)
    assert (await client.get_function(name)).description == "mine"


async def test_deletion(client: Client, name: str, evidence: Evidence) -> None:
    """What runs is finished, what waits is NOT_FOUND, and no instance is left."""
    await deploy(client, name, evidence, concurrency=1)
    running = asyncio.create_task(one_call(client, name, "runs", 1.0))
    await eventually(evidence.runs, "one runs")
    waiting = [asyncio.create_task(one_call(client, name, "waits")) for _ in range(3)]
    await eventually(lambda: _waits(client, name), "a call that came after these waits")
    await client.delete_function(name)
    for outcome in await asyncio.gather(*waiting):
        assert isinstance(outcome.error, UnknownFunction)
    assert (await running).error is None
    with pytest.raises(UnknownFunction):
        await client.invoke(name)
    with pytest.raises(UnknownFunction):
        await client.delete_function(name)
    assert name not in [function.name for function in await client.list_functions()]
    await eventually(lambda: not any(map(alive, evidence.pids())), "its instance is gone")
    await eventually(lambda: _count_is(client, name, 0), "placement has heard that it is gone")
    assert [run.call for run in evidence.runs()] == ["runs"]


async def _waits(client: Client, name: str) -> bool:
    """A call with little time is throttled for want of a free instance: those before it stand in line."""
    outcome = await one_call(client, name, "waits", timeout_s=0.1)
    return outcome.error is not None


async def test_the_same_name_anew(client: Client, name: str, evidence: Evidence) -> None:
    """A function that was deleted and made again has nothing of the first one."""
    await deploy(client, name, evidence)
    assert (await one_call(client, name)).error is None
    await client.delete_function(name)
    await deploy(client, name, evidence, handler="app.echo")
    again = await one_call(client, name)
    assert again.answer is not None, again.error
    assert "answer" not in again.answer.json()
    assert len(evidence.births()) == 2
