"""TLS between parts: who is let in, what is said of who is not, and certificates that are renewed."""

import asyncio
import os
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from structlog.testing import capture_logs

from lambent import certificates
from lambent_chassis import link
from lambent_chassis.peering import PLAIN, BadCertificates, Files, Mtls, Peering, caller_names
from lambent_proto import identity
from tests.unit.chassis.test_link import Lines, Side

NOW = datetime.now(UTC)
WORKER = identity.dns_name("worker", "w1")


@dataclass
class Authority:
    """A CA and what it has signed."""

    folder: Path

    def __post_init__(self) -> None:
        certificates.make_ca(self.folder, days=30, now=NOW)

    def issue(self, part: str, name: str, *, now: datetime = NOW, out: Path | None = None) -> Files:
        made = certificates.issue(
            self.folder, part, name, out or self.folder / "issued", hosts=[], days=10, now=now
        )
        return Files(self.folder / "ca.crt", made.cert, made.key)


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "theirs")


@asynccontextmanager
async def listening(peering: Peering) -> AsyncIterator[tuple[int, Side]]:
    side = Side()
    server = await link.listen(
        "127.0.0.1", 0, decoder=Lines, on_frame=side.on_frame, on_lost=side.on_lost, ssl=peering.listening()
    )
    try:
        yield server.sockets[0].getsockname()[1], side
    finally:
        server.close()
        for connection in side.links:
            connection.abort()


async def says(port: int, context: ssl.SSLContext | None, name: str | None = WORKER) -> Exception | None:
    """Connects and says a line; what became of it, None if it was heard."""
    side = Side()
    try:
        connection = await link.dial(
            "127.0.0.1",
            port,
            decoder=Lines,
            on_frame=side.on_frame,
            on_lost=side.on_lost,
            ssl=context,
            name=name if context else None,
        )
    except OSError as error:
        return error
    connection.send(b"hello\n")
    connection.close()
    return None


async def heard(side: Side, number: int) -> None:
    async with asyncio.timeout(5):
        while len(side.seen) < number:  # noqa: ASYNC110 - its frames come by a callback
            await asyncio.sleep(0)


async def said(logs: list[Any], event: str) -> str:
    """The reason that the log gives for it."""
    found: list[str] = []
    async with asyncio.timeout(5):
        while not found:
            await asyncio.sleep(0)
            found = [str(it["reason"]) for it in logs if it["event"] == event]
    return found[0]


async def test_both_know_who_the_other_is(ours: Authority) -> None:
    """The names in each certificate reach the other side."""
    worker, frontend = Mtls(ours.issue("worker", "w1")), Mtls(ours.issue("frontend", "f1"))
    async with listening(worker) as (port, side):
        assert await says(port, frontend.dialling()) is None
        await heard(side, 1)
        assert identity.read(side.links[0].peer_names or ()) == ("frontend", "f1")


async def test_who_dials_another_part_than_it_means_says_nothing(ours: Authority) -> None:
    """At the worker's old address another one may listen by now."""
    other, frontend = Mtls(ours.issue("worker", "w2")), Mtls(ours.issue("frontend", "f1"))
    async with listening(other) as (port, side):
        with capture_logs() as logs:
            failed = await says(port, frontend.dialling())
        assert isinstance(failed, ssl.SSLCertVerificationError)
        assert "w1.worker.lambent.internal" in await said(logs, "peer_not_trusted")
    assert side.seen == []


@pytest.mark.parametrize(
    ("who", "why"),
    [
        ("nobody", "peer did not return a certificate"),
        ("stranger", "unable to get local issuer certificate"),
        ("expired", "certificate has expired"),
    ],
)
async def test_who_is_not_let_in_and_what_the_log_says(
    ours: Authority, theirs: Authority, who: str, why: str
) -> None:
    """Not one line of theirs is read."""
    context = ssl.create_default_context(cafile=ours.folder / "ca.crt")
    if who == "stranger":
        files = theirs.issue("frontend", "f1")
        context.load_cert_chain(files.cert, files.key)
    if who == "expired":
        files = ours.issue("frontend", "f1", now=NOW - timedelta(days=20))
        context.load_cert_chain(files.cert, files.key)
    async with listening(Mtls(ours.issue("worker", "w1"))) as (port, side):
        with capture_logs() as logs:
            await says(port, context)
            assert why in (await said(logs, "peer_refused")).lower().replace("_", " ")
    assert side.seen == []


async def test_without_tls_nobody_is_heard(ours: Authority) -> None:
    """A plain connection to a port that speaks TLS ends, and the log says what came."""
    async with listening(Mtls(ours.issue("worker", "w1"))) as (port, side):
        with capture_logs() as logs:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"hello\n" * 10)
            async with asyncio.timeout(5):
                assert b"hello" not in await reader.read()
            writer.close()
            assert await said(logs, "peer_refused")
    assert side.seen == []


