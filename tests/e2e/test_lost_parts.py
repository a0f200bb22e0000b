"""What kill -9 and SIGSTOP of one process cost: no more than what it was doing itself.

Each test harms the fleet of this module and leaves it whole: `lambent up` starts again what it had started,
and the workers that are lost for good are started by hand.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lambent.client import Client
from lambent_chassis.clock import monotonic_s
from lambent_chassis.etcd import Etcd
from lambent_proto import keys
from lambent_proto.errors import LambentError, LostWithWorker, NotReady
from tests.e2e.by_hand import Part, alive, by_hand, running
from tests.e2e.evidence import Evidence, deploy, most_at_once
from tests.e2e.fleet import Fleet
from tests.e2e.load import Load, Outcome, calling, eventually, one_call

pytestmark = pytest.mark.e2e

LEASE_TTL_S = 5
"""Of the workers that are lost here: the shortest that a worker takes."""

LIMIT = 4
SLEEP_S = 0.1


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    options = ("--workers", "1", "--worker-memory", "1024")
    with running(tmp_path_factory.mktemp("lost"), *options) as fleet:
        yield fleet


@pytest.fixture
async def client(fleet: Fleet) -> AsyncIterator[Client]:
    """After each test nothing is deployed, so that the workers' memory is free for the next one."""
    async with Client(fleet.endpoint) as client:
        yield client
        for function in await client.list_functions():
            await client.delete_function(function.name)


@pytest.fixture
def second(fleet: Fleet, name: str) -> Iterator[Part]:
    """Another worker; a fresh one for each test."""
    with by_hand(fleet, "worker-1", name, lease_ttl_s=LEASE_TTL_S) as part:
        yield part


@pytest.fixture
async def etcd(fleet: Fleet) -> AsyncIterator[Etcd]:
    async with Etcd(fleet.etcd) as etcd:
        yield etcd


@dataclass(slots=True)
class Passing:
    """How a worker that was hurt went away, as its key and its processes showed it."""

    key: str
    pids: set[int]
    """Of its instances."""
    dead_at: float = float("inf")
    """The instances had ended by then."""
    key_seen_at: float = 0.0
    """The key was there then, for the last time."""


async def pass_away(etcd: Etcd, passing: Passing) -> None:
    """Watches until the worker's key has left etcd."""
    while True:
        if passing.dead_at == float("inf") and not any(map(alive, passing.pids)):
            passing.dead_at = monotonic_s()
        asked_at = monotonic_s()
        if await etcd.get(passing.key) is None:
            return
        passing.key_seen_at = asked_at
        await asyncio.sleep(0.02)


async def both_busy(client: Client, name: str, evidence: Evidence, worker: str) -> set[int]:
    """Waits until both workers have instances, as many as the limit allows; the pids of those on `worker`."""

    async def spread() -> set[int]:
        nodes = {instance.id: instance.node for instance in await client.instances(name)}
        births = evidence.births()
        if len(nodes) != LIMIT or nodes.keys() != {birth.instance for birth in births}:
            return set()
        there = {birth.pid for birth in births if nodes[birth.instance] == worker}
        return there if len(there) < LIMIT else set()

    return await eventually(spread, "instances on both workers")


async def key_of(etcd: Etcd, worker: str) -> str:
    found = [item.key for item in (await etcd.get_prefix(keys.NODES)).items]
    return next(key for key in found if key.startswith(f"{keys.NODES}{worker}@"))


def assert_limit_was_kept(evidence: Evidence, passing: Passing) -> None:
    """At no time more than the limit, where an instance of the lost worker counts until its key is gone."""
    lives = [
        (birth.at, passing.key_seen_at if birth.pid in passing.pids else float("inf"))
        for birth in evidence.births()
    ]
    assert most_at_once(lives) == LIMIT


def assert_only_lost(load: Load, most: int) -> None:
    """Some calls failed, at most one on each lost instance, with the error that says: it may have run."""
    assert 1 <= len(load.errors) <= most
    for error in load.errors:
        assert isinstance(error, LostWithWorker), error


async def test_kill_of_a_worker(
    fleet: Fleet, client: Client, etcd: Etcd, second: Part, name: str, evidence: Evidence
) -> None:
    """Its calls fail as lost, its instances die with it; others replace them only once its lease is gone."""
    await deploy(client, name, evidence, concurrency=LIMIT)
    async with calling(client, name, callers=2 * LIMIT, sleep=SLEEP_S) as load:
        gone = await both_busy(client, name, evidence, second.name)
        passing = Passing(await key_of(etcd, second.name), gone)
        await load.more(2 * LIMIT)
        assert load.errors == []
        second.kill()
        killed_at = monotonic_s()
        await pass_away(etcd, passing)
        assert passing.dead_at < passing.key_seen_at
        meanwhile = [o for o in load.outcomes if killed_at < o.begin and o.end < passing.key_seen_at]
        assert len([o for o in meanwhile if o.answer]) > LIMIT  # by the other worker, all the while
        await eventually(
            lambda: len(evidence.births()) == LIMIT + len(gone), "the concurrency is used again", within_s=25
        )
    assert_limit_was_kept(evidence, passing)
    assert_only_lost(load, most=len(gone))
    assert {i.node for i in await client.instances(name)} == {"worker-1"}


