"""The page of metrics: who asks for it, however, does not hurt the part that is asked."""

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from lambent import certificates
from lambent_chassis.metrics import serving
from lambent_chassis.peering import Files, Mtls
from tests.unit.chassis.test_link import ipv6

ASK = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


async def answer(address: str, said: bytes, context: ssl.SSLContext | None = None) -> bytes:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context)
    writer.write(said)
    async with asyncio.timeout(5):
        heard = await reader.read()
    writer.close()
    return heard


async def test_a_page_that_cannot_be_made_is_told_and_ends_nothing() -> None:
    """What nobody catches in a callback ends a part's process: not so what a scrape meets."""
    uncaught: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: uncaught.append(context))
    pages = [b"level 1\n"]

    async def page() -> bytes:
        return pages.pop()

    async with serving(page, "127.0.0.1", 0) as address:
        assert (await answer(address, ASK)).endswith(b"\r\n\r\nlevel 1\n")
        with capture_logs() as logs:
            assert (await answer(address, ASK)).startswith(b"HTTP/1.1 500 ")
    assert [it["event"] for it in logs] == ["metrics_failed"]
    assert "IndexError" in logs[0]["reason"]
    assert uncaught == []


@pytest.mark.skipif(not ipv6(), reason="this machine has no IPv6")
async def test_it_is_told_by_ipv6() -> None:
    """An address is written as in a URL, here as in all settings."""

    async def page() -> bytes:
        return b"level 1\n"

    async with serving(page, "[::1]", 0) as address:
        assert address.startswith("[::1]:")
        assert (await answer(address, ASK)).endswith(b"level 1\n")


async def test_there_is_nothing_else() -> None:
    async def page() -> bytes:
        raise AssertionError("nobody asked for it")

    async with serving(page, "127.0.0.1", 0) as address:
        assert (await answer(address, ASK.replace(b"/metrics", b"/"))).startswith(b"HTTP/1.1 404 ")
        assert (await answer(address, ASK.replace(b"GET", b"PUT"))).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(("who", "let_in"), [("operator", True), ("etcd", False)])
async def test_they_are_for_parts_and_operators(who: str, let_in: bool, tmp_path: Path) -> None:
    """A CA may sign for others than the fleet: such a certificate is of no part."""
    now, ca = datetime.now(UTC), tmp_path / "ca"
    certificates.make_ca(ca, days=2, now=now)

    def mtls(part: str) -> Mtls:
        made = certificates.issue(ca, part, "it", tmp_path, hosts=["127.0.0.1"], days=1, now=now)
        return Mtls(Files(ca / "ca.crt", made.cert, made.key))

    async def page() -> bytes:
        return b"level 1\n"

    context = mtls(who).dialling()
    context.check_hostname = False
    async with serving(page, "127.0.0.1", 0, mtls("worker")) as address:
        with capture_logs() as logs:
            heard = await answer(address, ASK, context)
    assert heard.startswith(b"HTTP/1.1 200 " if let_in else b"HTTP/1.1 403 ")
    assert (b"level 1" in heard) is let_in
    assert [it["event"] for it in logs] == ([] if let_in else ["peer_refused"])
