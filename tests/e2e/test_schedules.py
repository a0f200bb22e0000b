"""Schedules on a running fleet with two frontends, one of which may be gone when the time comes."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lambent.client import Client
from lambent_chassis.clock import unix_s
from lambent_proto.v1 import schedules_pb2 as pb
from tests.e2e.by_hand import by_hand
from tests.e2e.evidence import Evidence, deploy
from tests.e2e.fleet import Fleet
from tests.e2e.load import eventually, known_to

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SOON_S = 3
WITHIN_S = 40.0


@pytest.fixture
async def schedules(client: Client) -> AsyncIterator[Client]:
    """The shared fleet's client, with no schedule left afterwards."""
    yield client
    for schedule in await client.schedules.ls():
        await client.schedules.delete(schedule.name)


def at(unix: float) -> str:
    return f"at({datetime.fromtimestamp(unix, UTC):%Y-%m-%dT%H:%M:%S})"


def all_over(client: Client) -> Callable[[], Coroutine[None, None, bool]]:
    async def over() -> bool:
        return all(it.last_outcome == "succeeded" for it in await client.schedules.ls())

    return over


async def make(client: Client, name: str, due: float, *schedules: str) -> None:
    for schedule in schedules:
        event = json.dumps({"call": schedule}).encode()
        settings = pb.ScheduleSettings(function_name=name, expression=at(due), event=event)
        await client.schedules.create(schedule, settings)


async def test_each_time_fires_once_on_two_frontends(
    shared: Fleet, schedules: Client, name: str, evidence: Evidence
) -> None:
    """Also when one of them was killed before it came."""
    await deploy(schedules, name, evidence, concurrency=4)
    names = [f"s{n}" for n in range(12)]
    with by_hand(shared, "frontend", "third-frontend", grpc_port=0, http_port=0) as part:
        async with Client(part.addresses["grpc"]) as other:
            await known_to(other, name)
            await make(schedules, name, int(unix_s()) + SOON_S, *names)
            await eventually(all_over(schedules), "all have fired", WITHIN_S)
            assert Counter(run.call for run in evidence.runs()) == dict.fromkeys(names, 1)
            told = await schedules.schedules.ls()
            assert len({it.last_frontend.partition(".")[0] for it in told}) == 2
            assert not any(it.HasField("next_due") for it in told)
        part.kill()
        await make(schedules, name, int(unix_s()) + SOON_S, "late-0", "late-1")
        await eventually(all_over(schedules), "they fire", WITHIN_S)
    runs = Counter(run.call for run in evidence.runs())
    assert runs == dict.fromkeys([*names, "late-0", "late-1"], 1)


async def test_the_command_line(
    shared: Fleet, schedules: Client, name: str, evidence: Evidence, tmp_path: Path
) -> None:
    """Makes one, sees it fire, changes it, switches it off and on, and deletes it."""
    await deploy(schedules, name, evidence)

    async def lambent(*arguments: str, code: int = 0) -> str:
        done = await asyncio.to_thread(shared.lambent, "schedule", *arguments)
        assert done.returncode == code, done.stderr
        return (done.stdout if code == 0 else done.stderr).decode()

    (tmp_path / "event.json").write_text('{"call": "cli"}')
    due = int(unix_s()) + SOON_S
    given = "--function", name, "-f", str(tmp_path / "event.json"), "--overlap", "forbid", "--json"
    made = json.loads(await lambent("create", "once", at(due), *given))
    assert (made["settings"]["overlap"], made["settings"]["misfire"]) == ("forbid", "once")
    assert datetime.fromisoformat(made["next_due"]).timestamp() == due
    await eventually(all_over(schedules), "it has fired", WITHIN_S)
    (listed,) = json.loads(await lambent("ls", "--json"))
    assert (listed["name"], listed["last_outcome"], listed["next_due"]) == ("once", "succeeded", None)
    shown = await asyncio.to_thread(shared.lambent, "async", "get", name, listed["last_request_id"])
    assert b"succeeded" in shown.stdout
    assert [run.call for run in evidence.runs()] == ["cli"]

    told = await lambent(
        "update", "once", "cron(0 9 ? * MON *)", "--time-zone", "Asia/Tokyo", "--jitter", "30"
    )
    assert "T00:00:00+00:00" in told  # nine in Tokyo
    assert "30 s" in told
    await lambent("disable", "once")
    assert "disabled" in await lambent("ls")
    await lambent("enable", "once")
    assert "disabled" not in await lambent("get", "once")
    assert "it takes rate" in await lambent("update", "once", "hourly", code=3)
    assert "Give the event once" in await lambent(
        "update", "once", "--event", "1", "-f", str(tmp_path / "event.json"), code=2
    )
    await lambent("delete", "once")
    assert "there is no schedule 'once'" in await lambent("get", "once", code=3)
    assert json.loads(await lambent("ls", "--json")) == []
