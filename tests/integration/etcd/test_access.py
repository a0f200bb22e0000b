"""TLS, client certificates, users and passwords, as a cluster in production has them."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lambent_chassis.etcd import Etcd, EtcdBinary, EtcdDenied, EtcdUnavailable, Tls
from tests.integration.etcd.cluster import Cluster, until

pytestmark = pytest.mark.integration


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Certificates:
    """A certificate authority of its own in a folder, and what it signed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.authority = folder / "ca.pem"
        openssl("req", "-x509", *_NEW_KEY, "-subj", "/CN=test", "-days", "2",
                "-keyout", folder / "ca.key", "-out", self.authority)  # fmt: skip

    def sign(self, name: str) -> tuple[Path, Path]:
        """Certificate and key for 127.0.0.1."""
        folder = self._folder
        key, request, certificate = (folder / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
        extensions = folder / "extensions"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:etcd.test\n")
        openssl("req", *_NEW_KEY, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.authority, "-CAkey", folder / "ca.key",
                "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", certificate)  # fmt: skip
        return certificate, key


def openssl(*arguments: str | Path) -> None:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("needs the openssl program to make certificates")
    subprocess.run([program, *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def tls_cluster(
    sound_etcd: EtcdBinary, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    certificate, key = certificates.sign("server")
    options = ["--cert-file", certificate, "--key-file", key, "--trusted-ca-file", certificates.authority]
    cluster = Cluster(
        sound_etcd,
        tmp_path_factory.mktemp("tls"),
        scheme="https",
        options=[*map(str, options), "--client-cert-auth"],
    )
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


async def test_tls_with_client_certificates(
    tls_cluster: Cluster, certificates: Certificates, room: str
) -> None:
    """With the authority and a certificate of its own the session works, by URL or by host and port."""
    certificate, key = certificates.sign("client")
    tls = Tls(ca_file=certificates.authority, cert_file=certificate, key_file=key)
    for endpoints in (tls_cluster.endpoints, [f"https://{endpoint}" for endpoint in tls_cluster.endpoints]):
        async with Etcd(endpoints, tls=tls) as etcd:
            revision = await etcd.put(room + "a", b"1")
            assert (await anext(etcd.watch_prefix(room, revision)))[0].value == b"1"
    named = Tls(ca_file=certificates.authority, cert_file=certificate, key_file=key, server_name="etcd.test")
    async with Etcd(tls_cluster.endpoints, tls=named) as etcd:
        assert await etcd.get(room + "a") is not None


async def test_without_trust_there_is_no_session(tls_cluster: Cluster, certificates: Certificates) -> None:
    """An authority that we do not know is given as the reason; nobody gets in without a certificate."""
    stranger = Etcd([f"https://{tls_cluster.endpoints[0]}"])
    anonymous = Etcd(tls_cluster.endpoints, tls=Tls(ca_file=certificates.authority))
    refused = await asyncio.gather(stranger.connect(), anonymous.connect(), return_exceptions=True)
    assert [type(error) for error in refused] == [EtcdUnavailable, EtcdUnavailable]
    assert "CERTIFICATE_VERIFY_FAILED" in str(refused[0])


def test_tls_files_for_a_plain_url_are_refused() -> None:
    """Rather than sending in the clear what was meant to be protected."""
    with pytest.raises(ValueError, match="without TLS"):
        Etcd(["http://127.0.0.1:1"], tls=Tls())


@pytest.fixture(scope="module")
def guarded(sound_etcd: EtcdBinary, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(sound_etcd, tmp_path_factory.mktemp("guarded"), options=["--auth-token-ttl", "2"])
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


@pytest.fixture
async def guarded_cluster(guarded: Cluster) -> AsyncIterator[Cluster]:
    """Root may do all, `lambent` what is under /lambent/; without a password nobody may anything."""
    await guarded.ready()
    endpoint = f"--endpoints={guarded.endpoints[0]}"
    for command in (
        ("user", "add", "root:secret"),
        ("user", "grant-role", "root", "root"),
        ("role", "add", "fleet"),
        ("role", "grant-permission", "fleet", "--prefix=true", "readwrite", "/lambent/"),
        ("user", "add", "lambent:word"),
        ("user", "grant-role", "lambent", "fleet"),
        ("auth", "enable"),
    ):
        await guarded.etcdctl(endpoint, *command)
    yield guarded
    await guarded.etcdctl(endpoint, "--user=root:secret", "auth", "disable")


async def test_users_passwords_and_tokens_that_expire(guarded_cluster: Cluster) -> None:
    """Denials are said at once and as such; a token that ran out is renewed, over restarts of members too."""
    endpoints = guarded_cluster.endpoints
    with pytest.raises(EtcdDenied, match="Check the etcd user"):
        await Etcd(endpoints, user="lambent", password="wrong").connect()
    async with Etcd(endpoints) as nobody:
        with pytest.raises(EtcdDenied):
            await nobody.get("/lambent/a")
    async with Etcd(endpoints, user="lambent", password="word") as etcd:
        revision = await etcd.put("/lambent/a", b"1")
        lease = await etcd.lease(6)
        changes = etcd.watch_prefix("/lambent/", revision)
        assert [change.key for change in await anext(changes)] == ["/lambent/a"]
        with pytest.raises(EtcdDenied):
            await etcd.get("/elsewhere")
        with pytest.raises(EtcdDenied):
            await anext(etcd.watch_prefix("/elsewhere", 1))
        for member in guarded_cluster.members:
            member.kill()
            guarded_cluster.start()
            async with Etcd([member.endpoint]) as again:
                with pytest.raises(EtcdDenied):
                    await again.get("/ready")
        kept = lease.valid_until
        await asyncio.sleep(4)  # twice the life of a token
        await etcd.put("/lambent/b", b"2", lease)
        assert [change.key for change in await anext(changes)] == ["/lambent/b"]
        await until(lambda: lease.valid_until > kept)
        assert not lease.lost.is_set()
        await changes.aclose()
