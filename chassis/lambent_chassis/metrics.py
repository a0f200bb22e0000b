"""What a part tells Prometheus: `GET /metrics` on a port of its own.

Levels are read when they are asked for. What happens thousands of times a second is counted by plain numbers,
and made into metrics when somebody asks.
"""

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import structlog
from prometheus_client.metrics_core import HistogramMetricFamily

from lambent_chassis.peering import PLAIN, Peering, names_in
from lambent_proto import identity

_log = structlog.get_logger()

Page = Callable[[], Awaitable[bytes]]

TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Of Prometheus' text format."""

SECONDS: Final = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)
"""Upper ends of the buckets that durations are counted in."""

_ASK_WITHIN_S: Final = 5.0
_MOST_HEADER_BYTES: Final = 16 * 1024


class Histogram:
    """How often which duration was seen. A note costs a third of a microsecond."""

    __slots__ = ("_counts", "_sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(SECONDS) + 1)
        self._sum = 0.0

    def note(self, seconds: float) -> None:
        self._counts[bisect_left(SECONDS, seconds)] += 1
        self._sum += seconds

    def fill(self, family: HistogramMetricFamily, labels: Sequence[str] = ()) -> None:
        """Adds what was noted, under these labels."""
        buckets, total = [], 0
        for end, count in zip((*map(str, SECONDS), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((end, total))
        family.add_metric(list(labels), buckets=buckets, sum_value=self._sum)


@asynccontextmanager
async def serving(page: Page, host: str, port: int, peering: Peering = PLAIN) -> AsyncIterator[str]:
    """Its HOST:PORT. With TLS every part of the fleet may ask, and its operators.

    Raises OSError if it cannot be listened on.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_ASK_WITHIN_S):
                header = await reader.readuntil(b"\r\n\r\n")
                writer.write(_refusal(writer) or await _answer(page, header))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asks so has no answer
        except Exception as error:  # noqa: BLE001 - a part does not end because somebody looked at it
            _log.error("metrics_failed", reason=f"{type(error).__name__}: {error}", exc_info=error)
            writer.write(_response("500 Internal Server Error", b"the log of this part says why\n"))
        finally:
            writer.close()

    server = await asyncio.start_server(
        answer, host.strip("[]"), port, limit=_MOST_HEADER_BYTES, ssl=peering.listening()
    )
    try:
        yield f"{host}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def _refusal(writer: asyncio.StreamWriter) -> bytes:
    """Empty for who may ask: the CA may sign for others than this fleet as well."""
    certificate = writer.get_extra_info("peercert")
    try:
        identity.check_any(names_in(certificate) if certificate else None)
    except identity.NotAllowed as error:
        _log.warning("peer_refused", peer=str(writer.get_extra_info("peername")), reason=str(error))
        return _response("403 Forbidden", f"{error}\n".encode())
    return b""


async def _answer(page: Page, header: bytes) -> bytes:
    path = header.split(b" ", 2)[1:2]
    if header.startswith(b"GET ") and path[0].partition(b"?")[0] == b"/metrics":
        return _response("200 OK", await page())
    return _response("404 Not Found", b"there is GET /metrics, and nothing else\n")


def _response(status: str, body: bytes) -> bytes:
    fields = f"Content-Type: {TYPE}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    return f"HTTP/1.1 {status}\r\n{fields}\r\n".encode() + body
