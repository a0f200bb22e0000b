"""The catalogue over a real etcd: its view, its writes, and what it says when etcd is in doubt."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from lambent_chassis.etcd import Compare, Delete, Etcd, EtcdUnavailable, Put, TransactionResult
from lambent_frontend import catalogue as catalogue_module
from lambent_frontend.catalogue import Catalogue
from lambent_frontend.registry import Registry, Stored
from lambent_proto import keys
from lambent_proto.definition import Definition
from lambent_proto.errors import NotReady
from lambent_proto.ids import FunctionName

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

F = FunctionName("f")


def definition(name: str = "f", revision: str = "r1", **fields: object) -> Definition:
    return Definition(
        name=FunctionName(name),
        revision=revision,
        runtime="python3.11",
        handler="a.b",
        code_sha256="00",
        code_size=1,
        **fields,  # type: ignore[arg-type]
    )


class Followed:
    """A catalogue that is being followed, and what it told of."""

    def __init__(self, etcd: Etcd) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.catalogue = Catalogue(etcd, self._changed)
        self.registry = Registry(etcd, self.catalogue)
        self._news = asyncio.Event()

    def _changed(self, name: FunctionName, before: Definition | None, now: Definition | None) -> None:
        self.told.append((name, before.revision if before else "", now.revision if now else ""))
        self._news.set()

    async def until_told(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.told) < count:
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def followed(etcd: Etcd) -> AsyncIterator[Followed]:
    it = Followed(etcd)
    task = asyncio.create_task(it.catalogue.follow())
    try:
        async with asyncio.timeout(20):
            await it.catalogue.ready.wait()
        yield it
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_is_there_is_known_when_ready(etcd: Etcd) -> None:
    """A frontend that starts knows every function before it says that it is ready."""
    for name in ("a", "b"):
        await etcd.put(keys.function(FunctionName(name)), definition(name).encode())
    async with followed(etcd) as it:
        assert it.catalogue.names() == ["a", "b"]
        assert it.catalogue.get(FunctionName("a")) == definition("a")
        assert sorted(it.told) == [("a", "", "r1"), ("b", "", "r1")]


async def test_own_writes_are_seen_at_once(etcd: Etcd) -> None:
    """Created, replaced and deleted: the view has it before the call returns, and the driver was told."""
    async with followed(etcd) as it:
        catalogue, registry = it.catalogue, it.registry
        assert await registry.create(definition(environment={"KEY": "v"}))
        assert catalogue.get(F) == definition(environment={"KEY": "v"})
        stored = await registry.read(F)
        assert stored is not None
        assert await registry.replace(definition(revision="r2"), stored.mod_revision)
        assert catalogue.get(F) == definition(revision="r2")
        stored = await registry.read(F)
        assert stored is not None
        assert await registry.delete(stored)
        assert catalogue.get(F) is None
        assert await registry.read(F) is None
        assert it.told == [("f", "", "r1"), ("f", "r1", "r2"), ("f", "r2", "")]


async def test_others_writes_come_by_themselves(etcd: Etcd) -> None:
    """What another frontend does is told here as well."""
    async with followed(etcd) as it, followed(etcd) as other:
        await other.registry.create(definition())
        await it.until_told(1)
        assert it.catalogue.get(F) == definition()


async def test_who_comes_second_changes_nothing(etcd: Etcd) -> None:
    """Two creates, two replaces, a delete with old knowledge: one wins, the other hears of it."""
    async with followed(etcd) as it, followed(etcd) as other:
        assert await it.registry.create(definition())
        assert not await other.registry.create(definition(revision="theirs"))
        old = await other.registry.read(F)
        assert old is not None
        assert await it.registry.replace(definition(revision="r2"), old.mod_revision)
        assert not await other.registry.replace(definition(revision="theirs"), old.mod_revision)
        assert not await other.registry.delete(old)
        stored = await it.registry.read(F)
        assert stored is not None
        assert stored.definition == definition(revision="r2")


async def test_a_write_that_changes_nothing_is_not_told(etcd: Etcd) -> None:
    """The same value once more is no change for the driver."""
    async with followed(etcd) as it:
        await it.registry.create(definition())
        await etcd.put(keys.function(F), definition().encode())
        await it.registry.create(definition("g"))
        assert it.told == [("f", "", "r1"), ("g", "", "r1")]


class LosesAnswers:
    """A real etcd whose answers to transactions are lost, after they were carried out or before."""

    def __init__(self, etcd: Etcd, *, carried_out: bool) -> None:
        self.get = etcd.get
        self.follow_prefix = etcd.follow_prefix
        self._etcd = etcd
        self._carried_out = carried_out

    async def transaction(
        self, compare: Sequence[Compare], success: Sequence[Put | Delete]
    ) -> TransactionResult:
        if self._carried_out:
            await self._etcd.transaction(compare, success)
        raise EtcdUnavailable("the answer was lost", unknown=True)


async def test_a_lost_answer_is_looked_up(etcd: Etcd) -> None:
    """A change that etcd made counts, though its answer never came."""
    async with followed(LosesAnswers(etcd, carried_out=True)) as it:  # type: ignore[arg-type]
        assert await it.registry.create(definition())
        stored = await it.registry.read(F)
        assert stored is not None
        assert await it.registry.replace(definition(revision="r2"), stored.mod_revision)
        stored = await it.registry.read(F)
        assert stored is not None
        assert stored.definition.revision == "r2"
        assert await it.registry.delete(stored)
        assert await etcd.get(keys.function(F)) is None


async def test_a_change_in_doubt_is_said_to_be(etcd: Etcd) -> None:
    """etcd may still carry it out: the caller must look before deciding."""
    async with followed(LosesAnswers(etcd, carried_out=False)) as it:  # type: ignore[arg-type]
        with pytest.raises(NotReady, match="not known"):
            await it.registry.create(definition())


async def test_a_view_that_lags_is_said_to(etcd: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that is stored and not seen here is not passed off as done."""
    monkeypatch.setattr(catalogue_module, "VISIBLE_WITHIN_S", 0.1)
    unfollowed = Registry(etcd, Catalogue(etcd, lambda *_: None))
    with pytest.raises(NotReady, match="is stored"):
        await unfollowed.create(definition())
    assert await unfollowed.read(F) == Stored(definition(), (await etcd.get(keys.function(F))).mod_revision)  # type: ignore[union-attr]


async def test_a_session_that_is_over_is_not_ready(etcd: Etcd) -> None:
    """Whatever etcd's client says becomes an error of ours."""
    nobody = Etcd(["127.0.0.1:1"])
    registry = Registry(nobody, Catalogue(nobody, lambda *_: None))
    with pytest.raises(NotReady):
        await registry.read(F)
    with pytest.raises(NotReady):
        await registry.create(replace(definition(), revision="r3"))
