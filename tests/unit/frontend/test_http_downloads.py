"""The addresses of packages: any client gets the ZIP by one, and nobody anything else."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lambent_chassis import clock
from lambent_chassis.objects import open_store
from lambent_frontend import packages as packages_module
from lambent_frontend.http import downloads as downloads_module
from lambent_frontend.http.api import Api
from lambent_frontend.http.downloads import GOOD_FOR_S, Downloads
from lambent_frontend.http.gate import Open
from lambent_frontend.http.messages import Request
from lambent_frontend.packages import Packages
from tests.unit.frontend.http_client import Client, connected, listening

LARGE = bytes(range(256)) * 20_000


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "packages"
    folder.mkdir()
    return folder


@pytest.fixture
async def downloads(store: Path) -> Downloads:
    return Downloads(Packages(open_store(str(store))), b"secret")


def kept(store: Path, data: bytes) -> str:
    """In the store; its SHA-256 in base64."""
    digest = hashlib.sha256(data)
    (store / f"{digest.hexdigest()}.zip").write_bytes(data)
    return base64.b64encode(digest.digest()).decode()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0)


def target(downloads: Downloads, sha256: str) -> str:
    located = urlsplit(downloads.location(Request("GET", "/", headers={b"host": b"here"}), sha256))
    assert located.netloc == "here"
    return f"{located.path}?{located.query}"


@pytest.fixture
async def client(downloads: Downloads) -> AsyncIterator[Client]:
    async with listening(Api({}, Open(), downloads)) as (_, port), connected(port) as client:
        yield client


async def test_a_wrong_address_is_refused(client: Client, downloads: Downloads, store: Path) -> None:
    """Another signature, another package, another time, another file: 403, and nothing is read."""
    right = target(downloads, kept(store, b"mine"))
    (store.parent / "secret.zip").write_bytes(b"theirs")
    path, _, query = right.partition("?")
    expires, _, signature = query.partition("&")
    other = kept(store, b"other")
    digest = base64.b64decode(other).hex()
    for wrong in (
        path,
        f"{path}?{expires}",
        f"{path}?{expires}&signature={'0' * 64}",
        f"{path}?expires=99999999999&{signature}",
        f"/lambent/packages/{digest}.zip?{query}",
        f"/lambent/packages/..%2Fsecret.zip?{query}",
        f"/lambent/packages/../secret.zip?{query}",
        f"/lambent/packages/?{query}",
        f"{path}?{query}&signature={'0' * 64}",
        Downloads(Packages(open_store(str(store))), b"another").location(
            Request("GET", "/", headers={b"host": b"here"}), other
        )[len("http://here") :],
    ):
        answer = await client.ask("GET", wrong)
        assert (answer.status, answer.error) == (403, "AccessDeniedException"), wrong
    assert (await client.ask("GET", right)).body == b"mine"
    assert (await client.ask("POST", right)).status == 405


async def test_an_address_runs_out(
    client: Client, downloads: Downloads, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = target(downloads, kept(store, b"mine"))
    now = clock.unix_s()
    monkeypatch.setattr(clock, "unix_s", lambda: now + GOOD_FOR_S - 2)
    assert (await client.ask("GET", right)).status == 200
    monkeypatch.setattr(clock, "unix_s", lambda: now + GOOD_FOR_S + 2)
    answer = await client.ask("GET", right)
    assert (answer.status, "10 minutes" in answer.body.decode()) == (403, True)


async def test_what_is_gone_is_said_to_be(client: Client, downloads: Downloads) -> None:
    assert (await client.ask("GET", target(downloads, base64.b64encode(bytes(32)).decode()))).status == 404


async def test_requests_before_and_after_a_download(
    client: Client, downloads: Downloads, store: Path
) -> None:
    """On one connection, sent together: a head alone, a large one, a small one."""
    large, small = (target(downloads, kept(store, data)) for data in (LARGE, b"small"))
    for method, path in (("HEAD", large), ("GET", large), ("GET", small)):
        client.request(method, path)
    head = await client.answer(bodiless=True)
    assert (head.headers["content-length"], head.headers["content-type"]) == (
        str(len(LARGE)),
        "application/zip",
    )
    assert (await client.answer()).body == LARGE
    assert (await client.answer()).body == b"small"


async def test_only_what_is_taken_is_read(downloads: Downloads, store: Path) -> None:
    """Of clients that do not read each has a part in memory, and no more of them than are allowed."""
    asked = []

    class Counting:
        def __init__(self) -> None:
            self._store = open_store(str(store))

        async def head_async(self, name: str) -> object:
            return await self._store.head_async(name)

        async def get_range_async(self, name: str, *, start: int, end: int) -> bytes:
            asked.append(end - start)
            return bytes(1_000_000)

    path = target(downloads, kept(store, bytes(100_000_000)))
    slow = Downloads(Packages(Counting()), b"secret")  # type: ignore[arg-type]
    async with listening(Api({}, Open(), slow)) as (server, port):
        async with connected(port) as one:
            one.request("GET", path)
            await one.reader.readuntil(b"\r\n\r\n")
            await until(lambda: server.held > 0)  # its connection is full
            seen = len(asked)
            for _ in range(1000):
                await asyncio.sleep(0)
            assert len(asked) == seen < 20
            assert server.held <= 2 * packages_module.PART_BYTES
        await until(lambda: server.open == 0)
        assert server.held == 0


async def test_no_more_than_so_many_at_one_time(
    downloads: Downloads, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads_module, "MOST", 1)
    path = target(downloads, kept(store, bytes(30_000_000)))
    async with (
        listening(Api({}, Open(), downloads)) as (server, port),
        connected(port) as one,
        connected(port) as other,
    ):
        one.request("GET", path)
        await one.reader.readuntil(b"\r\n\r\n")
        await until(lambda: server.held > 0)
        assert (await other.ask("GET", path)).status == 503
        async with asyncio.timeout(20):
            await one.reader.readexactly(30_000_000)
        other.request("HEAD", path)
        assert (await other.answer(bodiless=True)).status == 200


async def test_a_package_that_fails_in_the_middle_is_cut_off(downloads: Downloads, store: Path) -> None:
    """The client sees that bytes are missing, and takes nothing for the whole."""
    path = target(downloads, kept(store, b""))

    class Shrinks:
        async def head_async(self, _: str) -> object:
            return {"size": 3_000_000}

        async def get_range_async(self, _: str, *, start: int, end: int) -> bytes:
            if start:
                raise OSError("the disk is gone")
            return bytes(end - start)

    failing = Downloads(Packages(Shrinks()), b"secret")  # type: ignore[arg-type]
    async with listening(Api({}, Open(), failing)) as (_, port), connected(port) as client:
        client.request("GET", path)
        await client.reader.readuntil(b"\r\n\r\n")
        assert len(await client.ended()) < 3_000_000


@pytest.mark.parametrize(
    ("host", "address"),
    [
        (b"", ""),
        (b"a b", ""),
        (b"here/there", ""),
        (b"u@here", ""),
        (b"here:9000", "http://here:9000/"),
        (b"[::1]:9000", "http://[::1]:9000/"),
    ],
)
async def test_the_host_is_the_one_that_was_asked(downloads: Downloads, host: bytes, address: str) -> None:
    request = Request("GET", "/", headers={b"host": host} if host else {})
    located = downloads.location(request, base64.b64encode(bytes(32)).decode())
    assert located.startswith(address) if address else located == ""
