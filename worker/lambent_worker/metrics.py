"""What a worker tells Prometheus: `GET /metrics` on a port of its own, for whoever reaches it.

What changes all the time is read when it is asked for; only starts are counted as they happen.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from lambent_chassis.peering import PLAIN, Peering
from lambent_worker.core.agent import Agent, State
from lambent_worker.sandbox.api import PROTECTIONS, Protections

TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Of Prometheus' text format."""

_ASK_WITHIN_S: Final = 5.0
_MOST_HEADER_BYTES: Final = 16 * 1024
_MB: Final = 1024 * 1024


class Metrics:
    def __init__(self, protections: Protections, core: Agent, shard: int = 0) -> None:
        self._registry = CollectorRegistry()
        self._starts = Counter(
            "lambent_worker_starts",
            "Runtimes started: new (a process was made for it), parked (one was waiting), "
            "again (in an instance that lost its runtime to a crash or a timeout).",
            ["runtime", "kind"],
            registry=self._registry,
        )
        self._isolation(protections)
        self._load(core)
        self._gauge("shard", "Number of the fleet's shard that it belongs to; the first is 0.").set(shard)

    def launched(self, runtime: str, kind: str) -> None:
        """A runtime was started in an instance. `kind` is one of those that `lambent_worker_starts` names."""
        self._starts.labels(runtime, kind).inc()

    def page(self) -> bytes:
        return generate_latest(self._registry)

    def _isolation(self, protections: Protections) -> None:
        self._gauge(
            "isolation_level", "1 at the level of isolation that the sandboxes reach.", "level", "backend"
        ).labels(protections.level, protections.backend).set(1)
        protection = self._gauge("protection", "1 if the sandboxes give this protection.", "name")
        for name in PROTECTIONS:
            protection.labels(name).set(name in protections.given)

    def _load(self, core: Agent) -> None:
        instances = self._gauge("instances", "Instances that exist.", "state")
        for state in State:
            instances.labels(state.value).set_function(partial(_count, core, state))
        granted = self._gauge("memory_granted_bytes", "Memory that was granted to instances.")
        granted.set_function(lambda: core.memory_used_mb * _MB)
        self._gauge("memory_bytes", "Memory for all instances together.").set(core.memory_mb * _MB)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"lambent_worker_{name}", meaning, labels, registry=self._registry)


def _count(core: Agent, state: State) -> int:
    return sum(instance.state is state for instance in core.instances.values())


@asynccontextmanager
async def serving(metrics: Metrics, host: str, port: int, peering: Peering = PLAIN) -> AsyncIterator[str]:
    """Its HOST:PORT. With TLS whoever has any certificate of the fleet's may ask.

    Raises OSError if it cannot be listened on.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_ASK_WITHIN_S):
                writer.write(_answer(metrics, await reader.readuntil(b"\r\n\r\n")))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asks so has no answer
        finally:
            writer.close()

    server = await asyncio.start_server(answer, host, port, limit=_MOST_HEADER_BYTES, ssl=peering.listening())
    try:
        yield f"{host}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def _answer(metrics: Metrics, header: bytes) -> bytes:
    path = header.split(b" ", 2)[1:2]
    if header.startswith(b"GET ") and path[0].partition(b"?")[0] == b"/metrics":
        return _response("200 OK", metrics.page())
    return _response("404 Not Found", b"there is GET /metrics, and nothing else\n")


def _response(status: str, body: bytes) -> bytes:
    fields = f"Content-Type: {TYPE}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    return f"HTTP/1.1 {status}\r\n{fields}\r\n".encode() + body
