"""The Versions service over real gRPC and a real etcd: what is stored, refused, shown; two change at once."""

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytest_asyncio

from lambent.client import Client
from lambent_chassis.etcd import Etcd
from lambent_chassis.objects import open_store
from lambent_frontend.catalogue import Catalogue
from lambent_frontend.functions import Functions
from lambent_frontend.layer_catalogue import LayerCatalogue
from lambent_frontend.limits import Limits
from lambent_frontend.packages import Packages
from lambent_frontend.registry import Registry
from lambent_frontend.versions import Versions
from lambent_proto import keys
from lambent_proto.errors import (
    AliasExists,
    InUse,
    InvalidRequest,
    LambentError,
    NotProvisioned,
    NotReady,
    RevisionMismatch,
    UnknownAlias,
    UnknownFunction,
)
from lambent_proto.ids import FunctionName
from lambent_proto.internal import control_pb2
from tests.unit.scripted import ScriptedDispatcher, serving

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

F = FunctionName("f")


def package(text: str = "1") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("app.py"), text)
    return buffer.getvalue()


class Frontend(SimpleNamespace):
    """One of several over the same etcd."""

    catalogue: Catalogue
    client: Client
    told: control_pb2.DescribeResponse | LambentError
    """What placement says of the fleet."""

    async def described(self, function: FunctionName) -> control_pb2.DescribeResponse:
        if isinstance(self.told, LambentError):
            raise self.told
        return self.told


@pytest_asyncio.fixture(loop_scope="module")
async def frontends(etcd: Etcd, tmp_path: Path) -> AsyncIterator[list[Frontend]]:
    both = [Frontend(told=control_pb2.DescribeResponse()) for _ in range(2)]
    async with asyncio.TaskGroup() as tasks:
        following, servers = [], []
        for it in both:
            it.catalogue = catalogue = Catalogue(etcd, lambda *_: None)
            following.append(tasks.create_task(catalogue.follow()))
            await catalogue.ready.wait()
            registry, limits = Registry(etcd, catalogue), Limits(etcd, catalogue)
            packages = Packages(open_store(str(tmp_path)))
            functions = Functions(catalogue, registry, packages, LayerCatalogue(etcd), limits)
            versions = Versions(catalogue, registry, limits, it.described)
            server = serving(ScriptedDispatcher(), functions, limits=limits, versions=versions)
            servers.append(server)
            it.client = await Client(await server.__aenter__()).__aenter__()
        yield both
        for it, server in zip(both, servers, strict=True):
            await it.client.__aexit__(None, None, None)
            await server.__aexit__(None, None, None)
        for task in following:
            task.cancel()


@pytest.fixture
def client(frontends: list[Frontend]) -> Client:
    return frontends[0].client


async def deployed(client: Client, *, publish: int = 0, concurrency: int | None = None) -> None:
    """With so many versions, no two alike."""
    await client.create_function(
        F, package(), runtime="python3.11", handler="app.handler", concurrency=concurrency
    )
    for number in range(1, publish + 1):
        if number > 1:
            await client.update_function(F, description=f"{number}")
        assert (await client.versions.publish(F)).version == f"{number}"


async def numbers(client: Client) -> list[str]:
    return [it.version for it in await client.versions.list_versions(F)]


async def test_a_version_is_what_latest_was(client: Client) -> None:
    """Its code, configuration and revision stay, however `$LATEST` goes on."""
    await deployed(client)
    latest = await client.get_function(F)
    one = await client.versions.publish(F, description="the first")
    assert (one.version, one.description, one.revision_id) == ("1", "the first", latest.revision_id)
    await client.update_function(F, package("2"), memory_mb=256)
    two = await client.versions.publish(F)
    assert await client.get_function(F, "1") == one
    assert (two.version, two.memory_mb) == ("2", 256)
    assert two.code_sha256 != one.code_sha256
    assert await numbers(client) == ["$LATEST", "1", "2"]


