"""A client's connection to the own gRPC server: a protocol of asyncio's around the core.

What is said in one turn of the loop leaves in one write. Nothing is read from a client that does not read.
"""

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import IPv6Address
from typing import Any, Final, Protocol, cast

import structlog

from lambent_frontend.grpc_door.call import Call
from lambent_frontend.grpc_door.core import calls
from lambent_frontend.grpc_door.core.calls import Asked, Refusal
from lambent_frontend.grpc_door.core.connection import Alive, Broken, Came, Connection, Gone, Requested

GREETING_S: Final = 20.0
"""Until a client has said that it speaks HTTP/2, for TLS before that, and for the whole of a frame or of a
header block."""

SEND_S: Final = 60.0
"""How long a client may leave unread what fills its connection, or the rest of an answer that is whole."""

UNASKED: Final = 16 * 1024
"""Bytes of a connection's requests, above which it is asked who sends a message before more of it is kept."""

PING_EVERY_S: Final = 10.0
PING_ANSWER_S: Final = 10.0
"""A client that is gone without a word is noticed within both together, and a second."""

_WRITE_BYTES: Final = 512 * 1024
"""In the transport, above which nothing is written or read."""

_PING: Final = b"lambent?"
_FAREWELL: Final = b"lambent!"

_log = structlog.get_logger()


class Serving(Protocol):
    handlers: dict[str, Any]
    stopping: bool

    def hold(self, size: int, whose: str) -> bool: ...
    def whose(self, call: Call) -> str: ...
    def beside(self, work: Callable[[], bytes]) -> Awaitable[bytes]: ...

    def opened(self, connection: "ClientConnection") -> bool: ...
    def closed(self, connection: "ClientConnection") -> None: ...
    def idle(self) -> None: ...


