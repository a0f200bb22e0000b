"""Records for a URL: one POST each, which any answer of 2xx takes."""

import asyncio
import http.client
import ssl
from typing import Final
from urllib.parse import urlsplit

from lambent_frontend.queue.destinations import Refused
from lambent_frontend.queue.records import Record

WITHIN_S: Final = 20.0
"""For each step of it: to connect, to send, to hear the answer."""

AT_ONCE: Final = 16
"""Webhooks that are waited for at one time: each has a thread meanwhile."""


class Webhooks:
    def __init__(self) -> None:
        self._free = asyncio.Semaphore(AT_ONCE)

    async def deliver(self, url: str, record: Record) -> None:
        """Follows no redirect. Raises Refused."""
        async with self._free:
            status = await asyncio.to_thread(_post, url, record)
        if not 200 <= status < 300:
            raise Refused(f"{url} answered {status}")

    async def close(self) -> None:
        """Each has its own connection, which ends with it."""


def _post(url: str, record: Record) -> int:
    parts = urlsplit(url)
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    headers = {"Content-Type": "application/json", "x-lambent-request-id": record.id}
    headers |= {f"x-lambent-{name}": value for name, value in _printable(record).items()}
    try:
        connection = _connection(parts.scheme, parts.hostname or "", parts.port)
        try:
            connection.request("POST", path, record.body, headers)
            return connection.getresponse().status
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Refused(f"{url} cannot be reached: {str(error) or type(error).__name__}") from error


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
