"""Packages that nobody may deploy, and functions that cannot start: who is at fault is told."""

import io
import stat
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from lambent.client import Client
from lambent_chassis.etcd import Etcd
from lambent_proto import keys
from lambent_proto.errors import BrokenPackage, LambentError
from tests.e2e.evidence import RUNTIME, Evidence, deploy, package
from tests.e2e.fleet import Fleet

pytestmark = pytest.mark.e2e


@pytest.fixture
async def etcd(shared: Fleet) -> AsyncIterator[Etcd]:
    async with Etcd(shared.etcd) as etcd:
        yield etcd


def link(name: str, target: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.create_system = 3
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, target)
    return buffer.getvalue()


def dense() -> bytes:
    """Zeros, more than a thousand to one."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("zeros", bytes(32 * 1024 * 1024))
    return buffer.getvalue()


PLAIN = {"plain.py": "def handler(event, context): return event"}

BROKEN = {
    "no ZIP": (b"this is no ZIP", "not a readable ZIP"),
    "cut off": (package()[:-30], "not a readable ZIP"),
    "out of its root": (package({"../app.py": "", "app.py": ""}), "leads out of the package"),
    "absolute": (package({"/etc/app.py": ""}), "absolute path"),
    "a link out of its root": (link("inside/out", "../../etc/passwd"), "leads out of the package"),
    "an absolute link": (link("out", "/etc/passwd"), "only relative targets"),
    "a bomb": (dense(), "that is a bomb"),
}


@pytest.mark.parametrize("what", BROKEN)
async def test_a_broken_package(
    shared: Fleet, client: Client, etcd: Etcd, what: str, evidence: Evidence
) -> None:
    """INVALID_ARGUMENT with the reason; neither the package store nor etcd has anything of it."""
    code, reason = BROKEN[what]
    await client.create_function("sound", package(), runtime=RUNTIME, handler="app.echo")
    before = stored(shared), await etcd.get_prefix(keys.FUNCTIONS)
    for attempt in (
        client.create_function("broken", code, runtime=RUNTIME, handler="app.echo"),
        client.update_function("sound", code),
    ):
        with pytest.raises(BrokenPackage, match=reason) as raised:
            await attempt
        assert isinstance(raised.value.__cause__, grpc.aio.AioRpcError)
        assert raised.value.__cause__.code() is grpc.StatusCode.INVALID_ARGUMENT
    after = stored(shared), await etcd.get_prefix(keys.FUNCTIONS)
    assert after[0] == before[0]
    assert [(item.key, item.mod_revision) for item in after[1].items] == [
        (item.key, item.mod_revision) for item in before[1].items
    ]


def stored(fleet: Fleet) -> set[Path]:
    return {path for path in (fleet.data / "packages").rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("handler", "files", "error", "words"),
    [
        ("plain.nothing", PLAIN, "Runtime.HandlerNotFound", "nothing"),
        ("nowhere.handler", PLAIN, "Runtime.ImportModuleError", "nowhere"),
        ("plain", PLAIN, "Runtime.MalformedHandlerName", "plain"),
        ("bad.handler", {"bad.py": "def handler(:"}, "Runtime.UserCodeSyntaxError", "bad.py"),
        ("bad.handler", {"bad.py": "raise KeyError('planted')"}, "KeyError", "planted"),
        ("bad.handler", {"bad.py": "import sys; sys.exit(3)"}, "Runtime.ExitError", "exit status 3"),
    ],
)
async def test_a_function_that_cannot_start(
    client: Client, handler: str, files: dict[str, str], error: str, words: str
) -> None:
    """Each call is answered with the error of its initialisation, as Lambda names it."""
    await client.create_function("unable", package(files), runtime=RUNTIME, handler=handler, concurrency=1)
    for _ in range(2):
        done = await client.invoke("unable", {}, timeout_s=15)
        assert done.function_error == "Unhandled"
        document = done.json()
        assert document["errorType"] == error
        assert words in document["errorMessage"]


@pytest.mark.parametrize(
    ("configuration", "words"),
    [
        ({"runtime": "cobol85"}, "'cobol85' is none of"),
        ({"handler": "with space"}, "without spaces"),
        ({"memory_mb": 1}, "128 to 10240"),
        ({"timeout_s": 901.0}, "at most 900"),
        ({"concurrency": -1}, "0 or more"),
        ({"environment": {"AWS_REGION": "x"}}, "set by the runtime"),
    ],
)
async def test_a_bad_configuration(
    client: Client, evidence: Evidence, configuration: dict[str, object], words: str
) -> None:
    """INVALID_ARGUMENT that says what is allowed."""
    given = {"runtime": RUNTIME, "handler": "app.echo"} | configuration
    with pytest.raises(LambentError, match=words) as raised:
        await client.create_function("badly-configured", package(), **given)  # type: ignore[arg-type]
    assert raised.value.status == "INVALID_ARGUMENT"
    assert "badly-configured" not in [function.name for function in await client.list_functions()]


async def test_a_name_that_is_taken(client: Client, name: str, evidence: Evidence) -> None:
    """ALREADY_EXISTS, and the first one stays as it is."""
    first = await deploy(client, name, evidence)
    with pytest.raises(LambentError) as raised:
        await deploy(client, name, evidence, handler="app.echo")
    assert raised.value.status == "ALREADY_EXISTS"
    assert await client.get_function(name) == first