async def test_what_has_not_changed_has_its_number(client: Client) -> None:
    """Publishing is idempotent; a reservation is the function's and makes no new version."""
    await deployed(client, publish=1)
    assert (await client.versions.publish(F)).version == "1"
    await client.update_function(F, concurrency=7)
    assert (await client.versions.publish(F)).version == "1"
    assert (await client.get_function(F, "1")).concurrency == 7
    await client.update_function(F, timeout_s=9)
    assert (await client.versions.publish(F)).version == "2"


async def test_no_number_is_given_twice(client: Client) -> None:
    """Not after its version was deleted, nor its function."""
    await deployed(client, publish=2)
    await client.versions.delete(F, "2")
    await client.update_function(F, description="another")
    assert (await client.versions.publish(F)).version == "3"
    await client.delete_function(F)
    await client.create_function(F, package(), runtime="python3.11", handler="app.handler")
    assert (await client.versions.publish(F)).version == "4"
    assert await numbers(client) == ["$LATEST", "4"]


async def test_a_function_goes_with_all_that_is_its_own(client: Client, etcd: Etcd) -> None:
    """Nothing of it is left in etcd but the last number; another function whose name begins alike stays."""
    await deployed(client, publish=1)
    await client.create_function("ff", package(), runtime="python3.11", handler="app.handler")
    await client.versions.create_alias(F, "live", "1")
    await client.versions.put_provisioned(F, "live", 1)
    await client.delete_function(F)
    assert [item.key for item in (await etcd.get_prefix(keys.FUNCTIONS)).items] == [keys.function("ff")]  # type: ignore[arg-type]
    with pytest.raises(UnknownFunction):
        await client.versions.list_versions(F)


async def test_guards_of_publishing(client: Client) -> None:
    """Only this revision, only this code; else nothing is written."""
    await deployed(client)
    latest = await client.get_function(F)
    for guard in ({"revision_id": "old"}, {"code_sha256": "b2xk"}):
        with pytest.raises(RevisionMismatch):
            await client.versions.publish(F, **guard)
    assert await numbers(client) == ["$LATEST"]
    guards = {"revision_id": latest.revision_id, "code_sha256": latest.code_sha256}
    assert (await client.versions.publish(F, **guards)).version == "1"


async def test_many_that_publish_at_once_make_one_version(frontends: list[Frontend]) -> None:
    """From two frontends: all get the same number, and none is skipped."""
    one, other = frontends
    await deployed(one.client)
    told = await asyncio.gather(*(it.client.versions.publish(F) for it in (one, other) for _ in range(5)))
    assert {it.version for it in told} == {"1"}
    assert await numbers(one.client) == ["$LATEST", "1"]


async def test_versions_come_in_pages(frontends: list[Frontend]) -> None:
    """By number, not by letters."""
    client = frontends[0].client
    await deployed(client, publish=11)
    assert await numbers(client) == ["$LATEST", *(f"{n}" for n in range(1, 12))]
    with pytest.raises(InvalidRequest, match="marker"):
        await _page(client, "two")
    page = await _page(client, "9")
    assert ([it.version for it in page.versions], page.next_marker) == (["10"], "10")


async def _page(client: Client, marker: str):  # type: ignore[no-untyped-def]
    from lambent.rpc import answer
    from lambent_proto.v1 import versions_pb2

    request = versions_pb2.ListVersionsRequest(function_name=F, marker=marker, max_items=1)
    return await answer(client.versions._stub.ListVersions(request))


async def test_deleting_a_version(client: Client) -> None:
    """Not `$LATEST`, none that is not there, none that an alias points to with either hand."""
    await deployed(client, publish=3)
    await client.versions.create_alias(F, "live", "1", weights={"2": 0.5})
    await client.versions.put_provisioned(F, "3", 2)
    for version, error in (
        ("$LATEST", InvalidRequest),
        ("", InvalidRequest),
        ("9", UnknownFunction),
        ("1", InUse),
        ("2", InUse),
    ):
        with pytest.raises(error):
            await client.versions.delete(F, version)
    await client.versions.delete(F, "3")
    assert await numbers(client) == ["$LATEST", "1", "2"]
    assert await client.versions.list_provisioned(F) == []


