"""Frames on the channel to the worker, and the JSON they carry: docs/instance.md has both byte by byte."""

from __future__ import annotations

import json
import os
import sys
from json.encoder import encode_basestring_ascii as quoted
from select import POLLIN, poll

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


MAX_PAYLOAD_BYTES = 6_291_556
"""Lambda's constant, the same as lambent_proto.ids.MAX_PAYLOAD_BYTES, which cannot be imported here."""

CHUNK = 64 * 1024
"""Bytes read at once. Twice that would be a mapping of its own for every read."""


def _plain(value: object) -> float:
    """A decimal.Decimal is written as a number, as Lambda does; only who has imported it can have one."""
    decimal = sys.modules.get("decimal")
    if decimal is not None and isinstance(value, decimal.Decimal):
        return float(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_plain).encode
decode = json.JSONDecoder().decode


def frames(fd: int) -> Iterator[tuple[list[Any], bytes]]:
    """Head and body of each frame, until the worker closes the channel."""
    readable = poll()
    readable.register(fd, POLLIN)
    data = b""
    while data := _filled(fd, readable, data, 4):
        size = 4 + int.from_bytes(data[:4], "big")
        if not (data := _filled(fd, readable, data, size)):
            return
        split = 6 + int.from_bytes(data[4:6], "big")
        yield decode(data[6:split].decode()), data[split:size]
        data = data[size:]


def _filled(fd: int, readable: poll, data: bytes, size: int) -> bytes:
    """`data` and what follows it, `size` bytes at the least; nothing at all once the channel is closed.

    A read that sleeps on a Unix socket is woken for nothing when the worker takes the last answer off it:
    10 us a call. A poll for input is not.
    """
    if len(data) >= size:
        return data
    parts, have = [data], len(data)
    while have < size:
        readable.poll()
        chunk = os.read(fd, CHUNK)
        if not chunk:
            return b""
        parts.append(chunk)
        have += len(chunk)
    return b"".join(parts)


def send(fd: int, kind: str, request_id: str | None = None, body: bytes = b"") -> None:
    head = (f'["{kind}"]' if request_id is None else f'["{kind}",{quoted(request_id)}]').encode()
    size = 2 + len(head) + len(body)
    frame = b"%b%b%b%b" % (size.to_bytes(4, "big"), len(head).to_bytes(2, "big"), head, body)
    sent = os.write(fd, frame)
    while sent < len(frame):
        sent += os.write(fd, memoryview(frame)[sent:])
