"""HTTP/1.1 as far as runtimes and extensions speak it: requests in, whole answers out, one at a time.

Who sends is a function's code, and may want to harm its worker. So everything is bounded: connections, new
ones per second, bytes of headers and bodies, requests in one read, and how often refusals are asked for.
Nothing is read from a client that does not read what it was sent. Nothing here waits.

Sockets are read off the loop as `channel.py` does it, so that one is closed when `close` returns. Header and
body of an answer leave in one system call.
"""

import asyncio
import socket
from collections.abc import Mapping
from typing import Final, Protocol

import httptools

MOST_STREAMED_BYTES: Final = 200 * 1024 * 1024
"""Lambda's limit for a streamed response. Also as much as is read of what is not taken."""
MOST_SMALL_BYTES: Final = 256 * 1024
"""Of the body of a request that is no answer to a call."""
MOST_HEADER_BYTES: Final = 1024 * 1024 + 64 * 1024
"""Lambda's clients send up to 1 MB in the header about an error's cause."""
MOST_UNPARSED_BYTES: Final = 4 * 1024 * 1024
"""Of headers that have begun and not ended, all connections together."""
MOST_AT_ONCE: Final = 4
"""Requests in one read. Who waits for answers sends one, and the end of one that was refused halfway."""
MOST_NEW_A_SECOND: Final = 1000
"""Connections. A shell that starts curl twice for each call makes some hundreds."""

REST_S: Final = 0.02
"""Nothing is read for so long from a connection whose request was refused."""
LINGER_S: Final = 1.0
"""For so long what a client still sends is dropped, so that it can read why its connection ends."""

_FIRST_READ: Final = 479
"""As in `channel.py`: room for so many bytes comes from CPython's own pools, for more from malloc."""
_READ_BYTES: Final = 64 * 1024

INTERNAL: Final = b'{"errorMessage":"Internal Server Error","errorType":"InternalServerError"}\n'
TRUNCATED: Final = (
    b'{"errorMessage":"HTTP request detected as truncated","errorType":"TruncatedHTTPRequest"}\n'
)

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"

_KEPT: Final = frozenset({b"expect", b"content-length", b"content-type", b"transfer-encoding"})

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


class Unwanted(Exception):
    """What came is no HTTP, or more of it than anybody needs."""


class Request:
    """One request. The body is whole in `body` unless it is streamed."""

    __slots__ = ("body", "headers", "limit", "method", "path", "size", "streamed")

    def __init__(self) -> None:
        self.method = ""
        self.path = ""
        self.headers: dict[str, str] = {}
        """Those of Lambda's, and some of HTTP's; names in lower case. Trailers join them at the end."""
        self.body = b""
        self.size = 0
        """Bytes of the body that have come."""
        self.limit = MOST_SMALL_BYTES
        """As much is taken of the body; of what is larger, nothing is kept."""
        self.streamed = False
        """Its body is handed on as it comes, also what is above the limit: who takes it ends it."""

    @property
    def too_large(self) -> bool:
        return self.size > self.limit


class Handler(Protocol):
    """Who answers requests; each is answered with `Connection.answer`, at once or later."""

    def begun(self, connection: "Connection", request: Request) -> None:
        """The headers are there. May set `limit` and `streamed`, or answer at once."""

    def piece(self, connection: "Connection", request: Request, data: bytes) -> None:
        """What one read brought of the body of a streamed request. May `pause` the connection."""

    def complete(self, connection: "Connection", request: Request) -> None:
        """All of it is there."""

    def lost(self, connection: "Connection", request: Request | None) -> None:
        """The connection has ended by itself, with this request not answered yet."""


