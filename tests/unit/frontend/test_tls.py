"""Files of TLS that cannot be used are named, and HTTP over those that can."""

import asyncio
import shutil
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from structlog.testing import capture_logs

from lambent import certificates as signing
from lambent_frontend.http.server import HttpServer
from lambent_frontend.tls import CannotEncrypt, PublicTls
from tests import certificates
from tests.unit.frontend.http_client import INVOKE, Client, invoking
from tests.unit.scripted import ScriptedDispatcher


def test_files_that_cannot_be_used(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    """A key of another kind, none at all, and authorities that are none."""
    cert, key = certificate
    nothing = tmp_path / "nothing"
    for wrong in (cert, nothing):
        with pytest.raises(CannotEncrypt, match=f"tls_key {wrong}"):
            PublicTls(cert, wrong).of_grpcio()
    for wrong in (key, nothing):
        with pytest.raises(CannotEncrypt, match=f"tls_client_ca {wrong}"):
            PublicTls(cert, key, wrong).context()


def test_a_key_with_a_password_is_refused(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    """Nobody sits at the terminal of a frontend."""
    cert, key = certificate
    locked = tmp_path / "locked.key"
    known = serialization.load_pem_private_key(key.read_bytes(), None)
    locked.write_bytes(
        known.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(CannotEncrypt, match="is encrypted"):
        PublicTls(cert, locked).context()


async def test_http_is_encrypted_too(certificate: tuple[Path, Path]) -> None:
    """Megabytes both ways."""
    cert, key = certificate
    server = HttpServer(invoking(ScriptedDispatcher()))
    port = await server.start("127.0.0.1", 0, PublicTls(cert, key))
    known = ssl.create_default_context(cafile=str(cert))
    client = Client(*await asyncio.open_connection("localhost", port, ssl=known))
    body = b"1" * 5_000_000
    assert (await client.ask("POST", INVOKE.format("echo"), body)).body == body
    client.writer.close()
    await server.stop(0)


def shown(port: int) -> bytes:
    """The certificate that who connects now is shown."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(plain) as connection:
            return connection.getpeercert(binary_form=True) or b""


async def test_a_renewed_certificate_needs_no_restart(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    """What is connected stays; a pair that does not fit yet changes nothing, and the log says so."""
    cert, key = certificate
    (fresh := tmp_path / "fresh").mkdir()
    new_cert, new_key = certificates.make(fresh)
    server = HttpServer(invoking(ScriptedDispatcher()))
    port = await server.start("127.0.0.1", 0, PublicTls(cert, key))
    before = await asyncio.to_thread(shown, port)
    known = ssl.create_default_context(cafile=str(cert))
    client = Client(*await asyncio.open_connection("localhost", port, ssl=known))
    with capture_logs() as logs:
        shutil.copyfile(new_key, key)
        assert await asyncio.to_thread(shown, port) == before
        shutil.copyfile(new_cert, cert)
        after = await asyncio.to_thread(shown, port)
    assert after == ssl.PEM_cert_to_DER_cert(new_cert.read_text()) != before
    assert [it["event"] for it in logs] == ["certificates_not_taken", "certificates_taken"]
    assert (await client.ask("POST", INVOKE.format("echo"), b"1")).body == b"1"
    client.writer.close()
    await server.stop(0)


def greeted(port: int, context: ssl.SSLContext, session: Any) -> Any:
    """The session, that may be resumed; one that was resumed is no answer."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, session=session) as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(100)
        assert not connection.session_reused, "no certificate was looked at"
        return connection.session


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session_is_no_certificate(
    certificate: tuple[Path, Path], tmp_path: Path, newest: ssl.TLSVersion
) -> None:
    """A caller whose certificate has ended is not let in by what it was let in with before."""
    now = datetime.now(UTC)
    signing.make_ca(tmp_path / "ca", days=2, now=now)
    mine = signing.issue(tmp_path / "ca", "operator", "me", tmp_path, hosts=[], days=1, now=now)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(mine.cert, mine.key)
    context.maximum_version = newest
    server = HttpServer(invoking(ScriptedDispatcher()))
    port = await server.start("127.0.0.1", 0, PublicTls(*certificate, tmp_path / "ca" / "ca.crt"))
    if newest is ssl.TLSVersion.TLSv1_2:  # which has sessions that a server cannot be without here
        with pytest.raises(OSError, match=r".+"):
            await asyncio.to_thread(greeted, port, context, None)
    else:
        session = await asyncio.to_thread(greeted, port, context, None)
        await asyncio.to_thread(greeted, port, context, session if session.has_ticket else None)
    await server.stop(0)
