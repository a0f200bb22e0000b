"""The Functions service over real gRPC, a real etcd and a real folder: what is stored, refused and shown."""

import asyncio
import base64
import hashlib
import io
import sys
import zipfile
from collections.abc import AsyncIterator
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
from lambent_frontend.limits import Limits
from lambent_frontend.packages import Packages
from lambent_frontend.registry import Registry
from lambent_proto import keys
from lambent_proto.errors import (
    BrokenPackage,
    Contended,
    FunctionExists,
    InvalidRequest,
    LambentError,
    RevisionMismatch,
    UnknownFunction,
    UnknownLayer,
)
from lambent_proto.ids import FunctionName
from lambent_proto.v1 import functions_pb2
from tests.unit.scripted import ScriptedDispatcher, serving

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

RUNTIME = f"python3.{sys.version_info.minor}"


def package(source: str = "def handler(event, context): return event") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("app.py"), source)  # the same bytes whenever it is made
    return buffer.getvalue()


def kept_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest_asyncio.fixture(loop_scope="module")
async def client(etcd: Etcd, tmp_path: Path) -> AsyncIterator[Client]:
    catalogue = Catalogue(etcd, lambda *_: None)
    following = asyncio.create_task(catalogue.follow())
    limits = Limits(etcd, catalogue)
    functions = Functions(
        catalogue,
        Registry(etcd, catalogue),
        Packages(open_store(str(tmp_path))),
        LayerCatalogue(etcd),
        limits,
    )
    server = serving(ScriptedDispatcher(), functions, limits=limits)
    async with server as address, Client(address) as connected:
        await catalogue.ready.wait()
        yield connected
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def created(client: Client, name: str = "f", **fields: object) -> functions_pb2.Function:
    return await client.create_function(
        name,
        package(),
        runtime=RUNTIME,
        handler="app.handler",
        **fields,  # type: ignore[arg-type]
    )


async def test_a_created_function_is_shown_as_lambda_shows_it(client: Client, tmp_path: Path) -> None:
    """Lambda's defaults, the hash in base64, and the ZIP in the store."""
    function = await created(client)
    digest = hashlib.sha256(package())
    assert (function.name, function.version, function.runtime) == ("f", "$LATEST", RUNTIME)
    assert (function.memory_mb, function.timeout_s, function.description) == (128, 3.0, "")
    assert (function.tmp_mb, function.network, function.snapstart) == (512, False, False)
    assert function.code_sha256 == base64.b64encode(digest.digest()).decode()
    assert function.code_size == len(package())
    assert function.unzipped_size == len("def handler(event, context): return event")
    assert not function.HasField("concurrency")
    assert len(function.revision_id) == 32
    assert function.last_modified.seconds > 1_700_000_000
    assert await client.get_function("f") == function
    assert kept_in(tmp_path) == [f"{digest.hexdigest()}.zip"]


async def test_everything_given_is_kept(client: Client) -> None:
    """Memory, timeout, environment, description, concurrency, `/tmp`, network, SnapStart, labels."""
    await created(
        client,
        memory_mb=256,
        timeout_s=0.5,
        environment={"KEY": "v"},
        description="d",
        concurrency=0,
        tmp_mb=1024,
        network=True,
        snapstart=True,
        require=["gpu=true"],
        prefer=["zone=b", "zone=a"],
        apart=True,
    )
    function = await client.get_function("f")
    assert (list(function.require), list(function.prefer)) == (["gpu=true"], ["zone=a", "zone=b"])
    assert function.apart
    assert (function.tmp_mb, function.network, function.snapstart) == (1024, True, True)
    assert (function.memory_mb, function.timeout_s, dict(function.environment)) == (256, 0.5, {"KEY": "v"})
    assert (function.description, function.concurrency) == ("d", 0)
    assert function.HasField("concurrency")


REFUSED = [
    pytest.param({"name": "no spaces"}, InvalidRequest, id="name"),
    pytest.param({"runtime": "python2.7"}, InvalidRequest, id="runtime"),
    pytest.param({"runtime": None}, InvalidRequest, id="no runtime"),
    pytest.param({"handler": None}, InvalidRequest, id="no handler"),
    pytest.param({"memory_mb": 1}, InvalidRequest, id="memory"),
    pytest.param({"tmp_mb": 511}, InvalidRequest, id="tmp"),
    pytest.param({"require": ["gpu"]}, InvalidRequest, id="label"),
    pytest.param({"layers": ["nothing:1"]}, UnknownLayer, id="layer"),
    pytest.param({"zip_file": b""}, InvalidRequest, id="no ZIP"),
    pytest.param({"zip_file": bytes(52_428_801)}, InvalidRequest, id="ZIP too large"),
    pytest.param({"zip_file": b"not a zip"}, BrokenPackage, id="not a ZIP"),
    pytest.param({"zip_file": package()[:-30]}, BrokenPackage, id="ZIP cut short"),
]


