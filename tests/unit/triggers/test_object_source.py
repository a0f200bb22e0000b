"""Objects as records: each has an id of its own, and whatever time it has it can be told of."""

import json
from collections.abc import Iterator

import pytest

from lambent_frontend.triggers.core.objects import Object
from lambent_frontend.triggers.sources.objects import ObjectSource, item_of
from lambent_proto.ids import FunctionName
from lambent_proto.triggers import Trigger


class Some(ObjectSource):
    there: tuple[Object, ...] = ()

    async def all(self) -> list[Object]:
        return list(self.there)


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
    kept: dict[str, str] = {}

    async def place(line: str, at: str) -> None:
        kept[line] = at

    trigger = Trigger(
        id="t",
        function=FunctionName("f"),
        kind="folder",
        source="arn:aws:lambent-folder:us-east-1:000000000000:inbox",
        starting_position="TRIM_HORIZON",
        batch_size=10,
    )
    source = Some(trigger, "", {}, place)
    source.there = _alike()
    source.list_every_s = 0.0
    await source.open()
    ids = [it.record.id for it in await source.read("", 10)]
    assert len(set(ids)) == 2
    await source.done(ids)
    await source.close()
    assert all(it.mark in kept["0"] for it in source.there)


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
