"""Calls over HTTP/1.1: `python -m loadtest.peers.http_caller [PATH] ADDRESS IN_FLIGHT`."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

import uvloop

from loadtest.peers.closed_loop import PAYLOAD, NotAnEcho, checked, measured_async


async def caller(address: str, path: str) -> Callable[[], Awaitable[None]]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    request = (
        f"POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(PAYLOAD)}\r\n\r\n"
    ).encode() + PAYLOAD

    async def call() -> None:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in head[:14]:
            raise NotAnEcho(f"not an echo: {head!r}")
        checked(json.loads(await body(reader, head)))

    return call


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
    callers = [loop.run_until_complete(caller(address, (*path, "/")[0])) for _ in range(int(in_flight))]
    measured_async(loop, callers)


if __name__ == "__main__":
    main()
