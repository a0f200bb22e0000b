"""Management over HTTP by boto3 and a real etcd: changes in doubt, two at once, lists, rights, downloads."""

import asyncio
import base64
import hashlib
import io
import urllib.error
import urllib.request
import zipfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from lambent_chassis.etcd import Etcd
from lambent_frontend.http.downloads import shared_secret
from lambent_frontend.http.gate import Locked
from lambent_proto import keys
from lambent_proto.access import Rule, new_access_key
from lambent_proto.ids import FunctionName
from tests.unit.frontend.doors import Door, door
from tests.unit.frontend.followed import definition
from tests.unit.frontend.http_client import connected
from tests.unit.frontend.lost_answers import LosesAnswers
from tests.unit.scripted import Known

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


LAYER = "arn:aws:lambda:us-east-1:000000000000:layer:l:1"


def package(source: str = "def handler(event, context): return 1\n") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("app.py"), source)
    return buffer.getvalue()


def new(name: str = "f", **fields: Any) -> dict[str, Any]:
    given = {"Runtime": "python3.11", "Handler": "app.handler", "Role": "arn:aws:iam::000000000000:role/any"}
    return {"FunctionName": name, "Code": {"ZipFile": package()}, **given, **fields}


async def test_a_change_in_doubt_is_not_sent_again(etcd: Etcd, tmp_path: Path) -> None:
    """AWS's client sends a 503 five times: this one it sends once, and tells its caller why."""
    losing = LosesAnswers(etcd, carried_out=False)
    async with door(losing, tmp_path) as it:  # type: ignore[arg-type]
        with pytest.raises(ClientError, match="look at it before deciding") as raised:
            await it.ask("create_function", **new())
    told = raised.value.response["ResponseMetadata"]
    assert (told["HTTPStatusCode"], told["RetryAttempts"], losing.lost) == (520, 0, 1)
    assert told["HTTPHeaders"]["x-lambent-error"] == "UNCONFIRMED"


async def revision(etcd: Etcd) -> int:
    """How many transactions etcd has carried out that changed something."""
    return (await etcd.get_prefix(keys.FUNCTIONS)).revision


async def test_a_change_and_its_version_are_one_transaction(etcd: Etcd, tmp_path: Path) -> None:
    """Nobody sees the one without the other, whatever ends in between."""
    async with door(etcd, tmp_path) as it:
        before = await revision(etcd)
        made = await it.ask("create_function", **new(Publish=True))
        assert (made["Version"], await revision(etcd)) == ("1", before + 1)
        code = {"FunctionName": "f", "Publish": True}
        second = await it.ask("update_function_code", ZipFile=package("x = 2"), **code)
        assert (second["Version"], await revision(etcd)) == ("2", before + 2)
        again = await it.ask("update_function_code", ZipFile=package("x = 2"), **code)
        assert (again["Version"], await revision(etcd)) == ("2", before + 2)
        versions = (await it.ask("list_versions_by_function", FunctionName="f"))["Versions"]
        assert [(each["Version"], each["CodeSha256"]) for each in versions] == [
            ("$LATEST", second["CodeSha256"]),
            ("1", made["CodeSha256"]),
            ("2", second["CodeSha256"]),
        ]
        await it.ask("delete_function", FunctionName="f")
        assert (await it.ask("create_function", **new(Publish=True)))["Version"] == "3"  # never given twice


async def test_an_older_revision_is_not_published(etcd: Etcd, tmp_path: Path) -> None:
    async with door(etcd, tmp_path) as it:
        made = await it.ask("create_function", **new())
        given = {"FunctionName": "f", "RevisionId": made["RevisionId"], "Publish": True}
        await it.ask("update_function_configuration", FunctionName="f", Timeout=9)
        before = await revision(etcd)
        with pytest.raises(it.aws.exceptions.PreconditionFailedException):
            await it.ask("update_function_code", ZipFile=package("x = 2"), **given)
        assert await revision(etcd) == before


async def test_two_clients_update_at_once(etcd: Etcd, tmp_path: Path) -> None:
    """At two frontends, each by the revision that it has read: one is told, and of it nothing is there."""
    async with door(etcd, tmp_path) as one, door(etcd, tmp_path) as other:
        now = await one.ask("create_function", **new())
        for number in range(5):
            codes = [package(f"x = {number}"), package(f"y = {number}")]
            given = {"FunctionName": "f", "RevisionId": now["RevisionId"], "Publish": True}
            outcomes = await asyncio.gather(
                one.ask("update_function_code", ZipFile=codes[0], **given),
                other.ask("update_function_code", ZipFile=codes[1], **given),
                return_exceptions=True,
            )
            (done,) = [it for it in outcomes if not isinstance(it, BaseException)]
            (refused,) = [it for it in outcomes if isinstance(it, ClientError)]
            assert refused.response["ResponseMetadata"]["HTTPStatusCode"] == 412
            now = await other.ask("get_function_configuration", FunctionName="f")
            assert (now["CodeSha256"], now["RevisionId"]) == (done["CodeSha256"], done["RevisionId"])
            assert done["Version"] == f"{number + 1}"
        versions = (await one.ask("list_versions_by_function", FunctionName="f"))["Versions"]
        assert [it["Version"] for it in versions] == ["$LATEST", *"12345"]


