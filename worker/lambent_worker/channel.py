"""The worker's ends of one instance: the socket its events and answers go over, and the pipe of its output.

Both are read with one system call a turn, straight off the descriptor: when an answer arrives, all that the
function printed before it is already in the pipe, and one read has it.
"""

import asyncio
import json
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from json.encoder import encode_basestring_ascii as _quoted
from typing import Final

from lambent_proto.ids import MAX_PAYLOAD_BYTES
from lambent_worker.sandbox import unasked

LONGEST_HEAD: Final = 0xFFFF
"""The head's size is a u16."""

_SIZES: Final = 6
"""Bytes of the two sizes that a frame begins with."""

_LONGEST_FRAME: Final = _SIZES + LONGEST_HEAD + MAX_PAYLOAD_BYTES

_FIRST_READ: Final = 479
"""Bytes read of an answer: room for so many comes from CPython's own pools, for more from malloc."""

_CHUNK: Final = 64 * 1024
"""Bytes read at once where there are more: as much as a pipe holds unless it was made larger."""

_LAST_CHUNKS: Final = _LONGEST_FRAME // _CHUNK + 1
"""What one answer may take. A process that escaped its instance's end could go on for ever."""

_encode: Final = json.JSONEncoder(separators=(",", ":")).encode
_decode: Final = json.JSONDecoder().decode
_scan: Final = json.JSONDecoder().scan_once  # type: ignore[attr-defined] # json's own scanner.py sets it
_unpack_sizes: Final = struct.Struct(">IH").unpack_from
_pack_sizes: Final = struct.Struct(">IH").pack


class BrokenFrame(Exception):
    """The instance sent what no runtime of ours sends. The message says what was wrong."""


def frame(head: list[object], body: bytes = b"") -> bytes:
    return _framed(_encode(head).encode(), body)


def event_frame(
    request_id: str, deadline_ms: int, arn: str, client_context: str, trace: str, body: bytes
) -> bytes:
    """As `frame` writes an event, in a quarter of the time: there is one for every call."""
    texts = f"{_quoted(arn)},{_quoted(client_context)},{_quoted(trace)}"
    head = f'["event",{_quoted(request_id)},{deadline_ms},{texts}]'
    return _framed(head.encode(), body)


def _framed(head: bytes, body: bytes) -> bytes:
    return b"%b%b%b" % (_pack_sizes(2 + len(head) + len(body), len(head)), head, body)


class Frames:
    """Cuts a stream into frames. A body is passed on as it came."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._have = 0
        self._need = _SIZES

    def feed(self, data: bytes) -> Iterator[tuple[list[object], bytes]]:
        """The frames that are now complete; raises BrokenFrame for one that can never be right."""
        self._have += len(data)
        if self._parts or self._have < self._need:
            self._parts.append(data)
            if self._have < self._need:
                return
            data = b"".join(self._parts)
            self._parts.clear()
        self._need = _SIZES
        while len(data) >= _SIZES:
            size, head_size = _unpack_sizes(data)
            size += 4
            if not _SIZES + head_size <= size <= _LONGEST_FRAME:
                raise BrokenFrame(f"a frame of {size} bytes with a head of {head_size}")
            if len(data) < size:
                self._need = size
                break
            split = _SIZES + head_size
            yield _head(data[_SIZES:split]), data[split:size]
            data = data[size:]
        self._have = len(data)
        if data:
            self._parts.append(data)


def _head(data: bytes) -> list[object]:
    try:
        text = data.decode()
        head, end = _scan(text, 0)
        if end < len(text):
            head = _decode(text)  # which allows spaces, and costs twice as much
    except (StopIteration, ValueError, RecursionError):
        raise BrokenFrame("a head that is not JSON") from None
    if not isinstance(head, list) or not head:
        raise BrokenFrame("a head that is not an array")
    return head


class Channel:
    """`on_frame` is called for each frame; `on_broken` once if they go wrong, `on_end` once when they end."""

    def __init__(
        self,
        sock: socket.socket,
        on_frame: Callable[[list[object], bytes], None],
        on_broken: Callable[[str], None],
        on_end: Callable[[], None],
    ) -> None:
        self._socket = sock
        self._on_frame = on_frame
        self._on_broken = on_broken
        self._on_end = on_end
        self._frames = Frames()
        self._unsent: memoryview | None = None
        self._receive = self._without_descriptors if unasked.may_come(sock) else sock.recv
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._read)

    def send(self, data: bytes) -> None:
        """One event; the next is only sent when it was answered. A dead instance is told by its end."""
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return
        if sent < len(data):
            self._unsent = memoryview(data)[sent:]
            self._loop.add_writer(self._socket.fileno(), self._send_rest)

    def _send_rest(self) -> None:
        if self._unsent:
            try:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
            except BlockingIOError:
                return
            except OSError:
                self._unsent = None
        if not self._unsent:
            self._loop.remove_writer(self._socket.fileno())

    def _read(self) -> bool:
        """Takes in a chunk of what has arrived; False if there was nothing, or nothing is to come."""
        try:
            data = self._receive(_FIRST_READ)
            if len(data) == _FIRST_READ:
                data += self._more()
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        except BrokenFrame as broken:
            return self._break(broken)
        if not data:
            self._loop.remove_reader(self._socket.fileno())
            self._on_end()
            return False
        try:
            for head, body in self._frames.feed(data):
                self._on_frame(head, body)
        except BrokenFrame as broken:
            return self._break(broken)
        return True

    def _break(self, broken: BrokenFrame) -> bool:
        self._loop.remove_reader(self._socket.fileno())
        self._on_broken(str(broken))
        return False

    def _more(self) -> bytes:
        try:
            return self._receive(_CHUNK)
        except OSError:  # nothing more now; what is wrong is said again to the next read
            return b""

    def _without_descriptors(self, size: int) -> bytes:
        data, fds = unasked.receive(self._socket, size)
        if fds:
            unasked.close(fds)
            raise BrokenFrame("descriptors came with it")
        return data

    def close(self) -> None:
        """Takes in what the instance sent before it ended, then lets go of the socket."""
        if self._loop.remove_reader(self._socket.fileno()):
            for _ in range(_LAST_CHUNKS):
                if not self._read():
                    break
        self._loop.remove_writer(self._socket.fileno())
        if self._receive == self._without_descriptors:
            unasked.end(self._socket)
        else:
            self._socket.close()


class Output:
    """The reading end of what an instance prints. It is always read, so that printing never blocks."""

    def __init__(self, fd: int, on_data: Callable[[bytes], None]) -> None:
        self._fd = fd
        self._on_data = on_data
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._read)
        self._ready = select.poll()
        self._ready.register(fd, select.POLLIN)

    def take(self) -> None:
        """Takes what is in the pipe now."""
        if self._ready.poll(0):  # half the cost of a read that finds nothing: there is one for every call
            self._read()

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        if data:
            self._on_data(data)
        else:
            self._loop.remove_reader(self._fd)

    def close(self) -> None:
        """Takes the last of it. A process that outlives the instance can print no more after this."""
        self.take()
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
