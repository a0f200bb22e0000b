"""HTTP/1.1 as far as runtimes and extensions speak it: requests in, whole answers out, one at a time.

Who sends is a function's code: what it sends is bounded, and who does not read loses the connection.
Header and body of an answer leave in one write.
"""

import asyncio
import socket
from collections.abc import Mapping
from typing import Any, Final, Protocol, cast

import httptools

from lambent_proto.ids import MAX_PAYLOAD_BYTES

MOST_HEADER_BYTES: Final = 64 * 1024
MOST_STREAMED_BYTES: Final = 200 * 1024 * 1024
"""Lambda's limit for a streamed response."""

UNREAD_LIMIT_BYTES: Final = 2 * MAX_PAYLOAD_BYTES
"""Of answers that a client does not read, before its connection is ended."""

MALFORMED: Final = b'{"errorMessage":"Malformed request","errorType":"TruncatedHTTPRequest"}'

_REASONS: Final = {
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Request Entity Too Large",
    500: "Internal Server Error",
}


class Request:
    """One request. The body is whole in `body` unless it is streamed."""

    __slots__ = ("body", "headers", "method", "path", "size", "streamed", "too_large")

    def __init__(self) -> None:
        self.method = ""
        self.path = ""
        self.headers: dict[str, str] = {}
        """Names in lower case. Trailers join them at the end."""
        self.body = b""
        self.size = 0
        """Bytes of the body that have come."""
        self.streamed = False
        self.too_large = False
        """More came than is taken; what came is dropped."""


class Handler(Protocol):
    """Who answers requests; each is answered with `Connection.answer`, at once or later."""

    def begun(self, connection: "Connection", request: Request) -> None:
        """The headers are there. May set `streamed`, or answer at once."""

    def piece(self, connection: "Connection", request: Request, data: bytes) -> None:
        """Of the body of a streamed request."""

    def complete(self, connection: "Connection", request: Request) -> None:
        """All of it is there."""

    def lost(self, connection: "Connection", request: Request | None) -> None:
        """The connection has ended, with this request not answered yet."""


class Connection(asyncio.Protocol):
    def __init__(self, handler: Handler) -> None:
        self.request: Request | None = None
        """Begun, and not answered yet."""
        self._handler = handler
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._header_bytes = 0
        self._parts: list[bytes] = []
        self._url = b""
        self._complete = False
        self._keep_alive = True

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._keep_alive = False
            self.answer(400, MALFORMED)

    def connection_lost(self, exc: Exception | None) -> None:
        self._handler.lost(self, self.request)
        self.request = None

    # httptools

    def on_message_begin(self) -> None:
        if self.request is not None:
            raise httptools.HttpParserError("a request before the answer to the one before")
        self.request = Request()
        self._header_bytes = 0
        self._url = b""
        self._complete = False
        self._parts = []

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        if self.request is not None:
            self.request.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > MOST_HEADER_BYTES:
            raise httptools.HttpParserError("more bytes of headers than anybody needs")

    def on_headers_complete(self) -> None:
        request = self.request
        assert request is not None, "headers belong to a request"
        request.method = self._parser.get_method().decode("latin-1")
        request.path = self._url.decode("latin-1").partition("?")[0]
        self._keep_alive = self._parser.should_keep_alive()
        if request.headers.get("expect", "").lower() == "100-continue":
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._handler.begun(self, request)

    def on_body(self, data: bytes) -> None:
        request = self.request
        if request is None or request.too_large:
            return
        request.size += len(data)
        if request.size > (MOST_STREAMED_BYTES if request.streamed else MAX_PAYLOAD_BYTES):
            request.too_large = True
            self._parts = []
        elif request.streamed:
            self._handler.piece(self, request, data)
        else:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        request = self.request
        if request is None:
            return
        self._complete = True
        request.body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        self._handler.complete(self, request)

    # For the handler

    def answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Answers the request that was begun. What is still to come of it is read and dropped."""
        lines = [f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"]
        if headers:
            lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
        lines.append(f"Content-Length: {len(body)}\r\n")
        lines.append("\r\n" if self._keep_alive else "Connection: close\r\n\r\n")
        self.request = None
        self._write("".join(lines).encode("latin-1") + body)
        if not self._keep_alive and self._transport is not None:
            self._transport.close()

    def _write(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() > UNREAD_LIMIT_BYTES:
            transport.abort()
        else:
            transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Listener:
    """Accepts connections on a listening socket, `most` at a time; others wait in the kernel's line."""

    def __init__(self, sock: socket.socket, handler: Handler, most: int) -> None:
        self._socket = sock
        self._handler = handler
        self._most = most
        self._connections: set[Connection] = set()
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop.add_reader(sock.fileno(), self._accept)
        self._listening = True

    def _accept(self) -> None:
        try:
            sock, _ = self._socket.accept()
        except OSError:
            return
        sock.setblocking(False)
        connection = _Counted(self._handler, self)
        self._connections.add(connection)
        task = self._loop.create_task(self._attach(connection, sock))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if len(self._connections) >= self._most:
            self._loop.remove_reader(self._socket.fileno())
            self._listening = False

    async def _attach(self, connection: Connection, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: connection, sock)
        except OSError:
            sock.close()
            self.gone(connection)

    def gone(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._listening and self._socket.fileno() >= 0:
            self._loop.add_reader(self._socket.fileno(), self._accept)
            self._listening = True

    def close_connections(self) -> None:
        for connection in list(self._connections):
            connection.close()

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
        for task in self._tasks:
            task.cancel()
        self.close_connections()


class _Counted(Connection):
    def __init__(self, handler: Handler, listener: Listener) -> None:
        super().__init__(handler)
        self._listener = listener

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._listener.gone(self)
