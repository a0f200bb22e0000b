"""TLS of the public ports: a certificate with its key, and maybe who signs those of the callers."""

import ssl
from pathlib import Path
from typing import NamedTuple

import grpc


class CannotEncrypt(ValueError):
    """The files are not there, or not what they should be. The message names them."""


class PublicTls(NamedTuple):
    """Files in PEM."""

    cert: Path
    """Of this frontend, followed by those of who signed it."""
    key: Path
    client_ca: Path | None = None

    def context(self) -> ssl.SSLContext:
        """A new one at each call, read from the files as they are. Raises CannotEncrypt."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self.cert, self.key, self._no_password)
        except OSError as error:  # SSLError is one, and says nothing of the file
            raise CannotEncrypt(f"tls_cert {self.cert} with tls_key {self.key}: {error}") from None
        if self.client_ca is not None:
            try:
                context.load_verify_locations(self.client_ca)
            except OSError as error:
                raise CannotEncrypt(f"tls_client_ca {self.client_ca}: {error}") from None
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _no_password(self) -> str:
        """OpenSSL would ask for it on the terminal, and the frontend would wait."""
        raise CannotEncrypt(f"tls_key {self.key} is encrypted: a frontend takes a key without a password")

    def of_grpcio(self) -> grpc.ServerCredentials:
        """The same for grpcio's server. Raises CannotEncrypt."""
        self.context()  # grpcio says nothing of what is wrong with them
        return grpc.ssl_server_credentials(
            [(self.key.read_bytes(), self.cert.read_bytes())],
            root_certificates=self.client_ca.read_bytes() if self.client_ca else None,
            require_client_auth=self.client_ca is not None,
        )
