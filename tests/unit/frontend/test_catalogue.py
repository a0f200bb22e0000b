"""The catalogue over a real etcd: its view, and what it tells of."""

import pytest

from lambent_chassis.etcd import Etcd
from lambent_frontend import catalogue as catalogue_module
from lambent_frontend.catalogue import Catalogue
from lambent_frontend.registry import Registry, Stored
from lambent_proto import keys
from lambent_proto.errors import Unconfirmed
from lambent_proto.ids import FunctionName
from tests.unit.frontend.followed import F, definition, followed

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


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


async def test_a_write_that_changes_nothing_is_not_told(etcd: Etcd) -> None:
    """The same value once more is no change for the driver."""
    async with followed(etcd) as it:
        await it.registry.create(definition())
        await etcd.put(keys.function(F), definition().encode())
        await it.registry.create(definition("g"))
        assert it.told == [("f", "", "r1"), ("g", "", "r1")]


async def test_a_view_that_lags_is_said_to(etcd: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that is stored and not seen here is not passed off as done."""
    monkeypatch.setattr(catalogue_module, "VISIBLE_WITHIN_S", 0.1)
    unfollowed = Registry(etcd, Catalogue(etcd, lambda *_: None))
    with pytest.raises(Unconfirmed, match="is stored"):
        await unfollowed.create(definition())
    assert await unfollowed.read(F) == Stored(definition(), (await etcd.get(keys.function(F))).mod_revision)  # type: ignore[union-attr]
