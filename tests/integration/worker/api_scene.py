"""A Runtime API on a loopback port, and what it said."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from lambent_chassis import clock
from lambent_proto.frames import WINDOW_BYTES
from lambent_proto.ids import RequestId
from lambent_worker.event import Event
from lambent_worker.flow import Flow
from lambent_worker.runtime_api.delivery import Connect
from lambent_worker.runtime_api.extensions import Facts
from lambent_worker.runtime_api.server import RuntimeApi
from lambent_worker.sandbox.inside import connect_here

TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
ARN = "arn:aws:lambda:us-east-1:000000000000:function:fn"
NEXT = "/2018-06-01/runtime/invocation/next"


class ApiScene:
    def __init__(self, external: frozenset[str], connect: Connect, snapstart: bool) -> None:
        self.flow: Flow | None = None
        """Of the answer to what was delivered last."""
        self.said: asyncio.Queue[tuple[list[object], bytes]] = asyncio.Queue()
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        facts = Facts(
            name="fn", version="$LATEST", handler="app.handler", external=external, snapstart=snapstart
        )
        self.api = RuntimeApi(listener, lambda head, body: self.said.put_nowait((head, body)), facts, connect)

    async def hears(self) -> tuple[list[object], bytes]:
        async with asyncio.timeout(30):
            return await self.said.get()

    def deliver(self, event: Any, request: str = "r1", *, stream: bool = False, context: str = "") -> None:
        deadline_ms = int((clock.unix_s() + 3) * 1000)
        body = json.dumps(event).encode()
        self.flow = Flow(WINDOW_BYTES) if stream else None
        self.api.deliver(Event(RequestId(request), deadline_ms, ARN, context, body, self.flow, TRACE))

    def takes(self, size: int) -> None:
        """As the caller of the streamed answer."""
        assert self.flow is not None
        self.flow.taken(size)
        self.api.flows()

    def goes_away(self) -> None:
        assert self.flow is not None
        self.flow.unheard()
        self.api.flows()

    async def client(self) -> "Client":
        return Client(*await asyncio.open_connection("127.0.0.1", self.port, limit=2**24))


class Client:
    """Says HTTP byte by byte, as a runtime of no library's would."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(30):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(head[0].split()[1]), headers, body

    async def asks(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        self.send(method, path, body, **headers)
        return await self.answer()

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


@asynccontextmanager
async def api_scene(
    *external: str, connect: Connect = connect_here, snapstart: bool = False
) -> AsyncIterator[ApiScene]:
    scene = ApiScene(frozenset(external), connect, snapstart)
    try:
        yield scene
    finally:
        scene.api.close()
