"""Header blocks: HPACK (RFC 7541), and what RFC 9113 asks of a request's fields.

Clients send most calls with the block of the call before, byte for byte. While the dynamic table is as it was
the same bytes mean the same, so what was read of them is kept.
"""

import re
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from hpack import Decoder
from hpack.exceptions import HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from lambent_frontend.grpc_door.core.wire import Code, ConnectionFault, StreamFault

MAX_LIST_BYTES: Final = 16_384
"""Of a request's fields, 32 counted for each beside name and value: what gRPC's own servers take at most."""

MAX_BLOCK_BYTES: Final = 16_384
"""Of the same in HPACK. Reading takes the square of it at worst, some milliseconds."""

_MOST_KEPT: Final = 128
_LARGEST_KEPT: Final = 2_048

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_VALUE: Final = re.compile(rb"[\x00\r\n]|^[ \t]|[ \t]$")
_OF_CONNECTIONS: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
_PSEUDO: Final = frozenset((b":method", b":scheme", b":authority", b":path"))

Field = tuple[bytes, bytes]


class Fields(NamedTuple):
    """Of a request that is well formed."""

    method: bytes
    path: bytes
    rest: tuple[Field, ...]
    content_length: int | None


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Meaning(Protocol[T_co]):
    def __call__(self, fields: Fields, /) -> T_co: ...


class _Table(HeaderTable):
    """Counts what is added to it."""

    changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)


class Reader(Generic[T]):
    """Reads the blocks of one connection, in order, each into what `meaning` makes of its fields."""

    def __init__(self, meaning: Meaning[T]) -> None:
        self._meaning = meaning
        self._decoder = Decoder(MAX_LIST_BYTES)
        self._table = _Table()
        self._decoder.header_table = self._table
        self._kept: dict[bytes, tuple[T, int | None]] = {}

    def request(self, block: bytes) -> tuple[T, int | None]:
        """What it means, and the length that it announces. Raises StreamFault for fields that are malformed,
        ConnectionFault for a block that cannot be read."""
        kept = self._kept.get(block)
        if kept is not None:
            return kept
        changes = self._table.changes
        fields = request_fields(self._decoded(block))
        read = self._meaning(fields), fields.content_length
        if changes == self._table.changes and len(block) <= _LARGEST_KEPT and len(self._kept) < _MOST_KEPT:
            self._kept[block] = read
        return read

    def trailers(self, block: bytes) -> None:
        """Read for the table's sake. Raises as `request`."""
        for name, value in self._decoded(block):
            _check_field(name, value)

    def unheard(self, block: bytes) -> None:
        """Of a stream that is no more. Raises ConnectionFault."""
        self._decoded(block)

    def _decoded(self, block: bytes) -> list[Field]:
        changes = self._table.changes
        if block[:1] and block[0] & 0xE0 == 0x20:  # begins with a change of the table's size
            self._table.changes += 1
        try:
            return [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except OversizedHeaderListError:
            said = f"the headers of a request have over {MAX_LIST_BYTES} bytes"
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, said) from None
        except (HPACKError, IndexError, ValueError):  # the latter two are hpack's own, for truncated blocks
            raise ConnectionFault(Code.COMPRESSION_ERROR, "a header block cannot be read") from None
        finally:
            if changes != self._table.changes:
                self._kept.clear()


def request_fields(fields: list[Field]) -> Fields:
    """Raises StreamFault if they are malformed: RFC 9113, sections 8.2 and 8.3."""
    pseudo: dict[bytes, bytes] = {}
    rest: list[Field] = []
    for name, value in fields:
        if name[:1] == b":":
            if rest or name in pseudo or name not in _PSEUDO or _BAD_VALUE.search(value):
                raise StreamFault(Code.PROTOCOL_ERROR)
            pseudo[name] = value
        else:
            _check_field(name, value)
            rest.append((name, value))
    method, path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    if not method or not path or not pseudo.get(b":scheme"):  # CONNECT too: nothing is passed on
        raise StreamFault(Code.PROTOCOL_ERROR)
    return Fields(method, path, tuple(rest), _content_length(rest))


def _check_field(name: bytes, value: bytes) -> None:
    if not _NAME.fullmatch(name) or name in _OF_CONNECTIONS or _BAD_VALUE.search(value):
        raise StreamFault(Code.PROTOCOL_ERROR)
    if name == b"te" and value != b"trailers":
        raise StreamFault(Code.PROTOCOL_ERROR)


def _content_length(fields: list[Field]) -> int | None:
    said = {value for name, value in fields if name == b"content-length"}
    if not said:
        return None
    if len(said) > 1 or not (only := said.pop()).isdigit() or len(only) > 19:
        raise StreamFault(Code.PROTOCOL_ERROR)
    return int(only)


# Answers. Nothing of them goes into the dynamic table, so that a block is the same bytes each time, on each
# connection, and can be made beforehand.

NO_TABLE: Final = b"\x20"
"""Begins the first block of a connection: the table has size 0 from here, which every later limit allows."""

_STATUS_200: Final = b"\x88"
_STATUS: Final = b"\x08"
"""A literal without indexing, whose name is the static table's `:status`."""


def answer_block(fields: list[Field], status: int | None = None) -> bytes:
    """`status` is None for trailers."""
    begin = b""
    if status is not None:
        begin = _STATUS_200 if status == 200 else _STATUS + _text(b"%d" % status)
    return begin + b"".join([b"\x00" + _text(name) + _text(value) for name, value in fields])


def _text(text: bytes) -> bytes:
    """Its length as an integer with a prefix of 7 bits, and itself."""
    size = len(text)
    if size < 127:
        return bytes((size,)) + text
    more = bytearray((127,))
    size -= 127
    while size >= 128:
        more.append(size & 0x7F | 0x80)
        size >>= 7
    more.append(size)
    return bytes(more) + text
