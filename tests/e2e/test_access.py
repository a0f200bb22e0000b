"""Access keys over the whole: made with the command, asked for by the frontend, deleted."""

import asyncio
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from lambent.client import Client
from lambent_chassis.clock import monotonic_s
from lambent_proto.errors import UnknownKey
from tests.e2e.by_hand import running
from tests.e2e.fleet import WITHIN_S, Fleet

pytestmark = pytest.mark.e2e

ECHO = "def handler(event, context):\n    return event\n"


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with running(tmp_path_factory.mktemp("asking"), "--auth", "--workers", "1") as fleet:
        yield fleet


def run(fleet: Fleet, *arguments: str, token: str = "") -> "subprocess.CompletedProcess[bytes]":
    """`LAMBENT_KEY` is empty, which is none, unless a token is given."""
    before = os.environ.get("LAMBENT_KEY")
    os.environ["LAMBENT_KEY"] = token
    try:
        return fleet.lambent(*arguments)
    finally:
        del os.environ["LAMBENT_KEY"]
        if before is not None:
            os.environ["LAMBENT_KEY"] = before


def create(fleet: Fleet, *rules: str) -> dict[str, Any]:
    options = [it for rule in rules for it in ("--allow", rule)]
    done = run(fleet, "key", "create", "--etcd", ",".join(fleet.etcd), *options, "--json")
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def operator(fleet: Fleet) -> str:
    return (fleet.data / "operator-key").read_text().strip()


def test_who_has_no_key_is_refused_and_the_operators_is_in_the_data_folder(
    asking: Fleet, tmp_path: Path
) -> None:
    (tmp_path / "echo.py").write_text(ECHO)
    deploy = "deploy", str(tmp_path), "--name", "kept-echo", "--handler", "echo.handler"
    refused = run(asking, *deploy)
    assert refused.returncode == 3
    assert b"LAMBENT_KEY" in refused.stderr
    assert run(asking, "function", "ls", "--json", token=operator(asking)).stdout.strip() == b"[]"
    assert run(asking, *deploy, token=operator(asking)).returncode == 0
    assert stat.S_IMODE((asking.data / "operator-key").stat().st_mode) == 0o600


@pytest.mark.parametrize("how", [("--via", "stream"), ("--via", "http"), ("--via", "http", "--sign")])
def test_a_load_test_has_a_key(asking: Fleet, tmp_path: Path, how: tuple[str, ...]) -> None:
    """A signature is of a second: two of them are needed."""
    (tmp_path / "echo.py").write_text(ECHO)
    token, deploy = (
        operator(asking),
        ("deploy", str(tmp_path), "--name", "loaded", "--handler", "echo.handler"),
    )
    assert run(asking, *deploy, token=token).returncode == 0
    load = ("--rate", "20", "--duration", "1.2", "--fail-if", "errors>0%", "--late", "60000")
    done = run(asking, "loadtest", "loaded", *how, *load, "--http-endpoint", asking.http, token=token)
    assert done.returncode == 0, done.stderr
    done = run(asking, "loadtest", "loaded", *how, *load, "--http-endpoint", asking.http, token="LA1.wrong")
    assert (done.returncode, b"No call succeeded" in done.stderr) == (3, True)


def test_a_key_does_what_it_was_made_for_until_it_is_deleted(asking: Fleet, tmp_path: Path) -> None:
    (tmp_path / "echo.py").write_text(ECHO)
    deploy = "deploy", str(tmp_path), "--name", "mine", "--handler", "echo.handler"
    assert run(asking, *deploy, token=operator(asking)).returncode == 0
    made = create(asking, "InvokeFunction@mi*")
    soon = monotonic_s() + WITHIN_S
    while (done := run(asking, "invoke", "mine", "-d", "[1]", token=made["token"])).returncode:
        assert monotonic_s() < soon, done.stderr
    assert json.loads(done.stdout) == [1]
    refused = run(asking, "function", "delete", "mine", token=made["token"])
    assert refused.returncode == 3
    assert b"may not DeleteFunction" in refused.stderr

    listed = run(asking, "key", "ls", "--etcd", ",".join(asking.etcd), "--json").stdout
    assert made["id"] in {it["id"] for it in json.loads(listed)}
    assert made["secret"].encode() not in listed
    assert run(asking, "key", "delete", made["id"], "--etcd", ",".join(asking.etcd)).returncode == 0
    assert run(asking, "key", "delete", made["id"], "--etcd", ",".join(asking.etcd)).returncode == 2
    asyncio.run(refused_soon(asking, made["token"]))

    said = (asking.data / "logs" / "frontend.log").read_text()
    assert made["id"] in said
    assert made["secret"] not in said


