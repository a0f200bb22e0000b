"""Changes over a real etcd: who comes second is told, and what is said when etcd is in doubt."""

from dataclasses import replace

import pytest

from lambent_chassis.etcd import Etcd
from lambent_frontend.catalogue import Catalogue
from lambent_frontend.registry import Publication, Registry, Stored
from lambent_proto import keys
from lambent_proto.errors import NotReady, Unconfirmed
from lambent_proto.versions import Alias
from tests.unit.frontend.followed import F, Followed, definition, followed
from tests.unit.frontend.lost_answers import LosesAnswers

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


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


async def published(it: Followed, count: int) -> None:
    """So many versions of F, no two alike."""
    assert await it.registry.create(definition())
    for number in range(1, count + 1):
        stored, last = await it.registry.read(F), await it.registry.last_number(F)
        assert stored is not None
        assert last.number == number - 1
        assert await it.registry.publish(
            stored, Publication(replace(stored.definition, version=f"{number}"), last)
        )


async def test_a_number_that_somebody_else_gave(etcd: Etcd) -> None:
    """Not even when that version is deleted again."""
    async with followed(etcd) as it:
        await published(it, 1)
        stored, last = await it.registry.read(F), await it.registry.last_number(F)
        assert stored is not None
        two = replace(stored.definition, version="2")
        assert await it.registry.publish(stored, Publication(two, last))
        assert await it.registry.delete_version(F, "2", await it.registry.parts(F))
        assert not await it.registry.publish(stored, Publication(two, last))
        assert sorted((await it.registry.parts(F)).versions) == ["1"]


async def test_what_is_published_is_what_was_read(etcd: Etcd) -> None:
    """`$LATEST` was changed meanwhile: the number is not given."""
    async with followed(etcd) as it:
        assert await it.registry.create(definition())
        stored, last = await it.registry.read(F), await it.registry.last_number(F)
        assert stored is not None
        assert await it.registry.replace(definition(revision="r2"), stored.mod_revision)
        assert not await it.registry.publish(
            stored, Publication(replace(stored.definition, version="1"), last)
        )
        assert (await it.registry.last_number(F)).number == 0


async def latest(it: Followed) -> Stored:
    found = await it.registry.read(F)
    assert found is not None
    return found


def live(version: str, revision: str = "a1", **weights: float) -> Alias:
    shares = {number.removeprefix("v"): share for number, share in weights.items()}
    return Alias(name="live", version=version, weights=shares, revision=revision)


@pytest.mark.parametrize("alias", [live("1"), live("2", v1=0.5)])
async def test_an_alias_or_the_end_of_its_version(etcd: Etcd, alias: Alias) -> None:
    """Whoever of the two comes second knows too little, and nothing is written."""
    async with followed(etcd) as it:
        await published(it, 2)
        known = await it.registry.parts(F)
        assert await it.registry.put_alias(F, alias, known)
        assert not await it.registry.delete_version(F, "1", known)
        known = await it.registry.parts(F)
        assert await it.registry.delete_alias(F, "live", known)
        assert await it.registry.delete_version(F, "1", known)
        assert not await it.registry.put_alias(F, alias, known)
        parts = await it.registry.parts(F)
        assert (sorted(parts.versions), sorted(parts.aliases)) == (["2"], [])


async def test_two_changes_of_an_alias(etcd: Etcd) -> None:
    """The second one was decided on what is no longer so: made, moved, deleted."""
    async with followed(etcd) as it:
        await published(it, 2)
        none = await it.registry.parts(F)
        assert await it.registry.put_alias(F, live("1"), none)
        assert not await it.registry.put_alias(F, live("2", "a2"), none)
        known = await it.registry.parts(F)
        assert await it.registry.put_alias(F, live("2", "a3"), known)
        assert not await it.registry.put_alias(F, live("1", "a4"), known)
        assert not await it.registry.delete_alias(F, "live", known)
        assert it.catalogue.deployed(F).aliases == {"live": live("2", "a3")}


@pytest.mark.parametrize("qualifier", ["1", "live"])
async def test_what_is_ready_or_the_end_of_it(etcd: Etcd, qualifier: str) -> None:
    """Nothing is kept ready of what is not there, and a count is not undone by one that was read before."""
    async with followed(etcd) as it:
        await published(it, 2)
        await it.registry.put_alias(F, live("2"), await it.registry.parts(F))
        known = await it.registry.parts(F)
        assert await it.registry.put_provisioned(await latest(it), qualifier, 3, known)
        assert not await it.registry.put_provisioned(await latest(it), qualifier, 4, known)
        end = it.registry.delete_version if qualifier == "1" else it.registry.delete_alias
        assert not await end(F, qualifier, known)
        known = await it.registry.parts(F)
        assert known.counts() == {qualifier: 3}
        assert await it.registry.delete_provisioned(known.provisioned[qualifier])
        assert not await it.registry.put_provisioned(await latest(it), qualifier, 4, known)
        known = await it.registry.parts(F)
        assert await end(F, qualifier, known)
        assert not await it.registry.put_provisioned(await latest(it), qualifier, 3, known)
        assert (await it.registry.parts(F)).counts() == {}


async def test_of_two_counts_at_once_one_begins_anew(etcd: Etcd) -> None:
    """Each was allowed on what there was; together they may be more than there may be."""
    async with followed(etcd) as it:
        await published(it, 2)
        read, known = await latest(it), await it.registry.parts(F)
        assert await it.registry.put_provisioned(read, "1", 3, known)
        assert not await it.registry.put_provisioned(read, "2", 3, known)
        assert (await it.registry.parts(F)).counts() == {"1": 3}


async def test_an_alias_of_a_function_that_was_made_anew(etcd: Etcd) -> None:
    """The one that was meant is gone."""
    async with followed(etcd) as it:
        assert await it.registry.create(definition())
        stored = await it.registry.read(F)
        assert stored is not None
        known = await it.registry.parts(F)
        assert await it.registry.delete(stored)
        assert not await it.registry.put_alias(F, live("$LATEST"), known)
        assert (await etcd.get_prefix(keys.FUNCTIONS)).items == []


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
        with pytest.raises(Unconfirmed, match="function 'f' was changed is not known"):
            await it.registry.create(definition())


async def test_a_change_that_cannot_be_looked_up_is_in_doubt(etcd: Etcd) -> None:
    """etcd made it and went away: nobody may take it for one that was not made."""
    losing = LosesAnswers(etcd, carried_out=True)
    losing.blind = True
    async with followed(losing) as it:  # type: ignore[arg-type]
        with pytest.raises(Unconfirmed):
            await it.registry.create(definition())


async def test_a_session_that_is_over_is_not_ready(etcd: Etcd) -> None:
    """Whatever etcd's client says becomes an error of ours."""
    nobody = Etcd(["127.0.0.1:1"])
    registry = Registry(nobody, Catalogue(nobody, lambda *_: None))
    with pytest.raises(NotReady):
        await registry.read(F)
    with pytest.raises(NotReady):
        await registry.create(replace(definition(), revision="r3"))
