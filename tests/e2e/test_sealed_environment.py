"""Environment variables are sealed from the frontend that takes them to the worker that runs them."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import boto3
import grpc.aio
import msgpack
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from lambent_chassis.etcd import Etcd
from lambent_proto import keys, sealed
from lambent_proto.ids import FunctionName
from tests.conformance.conftest import CREDENTIALS, ROLE, RUNTIME, package
from tests.e2e.by_hand import by_hand, running
from tests.e2e.fleet import Fleet

pytestmark = pytest.mark.e2e

SECRET: Final = "mark-of-a-sealed-value"
PLAIN: Final = "mark-of-a-plain-value"

SOURCE: Final = """
import os

def handler(event, context):
    return {"pid": os.getpid(), **{name: os.environ.get(name) for name in ("TOKEN", "OTHER", "OLD")}}
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with running(tmp_path_factory.mktemp("sealed"), "--seal-environment", "--workers", "1") as fleet:
        yield fleet


@pytest.fixture(scope="module")
def aws(fleet: Fleet) -> Iterator[Any]:
    client = boto3.client(
        "lambda",
        endpoint_url=f"http://{fleet.http}",
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}),
        **CREDENTIALS,
    )
    with closing(client):
        yield client


@pytest.fixture
def function(aws: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    """One with a secret; gone at the end."""
    name = re.sub(r"[^a-z_]", "-", request.node.name)[:60]
    create(aws, name, {"TOKEN": SECRET})
    yield name
    aws.delete_function(FunctionName=name)


def create(aws: Any, name: str, variables: dict[str, str]) -> None:
    aws.create_function(
        FunctionName=name,
        Runtime=RUNTIME,
        Role=ROLE,
        Handler="app.handler",
        Code={"ZipFile": package(SOURCE)},
        Environment={"Variables": variables},
        Publish=True,
    )


def sees(aws: Any, name: str, qualifier: str = "$LATEST") -> dict[str, Any]:
    answer = aws.invoke(FunctionName=name, Qualifier=qualifier)
    told: dict[str, Any] = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, told
    return told


def shown(aws: Any, name: str) -> dict[str, str]:
    variables: dict[str, str] = aws.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    return variables


async def snapshot(fleet: Fleet) -> bytes:
    """What a backup of etcd is made of."""
    async with grpc.aio.insecure_channel(fleet.etcd[0].removeprefix("http://")) as channel:
        take: Any = channel.unary_stream("/etcdserverpb.Maintenance/Snapshot")
        return b"".join([piece async for piece in take(b"")])


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def as_an_older_release_left_it(fleet: Fleet, name: str, variable: str, value: str) -> None:
    async with Etcd(fleet.etcd) as etcd:
        known = await etcd.get(keys.function(FunctionName(name)))
        assert known
        fields = msgpack.unpackb(known.value)
        fields["environment"][variable] = value
        fields["revision"] += "+"
        assert await etcd.replace(known.key, bytes(msgpack.packb(fields)), known.mod_revision)


async def test_etcd_and_its_backups_have_no_value(fleet: Fleet, aws: Any, function: str) -> None:
    """The function has it, and its published version; a plain one beside it would be found."""
    assert sees(aws, function)["TOKEN"] == SECRET
    assert sees(aws, function, "1")["TOKEN"] == SECRET
    await as_an_older_release_left_it(fleet, function, "OLD", PLAIN)
    kept, backup = on_disk(fleet.data / "etcd"), await snapshot(fleet)
    for there in (kept, backup):
        assert PLAIN.encode() in there, "this test could not see anything"
        assert SECRET.encode() not in there
    logs = on_disk(fleet.data / "logs") + on_disk(fleet.data / "config")
    assert SECRET.encode() not in logs


def test_what_was_read_may_be_written_back(aws: Any, function: str) -> None:
    """As a script does that adds a variable. Nobody reads the value; a template may have it sealed."""
    read = shown(aws, function)
    assert sealed.is_sealed(read["TOKEN"])
    aws.update_function_configuration(
        FunctionName=function, Environment={"Variables": read | {"OTHER": "more"}}
    )
    told = sees(aws, function)
    assert (told["TOKEN"], told["OTHER"]) == (SECRET, "more")
    again = shown(aws, function)
    assert again["TOKEN"] == read["TOKEN"], "a plan that has it so finds nothing to change"
    revision = aws.get_function_configuration(FunctionName=function)["RevisionId"]
    same = aws.update_function_configuration(FunctionName=function, Environment={"Variables": again})
    assert same["RevisionId"] == revision


def test_a_value_that_was_sealed_by_hand(fleet: Fleet, aws: Any, function: str) -> None:
    public = fleet.data / "environment-keys" / "environment.pub"
    done = fleet.lambent("env-key", "seal", function, "OTHER", "--public-key", str(public), stdin=b"mine\n")
    assert done.returncode == 0, done.stderr
    value = done.stdout.decode().strip()
    aws.update_function_configuration(FunctionName=function, Environment={"Variables": {"OTHER": value}})
    assert sees(aws, function)["OTHER"] == "mine"
    assert shown(aws, function) == {"OTHER": value}


def test_a_sealed_value_is_of_no_use_to_another_function(aws: Any, function: str) -> None:
    with pytest.raises(ClientError, match="TOKEN has a value that was sealed for another") as refused:
        create(aws, "thief", shown(aws, function))
    assert refused.value.response["Error"]["Code"] == "InvalidParameterValueException"
    with pytest.raises(ClientError, match="is not of the form"):
        create(aws, "thief", {"TOKEN": shown(aws, function)["TOKEN"][:-9] + "?"})


@pytest.mark.parametrize("key", ["none", "another"])
def test_a_worker_without_the_key_runs_nothing_of_it(
    fleet: Fleet, aws: Any, function: str, key: str, tmp_path: Path
) -> None:
    """The start fails at once, and says which worker it was and who can help."""
    fleet.lambent("env-key", "make", "--out", str(tmp_path))
    given = str(tmp_path / "environment.key") if key == "another" else None
    told = fleet.lambent("function", "update", function, "--require", f"key={key}")
    assert told.returncode == 0, told.stderr
    with by_hand(fleet, "worker-1", f"keyless-{key}", environment_key=given, labels=[f"key={key}"]) as worker:
        answer = aws.invoke(FunctionName=function)
        error = json.loads(answer["Payload"].read())
        log = (fleet.data.parent / f"{worker.name}.log").read_text()
    assert error["errorType"] == "Lambent.EnvironmentNotOpened"
    assert "operator" in error["errorMessage"]
    assert ("keyless-none" in error["errorMessage"]) is (key == "none")
    assert "environment_not_opened" in log
    assert SECRET not in log + json.dumps(error)


async def test_keys_are_rotated_and_what_is_plain_is_sealed(fleet: Fleet, aws: Any, function: str) -> None:
    """Instances stay; afterwards the old key opens nothing that is left."""
    folder = fleet.data / "environment-keys"
    await as_an_older_release_left_it(fleet, function, "OLD", PLAIN)
    before = sees(aws, function)
    assert before["OLD"] == PLAIN

    rotated = fleet.lambent("env-key", "rotate", "--out", str(folder), "--json")
    first, old = json.loads(rotated.stdout)["keys"]
    assert sealed.parse(shown(aws, function)["TOKEN"]).key == old
    private = str(folder / "environment.key")
    done = fleet.lambent("env-key", "reseal", "--key", private, "--etcd", fleet.etcd[0], "--json")
    assert done.returncode == 0, done.stderr
    counted = json.loads(done.stdout)
    assert (counted["sealed"], counted["left"]) == (3, [])  # two of $LATEST, one of its version
    assert sees(aws, function) == before

    for file in ("environment.key", "environment.pub"):
        path = folder / file
        path.write_text(path.read_text().split("-----\n-----BEGIN", 1)[0].rstrip("-") + "-----\n")
    aws.update_function_configuration(FunctionName=function, MemorySize=256)
    after = sees(aws, function)
    assert after == before | {"pid": after["pid"]} != before
    assert {sealed.parse(value).key for value in shown(aws, function).values()} == {first}
    again = fleet.lambent("env-key", "reseal", "--key", private, "--etcd", fleet.etcd[0], "--json")
    assert json.loads(again.stdout) == {"sealed": 0, "untouched": 3, "left": []}


def test_a_variable_is_taken_from_the_commands_own(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value on a command line would be everybody's."""
    monkeypatch.setenv("TOKEN", SECRET)
    (folder := fleet.data.parent / "code").mkdir(exist_ok=True)
    (folder / "app.py").write_text(SOURCE)
    done = fleet.lambent(
        "deploy",
        str(folder),
        "--name",
        "own",
        "--handler",
        "app.handler",
        "--runtime",
        RUNTIME,
        "--env",
        "TOKEN",
    )
    assert done.returncode == 0, done.stderr
    assert SECRET.encode() not in done.stdout + done.stderr
    invoked = fleet.lambent("invoke", "own")
    assert json.loads(invoked.stdout)["TOKEN"] == SECRET
    assert b"TOKEN (sealed)" in fleet.lambent("function", "get", "own").stdout
    fleet.lambent("function", "delete", "own")