async def test_a_renewed_certificate_is_taken_without_a_restart(ours: Authority, tmp_path: Path) -> None:
    """By the next connection, in both directions; those that are there stay."""
    held = tmp_path / "held"
    worker = Mtls(ours.issue("worker", "w1", out=held))
    frontend = Mtls(ours.issue("frontend", "f1", out=held))
    async with listening(worker) as (port, side):
        assert await says(port, frontend.dialling()) is None
        before = await serial(port, frontend)
        with capture_logs() as logs:
            ours.issue("worker", "w1", out=held)
            ours.issue("frontend", "f1", out=held)
            assert await serial(port, frontend) != before
            taken = [it["files"][1] for it in logs if it["event"] == "certificates_taken"]
            assert sorted(taken) == [str(held / "frontend-f1.crt"), str(held / "worker-w1.crt")]
        await heard(side, 1)


async def test_a_pair_that_does_not_fit_changes_nothing(ours: Authority, tmp_path: Path) -> None:
    """A renewal that is half done, or wrong: the log says so, and the old one goes on."""
    held = tmp_path / "held"
    files = ours.issue("worker", "w1", out=held)
    worker, frontend = Mtls(files), Mtls(ours.issue("frontend", "f1"))
    async with listening(worker) as (port, _):
        before = await serial(port, frontend)
        shutil.copy(ours.issue("worker", "w9").key, files.key)
        with capture_logs() as logs:
            assert await serial(port, frontend) == before
            assert "key values mismatch" in await said(logs, "certificates_not_taken")


async def test_what_is_written_within_one_tick_of_the_clock_is_taken(ours: Authority, tmp_path: Path) -> None:
    """Somebody who looks while it is being written must not take what it sees for all there will be."""
    held = tmp_path / "held"
    files = ours.issue("worker", "w1", out=held)
    worker, frontend = Mtls(files), Mtls(ours.issue("frontend", "f1"))
    renewed = ours.issue("worker", "w1")
    async with listening(worker) as (port, _):
        before = await serial(port, frontend)
        shutil.copyfile(renewed.key, files.key)
        for written in (renewed.cert.read_bytes()[:100], renewed.cert.read_bytes()):
            files.cert.write_bytes(written)
            os.utime(files.cert, ns=(0, 0))
            shown = await serial(port, frontend)
        assert shown != before


async def test_who_is_no_longer_trusted_does_not_come_back_by_an_old_session(
    ours: Authority, theirs: Authority, tmp_path: Path
) -> None:
    """Whoever resumes a session is not asked for a certificate."""
    files = theirs.issue("worker", "w1", out=tmp_path / "held")
    ca = Path(shutil.copy(files.ca, tmp_path / "held" / "ca.crt"))
    old = Mtls(theirs.issue("frontend", "f1")).dialling()
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=Mtls(files._replace(ca=ca)).listening())
    async with server:
        port = server.sockets[0].getsockname()[1]
        heard, session = await asyncio.to_thread(greeted, port, old, None)
        assert heard == b"hello"
        ours.issue("worker", "w1", out=tmp_path / "held")
        shutil.copyfile(ours.folder / "ca.crt", ca)
        assert (await asyncio.to_thread(greeted, port, old, session))[0] == b""


