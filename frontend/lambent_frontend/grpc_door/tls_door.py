"""Takes connections that begin with TLS, and counts them from their first moment.

asyncio's servers tell of a connection once its greeting is over: of those that never finish it nobody would
know.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Final

from lambent_frontend.grpc_door.connection import GREETING_S, ClientConnection, one_network, plain
from lambent_frontend.grpc_door.crowd import Crowd

_PAUSE_S: Final = 1.0
"""After an accept that failed, as where a process may open no more files. asyncio's servers wait as long."""


class TlsDoor:
    """Listens from its beginning until it is closed."""

    def __init__(
        self,
        bound: socket.socket,
        tls: ssl.SSLContext,
        crowd: Crowd,
        connection: Callable[[str], ClientConnection],
    ) -> None:
        """`connection` makes one for an address, for which it is counted."""
        bound.setblocking(False)
        self._bound = bound
        self._tls = tls
        self._crowd = crowd
        self._connection = connection
        self._greeting: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.create_task(self._accept())

    def close(self) -> None:
        """Takes no more, and gives up who has not finished its greeting."""
        for task in (self._accepting, *self._greeting):
            task.cancel()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(self._bound)
            except OSError:
                await asyncio.sleep(_PAUSE_S)
                continue
            task = loop.create_task(self._greet(accepted, one_network(plain(address[0]))))
            self._greeting.add(task)
            task.add_done_callback(self._greeting.discard)

    async def _greet(self, accepted: socket.socket, host: str) -> None:
        """Until the connection is one, which leaves the crowd at its end, or has failed."""
        connection = self._connection(host)
        try:
            if not self._crowd.enter(host):
                accepted.close()
                return
            with contextlib.suppress(OSError):  # which TLS's errors are, and those of a greeting too long
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: connection, accepted, ssl=self._tls, ssl_handshake_timeout=GREETING_S
                )
        finally:
            if not connection.made:
                self._crowd.leave(host)
