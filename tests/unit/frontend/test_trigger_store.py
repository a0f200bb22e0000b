"""Triggers in etcd: one for each function and source, one frontend for each, and nobody writes too late."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from lambent_chassis.etcd import Etcd, Lease
from lambent_frontend.triggers.holding import Known
from lambent_frontend.triggers.keeper import Held, Keeper, chosen
from lambent_frontend.triggers.store import Claim, NotOurs, TriggerStore
from lambent_proto import keys
from lambent_proto.errors import NotReady, TriggerExists, UnknownTrigger
from lambent_proto.ids import FrontendId, FunctionName
from lambent_proto.triggers import Trigger, TriggerStatus
from tests.e2e.load import eventually

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

TTL_S = 5


def trigger(trigger_id: str = "t1", source: str = "arn:aws:sqs:us-east-1:000000000000:q") -> Trigger:
    return Trigger(id=trigger_id, function=FunctionName("f"), kind="sqs", source=source, batch_size=10)


async def test_one_for_each_function_and_source(etcd: Etcd) -> None:
    """Also of two that are made at the same moment."""
    store = TriggerStore(etcd)
    made = await asyncio.gather(
        store.create(trigger("t1")), store.create(trigger("t2")), return_exceptions=True
    )
    refused = [it for it in made if isinstance(it, TriggerExists)]
    assert len(refused) == 1
    [there] = await store.all()
    assert f"with UUID {there.trigger.id}" in refused[0].message


async def test_a_change_is_made_of_what_was_read(etcd: Etcd) -> None:
    """Whoever comes second hears so, and changes nothing."""
    store = TriggerStore(etcd)
    stored = await store.create(trigger())
    await store.replace(stored, replace(stored.trigger, batch_size=1))
    with pytest.raises(NotReady, match="changed by somebody else"):
        await store.replace(stored, replace(stored.trigger, batch_size=2))
    assert (await store.get("t1")).trigger.batch_size == 1


async def test_another_function_takes_the_source_along(etcd: Etcd) -> None:
    """Its old one may have a trigger for it again."""
    store = TriggerStore(etcd)
    stored = await store.create(trigger())
    await store.replace(stored, replace(stored.trigger, function=FunctionName("g")))
    with pytest.raises(TriggerExists):
        await store.create(replace(trigger("t2"), function=FunctionName("g")))
    await store.create(trigger("t3"))


async def test_one_frontend_has_it(etcd: Etcd) -> None:
    """It may ask twice; another one has it once the lease is gone."""
    store = TriggerStore(etcd)
    first, second = await etcd.lease(TTL_S), await etcd.lease(TTL_S)
    claim = await store.claim("t1", "a", first)
    assert claim is not None
    assert await store.claim("t1", "a", first) == claim
    assert await store.claim("t1", "b", second) is None
    await first.revoke()
    other = await store.claim("t1", "b", second)
    assert other is not None
    assert other != claim


async def test_a_late_one_writes_nothing(etcd: Etcd) -> None:
    """Neither how far a shard is, nor how it goes, nor that the trigger is no more."""
    store = TriggerStore(etcd)
    stored = await store.create(trigger())
    claim, lease = await claimed(store, etcd)
    await store.place(claim, "shard-1", "5")
    await lease.revoke()
    other, _ = await claimed(store, etcd)
    await store.place(other, "shard-1", "9")
    with pytest.raises(NotOurs):
        await store.place(claim, "shard-1", "6")
    with pytest.raises(NotOurs):
        await store.say(claim, TriggerStatus(result="late"))
    assert not await store.remove(claim, stored.trigger, stored.mod_revision)
    await store.release(claim)
    assert await store.places("t1") == {"shard-1": "9"}
    assert (await store.get("t1")).status.result == ""
    assert await etcd.get(keys.trigger_claim("t1")) is not None


async def test_removing_leaves_nothing(etcd: Etcd) -> None:
    store = TriggerStore(etcd)
    stored = await store.create(trigger())
    claim, _ = await claimed(store, etcd)
    await store.say(claim, TriggerStatus(result="OK"))
    await store.place(claim, "shard-1", "5")
    assert await store.remove(claim, stored.trigger, stored.mod_revision)
    await store.release(claim)
    assert (await etcd.get_prefix("/lambent/trigger")).items == []
    with pytest.raises(UnknownTrigger):
        await store.get("t1")


async def claimed(store: TriggerStore, etcd: Etcd) -> tuple[Claim, Lease]:
    lease = await etcd.lease(TTL_S)
    claim = await store.claim("t1", "any", lease)
    assert claim is not None
    return claim, lease


async def test_only_the_triggers_of_a_frontend_that_goes_move() -> None:
    """And each has its share of them."""
    triggers = [f"t{n}" for n in range(300)]
    before = {it: chosen(it, {"a", "b", "c"}) for it in triggers}
    after = {it: chosen(it, {"a", "c"}) for it in triggers}
    assert all(after[it] == before[it] for it in triggers if before[it] != "b")
    assert min(list(before.values()).count(it) for it in "abc") > 60


class Scripted:
    """In the place of a Holding: has its trigger until it is told to give it up."""

    fails = False
    """Instead of giving back what it has."""

    def __init__(self, store: TriggerStore, having: set[str], claim: Claim, held: Held) -> None:
        self.held = held
        self._store = store
        self._claim = claim
        self._having = having
        self._id = claim.trigger_id
        self._over = asyncio.Event()

    def set(self, known: Known | None) -> None:
        pass

    def give_up(self) -> None:
        self._over.set()

    async def run(self) -> None:
        assert self._id not in self._having, "had twice"
        self._having.add(self._id)
        try:
            await self._over.wait()
        finally:
            self._having.discard(self._id)
        if self.fails:
            raise NotReady("etcd does not answer")
        await self._store.release(self._claim)


class Frontend:
    def __init__(self, etcd: Etcd, name: str, folders: frozenset[str] = frozenset()) -> None:
        self.having: set[str] = set()
        self.folders = folders
        self.made: list[Scripted] = []
        self.name = name
        self._etcd = etcd

    @asynccontextmanager
    async def there(self) -> AsyncIterator["Frontend"]:
        store = TriggerStore(self._etcd)

        def make(claim: Claim, held: Held) -> Any:
            self.made.append(Scripted(store, self.having, claim, held))
            return self.made[-1]

        await self._etcd.put(keys.frontend(FrontendId(self.name)), ",".join(self.folders).encode())
        keeper = Keeper(self._etcd, store, FrontendId(self.name), make, self.folders)
        running = asyncio.create_task(keeper.run())
        try:
            yield self
        finally:
            await self._etcd.delete(keys.frontend(FrontendId(self.name)))
            running.cancel()
            await asyncio.wait([running])


async def test_frontends_share_them_out(etcd: Etcd) -> None:
    """Each trigger is had by one; all of them move to the one that is left."""
    store = TriggerStore(etcd)
    ids = {f"t{n}" for n in range(12)}
    for each in ids:
        await store.create(trigger(each, f"arn:aws:sqs:us-east-1:000000000000:{each}"))
    async with Frontend(etcd, "a").there() as first:
        await eventually(lambda: first.having == ids, "one has all")
        async with Frontend(etcd, "b").there() as second:
            theirs = {it for it in ids if chosen(it, {"a", "b"}) == "b"}
            assert theirs
            await eventually(lambda: second.having == theirs, "the second has its share")
            assert first.having == ids - theirs
        await eventually(lambda: first.having == ids, "one has all again")
        assert second.having == set()


async def test_a_folder_is_had_by_a_frontend_that_has_it(etcd: Etcd) -> None:
    """Whatever the digest says. Where none has it, somebody has its triggers all the same, and can say so."""
    store = TriggerStore(etcd)
    ids = {f"t{n}" for n in range(8)}
    for each in ids:
        source = f"arn:aws:lambent-folder:us-east-1:000000000000:inbox/{each}"
        await store.create(replace(trigger(each, source), kind="folder"))
    async with Frontend(etcd, "a").there() as first:
        await eventually(lambda: first.having == ids, "one has all")
        async with Frontend(etcd, "b", frozenset({"inbox", "other"})).there() as second:
            await eventually(lambda: second.having == ids, "the one with the folder has all")
            assert first.having == set()
        await eventually(lambda: first.having == ids, "somebody has them")


async def test_what_fails_when_it_is_given_up_moves_all_the_same(etcd: Etcd) -> None:
    store = TriggerStore(etcd)
    theirs = next(it for it in map(str, range(100)) if chosen(it, {"a", "b"}) == "b")
    await store.create(trigger(theirs))
    async with Frontend(etcd, "a").there() as first:
        await eventually(lambda: first.having == {theirs}, "the first has it")
        first.made[0].fails = True
        async with Frontend(etcd, "b").there() as second:
            await eventually(lambda: second.having == {theirs}, "the second has it")


async def test_one_that_cannot_be_read_harms_no_other(etcd: Etcd) -> None:
    store = TriggerStore(etcd)
    await etcd.put(keys.TRIGGERS + "broken", b"\xc1")
    await etcd.put(keys.TRIGGERS + "strange", b"\x01")
    await store.create(trigger())
    async with Frontend(etcd, "a").there() as frontend:
        await eventually(lambda: frontend.having == {"t1"}, "it has the one that can be read")
    assert [it.trigger.id for it in await store.all()] == ["t1"]
    for broken in ("broken", "strange"):
        with pytest.raises(UnknownTrigger, match="cannot be read"):
            await store.get(broken)


async def test_what_fails_begins_anew(etcd: Etcd) -> None:
    await TriggerStore(etcd).create(trigger())
    async with Frontend(etcd, "a").there() as frontend:
        await eventually(lambda: frontend.having == {"t1"}, "it has it")
        frontend.made[0].fails = True
        frontend.made[0].give_up()
        await eventually(lambda: len(frontend.made) == 2 and frontend.having == {"t1"}, "it has it again")


async def test_who_loses_its_lease_stops_at_once(etcd: Etcd) -> None:
    """And starts anew with another."""
    await TriggerStore(etcd).create(trigger())
    async with Frontend(etcd, "a").there() as frontend:
        await eventually(lambda: frontend.having == {"t1"}, "it has it")
        found = await etcd.get(keys.trigger_claim("t1"))
        assert found is not None
        lease = next(it for it in etcd._leases if it.id == found.lease_id)
        await lease.revoke()
        await eventually(lambda: len(frontend.made) == 2, "it has it again")
        with pytest.raises(NotOurs):
            frontend.made[0].held()
        frontend.made[1].held()
