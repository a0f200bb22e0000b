"""Files of TLS that cannot be used are named, and HTTP over those that can."""

import asyncio
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from lambent_frontend.http.server import HttpServer
from lambent_frontend.tls import CannotEncrypt, PublicTls
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
