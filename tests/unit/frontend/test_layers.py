"""The Layers service, and functions with layers, over real gRPC, a real etcd and a real folder."""

import asyncio
import base64
import hashlib
import io
import sys
import zipfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc.aio
import pytest
import pytest_asyncio

from lambent.client import Client
from lambent_chassis.etcd import Etcd
from lambent_chassis.objects import open_store
from lambent_frontend.catalogue import Catalogue
from lambent_frontend.functions import Functions
from lambent_frontend.layer_catalogue import LayerCatalogue
from lambent_frontend.layers import Layers
from lambent_frontend.limits import Limits
from lambent_frontend.packages import Packages
from lambent_frontend.registry import Registry
from lambent_proto import keys
from lambent_proto.definition import Definition, LayerVersion, PublishedLayer
from lambent_proto.errors import (
    BrokenPackage,
    InvalidRequest,
    LambentError,
    NotReady,
    Unconfirmed,
    UnknownLayer,
)
from lambent_proto.ids import FunctionName
from lambent_proto.v1 import functions_pb2, layers_pb2
from tests.unit.frontend.lost_answers import LosesAnswers
from tests.unit.scripted import ScriptedDispatcher, serving

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

RUNTIME = f"python3.{sys.version_info.minor}"


def package(text: str = "x = 1") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("python/deps.py"), text)  # the same bytes whenever it is made
    return buffer.getvalue()


def large(size: int) -> bytes:
    """A small ZIP of `size` bytes unzipped."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for at in range(0, size, 1_000_000):
            archive.writestr(f"{at}", bytes(min(1_000_000, size - at)))
    return buffer.getvalue()


@pytest_asyncio.fixture(loop_scope="module")
async def client(etcd: Etcd, tmp_path: Path) -> AsyncIterator[Client]:
    catalogue = Catalogue(etcd, lambda *_: None)
    following = asyncio.create_task(catalogue.follow())
    packages, layers = Packages(open_store(str(tmp_path))), LayerCatalogue(etcd)
    async with (
        serving(
            ScriptedDispatcher(),
            Functions(catalogue, Registry(etcd, catalogue), packages, layers, Limits(etcd, catalogue)),
            Layers(layers, packages),
        ) as address,
        Client(address) as connected,
    ):
        await catalogue.ready.wait()
        yield connected
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def created(client: Client, layers: Sequence[str] | None = None) -> functions_pb2.Function:
    return await client.create_function("f", package(), runtime=RUNTIME, handler="a.b", layers=layers)


def kept_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def named(versions: Sequence[layers_pb2.LayerVersion | functions_pb2.FunctionLayer]) -> list[str]:
    return [f"{version.name}:{version.version}" for version in versions]


async def test_a_version_is_shown_as_it_was_published(client: Client, tmp_path: Path) -> None:
    """The hash in base64, both sizes, and the ZIP in the store that the functions' ZIPs are in."""
    version = await client.publish_layer_version(
        "deps", package(), description="d", compatible_runtimes=[RUNTIME, "provided.al2023"]
    )
    digest = hashlib.sha256(package())
    assert (version.name, version.version, version.description) == ("deps", 1, "d")
    assert list(version.compatible_runtimes) == [RUNTIME, "provided.al2023"]
    assert version.code_sha256 == base64.b64encode(digest.digest()).decode()
    assert (version.code_size, version.unzipped_size) == (len(package()), 5)
    assert version.created_at.seconds > 1_700_000_000
    assert await client.get_layer_version("deps", 1) == version
    assert kept_in(tmp_path) == [f"{digest.hexdigest()}.zip"]


async def test_a_number_is_never_given_twice(client: Client) -> None:
    """Not after the newest version was deleted, nor after all were."""
    for expected in (1, 2):
        assert (await client.publish_layer_version("deps", package())).version == expected
    await client.delete_layer_version("deps", 2)
    assert (await client.publish_layer_version("deps", package())).version == 3
    for version in (1, 3):
        await client.delete_layer_version("deps", version)
    assert await client.list_layers() == []
    assert (await client.publish_layer_version("deps", package())).version == 4
    assert (await client.publish_layer_version("other", package())).version == 1