async def refused_soon(fleet: Fleet, token: str) -> None:
    async with asyncio.timeout(WITHIN_S), Client(fleet.endpoint, access_key=token) as client:
        while True:
            try:
                await client.invoke("mine", {})
            except UnknownKey:
                return


@contextmanager
def over_http(fleet: Fleet, key_id: str, secret: str) -> Iterator[Any]:
    client = boto3.client(
        "lambda",
        endpoint_url=f"http://{fleet.http}",
        region_name="eu-central-1",
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}),
    )
    with closing(client):
        yield client


def refusal(call: Any, **options: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as raised:
        call(**options)
    said = raised.value.response
    return said["Error"]["Code"], said["ResponseMetadata"]["HTTPStatusCode"]


def test_boto3_signs_with_a_key_and_may_what_it_allows(asking: Fleet, tmp_path: Path) -> None:
    (tmp_path / "echo.py").write_text(ECHO)
    deploy = "deploy", str(tmp_path), "--name", "signed", "--handler", "echo.handler"
    assert run(asking, *deploy, token=operator(asking)).returncode == 0
    made = create(asking, "InvokeFunction,CreateFunction@signed*", "GetLayerVersion@layer:mine")
    with over_http(asking, made["id"], made["secret"]) as client:
        invoked_and_refused(client)
    with over_http(asking, made["id"], made["secret"] + "x") as wrong:
        assert refusal(wrong.invoke, FunctionName="signed") == ("InvalidSignatureException", 403)
    with over_http(asking, "LANOBODY", "x") as nobody:
        assert refusal(nobody.invoke, FunctionName="signed") == ("UnrecognizedClientException", 403)


def invoked_and_refused(client: Any) -> None:
    soon = monotonic_s() + WITHIN_S
    while True:
        try:
            done = client.invoke(FunctionName="signed:$LATEST", Payload=b'{"a": 1}')
            break
        except ClientError:  # the frontend hears of a key within a second
            if monotonic_s() > soon:
                raise
    assert json.loads(done["Payload"].read()) == {"a": 1}

    denied = ("AccessDeniedException", 403)
    code = {"Runtime": "python3.12", "Handler": "a.b", "Role": "r", "Code": {"ZipFile": b"no zip"}}
    assert refusal(client.invoke, FunctionName="other") == denied
    assert refusal(client.create_function, FunctionName="other", **code) == denied
    assert refusal(client.create_function, FunctionName="signed-2", **code)[1] == 400  # for its package
    assert refusal(client.delete_function, FunctionName="signed") == denied
    assert refusal(client.list_functions) == denied
    assert refusal(client.get_layer_version, LayerName="other", VersionNumber=1) == denied
    assert refusal(client.get_layer_version, LayerName="mine", VersionNumber=1)[1] == 404
    assert refusal(client.add_permission, **ADDED) == denied  # of what is not there, too


def test_urls_made_with_the_command(asking: Fleet, tmp_path: Path) -> None:
    """Who has no key makes none; an open one asks nobody, a signed one everybody."""
    (tmp_path / "echo.py").write_text("def handler(event, context):\n    return event['requestContext']\n")
    deploy = "deploy", str(tmp_path), "--name", "web", "--handler", "echo.handler"
    assert run(asking, *deploy, token=operator(asking)).returncode == 0
    create_url = "url", "create", "web", "--json", "--cors-origin", "*"
    assert run(asking, *create_url, "--auth", "none").returncode == 3
    made = run(asking, *create_url, "--auth", "none", token=operator(asking))
    assert made.returncode == 0, made.stderr
    url = json.loads(made.stdout)["url"]
    assert json.loads(called(asking, url))["accountId"] == "anonymous"
    statements = json.loads(run(asking, "permission", "get", "web", token=operator(asking)).stdout)[
        "Statement"
    ]
    assert [it["Action"] for it in statements] == ["lambda:InvokeFunctionUrl", "lambda:InvokeFunction"]

    assert run(asking, "url", "update", "web", "--auth", "aws-iam", token=operator(asking)).returncode == 0
    key = create(asking, "InvokeFunctionUrl@web")
    with pytest.raises(HTTPError) as refused:
        called(asking, url)
    refused.value.close()
    assert refused.value.code == 403
    soon = monotonic_s() + WITHIN_S
    while True:
        try:
            told = json.loads(called(asking, url, key))
            break
        except HTTPError as error:  # the frontend hears of a key within a second
            error.close()
            assert monotonic_s() < soon
    assert told["authorizer"]["iam"]["accessKey"] == key["id"]

    listed = json.loads(run(asking, "url", "ls", "web", "--json", token=operator(asking)).stdout)
    assert [(it["url"], it["auth_type"]) for it in listed] == [(url, "AWS_IAM")]
    assert b"allow_origins  *" in run(asking, "url", "get", "web", token=operator(asking)).stdout
    removed = run(asking, "permission", "delete", "web", statements[0]["Sid"], token=operator(asking))
    assert removed.returncode == 0
    assert run(asking, "url", "delete", "web", token=operator(asking)).returncode == 0
    assert run(asking, "url", "get", "web", token=operator(asking)).returncode == 3
    said = (asking.data / "logs" / "frontend.log").read_text()
    for action in ("CreateFunctionUrlConfig", "AddPermission", "RemovePermission"):
        assert f'"action": "{action}"' in said or f"action={action}" in said


def called(fleet: Fleet, url: str, key: dict[str, Any] | None = None) -> bytes:
    """By the host that the URL names, at the fleet's address. Raises HTTPError."""
    host = urlsplit(url).netloc
    headers = {"Host": host}
    if key is not None:
        request = AWSRequest("GET", url, headers=headers)
        SigV4Auth(Credentials(key["id"], key["secret"]), "lambda", "us-east-1").add_auth(request)
        headers = dict(request.headers)
    with urlopen(Request(f"http://{fleet.http}/", headers=headers), timeout=WITHIN_S) as answer:
        body: bytes = answer.read()
        return body


ADDED = {"FunctionName": "signed", "StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "*"}


def test_over_http_a_token_does_as_well_and_nothing_does_not(asking: Fleet) -> None:
    url = f"http://{asking.http}/2015-03-31/functions"
    asked = Request(url, headers={"Authorization": f"Bearer {operator(asking)}"})
    with urlopen(asked, timeout=WITHIN_S) as listed:
        assert "Functions" in json.load(listed)
    for headers in ({}, {"Authorization": "Bearer x.y"}, {"Authorization": "Basic eDp5"}):
        with pytest.raises(HTTPError) as refused:
            urlopen(Request(url, headers=headers), timeout=WITHIN_S)
        refused.value.close()
        assert refused.value.code == 403


def test_a_killed_frontend_asks_again_when_it_is_back(asking: Fleet) -> None:
    asking.runs_again("frontend", asking.kill("frontend"))
    assert run(asking, "nodes").returncode == 3
    assert run(asking, "nodes", token=operator(asking)).returncode == 0


@pytest.mark.parametrize("rule", ["InvokeFunctions@f", "InvokeFunction@", "@f"])
def test_a_rule_that_means_nothing_makes_no_key(asking: Fleet, rule: str) -> None:
    done = run(asking, "key", "create", "--etcd", ",".join(asking.etcd), "--allow", rule)
    assert done.returncode == 2


def test_where_is_etcd_is_asked_in_words(asking: Fleet) -> None:
    done = run(asking, "key", "ls")
    assert done.returncode == 2
    assert b"--etcd" in done.stderr
