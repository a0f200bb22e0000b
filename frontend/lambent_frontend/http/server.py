"""The frontend's HTTP server: where it listens, its connections, its end."""

import asyncio
import contextlib
from collections import Counter
from email.utils import formatdate
from typing import Final

from lambent_chassis import clock
from lambent_frontend.http import limits
from lambent_frontend.http.connection import Answering, Connection
from lambent_frontend.tls import PublicTls

_LOOK_S: Final = 1.0
"""How often slow and idle connections are looked for."""

_BACKLOG: Final = 1024

_LAST_WORD_S: Final = 1.0
"""How long the answer to what is given up may take to leave."""


class HttpServer:
    """Use it once: start, maybe stop."""

    def __init__(self, api: Answering, *, share_ports: bool = False) -> None:
        """With `share_ports` other servers on this machine may listen on the same port."""
        self.api = api
        self._share_ports = share_ports
        self.held = 0
        self.held_of: Counter[str] = Counter()
        self.coming: Counter[str] = Counter()
        self.read = 0
        """Bytes that have come over all connections."""
        self.date = ""
        self.stopping = False
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._looking: asyncio.Task[None] | None = None
        self._empty = asyncio.Event()

    async def start(self, host: str, port: int, tls: PublicTls | None = None) -> int:
        """Listens, port 0 taking a free one, and returns the port. Raises OSError if it cannot listen
        there, CannotEncrypt."""
        loop = asyncio.get_running_loop()
        context = None
        if tls is not None:
            context = tls.context(["http/1.1"])
        self.date = formatdate(clock.unix_s(), usegmt=True)
        try:
            self._server = await loop.create_server(
                lambda: Connection(self),
                host.strip("[]"),
                port,
                backlog=_BACKLOG,
                reuse_port=self._share_ports,
                ssl=context,
                ssl_handshake_timeout=limits.HEAD_S if context else None,
            )
        except OSError as error:
            raise OSError(f"cannot listen on {host}:{port}: is something else there? ({error})") from None
        self._looking = asyncio.create_task(self._look())
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self, grace_s: float) -> None:
        """Takes no new connection, and gives what is under way `grace_s` seconds, then up."""
        self.stopping = True
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.finish()
        await self._until_empty(grace_s)
        for connection in list(self._connections):
            connection.give_up()
        await self._until_empty(_LAST_WORD_S)
        for connection in list(self._connections):
            connection.abort()
        if self._looking is not None:
            self._looking.cancel()

    async def _until_empty(self, within_s: float) -> None:
        if self._connections:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._empty.wait()

    def opened(self, connection: Connection) -> bool:
        self._connections.add(connection)
        return len(self._connections) <= limits.CONNECTIONS

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    @property
    def open(self) -> int:
        """Connections."""
        return len(self._connections)

    def check(self, now: float) -> None:
        """Ends the connections that are too slow at this time of the loop's."""
        for connection in list(self._connections):
            connection.check(now)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_S)
            self.date = formatdate(clock.unix_s(), usegmt=True)
            self.check(loop.time())