class ClientConnection(asyncio.Protocol):
    def __init__(self, server: Serving, *, counted: str = "") -> None:
        """`counted` is for which address the server has let it in already, before TLS's greeting."""
        self._server = server
        self.counted = bool(counted)
        self.made = False
        self._loop = asyncio.get_running_loop()
        self._core: Connection[Asked] = Connection(calls.asked)
        self._calls: dict[int, Call] = {}
        self._transport: asyncio.Transport
        self._held = 0
        """Bytes of requests that no service has read."""
        self._flushing = False
        self._writable = True
        self._closing = False
        self._since = self._heard = self._loop.time()
        """When its present state began; when something came last."""
        self._unread_at = 0.0
        """When it was last seen that nothing is read from it, since its client does not read."""
        self._pinged: float | None = None
        """When, if nothing came since."""
        self.peer = ""
        self.host = counted
        """Its address, as what is bounded for one address counts it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made = True
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by class
        self._transport.set_write_buffer_limits(_WRITE_BYTES)
        host = transport.get_extra_info("peername")
        if host:
            ip = plain(host[0])
            self.host = self.host or one_network(ip)
            self.peer = f"ipv6:[{ip}]:{host[1]}" if ":" in ip else f"ipv4:{ip}:{host[1]}"
        if not self._server.opened(self) or not self._agreed():
            self._transport.abort()
            return
        self._flush_soon()
        if self._server.stopping:
            self.take_leave()

    def _agreed(self) -> bool:
        """Over TLS HTTP/2 is what both have to name (RFC 9113, 3.2)."""
        tls = self._transport.get_extra_info("ssl_object")
        return tls is None or tls.selected_alpn_protocol() == "h2"

    def data_received(self, data: bytes) -> None:
        now = self._heard = self._loop.time()
        self._pinged = None
        for event in self._core.receive(data, now):
            if isinstance(event, Came):
                if call := self._calls.get(event.stream):
                    call.came(event.data, ended=event.ended)
            elif isinstance(event, Requested):
                self._requested(event)
            elif isinstance(event, Gone):
                if call := self._calls.get(event.stream):
                    call.gone()
            elif isinstance(event, Alive):
                self._alive(event.data)
            elif isinstance(event, Broken):
                self._broken(event)
        self._flush_soon()
        self._say_if_idle()

    def _requested(self, event: Requested[Asked]) -> None:
        stream, asked, ended = event
        handler = self._server.handlers.get(asked.path)
        refusal = asked.refusal
        if refusal is None and handler is None:
            refusal = Refusal(calls.UNIMPLEMENTED, f"there is no method {asked.path[:200]!r}")
        if refusal is not None:
            self._core.headers(stream, calls.only_block(refusal), ends=True)
            return
        call = self._calls[stream] = Call(self, stream, asked, handler, self._loop)
        if ended:
            call.came(b"", ended=True)

    def _alive(self, data: bytes) -> None:
        if data == _FAREWELL:
            self._core.farewell()
            self._close_if_done()

    def _broken(self, event: Broken) -> None:
        _log.info("client_refused", peer=self.peer, code=event.code.name, reason=event.said)
        self._closing = True

    # From calls

    def respond(self, stream: int, head: bytes, data: bytes, trailers: bytes) -> None:
        self._core.respond(stream, head, data, trailers)
        self._flush_soon()

    def headers(self, stream: int, block: bytes, *, ends: bool = False) -> None:
        self._core.headers(stream, block, ends=ends)
        self._flush_soon()

    def data(self, stream: int, data: bytes) -> None:
        self._core.data(stream, data)
        self._flush_soon()

    def end(self, stream: int, trailers: bytes) -> None:
        self._core.end(stream, trailers)
        self._flush_soon()

    def took(self, stream: int, size: int) -> None:
        self._core.took(stream, size)
        self._flush_soon()

    def waits(self, stream: int) -> int:
        return self._core.waits(stream)

    def hold(self, size: int, whose: str) -> bool:
        self._held += size
        return self._server.hold(size, whose)

    def asks(self) -> bool:
        return self._held > UNASKED

    def whose(self, call: Call) -> str:
        """The access key's id, or where nobody is asked the address. Raises LambentError."""
        return self._server.whose(call) or self.host

    def beside(self, work: Callable[[], bytes]) -> Awaitable[bytes]:
        return self._server.beside(work)

    def over(self, stream: int) -> None:
        self._calls.pop(stream, None)

    # Writing

    def _flush_soon(self) -> None:
        if not self._flushing and self._core.more:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._transport.is_closing() or not self._writable:
            return
        data, emptied = self._core.take()
        if data:
            self._transport.write(data)
        for stream in emptied:
            if call := self._calls.get(stream):
                call.room()
        self._flush_soon()
        self._close_if_done()
        self._say_if_idle()

    def _say_if_idle(self) -> None:
        if self._server.stopping and not self._core.open:
            self._server.idle()

    def _close_if_done(self) -> None:
        leaving = self._closing or (self._core.client_leaves and not self._core.open)
        if leaving and not self._core.more:
            self._transport.close()

    def pause_writing(self) -> None:
        self._writable = False
        self._since = self._loop.time()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._writable = True
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._flush()

    # The end

    def connection_lost(self, error: Exception | None) -> None:
        for call in list(self._calls.values()):
            call.gone()
        self._server.closed(self)

    def check(self, now: float) -> None:
        """Ends what has taken too long; `now` is the loop's time. Called about once a second."""
        if not self._writable:
            self._unread_at = now
            if now - self._since > SEND_S:
                self._transport.abort()
            return
        for call in list(self._calls.values()):
            call.check(now)
        if self._core.stalled(now, SEND_S):
            self._flush_soon()
            self._say_if_idle()
        if self._core.settled and not self._core.in_block:
            self._since = now
        unfinished_s = min(self._core.unfinished_s(now), now - self._unread_at)
        if max(now - self._since, unfinished_s) > GREETING_S:
            self._transport.abort()
        elif self._since == now:
            self._ask_if_alive(now)

    def _ask_if_alive(self, now: float) -> None:
        if self._pinged is not None:
            if now - self._pinged > PING_ANSWER_S:
                self._transport.abort()
        elif now - self._heard > PING_EVERY_S:
            self._pinged = now
            self._core.ping(_PING)
            self._flush_soon()

    @property
    def untaken(self) -> int:
        """Bytes of answers that wait for the client."""
        return self._core.untaken + self._transport.get_write_buffer_size()

    def take_leave(self) -> None:
        """Its client is told to go elsewhere; what comes until it has heard that is still taken."""
        self._core.take_leave()
        self._core.ping(_FAREWELL)
        self._flush_soon()

    @property
    def idle(self) -> bool:
        return not self._core.open

    def give_up(self) -> None:
        """Ends all its calls, with a word."""
        self._core.farewell()
        for call in list(self._calls.values()):
            call.give_up()
        self._closing = True
        self._flush_soon()
        self._close_if_done()

    def abort(self) -> None:
        self._transport.abort()


def plain(address: str) -> str:
    """Of an address of IPv4 within IPv6 that of IPv4."""
    return address.removeprefix("::ffff:") if "." in address else address


def one_network(address: str) -> str:
    """Of an address of IPv6 its first half: whoever has one has all that begin so."""
    if ":" not in address:
        return address
    return str(IPv6Address(int(IPv6Address(address.partition("%")[0])) >> 64 << 64))
