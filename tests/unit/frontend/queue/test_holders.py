"""Which queues a frontend holds, as etcd has it."""

import asyncio
from collections.abc import Sequence

import pytest

from lambent_chassis.etcd import Etcd
from lambent_frontend.queue.holders import Holders
from lambent_proto import keys
from lambent_proto.errors import NotReady
from lambent_proto.ids import FrontendId
from tests.e2e.load import eventually

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(60),
    pytest.mark.asyncio(loop_scope="module"),
]


class Queues:
    """Of another frontend that is gone; to be held, and to be given up, they may fail once."""

    def __init__(self, *there: str) -> None:
        self.there = there
        self.held: set[str] = set()
        self.fails = self.fails_to_give_up = False
        self.changed = asyncio.Condition()

    async def queues(self) -> Sequence[str]:
        return self.there

    async def hold(self, queue: str) -> None:
        if self.fails:
            self.fails = False
            raise NotReady("its disk is full")
        await self._now(self.held | {queue})

    async def give_up(self, queue: str) -> None:
        if self.fails_to_give_up:
            self.fails_to_give_up = False
            raise NotReady("its disk is full")
        await self._now(self.held - {queue})

    async def _now(self, held: set[str]) -> None:
        async with self.changed:
            self.held = held
            self.changed.notify_all()

    async def until(self, *held: str) -> None:
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(lambda: self.held == set(held))


async def test_after_a_failure_all_is_claimed_anew(etcd: Etcd) -> None:
    """What is held without a claim, another one runs as well."""
    queues = Queues()
    holding = asyncio.create_task(Holders(etcd, queues, FrontendId("a.1")).run())
    await queues.until("a.1")
    queues.fails = True
    queues.there = ("b.1",)
    await queues.until()
    await queues.until("a.1", "b.1")
    for queue in ("a.1", "b.1"):
        claim = await etcd.get(keys.queue_claim(queue))
        assert claim is not None
        assert claim.value == b"a.1"
    holding.cancel()
    await asyncio.wait([holding])
    assert await etcd.get(keys.queue_claim("a.1")) is None


async def test_what_could_not_be_given_up_is_not_held_without_a_claim(etcd: Etcd) -> None:
    queues = Queues()
    holding = asyncio.create_task(Holders(etcd, queues, FrontendId("a.2")).run())
    await queues.until("a.2")
    before = await etcd.get(keys.queue_claim("a.2"))
    assert before is not None
    queues.fails = queues.fails_to_give_up = True
    queues.there = ("b.2",)

    async def claimed_anew() -> bool:
        claims = [await etcd.get(keys.queue_claim(it)) for it in ("a.2", "b.2")]
        return all(it is not None and it.lease_id != before.lease_id for it in claims)

    await eventually(claimed_anew, "both are claimed under a lease that is good")
    await queues.until("a.2", "b.2")
    holding.cancel()
    await asyncio.wait([holding])
