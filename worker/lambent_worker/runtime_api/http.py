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

MOST_SMALL_BODY_BYTES: Final = 64 * 1024
"""Of a request that brings no answer of a function's."""

MOST_HELD_BYTES: Final = 2 * MAX_PAYLOAD_BYTES
"""Of unfinished bodies on all connections of a listener together. What goes beyond is dropped."""

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

    __slots__ = ("body", "headers", "large", "method", "path", "size", "streamed", "too_large")

    def __init__(self) -> None:
        self.method = ""
        self.path = ""
        self.headers: dict[str, str] = {}
        """Names in lower case. Trailers join them at the end."""
        self.body = b""
        self.size = 0
        """Bytes of the body that have come."""
        self.large = False
        """Its body may be as large as an answer."""
        self.streamed = False
        self.too_large = False
        """More came than is taken; what came is dropped."""


class Handler(Protocol):
    """Who answers requests; each is answered with `Connection.answer`, at once or later."""

    def begun(self, connection: "Connection", request: Request) -> None:
        """The headers are there. May set `large` or `streamed`, or answer at once."""

    def piece(self, connection: "Connection", request: Request, data: bytes) -> None:
        """Of the body of a streamed request."""

    def complete(self, connection: "Connection", request: Request) -> None:
        """All of it is there."""

    def lost(self, connection: "Connection", request: Request | None) -> None:
        """The connection has ended, with this request not answered yet."""


class Held:
    """How many bytes of unfinished bodies there are."""

    def __init__(self) -> None:
        self.bytes = 0


class Connection(asyncio.Protocol):
    def __init__(self, handler: Handler, held: Held) -> None:
        self.request: Request | None = None
        """Begun, and not answered yet."""
        self._handler = handler
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._held = held
        self._header_bytes = 0
        self._unparsed = 0
        """Bytes that have come since the parser last had something to tell."""
        self._may_begin = False
        self._body = bytearray()
        self._url = b""
        self._complete = False
        self._keep_alive = True

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._may_begin = True
        self._unparsed += len(data)
        try:
            self._parser.feed_data(data)
            if self._unparsed > MOST_HEADER_BYTES:  # the parser keeps a header until it has its end
                raise httptools.HttpParserError("a header without an end")
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._keep_alive = False
            self.answer(400, MALFORMED)

    def connection_lost(self, exc: Exception | None) -> None:
        self._handler.lost(self, self.request)
        self.request = None
        self._drop_body()

    # httptools

    def on_message_begin(self) -> None:
        if self.request is not None:
            raise httptools.HttpParserError("a request before the answer to the one before")
        if not self._may_begin:  # thousands of requests in one piece would hold up everybody else
            raise httptools.HttpParserError("a request together with the one before")
        self._may_begin = False
        self.request = Request()
        self._header_bytes = 0
        self._url = b""
        self._complete = False
        self._drop_body()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        if self.request is not None:
            self.request.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def _count(self, size: int) -> None:
        self._unparsed = 0
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
        self._unparsed = 0
        request = self.request
        if request is None or request.too_large:
            return
        request.size += len(data)
        if request.streamed:
            most = MOST_STREAMED_BYTES
        else:
            most = MAX_PAYLOAD_BYTES if request.large else MOST_SMALL_BODY_BYTES
        if request.size > most or (not request.streamed and self._held.bytes + len(data) > MOST_HELD_BYTES):
            request.too_large = True
            self._drop_body()
        elif request.streamed:
            self._handler.piece(self, request, data)
        else:
            self._body += data
            self._held.bytes += len(data)

    def on_message_complete(self) -> None:
        request = self.request
        if request is None:
            return
        self._complete = True
        request.body = bytes(self._body)
        self._drop_body()
        self._handler.complete(self, request)

    def _drop_body(self) -> None:
        self._held.bytes -= len(self._body)
        self._body = bytearray()

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
        self._held = Held()
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
        connection = _Counted(self._handler, self._held, self)
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
    def __init__(self, handler: Handler, held: Held, listener: Listener) -> None:
        super().__init__(handler, held)
        self._listener = listener

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._listener.gone(self)
