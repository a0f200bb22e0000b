"""A socket of a client that says what it likes, and an HTTP server over a scripted dispatcher."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from lambent_frontend.calling import Calling
from lambent_frontend.http.api import Api, Operation
from lambent_frontend.http.connection import Answering
from lambent_frontend.http.gate import Open
from lambent_frontend.http.invoke import Invoke
from lambent_frontend.http.invoke_stream import InvokeWithResponseStream
from lambent_frontend.http.server import HttpServer
from lambent_frontend.invoker import Invoker
from tests.unit.scripted import WAITING_S, AnyFunction, ScriptedDispatcher

INVOKE = "/2015-03-31/functions/{}/invocations"
STREAM = "/2021-11-15/functions/{}/response-streaming-invocations"
WITHIN_S = 20.0


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def error(self) -> str:
        return self.headers.get("x-amzn-errortype", "")

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        """Names of headers with _ for -."""
        lines = [f"{method} {path} HTTP/1.1", "Host: here", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    async def answer(self, bodiless: bool = False) -> Answer:
        async with asyncio.timeout(WITHIN_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            size = 0 if bodiless else int(headers.get("content-length", "0"))
            return Answer(int(first.split()[1]), headers, await self.reader.readexactly(size))

    async def ended(self) -> bytes:
        """What still comes until the server ends the connection."""
        async with asyncio.timeout(WITHIN_S):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        self.request(method, path, body, **headers)
        return await self.answer()


@asynccontextmanager
async def listening(api: Answering) -> AsyncIterator[tuple[HttpServer, int]]:
    server = HttpServer(api)
    port = await server.start("127.0.0.1", 0)
    try:
        yield server, port
    finally:
        await server.stop(0)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


def invoking(dispatcher: ScriptedDispatcher) -> Api:
    calling = Calling(Invoker(AnyFunction(), dispatcher, waiting_s=WAITING_S))
    there: dict[str, Operation] = {
        "Invoke": Invoke(calling),
        "InvokeWithResponseStream": InvokeWithResponseStream(calling.invoker),
    }
    return Api(there, Open())
