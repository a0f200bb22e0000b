"""Frames on the channel to the worker, and the JSON they carry: docs/instance.md has both byte by byte."""

from __future__ import annotations

import json
import os
import sys
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined]
from json.encoder import encode_basestring_ascii as quoted
from select import POLLIN, poll

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


MAX_PAYLOAD_BYTES = 6_291_556
"""Lambda's constant, the same as lambent_proto.ids.MAX_PAYLOAD_BYTES, which cannot be imported here."""

FIRST_READ = 479
"""Bytes read of a new event: room for so many comes from CPython's own pools, for more from malloc."""

CHUNK = 64 * 1024
"""Bytes read at once of a larger one. Twice that would be a mapping of its own for every read."""


def _plain(value: object) -> float:
    """A decimal.Decimal is written as a number, as Lambda does; only who has imported it can have one."""
    decimal = sys.modules.get("decimal")
    if decimal is not None and isinstance(value, decimal.Decimal):
        return float(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


# As json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_plain) and json.JSONDecoder do it,
# down to the errors, without what they do anew for every document: half the time, and less code to wake up.
_containers: dict[int, object] = {}
"""Those that are being encoded, to find one that is within itself."""
_pieces = c_make_encoder(_containers, _plain, encode_basestring, None, ":", ",", False, False, True)
_decode = json.JSONDecoder().decode
_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


def encode(value: object) -> str:
    try:
        return "".join(_pieces(value, 0))
    except BaseException:
        _containers.clear()
        raise


def decode(text: str) -> Any:
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        return _decode(text)  # it begins with a space, or is none, which is said there
    return value if end == len(text) else _decode(text)


def frames(fd: int) -> Iterator[tuple[list[Any], bytes]]:
    """Head and body of each frame, until the worker closes the channel."""
    readable = poll()
    readable.register(fd, POLLIN)
    data = b""
    while data := _filled(fd, readable, data, 6):
        sizes = int.from_bytes(data[:6], "big")
        size, split = 4 + (sizes >> 16), 6 + (sizes & 0xFFFF)
        if len(data) < size and not (data := _filled(fd, readable, data, size)):
            return
        yield decode(data[6:split].decode()), data[split:size]
        data = data[size:]


def _filled(fd: int, readable: poll, data: bytes, size: int) -> bytes:
    """`data` and what follows it, `size` bytes at the least; nothing at all once the channel is closed.

    A read that sleeps on a Unix socket is woken for nothing when the worker takes the last answer off it:
    10 us a call. A poll for input is not.
    """
    if not data:
        readable.poll()
        data = os.read(fd, FIRST_READ)
        if len(data) >= size or not data:
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
    sizes = (2 + len(head) + len(body)) << 16 | len(head)
    frame = b"%b%b%b" % (sizes.to_bytes(6, "big"), head, body)
    sent = os.write(fd, frame)
    while sent < len(frame):
        sent += os.write(fd, memoryview(frame)[sent:])