async def test_publishing_at_once_loses_nothing(client: Client) -> None:
    """Each gets a number of its own, and each number is the content it was given for."""
    published = await asyncio.gather(
        *(client.publish_layer_version("deps", package(), description=str(n)) for n in range(4))
    )
    assert sorted(version.version for version in published) == [1, 2, 3, 4]
    for version in published:
        assert await client.get_layer_version("deps", version.version) == version


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        pytest.param({"name": "no/name"}, InvalidRequest, id="name"),
        pytest.param({"description": "d" * 257}, InvalidRequest, id="description"),
        pytest.param({"compatible_runtimes": ["no runtime"]}, InvalidRequest, id="runtime"),
        pytest.param({"zip_file": b""}, InvalidRequest, id="no ZIP"),
        pytest.param({"zip_file": bytes(52_428_801)}, InvalidRequest, id="ZIP too large"),
        pytest.param({"zip_file": b"not a zip"}, BrokenPackage, id="not a ZIP"),
        pytest.param({"zip_file": large(262_144_001)}, BrokenPackage, id="too large unzipped"),
    ],
)
async def test_bad_input_changes_nothing(
    client: Client, tmp_path: Path, wrong: dict[str, object], error: type[LambentError]
) -> None:
    """Neither a version nor a package is left behind, and no number is taken."""
    fields: dict[str, object] = {"name": "deps", "zip_file": package()}
    with pytest.raises(error):
        await client.publish_layer_version(**fields | wrong)  # type: ignore[arg-type]
    assert kept_in(tmp_path) == []
    assert (await client.publish_layer_version("deps", package())).version == 1


async def test_what_is_not_there(client: Client) -> None:
    """It cannot be shown, deleted or used; the message names it."""
    await client.publish_layer_version("deps", package())
    for name, version in (("deps", 2), ("deps", 0), ("dep", 1)):
        with pytest.raises(UnknownLayer, match=f"version {version} of a layer '{name}'"):
            await client.get_layer_version(name, version)
        with pytest.raises(UnknownLayer):
            await client.delete_layer_version(name, version)
    assert await client.list_layer_versions("dep") == []
    with pytest.raises(UnknownLayer, match="version 2 of a layer 'deps'"):
        await created(client, ["deps:2"])
    assert await client.list_functions() == []


async def test_lists(client: Client) -> None:
    """The newest version of each layer by name; of one layer all versions, the tenth above the ninth."""
    for name, count in (("b", 11), ("a", 1), ("bb", 2)):
        for _ in range(count):
            await client.publish_layer_version(name, package())
    await client.delete_layer_version("bb", 2)
    assert named(await client.list_layers()) == ["a:1", "b:11", "bb:1"]
    assert named(await client.list_layer_versions("b")) == [f"b:{n}" for n in range(11, 0, -1)]


async def test_lists_in_pages_and_for_one_runtime(client: Client) -> None:
    """The marker leads on, the last page has none; a filter looks behind newer versions."""
    for name in ("a", "b", "c"):
        for runtime in ("python3.11", "nodejs22.x"):
            await client.publish_layer_version(name, package(), compatible_runtimes=[runtime])
    ask = layers_pb2.ListLayersRequest(max_items=2, compatible_runtime="python3.11")
    first = await client._layers.ListLayers(ask)
    ask.marker = first.next_marker
    second = await client._layers.ListLayers(ask)
    assert (named(first.layers), named(second.layers)) == (["a:1", "b:1"], ["c:1"])
    assert second.next_marker == ""
    full = await client._layers.ListLayers(layers_pb2.ListLayersRequest(max_items=3))
    assert (named(full.layers), full.next_marker) == (["a:2", "b:2", "c:2"], "")
    versions = layers_pb2.ListLayerVersionsRequest(name="a", max_items=1)
    one = await client._layers.ListLayerVersions(versions)
    versions.marker = one.next_marker
    two = await client._layers.ListLayerVersions(versions)
    assert (named(one.layer_versions), named(two.layer_versions)) == (["a:2"], ["a:1"])
    assert two.next_marker == ""
    for request in (
        layers_pb2.ListLayerVersionsRequest(name="a", marker="x"),
        layers_pb2.ListLayerVersionsRequest(name="a", marker="1" * 5000),
        layers_pb2.ListLayerVersionsRequest(name="a", max_items=10_001),
    ):
        with pytest.raises(grpc.aio.AioRpcError, match="INVALID_ARGUMENT"):
            await client._layers.ListLayerVersions(request)


async def test_a_function_has_its_layers_in_order(client: Client, etcd: Etcd) -> None:
    """By name or ARN; what the worker reads in etcd has the package of each."""
    for name in ("a", "b"):
        await client.publish_layer_version(name, package(name))
    function = await created(client, ["b:1", "arn:aws:lambda:us-east-1:000000000000:layer:a:1"])
    assert named(function.layers) == ["b:1", "a:1"]
    assert await client.get_function("f") == function
    stored = await etcd.get(keys.function(FunctionName("f")))
    assert stored is not None
    assert Definition.decode(stored.value).layers == tuple(
        LayerVersion(
            name=name,
            version=1,
            code_sha256=hashlib.sha256(package(name)).hexdigest(),
            code_size=len(package(name)),
            unzipped_size=1,
        )
        for name in ("b", "a")
    )