class Connection:
    def __init__(self, sock: socket.socket, handler: Handler, listener: "Listener") -> None:
        self.request: Request | None = None
        """Begun, and not answered yet."""
        self.unparsed = 0
        """Bytes that have come since the parser last had something whole."""
        self._socket = sock
        self._fd = sock.fileno()
        self._handler = handler
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._timer: asyncio.TimerHandle | None = None
        self._unsent: memoryview | None = None
        self._closed = False
        self._ending = False
        """No more is taken: it is closed when its last answer has gone out and the client has seen it."""
        self._head_bytes = 0
        self._body = bytearray()
        self._dropped = 0
        """Bytes of the body that were not taken."""
        self._url = b""
        self._complete = False
        self._keep_alive = True
        self._at_once = 0
        self._paused = False
        self._loop.add_reader(self._fd, self._read)

    # What comes

    def _read(self) -> None:
        try:
            data = self._socket.recv(_FIRST_READ)
            if len(data) == _FIRST_READ:
                data += self._more()
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            if self.request is not None and not self._complete and not self._ending:
                self._spoilt(400, TRUNCATED)
            self._lost()
        elif not self._ending:
            self._at_once = 0
            self.unparsed += len(data)
            self._parse(data)

    def _more(self) -> bytes:
        try:
            return self._socket.recv(_READ_BYTES)
        except OSError:  # nothing more now; what is wrong is said again to the next read
            return b""

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
            self._hand_on()
            if self.unparsed > _READ_BYTES:
                self._listener.bound(self)
        except httptools.HttpParserUpgrade as upgrade:
            self._parse(self._without_offer() + data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            bug = error.__context__
            if bug is None or isinstance(bug, Unwanted):
                self._spoilt(400, b"400 Bad Request", TEXT)
            else:
                self._spoilt(500, INTERNAL)
                raise bug from None
        except (httptools.HttpParserError, Unwanted):
            self._spoilt(400, b"400 Bad Request", TEXT)

    def _without_offer(self) -> bytes:
        """The head that was parsed last, as if it had not offered another protocol: the parser would leave
        the body to that one. Java's own client offers HTTP/2 with every request, and does not insist."""
        head = self._parser.get_method() + b" " + self._url + b" HTTP/1.1\r\n"
        headers = self.request.headers.items() if self.request is not None else ()
        self.request = None
        self._parser = httptools.HttpRequestParser(self)
        return head + "".join([f"{name}: {value}\r\n" for name, value in headers]).encode("latin-1") + b"\r\n"

    def _spoilt(self, status: int, why: bytes, content_type: str = JSON) -> None:
        """Nothing more can be understood. What was asked for here before is not answered any more."""
        self._handler.lost(self, self.request)
        self._keep_alive = False
        self.answer(status, why, content_type=content_type)

    # httptools

    def on_message_begin(self) -> None:
        self._at_once += 1
        if self.request is not None or self._at_once > MOST_AT_ONCE or self._closed or self._ending:
            raise Unwanted
        self.request = Request()
        self._head_bytes = self._dropped = self.unparsed = 0
        self._url = b""
        self._complete = False

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        name = name.lower()
        if self.request is not None and (name.startswith(b"lambda-") or name in _KEPT):
            self.request.headers[name.decode("latin-1")] = value.decode("latin-1")

    def _count(self, size: int) -> None:
        self.unparsed = 0
        self._head_bytes += size
        if self._head_bytes > MOST_HEADER_BYTES:
            raise Unwanted

    def on_headers_complete(self) -> None:
        request = self.request
        self.unparsed = 0
        if request is None or self._parser.should_upgrade():
            return
        request.method = self._parser.get_method().decode("latin-1")
        request.path = self._url.decode("latin-1").partition("?")[0]
        expects = request.headers.get("expect", "").lower() == "100-continue"
        keep_alive = self._parser.should_keep_alive()
        self._keep_alive = keep_alive and not expects  # who is refused now may send the body, or may not
        self._handler.begun(self, request)
        if expects and self.request is request:
            self._keep_alive = keep_alive
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self.unparsed = 0
        request = self.request
        if request is None:  # it was refused when it began
            self._drop(len(data))
            return
        request.size += len(data)
        if request.too_large and not request.streamed:
            self._body = bytearray()
            self._drop(len(data))
        else:
            self._body += data

    def _hand_on(self) -> None:
        """As one piece, however small the chunks are that a function has made of it."""
        request = self.request
        if self._body and request is not None and request.streamed:
            data, self._body = bytes(self._body), bytearray()
            self._handler.piece(self, request, data)

    def _drop(self, size: int) -> None:
        self._dropped += size
        if self._dropped > MOST_STREAMED_BYTES:
            raise Unwanted

    def on_message_complete(self) -> None:
        self._hand_on()
        request = self.request
        if request is None or self._parser.should_upgrade():
            return
        self._complete = True
        if self._body:
            request.body = bytes(self._body)
            self._body = bytearray()
        self._handler.complete(self, request)

    # What goes

    def answer(
        self, status: int, body: bytes, headers: Mapping[str, str] | None = None, content_type: str = JSON
    ) -> None:
        """Answers the request that was begun. What is still to come of it is read and dropped."""
        self.request = None
        if self._closed or self._ending:
            return
        more = "".join([f"{name}: {value}\r\n" for name, value in headers.items()]) if headers else ""
        end = "" if self._keep_alive else "Connection: close\r\n"
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {content_type}\r\n{more}"
            f"Content-Length: {len(body)}\r\n{end}\r\n"
        )
        self._send(head.encode("latin-1") + body)
        if not self._keep_alive:
            self._end()
        elif status >= 400:
            self._rest()

    def _send(self, data: bytes) -> None:
        if self._closed:
            return
        if self._unsent is not None:
            self._unsent = memoryview(bytes(self._unsent) + data)
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._lost()
            return
        if sent < len(data):
            self._unsent = memoryview(data)[sent:]
            self._loop.remove_reader(self._fd)
            self._loop.add_writer(self._fd, self._send_rest)

    def _send_rest(self) -> None:
        assert self._unsent is not None, "it is called while there is some"
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._lost()
            return
        if not self._unsent:
            self._unsent = None
            self._loop.remove_writer(self._fd)
            self._listen()
            if self._ending:
                self._end()

    def _rest(self) -> None:
        if self._timer is None and not self._closed:
            self._loop.remove_reader(self._fd)
            self._timer = self._loop.call_later(REST_S, self._rested)

    def _rested(self) -> None:
        self._timer = None
        if self._unsent is None:
            self._listen()

    def pause(self) -> None:
        """Nothing more is read of it until `resume`: not even its end is noticed."""
        if not self._paused and not self._closed:
            self._paused = True
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._listen()

    def _listen(self) -> None:
        if not self._paused and not self._closed:
            self._loop.add_reader(self._fd, self._read)

    def _end(self) -> None:
        """Says that nothing more will come, and waits a moment for the client to see it."""
        self._ending = True
        if self._closed or self._unsent is not None:
            return
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._lost()
            return
        if self._timer is not None:
            self._timer.cancel()
            self._loop.add_reader(self._fd, self._read)
        self._timer = self._loop.call_later(LINGER_S, self._lost)

    def _lost(self) -> None:
        if not self._closed:
            request = self.request
            self.close()
            self._handler.lost(self, request)

    def close(self) -> None:
        """At once, whatever was under way. The handler is not told."""
        if self._closed:
            return
        self._closed = True
        self.request = None
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        if self._timer is not None:
            self._timer.cancel()
        self._socket.close()
        self._listener.gone(self)


