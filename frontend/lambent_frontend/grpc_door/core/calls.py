"""gRPC on HTTP/2: what a request's fields say, what an answer's are, and messages in the data.

The names and forms are those of gRPC's own description of its protocol over HTTP/2.
"""

import base64
import binascii
import re
import zlib
from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from lambent_frontend.grpc_door.core.blocks import Fields, answer_block

MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024

LARGE: Final = 4 * 1024 * 1024
MOST_FIELDS: Final = 65_536
"""At the top of a message of over LARGE bytes, as the invocations of a stream's are. 64 MB of the smallest
were seen to take 1.5 GB and a second, in which no other thread runs; 64 MB in one piece took 35 ms."""

OK, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED = 0, 2, 3, 4
RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 8, 12, 13, 14

Value = str | bytes
Metadata = tuple[tuple[str, Value], ...]

_ENCODINGS: Final = {"identity": 0, "deflate": zlib.MAX_WBITS, "gzip": zlib.MAX_WBITS | 16}
"""What zlib has to be told of each."""

ENCODINGS: Final = ",".join(_ENCODINGS)

_UNITS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT: Final = re.compile(r"([0-9]{1,8})([HMSmun])")
_NOT_METADATA: Final = frozenset(
    ("te", "content-type", "content-length", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding")
)
_CONTENT_TYPE: Final = re.compile(r"application/grpc(\+proto|;.*|\+proto;.*)?")


class Refusal(NamedTuple):
    """Of a call, before anything is done for it. `http` is other than 200 for what is no gRPC at all."""

    code: int
    said: str
    http: int = 200


class Asked(NamedTuple):
    path: str
    timeout_s: float | None
    encoding: str
    metadata: Metadata
    refusal: Refusal | None


def asked(fields: Fields) -> Asked:
    """What a request's fields say."""
    known: dict[str, str] = {}
    metadata: list[tuple[str, Value]] = []
    refusal: Refusal | None = None
    for name_bytes, value in fields.rest:
        name, text = name_bytes.decode("ascii"), value.decode("utf-8", "replace")
        if name in _NOT_METADATA:
            known[name] = text
        elif name.endswith("-bin"):
            try:
                metadata += [(name, _from_base64(part)) for part in value.split(b",")]
            except binascii.Error:
                refusal = Refusal(INTERNAL, f"the metadata {name} is not base64")
        else:
            metadata.append((name, text))
    timeout_s: float | None = None
    if "grpc-timeout" in known:
        if match := _TIMEOUT.fullmatch(known["grpc-timeout"]):
            timeout_s = int(match[1]) * _UNITS[match[2]]
        else:
            refusal = Refusal(INTERNAL, f"grpc-timeout cannot be {known['grpc-timeout'][:20]!r}")
    encoding = known.get("grpc-encoding", "identity")
    if encoding not in _ENCODINGS:
        said = f"messages in grpc-encoding {encoding[:20]!r} are not understood: send one of {ENCODINGS}"
        refusal = Refusal(UNIMPLEMENTED, said)
    if not _CONTENT_TYPE.fullmatch(known.get("content-type", "")):
        refusal = Refusal(UNKNOWN, "this is for gRPC: content-type must be application/grpc", 415)
    if fields.method != b"POST":
        refusal = Refusal(UNKNOWN, "this is for gRPC: the method must be POST", 405)
    path = fields.path.decode("utf-8", "replace")
    return Asked(path, timeout_s, encoding, tuple(metadata), refusal)


def _from_base64(value: bytes) -> bytes:
    value = value.strip()
    return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)


_KIND: Final = (b"content-type", b"application/grpc")
HEAD: Final = answer_block([_KIND], 200)
"""Of an answer without metadata of its own."""

_TRAILERS_OK: Final = answer_block([(b"grpc-status", b"0")])


def head_block(metadata: Iterable[tuple[str, Value]]) -> bytes:
    return answer_block([_KIND, *_fields(metadata)], 200)


def trailers_block(code: int, said: str, metadata: Iterable[tuple[str, Value]]) -> bytes:
    block = _TRAILERS_OK if code == OK else answer_block([(b"grpc-status", b"%d" % code)])
    if said:
        block += answer_block([(b"grpc-message", _percent(said))])
    return block + answer_block(_fields(metadata)) if metadata else block


def only_block(refusal: Refusal, metadata: Iterable[tuple[str, Value]] = ()) -> bytes:
    """Head and trailers at once, of a call that nothing was answered to."""
    more = [(b"grpc-accept-encoding", ENCODINGS.encode())] if refusal.code == UNIMPLEMENTED else []
    return answer_block([_KIND, *more], refusal.http) + trailers_block(refusal.code, refusal.said, metadata)


def _fields(metadata: Iterable[tuple[str, Value]]) -> list[tuple[bytes, bytes]]:
    """Raises ValueError for what cannot be a field."""
    fields = []
    for name, value in metadata:
        if isinstance(value, str):
            coded = value.encode()
            if name.endswith("-bin") or any(byte < 0x20 or byte > 0x7E for byte in coded):
                raise ValueError(f"metadata {name} has to be bytes, with a name that ends with -bin")
        elif name.endswith("-bin"):
            coded = base64.b64encode(value).rstrip(b"=")
        else:
            coded = value
        fields.append((name.encode("ascii"), coded))
    return fields


