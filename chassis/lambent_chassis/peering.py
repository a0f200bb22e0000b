"""How parts reach each other: plainly, or by TLS in both directions.

With TLS each shows a certificate of its own, signed by the CA that all know. The files are read again when
they have changed: what is connected stays, and new connections have the new certificates. While they cannot
be used, as when a certificate is there and its key not yet, the old ones go on.
"""

import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import grpc.aio
import structlog

from lambent_chassis import grpc_options
from lambent_chassis.renewed import Renewed
from lambent_proto import identity

_log = structlog.get_logger()

_SSL: Final = b"ssl"


class Files(NamedTuple):
    """PEM files. `ca` may hold several, as while one CA takes over from another."""

    ca: Path
    cert: Path
    key: Path


class BadCertificates(Exception):
    """The message names the file that cannot be used, and why."""


class _Watched(ssl.SSLObject):
    """Says in the log why a peer was refused: otherwise nobody would hear of it here."""

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            side = "peer_refused" if self.server_side else "peer_not_trusted"
            _log.warning(side, reason=getattr(error, "verify_message", "") or _why(error))
            raise


class _Loaded(NamedTuple):
    """The files as they were when they last could be used."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    ca: bytes
    cert: bytes
    key: bytes


class Renewing(ssl.SSLContext):
    """One that is the newest whenever a connection is made with it."""

    newest: Callable[[], ssl.SSLContext]

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return self.newest().wrap_bio(*args, **kwargs)


class Plain:
    """No TLS. For one machine, or a network that nobody else is in."""

    def listening(self) -> None:
        """A link is listened for as it is."""

    def dialling(self) -> None:
        """Likewise."""

    def channel(self, address: str, name: str) -> grpc.aio.Channel:
        """To whoever listens there."""
        return grpc.aio.insecure_channel(address, options=grpc_options.CHANNEL)

    def listen(self, server: grpc.aio.Server, address: str) -> int:
        """Lets other parts connect to `HOST:PORT`; the port. Raises OSError."""
        return _listen(address, lambda: server.add_insecure_port(address))


class Mtls:
    """The certificates of this process. Raises BadCertificates if they cannot be used at its start."""

    def __init__(self, files: Files) -> None:
        self._renewed = Renewed("certificates", files, lambda: _load(files), BadCertificates)
        self._listening = _context(ssl.PROTOCOL_TLS_SERVER, files)
        self._listening.sni_callback = self._take_newest

    def listening(self) -> ssl.SSLContext:
        """For a server, for as long as it lives."""
        return self._listening

    def dialling(self) -> ssl.SSLContext:
        """For one connection: the next one may need another."""
        return self._newest().client

    def kept(self) -> ssl.SSLContext:
        """For who makes connections with one context for as long as it lives, as clients of brokers do."""
        context = Renewing(ssl.PROTOCOL_TLS_CLIENT)
        context.newest = self.dialling
        return context

    def listen(self, server: grpc.aio.Server, address: str) -> int:
        """Lets other parts connect to `HOST:PORT`; the port. Raises OSError."""
        return _listen(address, lambda: server.add_secure_port(address, self._serving()))

    def _serving(self) -> grpc.ServerCredentials:
        served = self._newest()

        def changed() -> Any:
            nonlocal served
            if (newest := self._newest()) is served:
                return None
            served = newest
            return _configuration(served)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(served), changed, require_client_authentication=True
        )

    def channel(self, address: str, name: str) -> grpc.aio.Channel:
        """To whoever listens there and has a certificate with this DNS name."""
        newest = self._newest()
        credentials = grpc.ssl_channel_credentials(newest.ca, newest.key, newest.cert)
        named = (("grpc.ssl_target_name_override", name),)
        return grpc.aio.secure_channel(address, credentials, options=(*grpc_options.CHANNEL, *named))

    def _take_newest(self, connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest().server

    def _newest(self) -> _Loaded:
        return self._renewed.newest()


Peering = Plain | Mtls

PLAIN: Final = Plain()


def _listen(address: str, listen: Callable[[], int]) -> int:
    try:
        return listen()
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: is something else there? ({error})") from None


def caller_names(context: "grpc.aio.ServicerContext[Any, Any]") -> list[str] | None:
    """The DNS names in the certificate of who calls a gRPC service; None where there is no TLS."""
    auth = context.auth_context()
    if _SSL not in auth.get("transport_security_type", ()):
        return None
    return [name.decode(errors="replace") for name in auth.get("x509_subject_alternative_name", ())]


async def only(context: "grpc.aio.ServicerContext[Any, Any]", part: str, name: str | None = None) -> None:
    """Whose certificate is another part's is told so, and its call ends. `name` asks for a certain one."""
    try:
        identity.check(caller_names(context), part, name)
    except identity.NotAllowed as error:
        _log.warning("peer_refused", peer=context.peer(), reason=str(error))
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))


def names_in(certificate: "dict[str, Sequence[Sequence[str]]]") -> list[str]:
    """The DNS names of a certificate as `ssl` gives it."""
    return [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]


def _configuration(loaded: _Loaded) -> Any:
    return grpc.ssl_server_certificate_configuration([(loaded.key, loaded.cert)], root_certificates=loaded.ca)


def _load(files: Files) -> _Loaded:
    server, client = (_context(side, files) for side in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT))
    return _Loaded(server, client, *map(_read, files))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:  # it was there a moment ago
        raise BadCertificates(f"{path} cannot be read: {_why(error)}") from error


def _context(side: int, files: Files) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.sslobject_class = _Watched
    if context.protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # who resumes a session shows no certificate, whatever became of its CA
    try:
        context.load_verify_locations(files.ca)
    except (OSError, ssl.SSLError) as error:
        raise BadCertificates(f"{files.ca} cannot be used as the fleet's CA: {_why(error)}") from error

    def password() -> str:  # else OpenSSL asks for it on the terminal, and the event loop waits
        raise BadCertificates(f"{files.key} is encrypted: a part takes a key without a password")

    try:
        context.load_cert_chain(files.cert, files.key, password)
    except (OSError, ssl.SSLError) as error:
        raise BadCertificates(
            f"{files.cert} with the key {files.key} cannot be used as a certificate: {_why(error)}"
        ) from error
    return context


def _why(error: OSError) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error.strerror or error).replace("_", " ").lower()
