"""A fleet whose public ports are encrypted: `lambent up`, commands, clients of Python and of HTTP."""

import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from lambent import SyncClient
from tests import certificates
from tests.e2e.by_hand import running
from tests.e2e.fleet import Fleet

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def encrypted(certificate: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    cert, key = certificate
    options = "--workers", "1", "--tls-cert", str(cert), "--tls-key", str(key)
    with (
        running(tmp_path_factory.mktemp("encrypted"), *options) as fleet,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("LAMBENT_CA", str(cert))
        yield fleet


def test_an_encrypted_fleet_is_used_like_any_other(
    encrypted: Fleet, certificate: tuple[Path, Path], echo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command, the client, and HTTP; who speaks no TLS is not answered."""
    done = encrypted.lambent("deploy", str(echo), "--name", "tls", "--handler", "echo.handler")
    assert done.returncode == 0, done.stderr
    with SyncClient(encrypted.endpoint) as client:
        assert client.invoke("tls", {"a": 1}).json()
    known = ssl.create_default_context(cafile=str(certificate[0]))
    where = f"{encrypted.http}/2015-03-31/functions/tls"
    with urllib.request.urlopen(f"https://{where}", context=known, timeout=20) as answer:
        assert f"https://{encrypted.http}/".encode() in answer.read()  # where its code is
    with pytest.raises(OSError, match=r".+"):
        urllib.request.urlopen(f"http://{where}", timeout=20)
    load = ("--rate", "20", "--duration", "0.5", "--fail-if", "errors>0%", "--late", "60000")
    for via in ("stream", "http"):
        done = encrypted.lambent("loadtest", "tls", "--via", via, *load, "--http-endpoint", encrypted.http)
        assert done.returncode == 0, done.stderr
    monkeypatch.delenv("LAMBENT_CA")
    done = encrypted.lambent("function", "ls")
    assert done.returncode == 3
