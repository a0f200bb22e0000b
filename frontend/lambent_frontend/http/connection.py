"""One client's connection: HTTP/1.1 in, whole requests to whoever answers, answers out in the order of the
requests.

Parsing is llhttp's, through httptools. Everything that a client may send, hold, or be slow at has a bound,
and what goes over it gets its error; then the connection ends, once the client has had time to read it.
While a request is answered at most one more is taken from the connection, so that its end is still noticed
and its answer given up.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol, cast

import httptools
import structlog

from lambent_frontend.http import errors, limits
from lambent_frontend.http.errors import Refused
from lambent_frontend.http.messages import CutOff, Request, Response
from lambent_frontend.wire import new_request_id
from lambent_proto.errors import Internal, LostWithWorker

_log = structlog.get_logger()

_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus} | {
    errors.UNKNOWN_OUTCOME: "Unknown Outcome"
}
_MOST_PIPELINED: Final = 64
"""Requests that are whole and wait for those before them, of one connection."""
_FAULT: Final = "a fault of Lambent's own: its log says more"
_GIVEN_UP: Final = "the frontend was stopped before the answer came: what was asked for may have been done"
_GOES_ON: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Answering(Protocol):
    """Who answers."""

    def most_body(self, request: Request) -> int:
        """Bytes that the body of such a request may have."""

    def too_large(self, request: Request) -> Refused:
        """What one with a larger body is told."""

    def whose(self, request: Request) -> Mapping[str, int]:
        """What its body counts for while it comes, such as an access key, and how many bytes of that may come
        at one time. Empty where nobody is asked. Raises Refused.

        Asked before there is room for a larger body, and so by the head alone.
        """

    def share(self, request: Request) -> str:
        """Whose room it takes until it is answered: empty for that of all, see limits.SHARE."""

    async def answer(self, request: Request) -> Response: ...


class Server(Protocol):
    """What the connections of one server share."""

    api: Answering
    read: int
    """Bytes that have come over all connections."""
    held: int
    """Bytes of bodies that are being read and answered."""
    held_of: Counter[str]
    """Of these, by `Answering.share`."""
    coming: Counter[str]
    """Bytes of bodies that are not whole yet, by whom they count for."""
    date: str
    """For the answers' Date."""
    stopping: bool

    def opened(self, connection: "Connection") -> bool:
        """False if it is one too many."""

    def closed(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._waiting: deque[tuple[Request, bool] | Response] = deque()
        """Requests that are whole, each with whether the connection stays after it, or what refuses one."""
        self._task: asyncio.Task[Response | None] | None = None
        self._in_parts = False
        """The answer's head is out, and parts follow."""
        self._has_end = False
        """One can tell where the parts end, so that the connection can stay."""
        self._drained: asyncio.Future[None] | None = None
        self._answering: tuple[Request, bool] | None = None
        self._held = 0
        self._unsent = 0
        """Bytes of answers that the client had not taken when its connection was full."""
        self._writable = True
        self._paused = False
        self._deaf = False
        """Something was refused: what comes from now on is dropped."""
        self._ending = False
        """The last answer was written."""
        self._dropped = 0
        self._share = ""
        """That of what has come so far: a connection stays with what it was once used for."""
        self._whose: Mapping[str, int] = {}
        self._size = 0
        self._since = self._loop.time()
        """When what is waited for began: the request's head, its body, the next request, the end."""
        self._forget()
        self._fresh = True
        """Nothing has come yet."""
        self._source = ""

    def _forget(self) -> None:
        """Between two requests."""
        self._no_longer_comes()
        self._begun = self._headed = False
        self._unparsed = self._size = 0
        """Bytes that have come since the parser last had something whole; bytes of the body."""
        self._url = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._body: bytes | bytearray = b""
        self._most = 0
        self._request: Request | None = None

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods alone
        peer = transport.get_extra_info("peername")
        self._source = str(peer[0]) if peer else ""
        if not self._server.opened(self):
            self._refuse(
                Refused(503, "ServiceException", "there are too many connections: try again, or use fewer")
            )

    def data_received(self, data: bytes) -> None:
        self._server.read += len(data)
        if self._deaf:
            self._drop(len(data))
        if self._deaf and self._ending and not self._begun:
            return
        self._fresh = False
        self._unparsed += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            self._begun = False
            self._refuse(_unread(error))
            if self._ending:
                self._end_if_over()
        if self._begun and self._unparsed > limits.HEAD:
            self._refuse(_large_head())
        if self._task is not None and (self._waiting or self._begun):
            self._pause()

    def _feed(self, data: bytes) -> None:
        """Raises HttpParserError. What offers another protocol is read anew as if it did not: RFC 9110, 7.8.

        Java's client offers HTTP/2 with each first request, curl if told to.
        """
        while data:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                if self._deaf:
                    return
                data = self._without_offer() + data[offer.args[0] :]
                self._parser = httptools.HttpRequestParser(self)

    def _without_offer(self) -> bytes:
        """The head that has just come."""
        kept = [b"%b: %b" % field for field in self._fields if field[0] != b"upgrade"]
        version = self._parser.get_http_version().encode()  # 1.0 takes no chunks, and ends with its answer
        first = b"%b %b HTTP/%b" % (self._parser.get_method(), self._url, version)
        return b"\r\n".join([first, *kept, b"", b""])

    def connection_lost(self, _: Exception | None) -> None:
        self._deaf = self._ending = True
        self._waiting.clear()
        self._no_longer_comes()
        self._hold(-self._held)
        if self._task is not None:
            self._task.cancel()
        self._server.closed(self)

    def pause_writing(self) -> None:
        self._writable = False
        self._unsent = self._transport.get_write_buffer_size()
        self._hold(self._unsent)
        self._since = self._loop.time()

    def resume_writing(self) -> None:
        self._writable = True
        self._hold(-self._unsent)
        self._unsent = 0
        self._since = self._loop.time()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._next()

    # httptools

    def on_message_begin(self) -> None:
        self._forget()
        self._begun = True
        self._since = self._loop.time()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._headed:  # behind the body it would take the place of one that a proxy has set
            self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._headed = True
        self._unparsed = 0
        if self._deaf:
            return
        if len(self._url) + sum([len(name) + len(value) for name, value in self._fields]) > limits.HEAD:
            self._refuse(_large_head())
            return
        if self._parser.get_method() == b"CONNECT":
            self._refuse(Refused(400, "BadRequestException", "this is no proxy: send requests themselves"))
            return
        if self._parser.should_upgrade():
            return  # it is read anew
        path, _, query = self._url.decode("latin-1").partition("?")
        method = self._parser.get_method().decode("latin-1")
        headers = dict(self._fields)
        request = Request(method, path, query, headers, fields=self._fields, source=self._source)
        self._request = request
        self._belongs_to(self._server.api.share(request))
        self._most = self._server.api.most_body(request)
        self._since = self._loop.time()
        length = headers.get(b"content-length", b"0")
        if int(length) > limits.UNASKED or b"transfer-encoding" in headers:
            try:
                self._whose = self._server.api.whose(request)
            except Refused as error:
                self._refuse(error)
                return
        if int(length) > self._most:
            self._refuse_body()
        elif not self._has_room(0):  # by answers that nobody reads: a small event makes a large one
            self._refuse(_held_too_much())
        elif headers.get(b"expect", b"").lower() == b"100-continue" and self._task is None:
            self._transport.write(_GOES_ON)

    def on_body(self, data: bytes) -> None:
        self._unparsed = 0
        if self._deaf:
            return
        self._size += len(data)
        for whom in self._whose:
            self._server.coming[whom] += len(data)
        if self._size > self._most:
            self._refuse_body()
        elif not self._has_room(len(data)):
            self._refuse(_held_too_much())
        elif any(self._server.coming[whom] > most for whom, most in self._whose.items()):
            said = "as many bytes as may are coming from the same caller: try again once others are there"
            self._refuse(Refused(503, "ServiceException", said))
        else:
            self._hold(len(data))
            if not self._body:
                self._body = data
            else:  # as one growing piece: very many small ones would take many times their bytes
                if isinstance(self._body, bytes):
                    self._body = bytearray(self._body)
                self._body += data

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade() and not self._deaf:
            return
        request, body = self._request, self._body
        keep_alive = bool(self._parser.should_keep_alive())
        self._forget()
        self._since = self._loop.time()
        if self._deaf:
            self._end_if_over()
            return
        assert request is not None, "its head was whole"
        request.body = bytes(body)
        request.takes_chunks = self._parser.get_http_version() != "1.0"
        self._waiting.append((request, keep_alive))
        if len(self._waiting) > _MOST_PIPELINED:
            said = f"{_MOST_PIPELINED} requests wait for their answers on this connection: wait for those"
            self._refuse(Refused(400, "BadRequestException", said))
        else:
            self._next()

    # Answers

    def _next(self) -> None:
        """Goes on with what came first, if nothing is under way."""
        if self._task is not None or not self._writable or self._ending:
            return
        if not self._waiting:
            self._resume()
            return
        first = self._waiting.popleft()
        if isinstance(first, Response):
            self._write(first, "", keep_alive=False, bodiless=False)
            return
        self._answering = first
        self._task = self._loop.create_task(self._answer(*first))
        self._task.add_done_callback(self._answered)

    async def _answer(self, request: Request, keep_alive: bool) -> Response | None:
        """None if it has been written, in parts."""
        answer = await self._server.api.answer(request)
        if answer.parts is None:
            return answer
        chunked = answer.size is None and request.takes_chunks
        bodiless = request.method == "HEAD"
        self._has_end = chunked or answer.size is not None
        # From here to the first step of the parts nothing may wait: what has not begun cannot be closed.
        async with contextlib.aclosing(answer.parts):
            self._in_parts = True
            size = "Transfer-Encoding: chunked\r\n" if chunked else ""
            if answer.size is not None:
                size = f"Content-Length: {answer.size}\r\n"
            self._write_head(answer, request.id, size, keep_alive=keep_alive and self._has_end)
            if bodiless and answer.size is not None:
                return None  # nothing has begun
            async for part in answer.parts:
                if not self._writable:
                    self._drained = self._loop.create_future()
                    await self._drained
                if not bodiless:
                    self._transport.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
        if chunked and not bodiless:
            self._transport.write(b"0\r\n\r\n")
        return None

    def _answered(self, task: asyncio.Task[Response | None]) -> None:
        assert self._answering is not None, "its task has ended"
        request, keep_alive = self._answering
        self._task = self._answering = None
        in_parts, self._in_parts = self._in_parts, False
        if in_parts:
            self._ended_parts(task, request, keep_alive=keep_alive)
            return
        answer: Response | None
        if task.cancelled():  # `give_up`, or the connection is lost
            answer = errors.response(errors.refused(LostWithWorker(_GIVEN_UP)))
        elif error := task.exception():
            _log.error("request_failed", request=request.id, reason=repr(error), exc_info=error)
            answer = errors.response(errors.refused(Internal(_FAULT)))
        else:
            answer = task.result()
        assert answer is not None, "it was not written"
        if self._transport.is_closing():
            return
        self._hold(-len(request.body))
        self._write(answer, request.id, keep_alive=keep_alive, bodiless=request.method == "HEAD")
        self._next()

    def _ended_parts(
        self, task: asyncio.Task[Response | None], request: Request, *, keep_alive: bool
    ) -> None:
        """What was not written to its end is cut off, which is all that can be said behind its head."""
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, CutOff):
            _log.error("request_failed", request=request.id, reason=repr(error), exc_info=error)
        if self._transport.is_closing():
            return
        self._hold(-len(request.body))
        if task.cancelled() or error is not None:
            self._transport.abort()
            return
        self._since = self._loop.time()
        if keep_alive and self._has_end and not self._server.stopping:
            self._next()
        else:
            self._end()

    def _end(self) -> None:
        """The last answer is written."""
        self._ending = self._deaf = True
        self._waiting.clear()
        self._end_if_over()

    def _write(self, answer: Response, request_id: str, *, keep_alive: bool, bodiless: bool) -> None:
        # A 204 has no length: RFC 9110, 8.6.
        length = answer.size if bodiless and answer.size is not None else len(answer.body)
        size = "" if answer.status == HTTPStatus.NO_CONTENT else f"Content-Length: {length}\r\n"
        keep_alive = keep_alive and not self._server.stopping
        body = b"" if bodiless else answer.body
        self._write_head(answer, request_id, size, keep_alive=keep_alive, body=body)
        self._since = self._loop.time()
        if not keep_alive:
            self._end()

    def _write_head(
        self, answer: Response, request_id: str, size: str, *, keep_alive: bool, body: bytes = b""
    ) -> None:
        """With the body, if it is there, in one write."""
        more = "".join([f"{name}: {value}\r\n" for name, value in answer.headers.items()])
        for cookie in answer.cookies:
            more += f"Set-Cookie: {cookie}\r\n"
        asked = f"x-amzn-RequestId: {request_id}\r\n" if request_id else ""
        end = "" if keep_alive else "Connection: close\r\n"
        has_body = bool(answer.body) or answer.parts is not None
        kind = f"Content-Type: {answer.content_type}\r\n" if has_body else ""
        head = (
            f"HTTP/1.1 {answer.status} {_PHRASES.get(answer.status, '')}\r\nDate: {self._server.date}\r\n"
            f"{asked}{more}{kind}{size}{end}\r\n"
        )
        self._transport.write(_encoded(head) + body)

    # The end

    def _refuse(self, refused: Refused) -> None:
        """The request that is under way is answered so, in its turn, and the connection ends with it."""
        if self._deaf:
            return
        self._deaf = True
        self._since = self._loop.time()
        self._no_longer_comes()
        self._body = b""
        answer = errors.response(refused)
        request_id = self._request.id if self._request is not None else new_request_id()
        answer.headers = {"x-amzn-RequestId": request_id, **answer.headers}
        self._waiting.append(answer)
        self._next()

    def _refuse_body(self) -> None:
        assert self._request is not None, "its head was whole"
        self._refuse(self._server.api.too_large(self._request))

    def _drop(self, size: int) -> None:
        self._dropped += size
        if self._dropped > limits.DROPPED:
            self._transport.abort()

    def _end_if_over(self) -> None:
        """A client that is still sending would not read why if its connection was reset under it."""
        if self._ending and not self._begun:
            self._transport.close()
        else:
            self._resume()

    def _pause(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._since = self._loop.time()
            self._transport.resume_reading()

    def _hold(self, size: int) -> None:
        self._held += size
        self._server.held += size
        self._server.held_of[self._share] += size

    def _has_room(self, size: int) -> bool:
        """For so many bytes more."""
        if self._share and self._server.held_of[self._share] + size > limits.SHARE:
            return False
        return self._server.held + size <= limits.HELD

    def _belongs_to(self, share: str) -> None:
        if share and share != self._share:
            self._server.held_of[self._share] -= self._held
            self._server.held_of[share] += self._held
            self._share = share

    def _no_longer_comes(self) -> None:
        """The body is whole, or given up."""
        for whom in self._whose:
            self._server.coming[whom] -= self._size
            if not self._server.coming[whom]:
                del self._server.coming[whom]  # addresses and keys come and go
        self._whose = {}

    def check(self, now: float) -> None:
        """Ends what has taken too long; `now` is the loop's time. Called about once a second."""
        waited = now - self._since
        if not self._writable:
            if waited > limits.SEND_S:
                self._transport.abort()
        elif self._ending:
            if waited > limits.LINGER_S:
                self._transport.abort()
        elif self._task is not None:
            return
        elif self._begun:
            allowed = limits.BODY_S + self._size / limits.BODY_RATE if self._headed else limits.HEAD_S
            if waited > allowed:
                said = f"no whole request came within {waited:.0f} seconds: send it faster"
                self._refuse(Refused(408, "RequestTimeoutException", said))
        elif waited > (limits.HEAD_S if self._fresh else limits.IDLE_S):
            self._transport.close()

    def finish(self) -> None:
        """Ends it after the answer that is under way, if there is any."""
        if self._task is None and not self._waiting:
            self._transport.close()

    def give_up(self) -> None:
        """Ends it now. Who waits for an answer gets one, as AWS's clients send again what is cut off."""
        if self._task is None:
            self._transport.abort()
        else:
            self._task.cancel()

    def abort(self) -> None:
        self._transport.abort()


def _encoded(head: str) -> bytes:
    """Lines that latin-1 has not go as UTF-8, such as an origin of a function URL's settings."""
    try:
        return head.encode("latin-1")
    except UnicodeEncodeError:
        if "\r\n" in head:
            return b"\r\n".join(map(_encoded, head.split("\r\n")))
        return head.encode(errors="replace")


def _unread(error: httptools.HttpParserError) -> Refused:
    """What a client is told whose request was not understood: by the parser, or by a bug of ours."""
    if isinstance(error, httptools.HttpParserCallbackError):
        bug = error.__context__
        _log.error("request_failed", reason=repr(bug), exc_info=bug)
        return errors.refused(Internal(_FAULT))
    return Refused(400, "BadRequestException", f"this is not HTTP/1.1: {error}")


def _held_too_much() -> Refused:
    said = "the frontend holds as many bytes of requests and answers as it may: try again"
    return Refused(503, "ServiceException", said)


def _large_head() -> Refused:
    return Refused(431, "RequestHeaderFieldsTooLargeException", f"the headers have over {limits.HEAD} bytes")