async def test_an_alias_points_to_what_is_published(client: Client) -> None:
    """Made, shown, moved, deleted; what is not given stays."""
    await deployed(client, publish=2)
    made = await client.versions.create_alias(F, "live", "1", description="d")
    assert await client.versions.get_alias(F, "live") == made
    moved = await client.versions.update_alias(F, "live", version="2", weights={"1": 0.25})
    assert (moved.version, dict(moved.weights), moved.description) == ("2", {"1": 0.25}, "d")
    assert moved.revision_id != made.revision_id
    assert (await client.get_function(F, "live")).version == "2"
    whole = await client.versions.update_alias(F, "live", weights={}, revision_id=moved.revision_id)
    assert (whole.version, dict(whole.weights)) == ("2", {})
    assert (await client.get_function(F, "live")).version == "2"
    await client.versions.create_alias(F, "dev", "$LATEST")
    assert [it.name for it in await client.versions.list_aliases(F)] == ["dev", "live"]
    assert [it.name for it in await client.versions.list_aliases(F, "2")] == ["live"]
    await client.versions.delete_alias(F, "live")
    with pytest.raises(UnknownAlias):
        await client.versions.get_alias(F, "live")


@pytest.mark.parametrize(
    ("alias", "version", "weights", "error"),
    [
        ("live", "9", None, UnknownFunction),
        ("live", "1", {"9": 0.1}, UnknownFunction),
        ("live", "1", {"1": 0.1}, InvalidRequest),
        ("live", "1", {"2": 1.1}, InvalidRequest),
        ("live", "1", {"2": float("nan")}, InvalidRequest),
        ("live", "1", {"2": 0.1, "3": 0.1}, InvalidRequest),
        ("live", "$LATEST", {"1": 0.1}, InvalidRequest),
        ("live", "1", {"$LATEST": 0.1}, InvalidRequest),
        ("12", "1", None, InvalidRequest),
        ("", "1", None, InvalidRequest),
        ("a/b", "1", None, InvalidRequest),
        ("a" * 129, "1", None, InvalidRequest),
        ("taken", "1", None, AliasExists),
    ],
)
async def test_what_no_alias_may_be(
    client: Client,
    alias: str,
    version: str,
    weights: dict[str, float] | None,
    error: type[LambentError],
) -> None:
    """Each is told, and nothing is written."""
    await deployed(client, publish=2)
    await client.versions.create_alias(F, "taken", "2")
    with pytest.raises(error):
        await client.versions.create_alias(F, alias, version, weights=weights)
    if alias != "taken":
        assert [it.name for it in await client.versions.list_aliases(F)] == ["taken"]
    assert (await client.versions.get_alias(F, "taken")).version == "2"


async def test_two_that_move_an_alias(frontends: list[Frontend]) -> None:
    """Who gives the revision that was read is told when the other one was first."""
    one, other = (it.client for it in frontends)
    await deployed(one, publish=2)
    read = (await one.versions.create_alias(F, "live", "1")).revision_id
    moves = (it.versions.update_alias(F, "live", version="2", revision_id=read) for it in (one, other))
    told = await asyncio.gather(*moves, return_exceptions=True)
    assert sorted(type(it).__name__ for it in told) == ["Alias", "RevisionMismatch"]


async def test_an_alias_and_its_version_s_deletion_cannot_both_be(frontends: list[Frontend]) -> None:
    """Whoever of the two frontends is first: no alias points to nothing."""
    one, other = (it.client for it in frontends)
    await deployed(one, publish=6)
    for number in ("1", "2", "3", "4", "5", "6"):
        told = await asyncio.gather(
            one.versions.create_alias(F, f"a{number}", number),
            other.versions.delete(F, number),
            return_exceptions=True,
        )
        assert sum(isinstance(it, Exception) for it in told) == 1
        errors = [it for it in told if isinstance(it, Exception)]
        assert isinstance(errors[0], UnknownFunction | InUse)


