"""TLS of the public ports: a certificate with its key, and maybe who signs those of the callers.

The files are read again when they have changed: what is connected stays, and new connections have the new
ones. While they cannot be used the old ones go on, and the log says why.
"""

import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import grpc

from lambent_chassis.peering import Renewing
from lambent_chassis.renewed import Renewed

T = TypeVar("T")


class CannotEncrypt(ValueError):
    """The files are not there, or not what they should be. The message names them."""


class PublicTls(NamedTuple):
    """Files in PEM."""

    cert: Path
    """Of this frontend, followed by those of who signed it."""
    key: Path
    client_ca: Path | None = None

    def context(self, alpn: Sequence[str] = ()) -> ssl.SSLContext:
        """For a server, for as long as it lives; `alpn` is what it speaks. Raises CannotEncrypt."""
        context = Renewing(ssl.PROTOCOL_TLS_SERVER)
        context.newest = self._renewed(lambda: self._read(alpn)).newest
        return context

    def of_grpcio(self) -> grpc.ServerCredentials:
        """The same for grpcio's server. Raises CannotEncrypt."""
        renewed = self._renewed(self._configuration)
        served = renewed.newest()

        def changed() -> Any:
            nonlocal served
            if (newest := renewed.newest()) is served:
                return None
            served = newest
            return served

        asks = self.client_ca is not None
        return grpc.dynamic_ssl_server_credentials(served, changed, require_client_authentication=asks)

    def _renewed(self, read: Callable[[], T]) -> Renewed[T]:
        files = [self.cert, self.key, *([self.client_ca] if self.client_ca else [])]
        return Renewed("certificates", files, read, CannotEncrypt)

    def _read(self, alpn: Sequence[str] = ()) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self.cert, self.key, self._no_password)
        except OSError as error:  # SSLError is one, and says nothing of the file
            raise CannotEncrypt(f"tls_cert {self.cert} with tls_key {self.key}: {error}") from None
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if self.client_ca is not None:
            self._ask_callers(context, self.client_ca)
        return context

    def _ask_callers(self, context: ssl.SSLContext, ca: Path) -> None:
        try:
            context.load_verify_locations(ca)
        except OSError as error:
            raise CannotEncrypt(f"tls_client_ca {ca}: {error}") from None
        context.verify_mode = ssl.CERT_REQUIRED
        # Who resumes a session shows no certificate, whatever became of the one that was shown. TLS 1.2
        # knows sessions without tickets, too, and they cannot be turned off here.
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0

    def _no_password(self) -> str:
        """OpenSSL would ask for it on the terminal, and the frontend would wait."""
        raise CannotEncrypt(f"tls_key {self.key} is encrypted: a frontend takes a key without a password")

    def _configuration(self) -> Any:
        self._read()  # grpcio says nothing of what is wrong with them
        try:
            pair = self.key.read_bytes(), self.cert.read_bytes()
            ca = self.client_ca.read_bytes() if self.client_ca else None
        except OSError as error:  # they were there a moment ago
            raise CannotEncrypt(f"tls_cert {self.cert} with tls_key {self.key}: {error}") from None
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=ca)