async def test_two_clients_create_at_once(etcd: Etcd, tmp_path: Path) -> None:
    async with door(etcd, tmp_path) as one, door(etcd, tmp_path) as other:
        outcomes = await asyncio.gather(
            *(it.ask("create_function", **new(Publish=True)) for it in (one, other)), return_exceptions=True
        )
        told = Counter(
            it.response["Error"]["Code"] if isinstance(it, ClientError) else it["Version"]  # type: ignore[index]
            for it in outcomes
        )
    assert told == {"1": 1, "ResourceConflictException": 1}


async def test_no_tag_is_lost(etcd: Etcd, tmp_path: Path) -> None:
    """Each of two clients adds and takes its own, at the same time as a change of the rest."""
    async with door(etcd, tmp_path) as one, door(etcd, tmp_path) as other:
        arn = (await one.ask("create_function", **new(Tags={"a0": "", "b0": ""})))["FunctionArn"]

        async def retag(it: Door, letter: str) -> None:
            for number in range(1, 9):
                await it.ask("tag_resource", Resource=arn, Tags={f"{letter}{number}": letter})
                await it.ask("untag_resource", Resource=arn, TagKeys=[f"{letter}{number - 1}", "none"])

        async def change() -> None:
            for number in range(1, 9):
                await one.ask("update_function_configuration", FunctionName="f", Timeout=number)

        await asyncio.gather(retag(one, "a"), retag(one, "c"), retag(other, "b"), retag(other, "d"), change())
        tags = (await other.ask("list_tags", Resource=arn))["Tags"]
        assert tags == {"a8": "a", "b8": "b", "c8": "c", "d8": "d"}
        assert (await other.ask("get_function_configuration", FunctionName="f"))["Timeout"] == 8


@pytest.mark.parametrize(
    ("operation", "fields", "needed"),
    [
        ("create_function", new(), ""),
        ("create_function", new(Publish=True), "PublishVersion@f"),
        ("create_function", new(Tags={"a": "b"}), "TagResource@f"),
        (
            "create_function",
            new(Layers=[LAYER]),
            "GetLayerVersion@layer:l",
        ),
        ("update_function_code", {"ZipFile": package("x = 2")}, ""),
        ("update_function_code", {"ZipFile": package("x = 2"), "Publish": True}, "PublishVersion@f"),
        ("update_function_configuration", {"Timeout": 9}, ""),
        (
            "update_function_configuration",
            {"Layers": [LAYER]},
            "GetLayerVersion@layer:l",
        ),
    ],
)
async def test_what_a_change_brings_along_needs_a_right_as_well(
    etcd: Etcd, tmp_path: Path, operation: str, fields: dict[str, Any], needed: str
) -> None:
    """A version, tags, a layer that whoever attaches it can read. Nothing is done without the right."""
    async with door(etcd, tmp_path) as open_door:
        await open_door.ask("publish_layer_version", LayerName="l", Content={"ZipFile": package()})
        if operation != "create_function":
            await open_door.ask("create_function", **new())
    rules = ["CreateFunction,UpdateFunctionCode,UpdateFunctionConfiguration@f"]
    given = {"FunctionName": "f"} | fields
    if needed:
        before = await revision(etcd)
        async with locked(etcd, tmp_path, rules) as it:
            with pytest.raises(ClientError, match=needed) as raised:
                await it.ask(operation, **given)
        assert raised.value.response["Error"]["Code"] == "AccessDeniedException"
        assert await revision(etcd) == before
        rules.append(needed)
    async with locked(etcd, tmp_path, rules) as it:
        await it.ask(operation, **given)


@asynccontextmanager
async def locked(etcd: Etcd, packages: Path, rules: list[str]) -> AsyncIterator[Door]:
    """A frontend that knows one key, which allows this, and its client."""
    key = new_access_key(map(Rule.parse, rules), "", 0.0)
    signed = {"aws_access_key_id": key.id, "aws_secret_access_key": key.secret}
    async with door(etcd, packages, lambda: Locked(Known(key)), **signed) as it:
        yield it


