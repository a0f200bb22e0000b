"""How many frontends there are, and what the fleet's concurrency is, as etcd tells a frontend."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from lambent_chassis.etcd import Etcd
from lambent_chassis.etcd import wire_pb2 as wire
from lambent_chassis.etcd.rpcs import REVOKE
from lambent_frontend.limits import follow_concurrency
from lambent_frontend.peers import Peers
from lambent_proto import concurrency, keys
from lambent_proto.ids import FrontendId

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


class Told:
    """The numbers that something told, in their order."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._news = asyncio.Event()

    def __call__(self, number: int) -> None:
        self.numbers.append(number)
        self._news.set()

    async def until(self, number: int) -> None:
        async with asyncio.timeout(20):
            while not self.numbers or self.numbers[-1] != number:
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def telling(start: Callable[[Told], Awaitable[None]]) -> AsyncIterator[Told]:
    told = Told()
    task = asyncio.ensure_future(start(told))
    try:
        yield told
    finally:
        task.cancel()
        await asyncio.wait([task])


def frontend(etcd: Etcd, name: str) -> Callable[[Told], Awaitable[None]]:
    return lambda told: Peers(etcd, FrontendId(name), told).run()


async def test_frontends_count_each_other(etcd: Etcd) -> None:
    """Itself from the first moment, one that comes, and no longer one that has ended."""
    async with telling(frontend(etcd, "a.1")) as first:
        await first.until(1)
        async with telling(frontend(etcd, "b.1")) as second:
            await asyncio.gather(first.until(2), second.until(2))
        await first.until(1)
    assert not (await etcd.get_prefix(keys.FRONTENDS)).items


async def test_each_knows_where_the_others_are_asked(etcd: Etcd) -> None:
    """Not itself, nor one that has ended; a frontend of an older release has no address, and counts."""
    told = Told()
    asked = Peers(etcd, FrontendId("a.1"), told, (), "10.0.0.1:7000")
    async with telling(lambda _: asked.run()), telling(frontend(etcd, "old.1")):
        other = Peers(etcd, FrontendId("b.1"), Told(), (), "10.0.0.2:7000")
        async with telling(lambda _: other.run()):
            await told.until(3)
            assert asked.addresses == {"b.1": "10.0.0.2:7000"}
            assert asked.others == {"b.1", "old.1"}
        await told.until(2)
        assert asked.others == {"old.1"}
        assert asked.addresses == {}


async def test_one_whose_lease_was_lost_comes_back(etcd: Etcd) -> None:
    """The others stop counting it meanwhile; it counts itself all the time."""
    async with telling(frontend(etcd, "a.1")) as first, telling(frontend(etcd, "b.1")) as second:
        await asyncio.gather(first.until(2), second.until(2))
        before = len(second.numbers)
        found = await etcd.get(keys.frontend(FrontendId("b.1")))
        assert found is not None
        await etcd.transport.call(REVOKE, wire.LeaseRevokeRequest(id=found.lease_id), repeat=True)
        await first.until(1)
        await first.until(2)
    assert set(second.numbers[before:]) == {2}


async def test_the_fleet_s_concurrency(etcd: Etcd) -> None:
    """The default, what an operator sets, and the default again when it is taken away."""
    async with telling(lambda told: follow_concurrency(etcd, told)) as told:
        await told.until(concurrency.DEFAULT)
        await etcd.put(keys.CONCURRENCY, concurrency.encode(7))
        await told.until(7)
        await etcd.delete(keys.CONCURRENCY)
        await told.until(concurrency.DEFAULT)
