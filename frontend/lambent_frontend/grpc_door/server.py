"""A gRPC server of our own: where it listens, its services, its connections, its end.

It has the part of grpc.aio.Server that this frontend and the generated code use.
"""

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import structlog

from lambent_frontend.grpc_door.call import Call
from lambent_frontend.grpc_door.connection import ClientConnection
from lambent_frontend.grpc_door.crowd import Crowd
from lambent_frontend.grpc_door.tls_door import TlsDoor

CONNECTIONS: Final = 10_000
"""At one time, with those that have not come to the end of TLS's greeting. One address may have half."""

UNTAKEN: Final = 1024 * 1024 * 1024
"""Bytes of answers that wait for their clients, of all connections together. Above it those of the address
that has most are closed."""

HELD: Final = 512 * 1024 * 1024
"""Bytes of requests that no service has read, of all connections together. One client may have half."""

UNPACKING: Final = 2
"""Messages at one time that are unpacked beside the loop; each has up to 64 MB."""

ALPN: Final = ("h2",)

_log = structlog.get_logger()

_LOOK_S: Final = 1.0
_BACKLOG: Final = 1024

_LAST_WORD_S: Final = 1.0
"""How long the answer to what is given up may take to leave."""


class OwnServer:
    """Use it once: add services and ports, start, stop.

    `whose` says for whom a call's bytes count, such as an access key's id, before they become many; empty
    where nobody is asked. It may raise a LambentError, which is the call's answer. With `share_ports` other
    servers on this machine may listen on the same ports.
    """

    def __init__(
        self,
        *,
        whose: Callable[[Call], str] = lambda _: "",
        most_held: int = HELD,
        most_connections: int = CONNECTIONS,
        most_untaken: int = UNTAKEN,
        share_ports: bool = False,
    ) -> None:
        self.handlers: dict[str, Any] = {}
        self.whose = whose
        self._share_ports = share_ports
        self.stopping = False
        self._most_held = most_held
        self._held = 0
        self._held_of: Counter[str] = Counter()
        self._unpacking = ThreadPoolExecutor(UNPACKING, "unpacking")
        self._connections: set[ClientConnection] = set()
        self._crowd = Crowd(most_connections)
        self._most_untaken = most_untaken
        self._sockets: list[tuple[socket.socket, ssl.SSLContext | None]] = []
        self._servers: list[asyncio.Server | TlsDoor] = []
        self._looking: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """What generated `add_..._to_server` functions call, with all methods of a service."""
        for name, handler in handlers.items():
            self.handlers[f"/{service}/{name}"] = handler

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """The same functions call this too, with the same methods once more."""

    def add_insecure_port(self, address: str) -> int:
        """Binds `HOST:PORT`, port 0 taking a free one, and returns the port. `[::]` is all of IPv4 too.

        Raises RuntimeError.
        """
        return self._bind(address, None)

    def add_secure_port(self, address: str, tls: ssl.SSLContext) -> int:
        """The same for TLS, of a context that speaks ALPN: clients have to ask for it."""
        return self._bind(address, tls)

    def _bind(self, address: str, tls: ssl.SSLContext | None) -> int:
        host, _, port = address.rpartition(":")
        try:
            found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
            family, both = found[0][0], found[0][0] == socket.AF_INET6 and socket.has_dualstack_ipv6()
            bound = socket.create_server(
                found[0][4][:2],
                family=family,
                backlog=_BACKLOG,
                reuse_port=self._share_ports,
                dualstack_ipv6=both,
            )
        except (OSError, ValueError) as error:
            raise RuntimeError(str(error)) from None
        self._sockets.append((bound, tls))
        return int(bound.getsockname()[1])

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        for bound, tls in self._sockets:
            if tls is None:
                listening = await loop.create_server(self._connection, sock=bound, backlog=_BACKLOG)
                self._servers.append(listening)
            else:
                self._servers.append(TlsDoor(bound, tls, self._crowd, self._counted))
        self._looking = asyncio.create_task(self._look())

    def _connection(self) -> ClientConnection:
        return ClientConnection(self)

    def _counted(self, host: str) -> ClientConnection:
        return ClientConnection(self, counted=host)

    async def stop(self, grace: float | None) -> None:
        """Takes no new connection, asks clients to leave, gives calls under way `grace` seconds, then up."""
        self.stopping = True
        for server in self._servers:
            server.close()
        for bound, _ in self._sockets:
            bound.close()
        for connection in list(self._connections):
            connection.take_leave()
        if grace:
            await self._until_idle(grace)
        for connection in list(self._connections):
            connection.give_up()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORD_S):
                while self._connections:
                    await self._change()
        for connection in list(self._connections):
            connection.abort()
        if self._looking is not None:
            self._looking.cancel()
        self._unpacking.shutdown(wait=False, cancel_futures=True)

    async def _until_idle(self, within_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while any(not connection.idle for connection in self._connections):
                    await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def hold(self, size: int, whose: str) -> bool:
        """Takes so many bytes, or gives them back below 0. False if that is more than there may be."""
        self._held += size
        if not whose:
            return self._held <= self._most_held
        self._held_of[whose] += size
        if not self._held_of[whose]:
            del self._held_of[whose]
        return self._held <= self._most_held and self._held_of[whose] <= self._most_held // 2

    def beside(self, work: Callable[[], bytes]) -> Awaitable[bytes]:
        """In a thread, so that the loop goes on."""
        return asyncio.get_running_loop().run_in_executor(self._unpacking, work)

    def opened(self, connection: ClientConnection) -> bool:
        self._connections.add(connection)
        return connection.counted or self._crowd.enter(connection.host)

    def idle(self) -> None:
        """A connection has no call under way any more."""
        self._changed.set()

    def closed(self, connection: ClientConnection) -> None:
        self._connections.discard(connection)
        self._crowd.leave(connection.host)
        self._changed.set()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_S)
            now = loop.time()
            for connection in list(self._connections):
                connection.check(now)
            self.make_room()
            if refused := self._crowd.refused():
                _log.warning("connections_refused", **refused)

    def make_room(self) -> None:
        """Closes connections whose clients leave answers untaken, where that is more than there may be."""
        untaken = {it: size for it in self._connections if (size := it.untaken)}
        total = sum(untaken.values())
        if total <= self._most_untaken:
            return
        of: Counter[str] = Counter()
        for connection, size in untaken.items():
            of[connection.host] += size
        for connection in sorted(untaken, key=lambda it: (of[it.host], untaken[it]), reverse=True):
            _log.warning("answers_not_taken", peer=connection.peer, bytes=untaken[connection])
            connection.abort()
            total -= untaken[connection]
            if total <= self._most_untaken:
                return
