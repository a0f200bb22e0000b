"""kill -9 of a frontend in the middle of changes: each was made as a whole, or not at all."""

import base64
import hashlib
import io
import random
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import boto3
import pytest
import pytest_asyncio
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from lambent_chassis.etcd import EtcdServer, find_etcd
from tests.e2e.by_hand import Part

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

ROUNDS: Final = 10
CLIENTS: Final = 4
SEED: Final = 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def frontend(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A frontend alone, over an etcd of its own: what it does with functions needs nothing else."""
    folder = tmp_path_factory.mktemp("killed")
    async with await EtcdServer.start(find_etcd(), folder / "etcd") as etcd:
        config = folder / "frontend.toml"
        config.write_text(
            f'name = "killed"\netcd = ["{etcd.endpoint}"]\npackages = "{folder / "packages"}"\n'
            "auth = false\ngrpc_port = 0\nhttp_port = 0\n"
        )
        part = Part("frontend", "killed", config)
        part.start()
        yield part, folder / "packages"
        part.stop()


def client(part: Part) -> Any:
    """boto3's, which sends nothing twice and gives up soon on who is dead."""
    return boto3.client(
        "lambda",
        endpoint_url=f"http://{part.addresses['http']}",
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20),
    )


def package(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("app.py", f"def handler(event, context): return {text!r}\n")
    return buffer.getvalue()


def create(aws: Any, name: str, code: bytes) -> Any:
    return aws.create_function(
        FunctionName=name,
        Runtime="python3.11",
        Handler="app.handler",
        Role="arn:aws:iam::000000000000:role/any",
        Code={"ZipFile": code},
        Publish=True,
    )


class Caller:
    """One client that makes a function, gives it new code and deletes it, again and again."""

    def __init__(self, part: Part, name: str) -> None:
        self.name = name
        self.done: Any = None
        """The last answer: what is there, unless something came after it that has none."""
        self.asked = 0
        self.lost = 0
        """Changes without an answer."""
        self._aws = client(part)
        self._thread = threading.Thread(target=self._change_until_killed)
        self._thread.start()

    def _change_until_killed(self) -> None:
        with suppress(BotoCoreError):
            for number in range(1_000_000):
                self.asked += 1
                code = package(f"{self.name} {number}")
                if number % 8 == 0:
                    with suppress(ClientError):  # of the first one the last round may have left nothing
                        self._aws.delete_function(FunctionName=self.name)
                    self.done = create(self._aws, self.name, code)
                else:
                    self.done = self._aws.update_function_code(
                        FunctionName=self.name, ZipFile=code, Publish=True
                    )
            raise AssertionError("nobody killed the frontend")
        self.lost += 1

    def wait(self) -> None:
        self._thread.join(timeout=40)
        assert not self._thread.is_alive()


def check_whole(aws: Any, name: str, packages: Path) -> int:
    """What is there of a function is all of it: the number of its newest version, 0 if it is not there."""
    try:
        latest = aws.get_function_configuration(FunctionName=name)
    except aws.exceptions.ResourceNotFoundException:
        return 0
    versions = aws.list_versions_by_function(FunctionName=name)["Versions"]
    assert versions[-1]["CodeSha256"] == latest["CodeSha256"], "the change is there and its version is not"
    numbers = [int(it["Version"]) for it in versions[1:]]
    assert numbers == [*range(numbers[0], numbers[0] + len(numbers))], "a number was skipped"
    for it in versions:
        digest = base64.b64decode(it["CodeSha256"])
        code = (packages / f"{digest.hex()}.zip").read_bytes()
        assert (hashlib.sha256(code).digest(), len(code)) == (digest, it["CodeSize"])
    return numbers[-1]


@contextmanager
def killed(part: Part, after_s: float) -> Iterator[None]:
    timer = threading.Timer(after_s, part.process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.join()
        part.process.communicate()


@pytest.mark.timeout(120)
async def test_a_killed_frontend_leaves_whole_functions(frontend: tuple[Part, Path]) -> None:
    """Code, version and function are there together, what was answered is there, names can be taken anew."""
    part, packages = frontend
    chance = random.Random(SEED)
    names = [f"f{number}" for number in range(CLIENTS)]
    asked = lost = 0
    for _ in range(ROUNDS):
        with killed(part, chance.uniform(0.1, 0.6)):
            callers = [Caller(part, name) for name in names]
            for caller in callers:
                caller.wait()
        part.start()
        aws = client(part)
        for caller in callers:
            newest = check_whole(aws, caller.name, packages)
            if caller.done is not None and newest:
                assert newest >= int(caller.done["Version"]), "an answered change is gone"
            asked, lost = asked + caller.asked, lost + caller.lost
    assert lost == ROUNDS * CLIENTS
    assert asked > 3 * lost, "too few changes to be hit in the middle"
    for name in names:
        with suppress(ClientError):
            aws.delete_function(FunctionName=name)
        assert create(aws, name, package("anew"))["State"] == "Active"
        assert check_whole(aws, name, packages)
