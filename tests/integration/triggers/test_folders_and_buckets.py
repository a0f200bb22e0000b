"""Files in a folder, and objects in a bucket as moto has it: each is called with once, none is left out."""

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lambent_frontend.triggers.sources import objects, source_of
from lambent_frontend.triggers.sources.base import SourceFailed
from lambent_frontend.triggers.sources.folder import SETTLE_S, Folder
from lambent_frontend.triggers.sources.s3 import Bucket
from tests.integration.triggers.conftest import Broker, Function, until
from tests.unit.triggers.kept import InMemory

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

OLDEST = "TRIM_HORIZON"
DESTINATION = "arn:aws:lambda:us-east-1:000000000000:function:destination"


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Folder, "settle_s", 0.1)
    monkeypatch.setattr(Folder, "list_every_s", 0.05)
    monkeypatch.setattr(Bucket, "list_every_s", 0.1)


@pytest.fixture(params=["folder", "bucket"])
def either(request: pytest.FixtureRequest) -> Broker:
    broker: Broker = request.getfixturevalue(request.param)
    return broker


async def test_each_is_called_with_once(either: Broker, function: Function) -> None:
    """Also what was there before; a second poller goes on where the first one was."""
    await either.send(*(f"t{n}" for n in range(12)))
    async with either.polled(function, starting_position=OLDEST) as poller:
        await either.send("sub/é x")
        await until(lambda: poller.records == 13)
        assert await poller.lag() == 0
    async with either.polled(function, starting_position=OLDEST):
        await either.send("more")
        await until(lambda: "more" in function.data)
    assert sorted(function.data) == sorted([*(f"t{n}" for n in range(12)), "sub/é x", "more"])
    assert all(len(event["Records"]) == 1 for event in function.events)


async def test_new_ones_alone(either: Broker, function: Function) -> None:
    """Those that come while no poller is there are new as well."""
    await either.send("before")
    async with either.polled(function):
        pass
    await either.send("between")
    async with either.polled(function):
        await either.send("after")
        await until(lambda: len(function.data) == 2)
    assert sorted(function.data) == ["after", "between"]


async def test_one_that_is_overwritten_comes_again(either: Broker, function: Function) -> None:
    async with either.polled(function) as poller:
        await either.send("a")
        await until(lambda: poller.records == 1)
        await either.send("a=2", "b")
        await until(lambda: poller.records == 3)
    assert sorted(function.data) == ["a", "a", "b"]


