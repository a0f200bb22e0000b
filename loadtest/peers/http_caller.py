"""Calls over HTTP/1.1: `python -m loadtest.peers.http_caller [PATH] ADDRESS IN_FLIGHT`."""

import asyncio
import json
import sys

import uvloop

from loadtest.peers.closed_loop import PAYLOAD, NotAnEcho, checked, measured_async


class Connection:
    """One that is kept, and opened again where the server has closed it meanwhile, as servers may."""

    def __init__(self, address: str, path: str) -> None:
        self._host, _, self._port = address.rpartition(":")
        self._request = (
            f"POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(PAYLOAD)}\r\n\r\n"
        ).encode() + PAYLOAD

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(self._host, int(self._port))

    async def call(self) -> None:
        """Raises NotAnEcho."""
        try:
            head = await self._head()
        except (asyncio.IncompleteReadError, ConnectionError):
            await self.open()
            head = await self._head()
        if b" 200 " not in head[:14]:
            raise NotAnEcho(f"not an echo: {head!r}")
        checked(json.loads(await body(self._reader, head)))

    async def _head(self) -> bytes:
        self._writer.write(self._request)
        return (await self._reader.readuntil(b"\r\n\r\n")).lower()


async def body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """Of an answer with a length, or in chunks."""
    if length := head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]:
        return await reader.readexactly(int(length))
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readexactly(2)
    return b"".join(parts)


def main() -> None:
    *path, address, in_flight = sys.argv[1:]
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    connections = [Connection(address, (*path, "/")[0]) for _ in range(int(in_flight))]
    for connection in connections:
        loop.run_until_complete(connection.open())
    measured_async(loop, [connection.call for connection in connections])


if __name__ == "__main__":
    main()