def _percent(text: str) -> bytes:
    """Of grpc-message: all but printable ASCII in percent signs, and those too; spaces as well if
    there is one at its ends, where a field's value has none (RFC 9113, 8.2.1)."""
    least = 0x21 if text != text.strip(" ") else 0x20
    coded = text.encode()
    if least == 0x20 and coded.isascii() and text.isprintable() and b"%" not in coded:
        return coded
    return b"".join(
        b"%c" % byte if least <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in coded
    )


def from_percent(text: bytes) -> str:
    return unquote_to_bytes(text).decode("utf-8", "replace")


def framed(message: bytes) -> bytes:
    return b"\x00" + len(message).to_bytes(4, "big") + message


def _check_fields(message: bytes | memoryview) -> None:
    if has_more_fields(message, MOST_FIELDS):
        said = f"a message has {len(message)} bytes and over {MOST_FIELDS} parts: send several"
        raise BadMessage(RESOURCE_EXHAUSTED, said)


def has_more_fields(message: bytes | memoryview, most: int) -> bool:
    """Whether a message of protocol buffers has more fields than that at its top; False of what is none.

    Groups, which are read though nobody has them any more, count with all that is in them.
    """
    at, end = 0, len(message)
    for _ in range(most):
        if at >= end:
            return False
        kind = message[at] & 7
        at = _after_varint(message, at)
        if kind == 0:
            at = _after_varint(message, at)
        elif kind == 1:
            at += 8
        elif kind == 5:
            at += 4
        elif kind == 2:
            size, shift = 0, 0
            while at < end:
                byte = message[at]
                size |= (byte & 0x7F) << shift
                at, shift = at + 1, shift + 7
                if byte < 0x80 or shift > 63:
                    break
            at += size
        elif kind > 5:
            return False
    return at < end


def _after_varint(message: bytes | memoryview, at: int) -> int:
    while at < len(message) and message[at] >= 0x80:
        at += 1
    return at + 1


class BadMessage(Exception):
    """What ends a call whose messages cannot be read."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said)
        self.refusal = Refusal(code, said)


class Message(NamedTuple):
    """As it came."""

    flag: int
    body: bytes


class Messages:
    """Of one call, out of its data."""

    __slots__ = ("_encoding", "_rest", "_want")

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._rest = bytearray()
        """Of the message that is not whole. One piece: many small ones take many times their size."""
        self._want = 5
        """Of bytes, before anything can be done."""

    @property
    def halfway(self) -> int:
        """Bytes that came of the message that has begun and is not whole; 0 if there is none."""
        return len(self._rest)

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are whole now. Raises BadMessage."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._want:
                return []
            data = bytes(self._rest)
            if self._want > LARGE and not data[0]:  # others come whole in a frame, and are small
                _check_fields(memoryview(data)[5 : self._want])
        found: list[Message] = []
        at, size = 0, len(data)
        while size - at >= 5:
            length = int.from_bytes(data[at + 1 : at + 5], "big")
            if length > MAX_MESSAGE_BYTES:
                said = f"a message has {length} bytes, the limit is {MAX_MESSAGE_BYTES}"
                raise BadMessage(RESOURCE_EXHAUSTED, said)
            if size - at - 5 < length:
                break
            found.append(Message(data[at], data[at + 5 : at + 5 + length]))
            at += 5 + length
        self._rest = bytearray(data[at:])
        self._want = 5 if len(self._rest) < 5 else 5 + int.from_bytes(self._rest[1:5], "big")
        return found

    def unpacked_if_small(self, message: Message, most: int) -> bytes | None:
        """None if it has over `most` bytes. Raises BadMessage."""
        return message.body if message.flag == 0 else self._unpack(message, most)

    def unpacked(self, message: Message) -> bytes:
        """When it is wanted, not before: a message may be a thousand times what came. Raises BadMessage."""
        whole = self._unpack(message, MAX_MESSAGE_BYTES)
        if whole is None:
            said = f"a message has over {MAX_MESSAGE_BYTES} bytes when it is unpacked"
            raise BadMessage(RESOURCE_EXHAUSTED, said)
        return whole

    def _unpack(self, message: Message, most: int) -> bytes | None:
        flag, body = message
        if flag == 0:
            return body
        if flag != 1 or self._encoding == "identity":
            said = "a message says that it is compressed, and the call does not say how"
            raise BadMessage(INTERNAL, said)
        unpacker = zlib.decompressobj(_ENCODINGS[self._encoding])
        try:
            whole = unpacker.decompress(body, most + 1)
        except zlib.error as error:
            raise BadMessage(INTERNAL, f"a message is not {self._encoding}: {error}") from None
        if len(whole) > most:
            return None
        if not unpacker.eof:
            raise BadMessage(INTERNAL, f"a message ends in the middle of its {self._encoding}")
        if len(whole) > LARGE:
            _check_fields(whole)
        return whole
