"""How this client calls: how long it waits for an answer, and the error that becomes of a status."""

import os
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
import grpc.aio

from lambent_proto.errors import InvalidRequest, UnknownKey
from lambent_proto.status import from_rpc

ASK_WITHIN_S: Final = 15.0
"""For everything but invocations, uploads and logs."""

UPLOAD_WITHIN_S: Final = 120.0

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0

T = TypeVar("T")


def pauses(retries: int) -> Iterator[float]:
    """Before each further try, seconds: they double, and chance spreads those who fail together."""
    for number in range(retries):
        yield random.uniform(0.5, 1.0) * min(_FIRST_PAUSE_S * 2**number, _LONGEST_PAUSE_S)


def checked_token(given: str) -> str:
    """Without the space around it that a file's end leaves. Raises UnknownKey if gRPC could not carry it."""
    token = given.strip()
    if not (token.isascii() and token.isprintable()):
        raise UnknownKey("the access key has characters that no token has")
    return token


_CA: Final = "LAMBENT_CA"
_CERT: Final = "LAMBENT_CERT"
_KEY: Final = "LAMBENT_CERT_KEY"


def tls_of_environment() -> grpc.ChannelCredentials | None:
    """TLS if LAMBENT_CA names the PEM file of who signed the frontend's certificate; with the certificate and
    key of LAMBENT_CERT and LAMBENT_CERT_KEY if it asks for one. Raises InvalidRequest."""
    ca, cert, key = (_pem(name) for name in (_CA, _CERT, _KEY))
    if (cert is None) != (key is None) or (cert and not ca):
        raise InvalidRequest(f"{_CERT} and {_KEY} go together, and with {_CA}: set all three")
    return grpc.ssl_channel_credentials(ca, key, cert) if ca else None


def https_of_environment() -> ssl.SSLContext | None:
    """The same for HTTP. Raises InvalidRequest."""
    if tls_of_environment() is None:
        return None
    ca, cert, key = (os.environ.get(name) for name in (_CA, _CERT, _KEY))
    try:
        context = ssl.create_default_context(cafile=ca)
        if cert:
            context.load_cert_chain(cert, key, _no_password)
    except OSError as error:  # SSLError is one
        raise InvalidRequest(f"{ca} or {cert} with {key}: {error}") from None
    return context


def _no_password() -> str:
    """OpenSSL would ask for it on the terminal."""
    raise InvalidRequest(f"{_KEY} is encrypted: give a key without a password")


def _pem(name: str) -> bytes | None:
    if not (path := os.environ.get(name)):
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{name}: {path} cannot be read: {error.strerror}") from None


def with_access_key(token: str) -> list[grpc.aio.ClientInterceptor]:
    """What a channel is given so that each of its calls carries the token; nothing where there is none."""
    if not token:
        return []
    return [_Unary(token), _InParts(token), _Stream(token)]


class _Carrier:
    def __init__(self, token: str) -> None:
        self._said = "authorization", f"Bearer {token}"

    def _with(self, details: Any) -> Any:
        return details._replace(metadata=grpc.aio.Metadata(*(details.metadata or ()), self._said))


class _Unary(_Carrier, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(self._with(details), request)


class _InParts(_Carrier, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(self._with(details), request)


class _Stream(_Carrier, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        return await continuation(self._with(details), requests)


async def answer(call: Awaitable[T]) -> T:
    """Raises LambentError."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error) from error


async def parts_of(call: Any) -> AsyncIterator[bytes]:
    """What a stream of CodePart brings. Raises LambentError."""
    try:
        async for part in call:
            yield part.data
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error) from error
    finally:
        call.cancel()