async def test_what_is_to_be_ready(frontends: list[Frontend]) -> None:
    """Asked for, shown with placement's word, changed, given up."""
    it = frontends[0]
    client = it.client
    await deployed(client, publish=2)
    await client.versions.create_alias(F, "live", "1")
    asked = await client.versions.put_provisioned(F, "live", 3)
    assert (asked.requested, asked.allocated, asked.status) == (3, 0, "IN_PROGRESS")
    one = (await client.get_function(F, "1")).revision_id
    it.told = control_pb2.DescribeResponse(
        provisioned=[
            control_pb2.DescribedProvisioned(version=f"f:1:{one}", requested=3, allocated=3, status="READY")
        ]
    )
    ready = await client.versions.get_provisioned(F, "live")
    assert (ready.requested, ready.allocated, ready.status) == (3, 3, "READY")
    it.told = NotReady("nobody leads")
    assert (await client.versions.get_provisioned(F, "live")).status == "IN_PROGRESS"
    await client.versions.put_provisioned(F, "2", 1)
    assert [(p.qualifier, p.requested) for p in await client.versions.list_provisioned(F)] == [
        ("2", 1),
        ("live", 3),
    ]
    await client.versions.delete_provisioned(F, "2")
    await client.versions.delete_alias(F, "live")
    assert await client.versions.list_provisioned(F) == []
    with pytest.raises(NotProvisioned):
        await client.versions.get_provisioned(F, "live")
    with pytest.raises(NotProvisioned):
        await client.versions.delete_provisioned(F, "live")


@pytest.mark.parametrize(
    ("qualifier", "count", "error"),
    [
        ("1", 0, InvalidRequest),
        ("1", 6, InvalidRequest),  # more than the function's concurrency
        ("2", 4, InvalidRequest),  # with what is ready of another version
        ("$LATEST", 1, InvalidRequest),
        ("", 1, InvalidRequest),
        ("dev", 1, InvalidRequest),
        ("live", 1, InvalidRequest),  # its version has its own
        ("9", 1, UnknownFunction),
        ("other", 1, UnknownFunction),
    ],
)
async def test_what_cannot_be_ready(
    client: Client, qualifier: str, count: int, error: type[LambentError]
) -> None:
    """Each is told, and nothing is written."""
    await deployed(client, publish=2, concurrency=5)
    await client.versions.create_alias(F, "live", "1")
    await client.versions.create_alias(F, "dev", "$LATEST")
    await client.versions.put_provisioned(F, "1", 2)
    with pytest.raises(error):
        await client.versions.put_provisioned(F, qualifier, count)
    assert [(p.qualifier, p.requested) for p in await client.versions.list_provisioned(F)] == [("1", 2)]


async def test_what_is_ready_stays_within_what_there_is(client: Client) -> None:
    """A reservation below it, an alias moved to `$LATEST` or to a version with its own: refused."""
    await deployed(client, publish=2, concurrency=5)
    await client.versions.create_alias(F, "live", "1")
    await client.versions.put_provisioned(F, "live", 3)
    await client.versions.put_provisioned(F, "2", 1)
    with pytest.raises(InvalidRequest, match="provisioned"):
        await client.update_function(F, concurrency=3)
    for version in ("$LATEST", "2"):
        with pytest.raises(InvalidRequest):
            await client.versions.update_alias(F, "live", version=version)
    await client.update_function(F, concurrency=4)
    assert (await client.versions.get_alias(F, "live")).version == "1"


async def test_a_version_is_no_function_of_its_own(client: Client) -> None:
    """Its key in etcd would be found under such a name; an alias made of it could be read by no frontend."""
    await deployed(client, publish=1)
    version = f"{F}/version/1"
    for changing in (
        client.versions.create_alias(version, "live", "$LATEST"),
        client.versions.publish(version),
        client.update_function(version, timeout_s=9),
        client.delete_function(version),
    ):
        with pytest.raises(UnknownFunction):
            await changing
    assert (await client.get_function(F, "1")).version == "1"