@pytest.mark.parametrize(("wrong", "error"), REFUSED)
async def test_bad_input_changes_nothing(
    client: Client, tmp_path: Path, wrong: dict[str, object], error: type[LambentError]
) -> None:
    """Neither a definition nor a package is left behind."""
    fields: dict[str, object] = {"name": "f", "zip_file": package(), "runtime": RUNTIME, "handler": "a.b"}
    with pytest.raises(error):
        await client.create_function(**fields | wrong)  # type: ignore[arg-type]
    assert await client.list_functions() == []
    assert kept_in(tmp_path) == []


async def test_a_name_is_given_once(client: Client) -> None:
    """The first function stays as it is."""
    first = await created(client)
    with pytest.raises(FunctionExists, match="already"):
        await created(client, description="another")
    assert await client.get_function("f") == first


async def test_of_many_creates_at_once_one_wins(client: Client) -> None:
    """All others hear that the name is taken."""
    outcomes = await asyncio.gather(
        *(created(client, description=str(n)) for n in range(8)), return_exceptions=True
    )
    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, functions_pb2.Function)]
    assert sum(isinstance(outcome, FunctionExists) for outcome in outcomes) == 7
    assert (await client.get_function("f")).description == winner.description


async def test_an_update_changes_what_is_given(client: Client, tmp_path: Path) -> None:
    """Code alone, configuration alone: the rest stays; each is another revision."""
    first = await created(client, environment={"KEY": "v"}, concurrency=7)
    second = await client.update_function("f", package("x = 1"))
    third = await client.update_function("f", timeout_s=9)
    assert second.code_sha256 != first.code_sha256
    assert third.code_sha256 == second.code_sha256
    assert (third.timeout_s, dict(third.environment), third.concurrency) == (9, {"KEY": "v"}, 7)
    assert len({first.revision_id, second.revision_id, third.revision_id}) == 3
    assert await client.get_function("f") == third
    assert len(kept_in(tmp_path)) == 2


async def test_a_limit_is_not_a_revision(client: Client) -> None:
    """Another concurrency leaves the instances warm; `default` goes back to the fleet's."""
    first = await created(client)
    limited = await client.update_function("f", concurrency=5)
    assert (limited.concurrency, limited.revision_id) == (5, first.revision_id)
    free = await client.update_function("f", concurrency="default")
    assert not free.HasField("concurrency")
    assert free.revision_id == first.revision_id


async def test_an_update_that_changes_nothing_is_none(client: Client, etcd: Etcd) -> None:
    """The same code and configuration again: no new revision, no instance replaced, nothing written."""
    first = await created(client, timeout_s=5)
    before = await etcd.get(keys.function(FunctionName("f")))
    assert await client.update_function("f", package(), timeout_s=5) == first
    assert await etcd.get(keys.function(FunctionName("f"))) == before


async def test_a_bad_update_changes_nothing(client: Client) -> None:
    """Good code with a bad configuration, or the other way round: the function stays as it was."""
    first = await created(client)
    with pytest.raises(InvalidRequest):
        await client.update_function("f", package("x = 1"), memory_mb=1)
    with pytest.raises(BrokenPackage):
        await client.update_function("f", b"not a zip", memory_mb=512)
    assert await client.get_function("f") == first


async def test_an_old_revision_is_refused(client: Client) -> None:
    """Who decided on an old state must look again."""
    first = await created(client)
    second = await client.update_function("f", timeout_s=9, revision_id=first.revision_id)
    with pytest.raises(RevisionMismatch, match=second.revision_id):
        await client.update_function("f", timeout_s=10, revision_id=first.revision_id)
    assert (await client.get_function("f")).timeout_s == 9


async def test_updates_at_once_lose_nothing(client: Client) -> None:
    """Four people change four things at the same time: all four changes are there afterwards."""
    await created(client)
    await asyncio.gather(
        client.update_function("f", timeout_s=9),
        client.update_function("f", memory_mb=512),
        client.update_function("f", description="d"),
        client.update_function("f", environment={"KEY": "v"}),
    )
    function = await client.get_function("f")
    assert (function.timeout_s, function.memory_mb, function.description) == (9, 512, "d")
    assert dict(function.environment) == {"KEY": "v"}


async def test_of_many_changes_at_once_none_is_refused(client: Client) -> None:
    """Each is made anew until it comes through, at times that no two share for long."""
    await created(client)
    numbers = [str(number) for number in range(40)]
    await asyncio.gather(*(client.update_function("f", add_tags={it: it}) for it in numbers))
    assert set((await client.get_function("f")).tags) == set(numbers)