def fetched(address: str) -> tuple[int, bytes]:
    """Status and body, as urllib gets them: it knows no key."""
    try:
        with urllib.request.urlopen(address, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()


async def test_code_and_layers_are_downloaded_without_a_key(etcd: Etcd, tmp_path: Path) -> None:
    """At any frontend of the fleet, though each asks for a key; without one there is no address."""
    async with locked(etcd, tmp_path, ["*"]) as it, locked(etcd, tmp_path, ["InvokeFunction"]) as other:
        await it.ask("create_function", **new(Publish=True))
        layer = await it.ask("publish_layer_version", LayerName="l", Content={"ZipFile": package("x = 1")})
        arn = layer["LayerVersionArn"]
        code = (await it.ask("get_function", FunctionName="f", Qualifier="1"))["Code"]
        again = await it.ask("get_layer_version", LayerName="l", VersionNumber=1)
        by_arn = await it.ask("get_layer_version_by_arn", Arn=arn)
        assert code["RepositoryType"] == "Lambent"
        assert await asyncio.to_thread(fetched, code["Location"]) == (200, package())
        for each in (layer, again, by_arn):
            assert await asyncio.to_thread(fetched, each["Content"]["Location"]) == (200, package("x = 1"))
        elsewhere = code["Location"].replace(str(it.port), str(other.port))
        assert await asyncio.to_thread(fetched, elsewhere) == (200, package())
        with pytest.raises(ClientError, match="GetFunction@f"):
            await other.ask("get_function", FunctionName="f")


async def test_frontends_of_a_fleet_sign_alike(etcd: Etcd) -> None:
    secret = await shared_secret(etcd)
    assert (len(secret), await shared_secret(etcd)) == (32, secret)


async def many(etcd: Etcd, count: int) -> None:
    """Functions f0000 and so on; each tenth has two versions."""
    for number in range(count):
        name = FunctionName(f"f{number:04}")
        it = definition(name)
        await etcd.put(keys.function(name), it.encode())
        for version in ("1", "2") if number % 10 == 0 else ():
            await etcd.put(keys.version(name, version), replace(it, version=version).encode())


async def test_a_long_list_page_by_page(etcd: Etcd, tmp_path: Path) -> None:
    """Each function once, in the order of the names, fifty at the most whatever is asked for."""
    await many(etcd, 120)
    async with door(etcd, tmp_path) as it:
        names = [f"f{number:04}" for number in range(120)]
        first = await it.ask("list_functions", MaxItems=10_000, MasterRegion="ALL")
        assert [each["FunctionName"] for each in first["Functions"]] == names[:50]
        pages = await asyncio.to_thread(list, it.aws.get_paginator("list_functions").paginate())
        assert [len(page["Functions"]) for page in pages] == [50, 50, 20]
        assert [each["FunctionName"] for page in pages for each in page["Functions"]] == names
        assert {each["Version"] for page in pages for each in page["Functions"]} == {"$LATEST"}


async def test_all_versions_of_all_functions_page_by_page(etcd: Etcd, tmp_path: Path) -> None:
    """Also where a page ends in the middle of a function; what is deleted meanwhile harms nothing."""
    await many(etcd, 21)
    every = [
        (f"f{number:04}", version)
        for number in range(21)
        for version in (("$LATEST", "1", "2") if number % 10 == 0 else ("$LATEST",))
    ]
    async with door(etcd, tmp_path) as it:
        for size in (1, 2, 50):
            given = {"FunctionVersion": "ALL", "PaginationConfig": {"PageSize": size}}
            pages = await asyncio.to_thread(list, it.aws.get_paginator("list_functions").paginate(**given))
            listed = [each for page in pages for each in page["Functions"]]
            assert [(each["FunctionName"], each["Version"]) for each in listed] == every
            assert all(each["FunctionArn"].endswith(f":{each['Version']}") for each in listed)
        asked = {"FunctionVersion": "ALL", "MaxItems": 2}
        page = await it.ask("list_functions", **asked)
        await it.ask("delete_function", FunctionName="f0000")
        page = await it.ask("list_functions", Marker=page["NextMarker"], **asked)
        assert [each["FunctionName"] for each in page["Functions"]] == ["f0001", "f0002"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"FunctionVersion": "ALL", "Marker": "f"}, "none that was given"),
        ({"FunctionVersion": "ALL", "Marker": "f:x"}, "none that was given"),
        ({"FunctionVersion": "ALL", "Marker": "f:" + "9" * 5000}, "none that was given"),
        ({"FunctionVersion": "SOME"}, "functionVersion"),
        ({"MasterRegion": "nowhere"}, "masterRegion"),
        ({"MaxItems": 10_001}, "maxItems"),
    ],
)
async def test_what_is_no_list(etcd: Etcd, tmp_path: Path, asked: dict[str, Any], words: str) -> None:
    async with door(etcd, tmp_path) as it:
        with pytest.raises(ClientError, match=words) as raised:
            await it.ask("list_functions", **asked)
        assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"FunctionName": "f", "Colour": "blue"}', "'colour' failed to satisfy constraint"),
        ('{"FunctionName": "f", "Code": {"Colour": "blue"}}', "'code.colour' failed to satisfy constraint"),
        ('{"FunctionName": "f", "Code": {}, "Timeout": "nine"}', "'timeout' failed to satisfy constraint"),
        ("[]", "ValidationException"),
        ("{", "Could not parse request body into json"),
    ],
)
async def test_a_body_that_is_none_of_lambda_s(etcd: Etcd, tmp_path: Path, body: str, words: str) -> None:
    """A field that nobody knows is refused, and not passed over."""
    async with door(etcd, tmp_path) as it, connected(it.port) as client:
        answer = await client.ask("POST", "/2015-03-31/functions", body.encode())
    assert answer.status == 400
    assert words in f"{answer.error} {answer.json()['message']}"