def greeted(
    port: int, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[bytes, ssl.SSLSession | None]:
    """What was heard, and the session, if the other side would have it resumed."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=WORKER, session=session) as connection:
                heard, now = connection.recv(100), connection.session
        except OSError:
            return b"", None
        return heard, now if now and now.has_ticket else None


async def serial(port: int, peering: Mtls) -> int:
    """Of the certificate that is shown to who connects now."""
    _, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=peering.dialling(), server_hostname=WORKER
    )
    shown = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
    writer.close()
    return int(shown, 16)


def test_certificates_that_cannot_be_used_are_named_at_the_start(ours: Authority, tmp_path: Path) -> None:
    files = ours.issue("worker", "w1")
    with pytest.raises(BadCertificates, match=r"nothing\.crt cannot be used as the fleet's CA: no such file"):
        Mtls(files._replace(ca=tmp_path / "nothing.crt"))
    with pytest.raises(
        BadCertificates, match=r"worker-w1\.crt with the key .*w2\.key .* key values mismatch"
    ):
        Mtls(files._replace(key=ours.issue("worker", "w2").key))


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(ours: Authority) -> None:
    files = ours.issue("worker", "w1")
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    files.key.write_bytes(key.private_bytes(*form, serialization.BestAvailableEncryption(b"secret")))
    with pytest.raises(BadCertificates, match=r"worker-w1\.key is encrypted: a part takes a key without"):
        Mtls(files)


class Late(type(Path())):  # type: ignore[misc]
    """A file that takes so long to be read that something happens meanwhile."""

    meanwhile: Callable[[], object] | None = None

    def read_bytes(self) -> bytes:
        content: bytes = super().read_bytes()
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return content


async def test_who_reads_slowly_does_not_bring_the_old_certificate_back(
    ours: Authority, tmp_path: Path
) -> None:
    """gRPC looks from threads of its own, beside the loop."""
    held = tmp_path / "held"
    files = ours.issue("worker", "w1", out=held)
    key = Late(files.key)
    worker, frontend = Mtls(files._replace(key=key)), Mtls(ours.issue("frontend", "f1"))

    def renewed_and_seen() -> None:
        ours.issue("worker", "w1", out=held)
        worker.dialling()

    ours.issue("worker", "w1", out=held)
    key.meanwhile = renewed_and_seen
    worker.dialling()
    async with listening(worker) as (port, _):
        newest = x509.load_pem_x509_certificate(files.cert.read_bytes()).serial_number
        assert await serial(port, frontend) == newest


class Gone(type(Path())):  # type: ignore[misc]
    """A file that is taken away while the certificates are being read."""

    def read_bytes(self) -> bytes:
        raise FileNotFoundError(2, "No such file or directory")


def test_a_file_that_goes_while_they_are_read_is_a_certificate_that_cannot_be_used(ours: Authority) -> None:
    """As any other: a renewal may remove it first and write it then."""
    files = ours.issue("worker", "w1")
    with pytest.raises(BadCertificates, match=r"worker-w1\.key cannot be read: no such file"):
        Mtls(files._replace(key=Gone(files.key)))


class Asked(grpc.GenericRpcHandler):
    """A service of one method that tells callers what they are called."""

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._names)

    async def _names(self, _: bytes, context: Any) -> bytes:
        names = caller_names(context)
        return b"nobody knows" if names is None else " ".join(names).encode()


@asynccontextmanager
async def serving(peering: Peering) -> AsyncIterator[str]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Asked(),))
    port = peering.listen(server, "127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def ask(channel: grpc.aio.Channel) -> str:
    async with channel:
        ask_names: Any = channel.unary_unary("/a/b")
        return str((await ask_names(b"", timeout=10)).decode())


@contextmanager
def refused() -> Iterator[None]:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        yield
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_grpc_tells_who_calls(ours: Authority) -> None:
    worker = Mtls(ours.issue("worker", "w1"))
    async with serving(Mtls(ours.issue("placement", "p1"))) as address:
        names = await ask(worker.channel(address, identity.dns_name("placement")))
    assert identity.read(names.split()) == ("worker", "w1")


async def test_grpc_refuses_and_is_refused(ours: Authority, theirs: Authority) -> None:
    """Whom it does not know, whom it does not mean, and who shows nothing."""
    name = identity.dns_name("placement")
    async with serving(Mtls(ours.issue("placement", "p1"))) as address:
        with refused():
            await ask(Mtls(theirs.issue("worker", "w1")).channel(address, name))
        with refused():
            await ask(Mtls(ours.issue("worker", "w1")).channel(address, identity.dns_name("frontend")))
        with refused():
            await ask(PLAIN.channel(address, name))
        expired = ours.issue("worker", "w2", now=NOW - timedelta(days=20))
        with refused():
            await ask(Mtls(expired).channel(address, name))
        nobody = grpc.ssl_channel_credentials((ours.folder / "ca.crt").read_bytes())
        override = (("grpc.ssl_target_name_override", name),)
        with refused():
            await ask(grpc.aio.secure_channel(address, nobody, options=override))


async def test_grpc_takes_a_renewed_certificate(ours: Authority, theirs: Authority, tmp_path: Path) -> None:
    """A server whose CA and certificate are replaced knows those of the new CA from then on."""
    held = tmp_path / "held"
    files = ours.issue("placement", "p1", out=held)
    ca = Path(shutil.copy(files.ca, held / "ca.crt"))
    worker = Mtls(theirs.issue("worker", "w1"))
    async with serving(Mtls(files._replace(ca=ca))) as address:
        with refused():
            await ask(worker.channel(address, identity.dns_name("placement")))
        theirs.issue("placement", "p1", out=held)
        shutil.copy(theirs.folder / "ca.crt", ca)
        names = await ask(worker.channel(address, identity.dns_name("placement")))
    assert identity.read(names.split()) == ("worker", "w1")


async def test_without_tls_grpc_tells_nothing_of_callers() -> None:
    async with serving(PLAIN) as address:
        assert await ask(PLAIN.channel(address, "")) == "nobody knows"
