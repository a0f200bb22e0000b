"""The encoding application/vnd.amazon.eventstream: messages with headers and checksums, one behind the other.

    total size u32 | headers' size u32 | CRC-32 of those 8 bytes | headers | payload | CRC-32 of all before

A header is its name's size in a byte, the name, the type 7 of a text, the text's size as u16, and the text.
Numbers are big-endian.
"""

from collections.abc import Mapping
from struct import Struct
from typing import Final
from zlib import crc32

CONTENT_TYPE: Final = "application/vnd.amazon.eventstream"

_TEXT: Final = 7
_MOST_TEXT: Final = 4096
"""Bytes of a header's value; the format takes 32,767, and these are read by people."""

_sizes: Final = Struct(">II")
_u32: Final = Struct(">I")
_u16: Final = Struct(">H")


def event(kind: str, content_type: str, payload: bytes) -> bytes:
    """`kind` is the name of an event in AWS's model."""
    return _message({":event-type": kind, ":content-type": content_type, ":message-type": "event"}, payload)


def error(code: str, message: str) -> bytes:
    """One that AWS's clients raise, and that ends the stream."""
    return _message({":error-code": code, ":error-message": message, ":message-type": "error"}, b"")


def _message(headers: Mapping[str, str], payload: bytes) -> bytes:
    head = b"".join([_header(name, value) for name, value in headers.items()])
    sizes = _sizes.pack(16 + len(head) + len(payload), len(head))
    begin = sizes + _u32.pack(crc32(sizes)) + head
    return b"".join((begin, payload, _u32.pack(crc32(payload, crc32(begin)))))


def _header(name: str, value: str) -> bytes:
    text = value.encode()[:_MOST_TEXT].decode(errors="ignore").encode()
    return bytes((len(name),)) + name.encode() + bytes((_TEXT,)) + _u16.pack(len(text)) + text