async def test_a_signed_request_is_good_for_a_while_and_for_itself_alone(etcd: Etcd, tmp_path: Path) -> None:
    """As at AWS: sent again within five minutes it is answered, changed or later it is not."""
    key = new_access_key([Rule.parse("*")], "", 0.0)

    def signed(method: str, path: str, late_s: int = 0) -> tuple[str, str, dict[str, str]]:
        with pytest.MonkeyPatch.context() as patch:
            now = datetime.now(UTC) - timedelta(seconds=late_s)
            patch.setattr("botocore.auth.get_current_datetime", lambda: now.replace(tzinfo=None))
            request = AWSRequest(method, f"http://here{path}")
            SigV4Auth(Credentials(key.id, key.secret), "lambda", "us-east-1").add_auth(request)
        return method, path, {name.replace("-", "_"): value for name, value in request.headers.items()}

    async with (
        door(etcd, tmp_path, lambda: Locked(Known(key))) as it,
        connected(it.port) as client,
    ):

        async def status(method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
            answer = await client.ask(method, path, b"", **headers)
            return answer.status, answer.error

        method, path, headers = signed("GET", "/2015-03-31/functions")
        for _ in range(2):
            assert await status(method, path, headers) == (200, "")
        for changed in (("DELETE", f"{path}/f"), ("GET", f"{path}/f"), ("GET", f"{path}?MaxItems=1")):
            assert await status(*changed, headers) == (403, "InvalidSignatureException")
        for late_s in (400, -400):
            assert await status(*signed(method, path, late_s)) == (403, "InvalidSignatureException")
        assert await status(*signed(method, path, 200)) == (200, "")


async def test_code_of_the_package_store(etcd: Etcd, tmp_path: Path) -> None:
    """What was put there is taken as if it came with the request; what frontends keep there is not."""
    uploads = tmp_path / "uploads" / "team"
    uploads.mkdir(parents=True)
    (uploads / "f.zip").write_bytes(package("x = 1"))
    (uploads / "g.zip").write_bytes(package("x = 2"))
    (uploads / "broken.zip").write_bytes(b"no zip")
    (tmp_path / "outside.zip").write_bytes(package())
    async with door(etcd, tmp_path) as it:
        stored = {"S3Bucket": "lambent", "S3Key": "uploads/team/f.zip"}
        made = await it.ask("create_function", **new(Code=stored))
        assert made["CodeSha256"] == sha256_of(package("x = 1"))
        (uploads / "f.zip").unlink()  # it was copied
        located = (await it.ask("get_function", FunctionName="f"))["Code"]["Location"]
        assert await asyncio.to_thread(downloaded, located) == package("x = 1")
        asked = {"FunctionName": "f", "S3Bucket": "lambent"}
        changed = await it.ask("update_function_code", **asked, S3Key="uploads/team/g.zip")
        assert changed["CodeSha256"] == sha256_of(package("x = 2"))
        kept = base64.b64decode(changed["CodeSha256"]).hex()
        for key in (
            "uploads/team/f.zip",
            "uploads/team/broken.zip",
            "uploads/../outside.zip",
            "uploads/team/../../outside.zip",
            "/uploads/team/g.zip",
            "outside.zip",
            f"{kept}.zip",
            "uploads/",
        ):
            with pytest.raises(ClientError, match="InvalidParameterValueException"):
                await it.ask("update_function_code", **asked, S3Key=key)
        elsewhere = {"S3Bucket": "else", "S3Key": "uploads/team/g.zip"}
        for other in (elsewhere, stored | {"ZipFile": package()}):
            with pytest.raises(ClientError):
                await it.ask("update_function_code", FunctionName="f", **other)
        assert (await it.ask("get_function_configuration", FunctionName="f"))["CodeSha256"] == sha256_of(
            package("x = 2")
        )


def downloaded(address: str) -> bytes:
    with urllib.request.urlopen(address) as answer:
        return bytes(answer.read())


def sha256_of(data: bytes) -> str:
    """As Lambda gives it."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode()
