"""Words of HTTP/2: RFC 9113, sections 6 and 7."""

import struct
from enum import IntEnum
from typing import Final, NamedTuple

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

HEAD_BYTES: Final = 9
"""Of a frame, before its payload."""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

(
    HEADER_TABLE_SIZE,
    ENABLE_PUSH,
    MAX_CONCURRENT_STREAMS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST,
) = range(1, 7)

MAX_WINDOW: Final = 2**31 - 1
MAX_STREAM: Final = 2**31 - 1
FIRST_WINDOW: Final = 65_535
"""Of either side and of the connection, until it is told otherwise."""
LEAST_MAX_FRAME: Final = 16_384
MOST_MAX_FRAME: Final = 2**24 - 1


class Code(IntEnum):
    """Why a stream or a connection ended."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11


class ConnectionFault(Exception):
    """The client broke a rule in a way that ends its connection."""

    def __init__(self, code: Code, said: str) -> None:
        super().__init__(said)
        self.code = code


class StreamFault(Exception):
    """The client broke a rule in a way that ends one of its streams."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.name)
        self.code = code


class Setting(NamedTuple):
    name: int
    value: int


_SETTING: Final = struct.Struct(">HI")
_HEAD: Final = struct.Struct(">HBBBI")
_WORD: Final = struct.Struct(">I")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return frame_head(len(payload), kind, flags, stream) + payload


def frame_head(size: int, kind: int, flags: int, stream: int) -> bytes:
    return _HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream)


def head_of(buffer: bytes) -> tuple[int, int, int, int]:
    """Size, kind, flags and stream of the frame that begins there."""
    high, low, kind, flags, stream = _HEAD.unpack_from(buffer)
    return high << 8 | low, kind, flags, stream & MAX_STREAM


def settings_frame(settings: list[Setting]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*setting) for setting in settings))


def settings_of(payload: bytes) -> list[Setting]:
    return [Setting(*pair) for pair in _SETTING.iter_unpack(payload)]


def window_update(stream: int, size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, _WORD.pack(size))


def rst_stream(stream: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, _WORD.pack(code))


def goaway(last: int, code: int, said: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code) + said)


def unpadded(payload: bytes) -> bytes:
    """What is between a padded frame's length of padding and the padding."""
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame has more padding than it has bytes")
    return payload[1 : len(payload) - payload[0]]
