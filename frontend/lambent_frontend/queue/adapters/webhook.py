"""Records for a URL: one POST each, which any answer of 2xx takes."""

import asyncio
import contextlib
import http.client
import socket
import ssl
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import urlsplit

from lambent_frontend.queue.destinations import Refused, shown
from lambent_frontend.queue.records import Record
from lambent_proto.tracing import read, w3c

WITHIN_S: Final = 20.0
"""For each step of it: to connect, to send, to hear the answer."""

AT_ONCE: Final = 4
MOST_AT_ONCE: Final = 64
"""Answers that are waited for at one time, of one host and of all, each in a thread: one that hangs does not
take those of the others."""


class Webhooks:
    def __init__(self) -> None:
        self._free: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))
        self._threads = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="webhook")
        self._open: set[http.client.HTTPConnection] = set()

    async def deliver(self, url: str, record: Record) -> None:
        """Follows no redirect. Raises Refused."""
        async with self._free[urlsplit(url).netloc]:
            status = await asyncio.get_running_loop().run_in_executor(self._threads, self._post, url, record)
        if not 200 <= status < 300:
            raise Refused(f"{shown(url)} answered {status}")

    async def close(self) -> None:
        """What is waited for is given up, so that no thread holds up the end of the process."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for connection in list(self._open):
            if connection.sock is not None:
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)

    def _post(self, url: str, record: Record) -> int:
        parts = urlsplit(url)
        path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        headers = {"Content-Type": "application/json", "x-lambent-request-id": record.id}
        if trace := read(record.trace):
            headers |= {"traceparent": w3c(trace), "X-Amzn-Trace-Id": record.trace}
        headers |= {f"x-lambent-{name}": value for name, value in _printable(record).items()}
        try:
            connection = _connection(parts.scheme, parts.hostname or "", parts.port)
            self._open.add(connection)
            try:
                connection.request("POST", path, record.body, headers)
                return connection.getresponse().status
            finally:
                self._open.discard(connection)
                connection.close()
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Refused(f"{shown(url)} cannot be reached: {str(error) or type(error).__name__}") from error


def _connection(scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
    if scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=WITHIN_S, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, port, timeout=WITHIN_S)


def _printable(record: Record) -> dict[str, str]:
    """A dead letter's attributes, as headers may carry them."""
    return {
        name: "".join(it if it.isascii() and it.isprintable() else " " for it in value)
        for name, value in record.attributes.items()
    }
