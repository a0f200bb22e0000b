"""Every port that a fleet with certificates listens on, found in /proc, is tried as a stranger would."""

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import grpc.aio
import psutil  # type: ignore[import-untyped]
import pytest
from cryptography import x509
from google.protobuf import descriptor_pool

from lambent import certificates
from lambent_chassis.clock import monotonic_s
from lambent_frontend.server import SERVICES
from lambent_proto import frames
from tests.brokers import processes
from tests.e2e.by_hand import by_hand
from tests.e2e.fleet import WITHIN_S, Fleet, up

pytestmark = pytest.mark.e2e

SILENCE_S: Final = 0.3
"""Who has not answered a stranger by then is waiting for more, or has hung up."""

ACCEPTS: Final = 0x10000
"""Of the flags in /proc/net/unix: it is listened on."""

NOW: Final = datetime.now(UTC)


class Certified(NamedTuple):
    """A fleet whose parts, etcd and NATS have certificates of one CA."""

    fleet: Fleet
    ca: Path
    nats: int
    """Its port."""
    nats_log: Path
    beside: int
    """The process of a frontend that was started beside `lambent up`."""
    public: list[int]
    """Ports of both frontends that are for callers: gRPC, HTTP, gRPC, HTTP."""

    def processes(self) -> set[int]:
        fleet, beside = psutil.Process(self.fleet.process.pid), psutil.Process(self.beside)
        return {it.pid for top in (fleet, beside) for it in (top, *top.children(recursive=True))}

    def inner(self) -> list[int]:
        there = [it for it in psutil.net_connections("tcp") if it.status == psutil.CONN_LISTEN]
        own = {it.laddr.port for it in there if it.pid in self.processes()}
        return sorted(own - set(self.public) | {self.nats})


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Certified]:
    folder = tmp_path_factory.mktemp("ports")
    data, log = folder / "data", folder / "nats.log"
    ca, held = data / "certificates" / "ca", folder / "certs"
    certificates.make_ca(ca, days=3650, now=NOW)  # `lambent up` goes on with one that is there
    shown = certificates.issue(ca, "nats", "n1", held, hosts=["127.0.0.1"], days=2, now=NOW)
    mine = certificates.issue(ca, "frontend", "frontend", held, hosts=[], days=2, now=NOW)
    files = ("--tlscacert", ca / "ca.crt"), ("--tlscert", shown.cert), ("--tlskey", shown.key), ("-l", log)
    options = ["--tlsverify", *(str(word) for pair in files for word in pair)]
    broker = processes.a_nats(folder / "nats", options=options)
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        url = stack.enter_context(processes.running(broker)).replace("nats://", "tls://")
        for name, file in {"CA": ca / "ca.crt", "CERT": mine.cert, "KEY": mine.key}.items():
            patch.setenv(f"LAMBENT_NATS_{name}", str(file))
        fleet = stack.enter_context(up(data, "--mtls", "--auth", "--workers", "1", "--nats", url))
        told = certificates.FleetCertificates(data / "certificates").settings("frontend", "f2", of_etcd=True)
        beside = stack.enter_context(by_hand(fleet, "frontend", "f2", **told, grpc_port=0, http_port=0))
        addresses = fleet.endpoint, fleet.http, beside.addresses["grpc"], beside.addresses["http"]
        public = [int(it.rpartition(":")[2]) for it in addresses]
        yield Certified(fleet, ca, int(url.rpartition(":")[2]), log, beside.pid, public)
        beside.stop()
        assert fleet.stop() == 0


def stranger(certified: Certified, kind: str, folder: Path) -> ssl.SSLContext | None:
    """Who comes by no TLS, by TLS without a certificate, with one of another CA, or one that has ended."""
    if kind == "plain":
        return None
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if kind == "nobody":
        return context
    ca, then = certified.ca, NOW - timedelta(days=9 if kind == "expired" else 0)
    if kind == "another CA's":
        ca = folder / "ca"
        certificates.make_ca(ca, days=9, now=NOW)
    made = certificates.issue(ca, "frontend", "frontend", folder, hosts=[], days=2, now=then)
    context.load_cert_chain(made.cert, made.key)
    return context