async def test_poison_is_given_up_and_its_neighbours_are_not(either: Broker, function: Function) -> None:
    """The destination is told of the object; it stays where it is, and does not come again."""
    async with either.polled(function, max_retries=1, on_failure=DESTINATION) as poller:
        await either.send("a", "poison", "b")
        await until(lambda: poller.records == 3)
    async with either.polled(function) as poller:
        await either.send("c")
        await until(lambda: "c" in function.data)
    assert sorted(function.data) == ["a", "b", "c", "poison", "poison"]
    [told] = function.told
    assert told["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert json.loads(told["payload"]["records"][0])["s3"]["object"]["key"] == "poison"


async def test_what_is_under_way_when_a_poller_dies_comes_again(either: Broker, function: Function) -> None:
    await either.send("one", "two")
    function.hangs = True
    with contextlib.suppress(ZeroDivisionError):
        async with either.polled(function, starting_position=OLDEST):
            await until(lambda: sorted(function.data) == ["one", "two"])
            raise ZeroDivisionError
    function.hangs, function.events = False, []
    async with either.polled(function, starting_position=OLDEST) as poller:
        await until(lambda: poller.records == 2)
    assert sorted(function.data) == ["one", "two"]


async def test_filters(either: Broker, function: Function) -> None:
    """By what S3 tells of an object, its key as it is and not as it is encoded."""
    wanted = {"s3": {"object": {"key": [{"suffix": " 1.csv"}], "size": [{"numeric": [">", 0]}]}}}
    async with either.polled(function, filters=(json.dumps(wanted),)) as poller:
        await either.send("in/a 1.csv", "in/a 1.txt", "in/b 2.csv")
        await until(lambda: poller.records == 3)
    assert function.data == ["in/a 1.csv"]


async def test_a_prefix(either: Broker, function: Function) -> None:
    either.trigger = replace(either.trigger, source=f"{either.trigger.source}/in/")
    async with either.polled(function, starting_position=OLDEST):
        await either.send("out", "in/a", "inside")
        await until(lambda: function.data)
        await either.send("in/b")
        await until(lambda: "in/b" in function.data)
    assert function.data == ["in/a", "in/b"]


async def test_the_event(either: Broker, function: Function) -> None:
    """As S3's notifications have it."""
    async with either.polled(function):
        await either.send("in/a +ü.csv")
        await until(lambda: function.events)
    [record] = function.events[0]["Records"]
    assert (record["eventSource"], record["eventName"]) == ("aws:s3", "ObjectCreated:Put")
    assert (record["eventVersion"], record["eventTime"][-1]) == ("2.1", "Z")
    bucket = either.trigger.source.rpartition(":")[2]
    assert record["s3"]["bucket"]["name"] == bucket
    assert record["s3"]["bucket"]["arn"] == f"arn:aws:s3:::{bucket}"
    known = record["s3"]["object"]
    assert (known["key"], known["size"]) == ("in/a+%2B%C3%BC.csv", len("in/a +ü.csv".encode()))
    assert len(known["eTag"]) == 32
    assert int(known["sequencer"], 16) > 0


async def test_there_are_too_many(either: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "MOST_OBJECTS", 2)
    await either.send("a", "b", "c")
    source: Any = await source_of(either.trigger, either.urls, InMemory())
    with pytest.raises(SourceFailed, match="more than 2 objects"):
        await source.open()
    await source.close()


async def test_where_there_is_nothing(either: Broker) -> None:
    """It is said so, and no mark is written: what is not there cannot be done with."""
    kept = InMemory()
    none = either.trigger.source.rpartition(":")[0] + ":none"
    urls = {"none": f"file://{either.urls.get(either.trigger.id, '')}/none", **either.urls}
    trigger = replace(either.trigger, source=none)
    source: Any = await source_of(trigger, urls, kept)
    with pytest.raises(Exception, match=r"No such file|NoSuchBucket"):
        await source.open()
    await source.close()
    assert kept.kept_places == {}


@pytest.fixture
def inbox(folder: Broker) -> Path:
    return Path(folder.urls[folder.trigger.id].removeprefix("file://"))


async def test_a_file_that_is_being_written(
    folder: Broker, inbox: Path, function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is called with when it is complete; of one that is renamed nothing is seen before."""
    monkeypatch.setattr(Folder, "settle_s", SETTLE_S)
    async with folder.polled(function):
        with (inbox / "grows").open("w") as file, (inbox / ".other").open("w") as other:
            for _ in range(8):
                for each in (file, other):
                    each.write("line")
                    each.flush()
                await asyncio.sleep(SETTLE_S / 5)  # this is how it is written, and nothing is waited for
            assert function.data == []
        (inbox / ".other").rename(inbox / "renamed")
        await until(lambda: len(function.data) == 2)
    sizes = {
        it["s3"]["object"]["key"]: it["s3"]["object"]["size"]
        for event in function.events
        for it in event["Records"]
    }
    assert sizes == {"grows": 32, "renamed": 32}


@contextlib.contextmanager
def unmounted(inbox: Path) -> Iterator[None]:
    """An empty folder is in its place."""
    disk = inbox.parent / "disk"
    inbox.rename(disk)
    inbox.mkdir()
    yield
    inbox.rmdir()
    disk.rename(inbox)


async def test_a_disk_that_is_not_mounted(folder: Broker, inbox: Path, function: Function) -> None:
    """The empty folder below it is no folder of which all was deleted: it is said so, and once the disk is
    back what was processed is not processed again."""
    await folder.send("a", "b")
    async with folder.polled(function, starting_position=OLDEST) as poller:
        await until(lambda: poller.records == 2)
    marks = dict(folder.places)
    source: Any = await source_of(folder.trigger, folder.urls, InMemory(folder.places))
    with unmounted(inbox), pytest.raises(SourceFailed, match="is not the folder that it was"):
        await source.open()
    await source.open()
    source.list_every_s = 0.0
    assert await source.read("", 10) == []
    with unmounted(inbox), pytest.raises(SourceFailed, match="is its disk not mounted"):
        await until(lambda: source.read("", 10))
    await source.close()
    assert folder.places == marks
    async with folder.polled(function, starting_position=OLDEST):
        await folder.send("c")
        await until(lambda: "c" in function.data)
    assert sorted(function.data) == ["a", "b", "c"]


async def test_marks_of_a_release_that_did_not_note_which_folder_it_was(
    folder: Broker, function: Function
) -> None:
    """They are gone on with, and it is noted then."""
    await folder.send("a")
    async with folder.polled(function):
        pass
    folder.places["since"] = "1"
    async with folder.polled(function):
        await folder.send("b")
        await until(lambda: function.data == ["b"])
    assert folder.places["since"].startswith("inode ")


async def test_what_is_no_file_of_the_folder(folder: Broker, inbox: Path, function: Function) -> None:
    """Links lead out of it, and what begins with a dot is somebody's own."""
    secret = inbox.parent / "secret"
    secret.write_text("x")
    (inbox / "link").symlink_to(secret)
    (inbox / "out").symlink_to(inbox.parent)
    os.mkfifo(inbox / "pipe")
    (inbox / ".hidden").mkdir()
    (inbox / ".hidden" / "file").write_text("x")
    async with folder.polled(function, starting_position=OLDEST) as poller:
        await folder.send("a")
        await until(lambda: poller.records == 1)
    assert function.data == ["a"]


async def test_a_file_whose_name_is_no_text(folder: Broker, inbox: Path, function: Function) -> None:
    """Its bytes are in the key, and can be opened by it."""
    (inbox / os.fsdecode(b"a\xff")).write_text("x")
    async with folder.polled(function, starting_position=OLDEST):
        await until(lambda: function.events)
    assert function.events[0]["Records"][0]["s3"]["object"]["key"] == "a%FF"