class Listener:
    """Accepts connections on a listening socket, `most` at a time; others wait in the kernel's line."""

    def __init__(self, sock: socket.socket, handler: Handler, most: int) -> None:
        self._socket = sock
        self._fd = sock.fileno()
        self._handler = handler
        self._most = most
        self._connections: set[Connection] = set()
        self._loop = asyncio.get_running_loop()
        self._second = 0.0
        self._new = 0
        """Connections since `_second`."""
        self._pause: asyncio.TimerHandle | None = None
        self._loop.add_reader(self._fd, self._accept)

    def _accept(self) -> None:
        now = self._loop.time()
        if now >= self._second + 1:
            self._second, self._new = now, 0
        self._new += 1
        try:
            sock, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # no descriptors are left: it would be tried again at once, and again
            self._new = MOST_NEW_A_SECOND
        else:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.add(Connection(sock, self._handler, self))
        if self._new >= MOST_NEW_A_SECOND and self._pause is None:
            self._pause = self._loop.call_at(self._second + 1, self._listen)
        if self._pause is not None or len(self._connections) >= self._most:
            self._loop.remove_reader(self._fd)

    def _listen(self) -> None:
        self._pause = None
        if len(self._connections) < self._most:
            self._loop.add_reader(self._fd, self._accept)

    def bound(self, connection: Connection) -> None:
        """It has sent a lot that makes nothing whole yet. Raises Unwanted if that is too much."""
        all_of_them = sum(it.unparsed for it in self._connections)
        if connection.unparsed > MOST_HEADER_BYTES or all_of_them > MOST_UNPARSED_BYTES:
            raise Unwanted

    def gone(self, connection: Connection) -> None:
        was_full = len(self._connections) >= self._most
        self._connections.discard(connection)
        if was_full and self._pause is None and self._socket.fileno() >= 0:
            self._loop.add_reader(self._fd, self._accept)

    def restart(self) -> None:
        """Ends all connections, also those that wait to be accepted: who made them runs no more."""
        for connection in list(self._connections):
            connection.close()
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            sock.close()

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._fd)
            self._socket.close()
        if self._pause is not None:
            self._pause.cancel()
        for connection in list(self._connections):
            connection.close()