REFUSED_BY_US: Final = {
    "nobody": "did not return a certificate",
    "another CA's": "local issuer",
    "expired": "has expired",
}
REFUSED: Final = {**REFUSED_BY_US, "nobody": "DID_NOT_RETURN_A_CERTIFICATE", "plain": "WRONG_VERSION_NUMBER"}
"""In gRPC's words."""
PATHS: Final = (
    "/grpc.health.v1.Health/Check",
    "/lambent.internal.v1.Placement/Describe",
    "/lambent.internal.v1.WorkerLogs/ReadLogs",
    "/lambent.v1.Fleet/CountReasons",
    "/etcdserverpb.Maintenance/Status",
)
HELLO: Final = frames.encode(frames.Hello("frontend.1"))
HTTP2: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + struct.pack(">HBBBI", 0, 0, 4, 0, 0)
WORDS: Final = {
    "nothing": b"",
    "metrics": b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "etcd's version": b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "etcd's keys": b'POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{"key":"AA=="}',
    "gRPC": HTTP2,
    "frames": HELLO if isinstance(HELLO, bytes) else b"",
    "NATS": b'CONNECT {"verbose":true}\r\nPING\r\n',
}


def answer(port: int, said: bytes, context: ssl.SSLContext | None) -> bytes:
    """All that is heard within a moment; nothing where the other side hangs up, or says no."""
    heard = b""
    try:
        plain = socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S)
        with plain, context.wrap_socket(plain) if context else plain as connection:
            connection.sendall(said)
            connection.settimeout(SILENCE_S)
            while piece := connection.recv(65536):
                heard += piece
    except OSError:
        pass
    return heard


def says_nothing(heard: bytes) -> bool:
    """A TLS alert, and the word for it of those that speak HTTP, are no answer. NATS begins with what server
    it is, in the clear, and goes on by TLS alone."""
    alert = heard.startswith(b"\x15\x03")
    by_http = heard.startswith(b"HTTP/1.0 400 Bad Request") and b"HTTPS server" in heard
    nats = heard.startswith(b"INFO {") and b'"tls_required":true' in heard and heard.count(b"\r\n") == 1
    return not heard or alert or by_http or nats


@pytest.mark.parametrize("kind", ["plain", "nobody", "another CA's", "expired"])
async def test_no_inner_port_answers_a_stranger(certified: Certified, kind: str, tmp_path: Path) -> None:
    """Whatever is asked for: the parts', etcd's two, NATS's."""
    inner = certified.inner()
    assert len(inner) >= 9, "etcd's two, placement's two, the worker's three, the frontends' two each, NATS's"
    context = stranger(certified, kind, tmp_path)
    tries = [(port, word) for port in inner for word in WORDS]
    heard = await asyncio.gather(
        *(asyncio.to_thread(answer, port, WORDS[word], context) for port, word in tries)
    )
    spoke = {at: it for at, it in zip(tries, heard, strict=True) if not says_nothing(it)}
    assert spoke == {}
    for part in ("worker-1", "placement", "frontend"):
        until_said(certified.fleet.data / "logs" / f"{part}.log", "peer_refused", REFUSED_BY_US.get(kind, ""))
    until_said(certified.fleet.data / "etcd" / "etcd.log", "rejected connection")
    if kind != "plain":
        until_said(certified.nats_log, "TLS handshake error")


async def test_who_has_a_certificate_is_answered_there(certified: Certified, tmp_path: Path) -> None:
    """Else the others could show nothing."""
    context, inner = stranger(certified, "the fleet's", tmp_path), certified.inner()
    heard = [await asyncio.to_thread(answer, port, WORDS["metrics"], context) for port in inner]
    assert len([it for it in heard if it.startswith(b"HTTP/1.1 200 OK")]) >= 4
    codes = set()
    for port in inner:
        async with channel(certified, port, "the fleet's", tmp_path / str(port)) as connected:
            codes |= {await code(connected, path) for path in PATHS}
    assert {grpc.StatusCode.OK, grpc.StatusCode.UNIMPLEMENTED} <= codes


