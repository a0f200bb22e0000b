"""A framed connection: what is ready in one turn of the loop leaves in one write.

A `Link` knows neither what the frames mean nor who speaks first: its users say so in `on_frame`. Two lanes
share the connection. Small frames are gathered and go first. A large message, given as an iterator of its
frames, goes one frame a turn and only while the transport takes it, so that a small frame never waits for
more than the piece under way.
"""

import asyncio
import socket
import ssl as tls
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Generic, Protocol, TypeVar, cast

import structlog

from lambent_chassis.peering import names_in
from lambent_proto.frames import BadFrame

F_co = TypeVar("F_co", covariant=True)
F = TypeVar("F")

FIRST_FRAME_WITHIN_S: Final = 5.0
"""A peer that has said nothing by then is not one of ours, or is stopped."""

LARGE_AT_ONCE: Final = 4
"""Large messages that share the wire. More would only make all of them late and cost the peer memory."""

# A peer that vanishes without a word is given up after 3 + 4 * 1 seconds when idle, 7 with data under way.
_KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 3),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 7_000),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)

_log = structlog.get_logger()


class Decoder(Protocol[F_co]):
    def feed(self, data: bytes) -> Iterable[F_co]:
        """The frames that `data` completes; raises BadFrame behind the last good one."""


class Link(asyncio.Protocol, Generic[F]):
    """One connection, from `dial` or `listen`.

    `on_frame` is called for each frame and may raise BadFrame to refuse the peer; `on_lost` once, when the
    connection is over: with the fault, or None if either side closed it in order.
    """

    def __init__(
        self,
        decoder: Decoder[F],
        on_frame: "Callable[[Link[F], F], None]",
        on_lost: "Callable[[Link[F], Exception | None], None]",
    ) -> None:
        self.peer = ""
        self.peer_names: list[str] | None = None
        """The DNS names in the peer's certificate; None without TLS."""
        self._loop = asyncio.get_running_loop()
        self._decoder = decoder
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._transport: asyncio.Transport
        self._first_frame_due: asyncio.TimerHandle | None = None
        self._small: list[bytes] = []
        self._large: deque[Iterator[bytes]] = deque()
        self._large_waiting: deque[Iterator[bytes]] = deque()
        self._flush_due = False
        self._paused = False
        self._closing = False
        self._over = False
        self._fault: Exception | None = None

    def send(self, message: bytes | Iterator[bytes]) -> None:
        """Sends a frame, or the frames of a large message. Dropped if the connection is over or closing."""
        if self._over or self._closing:
            return
        if isinstance(message, bytes):
            self._small.append(message)
        elif len(self._large) < LARGE_AT_ONCE:
            self._large.append(message)
        else:
            self._large_waiting.append(message)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Closes in order: what was sent before still goes out."""
        if self._over or self._closing:
            return
        self._closing = True
        if not self._flush_due:
            self._flush()

    def abort(self, fault: Exception | None = None) -> None:
        """Closes at once and delivers no further frame; `on_lost` is told `fault`."""
        if self._over:
            return
        self._over = True
        self._fault = fault
        self._transport.abort()

    def _flush(self) -> None:
        self._flush_due = False
        if self._paused or self._over:
            return
        if self._small:
            ready = self._small
            self._small = []
            self._transport.write(ready[0] if len(ready) == 1 else b"".join(ready))
        if self._large:
            self._write_piece()
        if self._large:
            # resume_writing goes on from here if this turn filled the transport.
            if not self._paused:
                self._flush_due = True
                self._loop.call_soon(self._flush)
        elif self._closing:
            self._transport.close()

    def _write_piece(self) -> None:
        message = self._large.popleft()
        piece = next(message, None)
        if piece is not None:
            self._transport.write(piece)
            self._large.append(message)
        elif self._large_waiting:
            self._large.append(self._large_waiting.popleft())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        name = transport.get_extra_info("peername")
        self.peer = f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)
        if certificate := transport.get_extra_info("peercert"):
            self.peer_names = names_in(certificate)
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
            for level, option, value in _KEEPALIVE:
                connection.setsockopt(level, option, value)
        self._first_frame_due = self._loop.call_later(FIRST_FRAME_WITHIN_S, self._give_up_silent)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._decoder.feed(data):
                if self._over:
                    return
                if self._first_frame_due is not None:
                    self._first_frame_due.cancel()
                    self._first_frame_due = None
                self._on_frame(self, frame)
        except BadFrame as bad:
            self._refuse(bad)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if not self._flush_due:
            self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        if self._first_frame_due is not None:
            self._first_frame_due.cancel()
        self._small.clear()
        self._large.clear()
        self._large_waiting.clear()
        self._on_lost(self, self._fault or exc)

    def _give_up_silent(self) -> None:
        self._first_frame_due = None
        self._refuse(BadFrame(f"nothing said within {FIRST_FRAME_WITHIN_S:g} s"))

    def _refuse(self, bad: BadFrame) -> None:
        if self._over:
            return
        _log.warning("link_refused", peer=self.peer, reason=bad.reason)
        self.abort(bad)


async def dial(
    host: str,
    port: int,
    *,
    decoder: Callable[[], Decoder[F]],
    on_frame: Callable[[Link[F], F], None],
    on_lost: Callable[[Link[F], Exception | None], None],
    ssl: tls.SSLContext | None = None,
    name: str | None = None,
    timeout_s: float = 5.0,
) -> Link[F]:
    """With `ssl` the peer's certificate has to have the DNS name `name`, whatever the address.

    Raises OSError when nobody answers there or the peer is not trusted, TimeoutError (an OSError too) after
    `timeout_s`.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        _, link = await loop.create_connection(
            lambda: Link(decoder(), on_frame, on_lost), host.strip("[]"), port, ssl=ssl, server_hostname=name
        )
    return link


async def listen(
    host: str,
    port: int,
    *,
    decoder: Callable[[], Decoder[F]],
    on_frame: Callable[[Link[F], F], None],
    on_lost: Callable[[Link[F], Exception | None], None],
    ssl: tls.SSLContext | None = None,
) -> asyncio.Server:
    """Listens; port 0 takes a free one. An address of IPv6 may be in brackets, for `dial` as well.

    Closing the server leaves its links as they are.
    """
    loop = asyncio.get_running_loop()
    return await loop.create_server(
        lambda: Link(decoder(), on_frame, on_lost), host.strip("[]"), port, ssl=ssl
    )