async def test_what_others_change_without_end_is_refused_in_the_end(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await created(client)

    async def never(*_: object) -> bool:
        return False

    monkeypatch.setattr(Registry, "replace", never)
    with pytest.raises(Contended, match="nothing was changed"):
        await client.update_function("f", timeout_s=9)


async def test_a_deleted_function_is_gone(client: Client) -> None:
    """And its name is free for another one, with another revision."""
    first = await created(client)
    await client.delete_function("f")
    with pytest.raises(UnknownFunction):
        await client.get_function("f")
    with pytest.raises(UnknownFunction):
        await client.delete_function("f")
    with pytest.raises(UnknownFunction):
        await client.update_function("f", timeout_s=9)
    assert (await created(client)).revision_id != first.revision_id


async def test_a_list_in_pages(client: Client) -> None:
    """Sorted by name; the marker leads on; the last page has none."""
    for name in ("b", "d", "a", "c", "e"):
        await created(client, name)
    pages: list[list[str]] = []
    request = functions_pb2.ListFunctionsRequest(max_items=2)
    while True:
        page = await client._functions.ListFunctions(request)
        pages.append([function.name for function in page.functions])
        if not page.next_marker:
            break
        request.marker = page.next_marker
    assert pages == [["a", "b"], ["c", "d"], ["e"]]
    assert [function.name for function in await client.list_functions()] == ["a", "b", "c", "d", "e"]


async def test_a_page_that_is_exactly_full_is_the_last(client: Client) -> None:
    """No marker to an empty page."""
    for name in ("a", "b"):
        await created(client, name)
    page = await client._functions.ListFunctions(functions_pb2.ListFunctionsRequest(max_items=2))
    assert (len(page.functions), page.next_marker) == (2, "")


@pytest.mark.parametrize("max_items", [-1, 10_001])
async def test_a_page_size_out_of_range(client: Client, max_items: int) -> None:
    """1 to 10,000, or 0 for the default."""
    with pytest.raises(grpc.aio.AioRpcError, match="max_items"):
        await client._functions.ListFunctions(functions_pb2.ListFunctionsRequest(max_items=max_items))


async def test_a_function_with_a_role_tags_and_a_version(client: Client) -> None:
    """All that the HTTP API can give it, and one transaction; the version is the answer."""
    made = await created(client, role="arn:aws:iam::000000000000:role/any", tags={"team": "a"}, publish=True)
    assert (made.version, made.role, dict(made.tags)) == (
        "1",
        "arn:aws:iam::000000000000:role/any",
        {"team": "a"},
    )
    second = await client.update_function("f", package("x = 1"), publish=True)
    third = await client.update_function("f", timeout_s=9, publish=True)
    assert (second.version, third.version) == ("2", "3")
    assert await client.update_function("f", publish=True) == third
    listed = await client.list_functions(all_versions=True)
    assert [it.version for it in listed] == ["$LATEST", "1", "2", "3"]
    assert [it.version for it in await client.list_functions()] == ["$LATEST"]


async def test_a_dry_run(client: Client, tmp_path: Path) -> None:
    """What it would be, or why not; nothing is changed, and nothing kept."""
    made = await created(client)
    dry = await client.update_function("f", package("x = 1"), timeout_s=9, publish=True, dry_run=True)
    assert (dry.timeout_s, dry.version, dry.code_sha256 != made.code_sha256) == (9, "$LATEST", True)
    with pytest.raises(InvalidRequest):
        await client.update_function("f", timeout_s=901, dry_run=True)
    assert await client.list_functions(all_versions=True) == [made]
    assert len(kept_in(tmp_path)) == 1


async def test_tags_come_and_go_one_by_one(client: Client) -> None:
    """No other revision; those that are not named stay; too many are refused."""
    made = await created(client, tags={"a": "1", "b": "2"})
    new = await client.update_function("f", add_tags={"b": "3", "c": "4"}, remove_tags=["a", "none"])
    assert (dict(new.tags), new.revision_id) == ({"b": "3", "c": "4"}, made.revision_id)
    with pytest.raises(InvalidRequest, match="51 tags"):
        await client.update_function("f", add_tags={f"t{number}": "" for number in range(49)})
    assert dict((await client.get_function("f")).tags) == {"b": "3", "c": "4"}


async def test_the_code_of_each_version(client: Client) -> None:
    large = package("# " + "".join(f"{number:x}" for number in range(800_000)))
    await created(client, publish=True)
    await client.update_function("f", large)

    async def code(qualifier: str = "") -> list[bytes]:
        return [part async for part in client.get_code("f", qualifier)]

    assert b"".join(await code("1")) == package()
    parts = await code()
    assert b"".join(parts) == large
    assert max(map(len, parts)) <= 1_000_000 < len(large)
    with pytest.raises(UnknownFunction):
        await code("2")


async def test_what_the_fleet_holds(client: Client) -> None:
    for name in ("f", "g"):
        await created(client, name)
    fleet = await client.concurrency()
    assert (fleet.functions, fleet.code_size) == (2, 2 * len(package()))