def until_said(log: Path, *words: str) -> None:
    """All of them in one line."""
    deadline = monotonic_s() + WITHIN_S
    while not any(all(it in line for it in words) for line in log.read_text().splitlines()):
        assert monotonic_s() < deadline, f"{log} does not say {words}: {log.read_text()[-1000:]}"


@pytest.mark.parametrize("kind", ["plain", "nobody", "another CA's", "expired"])
async def test_no_inner_port_takes_a_call_of_grpc(certified: Certified, kind: str, tmp_path: Path) -> None:
    """Health included: that is for the public ports."""
    codes = set()
    for port in certified.inner():
        async with channel(certified, port, kind, tmp_path / str(port)) as connected:
            codes |= {await code(connected, path) for path in PATHS}
    assert codes == {grpc.StatusCode.UNAVAILABLE}
    for part in ("worker-1", "placement", "frontend"):
        until_said(certified.fleet.data / "logs" / f"{part}.log", "Handshake failed", REFUSED[kind])


def channel(certified: Certified, port: int, kind: str, folder: Path) -> grpc.aio.Channel:
    """Which trusts what it is shown, by any of the names that parts have."""
    address = f"127.0.0.1:{port}"
    if kind == "plain":
        return grpc.aio.insecure_channel(address)
    files: list[bytes] = []
    if kind != "nobody":
        stranger(certified, kind, folder)
        files = [(folder / f"frontend-frontend.{it}").read_bytes() for it in ("key", "crt")]
    credentials = grpc.ssl_channel_credentials((certified.ca / "ca.crt").read_bytes(), *files)
    name = "localhost" if port == certified.nats else name_at(port)
    return grpc.aio.secure_channel(address, credentials, [("grpc.ssl_target_name_override", name)])


def name_at(port: int) -> str:
    """By which it is to be asked for."""
    shown = x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", port)).encode())
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return str(names.get_values_for_type(x509.DNSName)[0])


async def code(connected: grpc.aio.Channel, path: str) -> grpc.StatusCode:
    call: Any = connected.unary_unary(path)
    try:
        await call(b"", timeout=WITHIN_S)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_the_public_ports_tell_who_has_no_key_their_health_alone(certified: Certified) -> None:
    """Of all that there is: every method of gRPC, and paths of HTTP."""
    for port in certified.public[::2]:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as connected:
            assert await code(connected, "/grpc.health.v1.Health/Check") is grpc.StatusCode.OK
            for path in methods():
                assert await code(connected, path) is grpc.StatusCode.UNAUTHENTICATED, path
            reflection = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
            assert await code(connected, reflection) is grpc.StatusCode.UNIMPLEMENTED
    for port in certified.public[1::2]:
        for path in ("/", "/metrics", "/2015-03-31/functions/", "/2015-03-31/functions/f/invocations", "/x"):
            request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            status = answer(port, request, None).split(b" ")[1]
            assert status in (b"403", b"404", b"405"), path


def methods() -> list[str]:
    found = []
    for service in SERVICES:
        described = descriptor_pool.Default().FindServiceByName(service)
        found += [f"/{service}/{method.name}" for method in described.methods]
    return found


def test_nothing_listens_otherwise(certified: Certified) -> None:
    """No datagrams, and no socket of Unix that somebody could connect to."""
    own = certified.processes()
    assert [it for it in psutil.net_connections("udp") if it.pid in own] == []
    inodes = {inode for pid in own for inode in sockets(pid)}
    table = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    assert [it for it in table if it[6] in inodes and int(it[3], 16) & ACCEPTS] == []


def sockets(pid: int) -> Iterator[str]:
    """Their inodes."""
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            if (target := os.readlink(fd)).startswith("socket:["):
                yield target[8:-1]