async def test_layers_are_replaced_kept_or_taken_away(client: Client) -> None:
    """An update without layers leaves them, an empty list takes all away; each change is a revision."""
    for name in ("a", "b"):
        await client.publish_layer_version(name, package())
    first = await created(client, ["a:1"])
    second = await client.update_function("f", timeout_s=9)
    assert named(second.layers) == ["a:1"]
    third = await client.update_function("f", layers=["b:1"])
    assert named(third.layers) == ["b:1"]
    fourth = await client.update_function("f", layers=[])
    assert named(fourth.layers) == []
    assert len({it.revision_id for it in (first, second, third, fourth)}) == 4
    assert await client.update_function("f", layers=[]) == fourth


async def test_a_deleted_version_stays_with_its_functions(client: Client, tmp_path: Path) -> None:
    """They can be changed in other ways, and its package is there; no function can take it any more."""
    layer = await client.publish_layer_version("deps", package("layer"))
    await created(client, ["deps:1"])
    await client.delete_layer_version("deps", 1)
    function = await client.update_function("f", timeout_s=9)
    assert named(function.layers) == ["deps:1"]
    kept = base64.b64decode(layer.code_sha256).hex()
    assert f"{kept}.zip" in kept_in(tmp_path)
    with pytest.raises(UnknownLayer):
        await client.update_function("f", layers=["deps:1"])
    assert await client.get_function("f") == function


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (["deps:1"] * 6, "Cannot reference more than 5 layers."),
        (["deps:1", "deps:1"], "twice"),
        (["deps"], "NAME:VERSION"),
    ],
)
async def test_layers_that_cannot_be(client: Client, layers: list[str], said: str) -> None:
    """Neither a new function nor an old one takes them."""
    await client.publish_layer_version("deps", package())
    with pytest.raises(InvalidRequest, match=said):
        await created(client, layers)
    function = await created(client)
    with pytest.raises(InvalidRequest, match=said):
        await client.update_function("f", layers=layers)
    assert await client.get_function("f") == function


async def test_code_and_layers_together_are_not_too_large(client: Client, tmp_path: Path) -> None:
    """At a deploy of either. Exactly 262,144,000 bytes fit, and code that is refused is not kept."""
    for name in ("a", "b"):
        await client.publish_layer_version(name, large(131_072_000 - 3))
    function = await client.create_function(
        "f", large(6), runtime=RUNTIME, handler="a.b", layers=["a:1", "b:1"]
    )
    kept = kept_in(tmp_path)
    with pytest.raises(InvalidRequest, match="262,144,001 bytes unzipped"):
        await client.update_function("f", large(7))
    assert await client.get_function("f") == function
    assert kept_in(tmp_path) == kept
    await client.update_function("f", large(7), layers=["a:1"])
    with pytest.raises(InvalidRequest, match="262,144,001 bytes unzipped"):
        await client.update_function("f", layers=["a:1", "b:1"])


def numbered(version: int) -> PublishedLayer:
    return PublishedLayer(layer=LayerVersion(name="deps", version=version, code_sha256="00", code_size=1))


async def test_a_lost_answer_is_looked_up(etcd: Etcd) -> None:
    """A change that etcd made counts, though its answer never came."""
    layers = LayerCatalogue(LosesAnswers(etcd, carried_out=True))
    for version in (1, 2):
        assert await layers.publish("deps", numbered) == numbered(version)
    await layers.delete("deps", 1)
    assert await layers.versions("deps") == [numbered(2)]


async def test_a_change_in_doubt_is_said_to_be(etcd: Etcd) -> None:
    """etcd may still carry it out: the caller must look before deciding."""
    layers = LayerCatalogue(LosesAnswers(etcd, carried_out=False))
    with pytest.raises(Unconfirmed, match="not known"):
        await layers.publish("deps", numbered)
    await LayerCatalogue(etcd).publish("deps", numbered)
    with pytest.raises(Unconfirmed, match="not known"):
        await layers.delete("deps", 1)


async def test_without_etcd_it_is_not_ready() -> None:
    """Whatever etcd's client says becomes an error of ours."""
    layers = LayerCatalogue(Etcd(["127.0.0.1:1"]))
    for failing in (layers.get("deps", 1), layers.all_versions(), layers.publish("deps", numbered)):
        with pytest.raises(NotReady):
            await failing


async def test_the_code_of_a_layer(client: Client) -> None:
    for text in ("x = 1", "x = 2"):
        await client.publish_layer_version("deps", package(text))
    parts = [part async for part in client.get_layer_code("deps", 1)]
    assert b"".join(parts) == package("x = 1")
    with pytest.raises(UnknownLayer):
        await anext(client.get_layer_code("deps", 3))