async def test_kill_of_placement(
    fleet: Fleet, client: Client, name: str, evidence: Evidence, tmp_path: Path
) -> None:
    """Warm functions do not notice; a cold one waits, and is served when placement is back."""
    cold_evidence = Evidence(tmp_path / "cold")
    await deploy(client, name, evidence, concurrency=LIMIT)
    await deploy(client, f"{name}-cold", cold_evidence)
    async with calling(client, name, callers=LIMIT, sleep=0.02) as load:
        await eventually(lambda: len(evidence.births()) == LIMIT, "all are warm")
        epoch = (await client.nodes()).epoch
        others = [fleet.part(part)["pid"] for part in ("worker-1", "frontend")]
        killed = fleet.kill("placement")
        killed_at = monotonic_s()
        cold = await one_call(client, f"{name}-cold")
        warm = [o for o in load.outcomes if killed_at < o.begin and o.end < cold.end]
        await load.more(2 * LIMIT)
    assert fleet.runs_again("placement", killed) != killed
    assert load.errors == []
    assert len(warm) > 10 * LIMIT
    assert len(evidence.births()) == LIMIT
    assert cold.error is None
    assert cold.answer is not None
    assert cold.answer.explanation.start == "cold"
    assert (await client.nodes()).epoch > epoch
    assert [fleet.part(part)["pid"] for part in ("worker-1", "frontend")] == others


async def test_kill_of_the_frontend(fleet: Fleet, client: Client, name: str, evidence: Evidence) -> None:
    """Its calls are lost to their callers; the new frontend's first call is warm, and nothing is started."""
    await deploy(client, name, evidence, concurrency=2 * LIMIT)
    async with Client(fleet.endpoint) as other, calling(other, name, callers=LIMIT, sleep=SLEEP_S) as load:
        await eventually(lambda: len(evidence.births()) >= LIMIT, "all are warm")
        await load.more(2 * LIMIT)
        before = evidence.births()
        killed = fleet.kill("frontend")
        killed_at = monotonic_s()
        await eventually(lambda: len(load.errors) >= LIMIT, "its calls are lost")
    fleet.runs_again("frontend", killed)
    first = await eventually(lambda: _taken(client, name), "this client has found the new frontend")
    assert first.error is None
    assert first.answer is not None
    assert first.answer.explanation.start == "warm"
    outcomes = await asyncio.gather(*(one_call(client, name, sleep=SLEEP_S) for _ in range(LIMIT)))
    assert [o.answer.explanation.start for o in outcomes if o.answer] == ["warm"] * LIMIT
    assert evidence.births() == before
    lost = [it for it in load.outcomes if it.error and not isinstance(it.error, NotReady)]
    assert {type(it.error) for it in lost} == {LostWithWorker}
    assert len(lost) >= LIMIT
    assert _most_of_a_caller(it for it in lost if it.begin < killed_at) == 1
    # A next call may be lost too, to a port that is not closed yet.
    assert _most_of_a_caller(it for it in lost if it.begin >= killed_at) <= 1


def _most_of_a_caller(outcomes: Iterable[Outcome]) -> int:
    return max(Counter(it.call.partition(".")[0] for it in outcomes).values(), default=0)


async def test_a_stopped_worker(
    fleet: Fleet, client: Client, etcd: Etcd, second: Part, name: str, evidence: Evidence
) -> None:
    """Its instances are dead before its key is gone, though it cannot lift a finger; then it comes back."""
    await deploy(client, name, evidence, concurrency=LIMIT)
    async with calling(client, name, callers=2 * LIMIT, sleep=SLEEP_S) as load:
        gone = await both_busy(client, name, evidence, second.name)
        passing = Passing(await key_of(etcd, second.name), gone)
        os.kill(second.pid, signal.SIGSTOP)
        await pass_away(etcd, passing)
        assert passing.dead_at < passing.key_seen_at
        await eventually(
            lambda: len(evidence.births()) == LIMIT + len(gone), "the concurrency is used again", within_s=25
        )
        os.kill(second.pid, signal.SIGCONT)
        assert await asyncio.to_thread(second.process.wait, 20) == 1  # it knows that it is over
        second.process.communicate()
        second.start()
        assert await key_of(etcd, second.name) != passing.key
        await eventually(lambda: _connected(client, second.name), "the worker is back")
    assert_limit_was_kept(evidence, passing)
    assert_only_lost(load, most=len(gone))


async def _taken(client: Client, name: str) -> Outcome | None:
    """The outcome of a call, unless nobody answered: gRPC waits for a moment before it dials again."""
    outcome = await one_call(client, name)
    return None if isinstance(outcome.error, NotReady) else outcome


async def _connected(client: Client, worker: str) -> bool:
    try:
        return any(node.name == worker and node.state == "connected" for node in (await client.nodes()).nodes)
    except LambentError:
        return False
