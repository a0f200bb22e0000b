"""A session's channel to one member of etcd, and the certificates that it shows there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import grpc.aio

from lambent import certificates
from lambent_chassis.etcd import Tls
from lambent_chassis.etcd.member import Endpoint, Member

NOW: Final = datetime.now(UTC)
WITHIN_S: Final = 5.0


def issued(folder: Path, name: str) -> Path:
    """A CA with its own folder, that has signed for a server and a client."""
    ca = folder / name
    certificates.make_ca(ca, days=30, now=NOW)
    certificates.issue(ca, "etcd", "server", ca, hosts=["127.0.0.1"], days=9, now=NOW)
    certificates.issue(ca, "worker", "client", ca, hosts=[], days=9, now=NOW)
    return ca


@asynccontextmanager
async def serving(ca: Path, address: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """Somebody who takes this CA's clients alone, as etcd does."""
    server = grpc.aio.server()
    pair = (ca / "etcd-server.key").read_bytes(), (ca / "etcd-server.crt").read_bytes()
    root = (ca / "ca.crt").read_bytes()
    credentials = grpc.ssl_server_credentials([pair], root, require_client_auth=True)
    port = server.add_secure_port(address, credentials)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def put(ca: Path, folder: Path) -> Tls:
    """What a part is told to use, with what is of this CA."""
    told = {"ca.crt": "ca.crt", "part.crt": "worker-client.crt", "part.key": "worker-client.key"}
    for name, source in told.items():
        (folder / name).write_bytes((ca / source).read_bytes())
    return Tls(ca_file=folder / "ca.crt", cert_file=folder / "part.crt", key_file=folder / "part.key")


async def test_a_member_that_was_away_is_shown_the_newest_certificates(tmp_path: Path) -> None:
    """As after the CA was replaced. What is connected stays, and nobody's wait is ended by it."""
    before, after = issued(tmp_path, "before"), issued(tmp_path, "after")
    tls = put(before, tmp_path)
    async with serving(before) as address:
        member = Member(Endpoint(f"https://{address}", tls))
        assert await member.connected(WITHIN_S)
        put(after, tmp_path)
        assert await member.connected(WITHIN_S), "it is connected, so nothing has to be shown"
    async with serving(after, address):
        assert await member.connected(WITHIN_S)
    await member.close()


async def test_files_that_are_away_change_nothing(tmp_path: Path) -> None:
    """As while somebody writes them: the ones of before go on."""
    ca = issued(tmp_path, "ca")
    tls = put(ca, tmp_path)
    async with serving(ca) as address:
        member = Member(Endpoint(f"https://{address}", tls))
        (tmp_path / "part.key").unlink()
        assert await member.connected(WITHIN_S)
    await member.close()
