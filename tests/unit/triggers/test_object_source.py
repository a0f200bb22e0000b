"""Objects as records: each has an id of its own, and whatever time it has it can be told of."""

import json
from collections.abc import Iterator

import pytest

from lambent_frontend.triggers.core.objects import Listing, Object
from lambent_frontend.triggers.sources.objects import ObjectSource, item_of
from lambent_proto.ids import FunctionName
from lambent_proto.triggers import Trigger
from tests.unit.triggers.kept import InMemory


class Some(ObjectSource):
    there: tuple[Object, ...] = ()

    async def all(self, listing: Listing) -> None:
        for each in self.there:
            listing.add(each)


TRIGGER = Trigger(
    id="t",
    function=FunctionName("f"),
    kind="folder",
    source="arn:aws:lambent-folder:us-east-1:000000000000:inbox",
    starting_position="TRIM_HORIZON",
    batch_size=10,
)


def _alike() -> tuple[Object, Object]:
    """Two of one time whose marks begin with the same eight digits."""
    known: dict[str, Object] = {}
    for each in _objects():
        if (other := known.setdefault(each.mark[:8], each)) is not each:
            return other, each
    raise AssertionError("never")


def _objects() -> Iterator[Object]:
    number = 0
    while True:
        number += 1
        yield Object(f"{number}", "1", 1, 0.0, "e")


@pytest.mark.timeout(30)
async def test_no_two_objects_have_one_id() -> None:
    """Those of an archive have one time often: the rest of the id has to tell them apart."""
    kept = InMemory()
    source = Some(TRIGGER, "", kept)
    source.there = _alike()
    source.list_every_s = 0.0
    await source.open()
    ids = [it.record.id for it in await source.read("", 10)]
    assert len(set(ids)) == 2
    await source.done(ids)
    await source.close()
    assert all(it.mark in kept.kept_places["0"] for it in source.there)


async def test_how_often_an_object_failed_is_known_to_the_next_reader() -> None:
    """So that poison is given up however often it changes hands; that it was in hand counts for nothing."""
    kept = InMemory()
    for deliveries in (1, 2, 2):
        source = Some(TRIGGER, "", kept)
        source.there = (Object("a", "1", 1, 0.0, "e"),)
        source.list_every_s = 0.0
        await source.open()
        [item] = await source.read("", 10)
        assert item.record.deliveries == deliveries
        if deliveries == 1:
            await source.give_back([item.record.id], 1.0)
        await source.close()
    await source.done([item.record.id])
    assert source._failures.of(source.there[0].mark) == 0


@pytest.mark.parametrize(
    ("modified_at", "told"),
    [
        (1.5e12, "9999-12-31T23:59:59.000Z"),
        (-1e12, "0001-01-01T00:00:00.000Z"),
        (1.25, "1970-01-01T00:00:01.250Z"),
    ],
)
def test_a_file_of_any_time(modified_at: float, told: str) -> None:
    """One that no calendar has holds up no other."""
    item = item_of(Object("a", "1", 1, modified_at, "e"), "name", "inbox", "t", 1)
    assert json.loads(item.body)["eventTime"] == told
