"""The server's side of one HTTP/2 connection (RFC 9113): bytes and wishes in, events and bytes out.

It knows no clock, no socket and no gRPC. A fault of the client's ends one stream or, as `Broken`, all of it.
"""

from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

from lambent_frontend.grpc_door.core import floods, wire
from lambent_frontend.grpc_door.core.blocks import MAX_BLOCK_BYTES, MAX_LIST_BYTES, NO_TABLE, Meaning, Reader
from lambent_frontend.grpc_door.core.floods import Budget
from lambent_frontend.grpc_door.core.sending import Lane, Sending
from lambent_frontend.grpc_door.core.wire import Code, ConnectionFault, Setting, StreamFault

T = TypeVar("T")

MAX_STREAMS: Final = 1_024
"""Of one connection at one time. gRPC's clients keep further calls back by themselves."""

STREAM_WINDOW: Final = 1024 * 1024
CONNECTION_WINDOW: Final = 16 * 1024 * 1024
"""Bytes that a client may have sent of which nobody has taken any."""

MAX_FRAME: Final = 64 * 1024
"""Of the client's: four times the least, for messages of megabytes."""

MOST_UNFINISHED: Final = 16 * 1024
"""Bytes that are kept of a frame that is not whole. Of more the data is dealt with before the rest comes."""

_MOST_OTHER: Final = MAX_BLOCK_BYTES + 261
"""Of a frame that is not DATA and does not come at once: a header block, its padding and its priority."""

_MOST_FORGOTTEN: Final = 8_192

_SETTINGS: Final = [
    Setting(wire.MAX_CONCURRENT_STREAMS, MAX_STREAMS),
    Setting(wire.INITIAL_WINDOW_SIZE, STREAM_WINDOW),
    Setting(wire.MAX_FRAME_SIZE, MAX_FRAME),
    Setting(wire.MAX_HEADER_LIST, MAX_LIST_BYTES),
]


class Requested(NamedTuple, Generic[T]):
    stream: int
    meaning: T
    ended: bool


class Came(NamedTuple):
    """Data, maybe empty if the client has ended its side. Whoever has dealt with it says so with `took`."""

    stream: int
    data: bytes
    ended: bool


class Gone(NamedTuple):
    """The stream is over before its answer: the client cancelled it, or broke a rule."""

    stream: int


class Alive(NamedTuple):
    """The answer to `ping`."""

    data: bytes


class Broken(NamedTuple):
    """The connection is to be closed when what is left to say is written."""

    code: Code
    said: str


class _Stream:
    __slots__ = ("lane", "length", "owed", "received", "remote_ended", "untaken", "window")

    def __init__(self, stream: int, window: int, length: int | None, ended: bool) -> None:
        self.lane = Lane(stream, window)
        self.length = length
        """What it announced of itself."""
        self.received = 0
        self.window = STREAM_WINDOW
        self.untaken = 0
        self.owed = 0
        """Taken, without the client's being told."""
        self.remote_ended = ended


class Connection(Generic[T]):
    def __init__(self, meaning: Meaning[T]) -> None:
        self._blocks = Reader(meaning)
        self._sending = Sending()
        self._streams: dict[int, _Stream] = {}
        self._last = 0
        self._forgotten: dict[int, None] = {}
        """Streams that were ended from here, on which more may be on its way; the newest of them."""
        self._rest = b""
        self._rest_since = 0.0
        self._greeted = False
        self._settled = False
        self._open_block: tuple[int, bool, list[bytes]] | None = None
        self._events: list[Requested[T] | Came | Gone | Alive | Broken] = []
        self._window = CONNECTION_WINDOW
        self._owed = 0
        self._resets = Budget("streams were reset", floods.RESETS, floods.RESETS_PER_S)
        self._idle = Budget("frames brought nothing", floods.IDLE_FRAMES, floods.IDLE_FRAMES_PER_S)
        self._now = 0.0
        self._no_table = False
        self._farewell: int | None = None
        self.broken = False
        self.client_leaves = False
        self._on: tuple[Callable[[int, int, bytes], None], ...] = (
            self._on_data,
            self._on_headers,
            self._on_priority,
            self._on_reset,
            self._on_settings,
            self._on_push,
            self._on_ping,
            self._on_goaway,
            self._on_window,
            self._on_continuation,
        )
        self._sending.put(
            wire.settings_frame(_SETTINGS) + wire.window_update(0, CONNECTION_WINDOW - wire.FIRST_WINDOW)
        )

    @property
    def open(self) -> int:
        """Streams."""
        return len(self._streams)

    @property
    def settled(self) -> bool:
        """Whether the client has said that it speaks HTTP/2."""
        return self._settled

    @property
    def in_block(self) -> bool:
        """Whether it is in the middle of a header block, in which nothing else may be sent."""
        return self._open_block is not None

    def unfinished_s(self, now: float) -> float:
        """For how long a frame has been coming that is not whole; 0 if there is none."""
        return now - self._rest_since if self._rest else 0.0

    @property
    def untaken(self) -> int:
        """Bytes of answers that the client's windows keep back, or that are in frames and have not left."""
        return self._sending.waiting + sum(known.lane.size for known in self._streams.values())

    # From the client

    def receive(self, data: bytes, now: float) -> list[Requested[T] | Came | Gone | Alive | Broken]:
        """All that these bytes bring. `now` is in seconds and does not go back."""
        events = self._events = []
        if self.broken:
            return events
        self._now = now
        buffer = self._rest + data if self._rest else data
        at = 0
        try:
            if not self._greeted:
                at = self._preface(buffer)
            if self._greeted:
                at = self._frames(buffer, at)
            if at < len(buffer):
                self._keep(buffer, at)
            else:
                self._rest = b""
        except ConnectionFault as fault:
            self._break(fault)
        return events

    def _keep(self, buffer: bytes, at: int) -> None:
        """What begins a frame that is not whole."""
        if at or not self._rest:
            self._rest_since = self._now
        rest = buffer[at:]
        if self._greeted and len(rest) > MOST_UNFINISHED:
            rest = self._split(rest)
        self._rest = rest

    def _split(self, rest: bytes) -> bytes:
        """Takes the data that has come as a frame of its own, and returns a head for that of the rest.

        That means the same: only the end of the stream, and padding, stay with the rest.
        """
        size, kind, flags, stream = wire.head_of(rest)
        if kind != wire.DATA:
            if size > _MOST_OTHER:
                said = f"a frame that is not DATA has over {_MOST_OTHER} bytes"
                raise ConnectionFault(Code.ENHANCE_YOUR_CALM, said)
            return rest
        padded = flags & wire.PADDED
        begin = wire.HEAD_BYTES + bool(padded)
        data = rest[begin : wire.HEAD_BYTES + size - (rest[wire.HEAD_BYTES] if padded else 0)]
        if not data:
            return rest
        self._frame(kind, flags & ~(wire.END_STREAM | wire.PADDED), stream, data)
        left = wire.frame_head(size - len(data), kind, flags, stream)
        return left + rest[wire.HEAD_BYTES : begin] + rest[begin + len(data) :]

    def _preface(self, buffer: bytes) -> int:
        size = min(len(buffer), len(wire.PREFACE))
        if buffer[:size] != wire.PREFACE[:size]:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "this is not HTTP/2")
        self._greeted = size == len(wire.PREFACE)
        return size if self._greeted else 0

    def _frames(self, buffer: bytes, at: int) -> int:
        """Returns where the first frame begins that is not whole."""
        end = len(buffer)
        while end - at >= wire.HEAD_BYTES:
            size = buffer[at] << 16 | buffer[at + 1] << 8 | buffer[at + 2]
            if size > MAX_FRAME:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"a frame has over {MAX_FRAME} bytes")
            begin = at + wire.HEAD_BYTES
            if end - begin < size:
                break
            stream = int.from_bytes(buffer[at + 5 : begin], "big") & wire.MAX_STREAM
            kind, flags = buffer[at + 3], buffer[at + 4]
            at = begin + size
            self._frame(kind, flags, stream, buffer[begin:at])
        return at

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if not self._settled and (kind != wire.SETTINGS or flags & wire.ACK):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if self._open_block is not None and (kind != wire.CONTINUATION or stream != self._open_block[0]):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "another frame is in the middle of a header block")
        if kind > wire.CONTINUATION:
            self._idle.spend(self._now)
            return
        try:
            self._on[kind](flags, stream, payload)
        except StreamFault as fault:
            self._resets.spend(self._now)
            self._drop(stream)
            self._forget(stream)
            self._sending.put(wire.rst_stream(stream, fault.code))

    def _break(self, fault: ConnectionFault) -> None:
        self.broken = True
        self._events += [Gone(stream) for stream in self._streams]
        for known in self._streams.values():
            self._sending.drop(known.lane)
        self._streams.clear()
        last = self._last if self._farewell is None else self._farewell  # it must not grow: RFC 9113, 6.8
        self._sending.put(wire.goaway(last, fault.code, str(fault).encode()))
        self._events.append(Broken(fault.code, str(fault)))

    def _on_data(self, flags: int, stream: int, payload: bytes) -> None:
        size = len(payload)
        known = self._streams.get(stream)
        if known is None:
            self._check_not_idle(stream)
        self._window -= size
        if self._window < 0:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more data came than the connection's window")
        if flags & wire.PADDED:
            payload = wire.unpadded(payload)
        ended = bool(flags & wire.END_STREAM)
        if known is None:
            self._data_of_none(stream, size, ended=ended)
            return
        known.untaken += size
        if known.remote_ended:
            raise StreamFault(Code.STREAM_CLOSED)
        known.window -= size
        if known.window < 0:
            raise StreamFault(Code.FLOW_CONTROL_ERROR)
        self._count(known, len(payload), ended=ended)
        self.took(stream, size - len(payload))
        if payload or ended:
            self._events.append(Came(stream, payload, ended))
        else:
            self._idle.spend(self._now)

    def _data_of_none(self, stream: int, size: int, *, ended: bool) -> None:
        """What was on its way when the stream was ended from here."""
        self._give_back(size)
        if stream not in self._forgotten:
            raise ConnectionFault(Code.STREAM_CLOSED, "data came on a stream that is closed")
        if ended:
            del self._forgotten[stream]
        self._idle.spend(self._now)

    def _count(self, known: _Stream, size: int, *, ended: bool) -> None:
        known.received += size
        known.remote_ended = ended
        if known.length is None:
            return
        if known.received > known.length or (ended and known.received != known.length):
            raise StreamFault(Code.PROTOCOL_ERROR)

    def _on_headers(self, flags: int, stream: int, payload: bytes) -> None:
        if stream % 2 == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "headers came on a stream that is not a client's")
        if flags & wire.PADDED:
            payload = wire.unpadded(payload)
        if flags & wire.WITH_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "headers are too short for their priority")
            payload = payload[5:]
        ended = bool(flags & wire.END_STREAM)
        if flags & wire.END_HEADERS:
            self._block(stream, payload, ended=ended)
        else:
            self._open_block = stream, ended, [payload]

    def _on_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if self._open_block is None:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a continuation came without headers")
        _, ended, pieces = self._open_block
        pieces.append(payload)
        if len(pieces) > 1 + floods.CONTINUATIONS:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "a header block has too many continuations")
        if sum(map(len, pieces)) > MAX_BLOCK_BYTES:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, f"a header block has over {MAX_BLOCK_BYTES} bytes")
        if flags & wire.END_HEADERS:
            self._open_block = None
            self._block(stream, b"".join(pieces), ended=ended)

    def _block(self, stream: int, block: bytes, *, ended: bool) -> None:
        if len(block) > MAX_BLOCK_BYTES:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, f"a header block has over {MAX_BLOCK_BYTES} bytes")
        known = self._streams.get(stream)
        if known is not None:
            self._trailers(known, block, ended=ended)
        elif stream <= self._last:
            self._blocks.unheard(block)
            if stream not in self._forgotten:
                raise ConnectionFault(Code.STREAM_CLOSED, "headers came on a stream that is closed")
            self._idle.spend(self._now)
        else:
            self._request(stream, block, ended=ended)

    def _trailers(self, known: _Stream, block: bytes, *, ended: bool) -> None:
        if known.remote_ended:
            self._blocks.unheard(block)
            raise StreamFault(Code.STREAM_CLOSED)
        self._blocks.trailers(block)
        if not ended:
            raise StreamFault(Code.PROTOCOL_ERROR)
        self._count(known, 0, ended=True)
        self._events.append(Came(known.lane.stream, b"", True))

    def _request(self, stream: int, block: bytes, *, ended: bool) -> None:
        self._last = stream
        if self._farewell is not None:  # it has been told that it is not looked at
            self._blocks.unheard(block)
            self._idle.spend(self._now)
            self._forget(stream)
            return
        if len(self._streams) >= MAX_STREAMS:
            self._blocks.unheard(block)
            raise StreamFault(Code.REFUSED_STREAM)
        meaning, length = self._blocks.request(block)
        if ended and length:
            raise StreamFault(Code.PROTOCOL_ERROR)
        self._streams[stream] = _Stream(stream, self._sending.first_window, length, ended)
        self._events.append(Requested(stream, meaning, ended))

    def _on_priority(self, flags: int, stream: int, payload: bytes) -> None:
        """Nothing is done by it (RFC 9113, 5.3.2)."""
        self._idle.spend(self._now)
        if stream == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a priority came on stream 0")
        if len(payload) != 5:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a priority does not have 5 bytes")

    def _on_reset(self, flags: int, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a reset does not have 4 bytes")
        if stream in self._streams:
            self._resets.spend(self._now)
            self._drop(stream)
            return
        self._check_not_idle(stream)
        self._forgotten.pop(stream, None)
        self._idle.spend(self._now)

    def _on_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "settings came on a stream")
        if len(payload) % 6 or (flags & wire.ACK and payload):
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "settings have a length that they cannot have")
        if flags & wire.ACK:
            self._idle.spend(self._now)
            return
        for name, value in wire.settings_of(payload):
            self._setting(name, value)
        if self._settled:
            self._idle.spend(self._now)
        self._settled = True
        self._sending.put(wire.frame(wire.SETTINGS, wire.ACK, 0, b""))

    def _setting(self, name: int, value: int) -> None:
        if name == wire.ENABLE_PUSH and value > 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
        if name == wire.MAX_FRAME_SIZE:
            if not wire.LEAST_MAX_FRAME <= value <= wire.MOST_MAX_FRAME:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of its range")
            self._sending.max_frame = min(value, MAX_FRAME)
        elif name == wire.INITIAL_WINDOW_SIZE:
            if value > wire.MAX_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is over its limit")
            self._idle.spend(self._now, 1 + len(self._streams) // floods.WINDOWS_A_FRAME)
            more, self._sending.first_window = value - self._sending.first_window, value
            for known in self._streams.values():
                if known.lane.window + more > wire.MAX_WINDOW:
                    raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a stream's window is over its limit")
                self._sending.more_of(known.lane, more)

    def _on_push(self, flags: int, stream: int, payload: bytes) -> None:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "a client cannot push")

    def _on_ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a ping came on a stream")
        if len(payload) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a ping does not have 8 bytes")
        self._idle.spend(self._now)
        if flags & wire.ACK:
            self._events.append(Alive(payload))
        else:
            self._sending.put(wire.frame(wire.PING, wire.ACK, 0, payload))

    def _on_goaway(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a goaway came on a stream")
        if len(payload) < 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a goaway has less than 8 bytes")
        self._idle.spend(self._now)
        self.client_leaves = True

    def _on_window(self, flags: int, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a window update does not have 4 bytes")
        size = int.from_bytes(payload, "big") & wire.MAX_WINDOW
        if stream == 0:
            if not size:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a window update of nothing")
            self._sending.more_window(size)
            return
        known = self._streams.get(stream)
        if known is None:
            self._check_not_idle(stream)
        if not size:
            raise StreamFault(Code.PROTOCOL_ERROR)
        if known is not None:
            self._sending.more_of(known.lane, size)

    def _check_not_idle(self, stream: int) -> None:
        if stream % 2 == 0 or stream > self._last:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"stream {stream} has not begun")

    def _drop(self, stream: int) -> None:
        known = self._streams.pop(stream, None)
        if known is not None:
            self._sending.drop(known.lane)
            self._give_back(known.untaken)
            self._events.append(Gone(stream))

    def _forget(self, stream: int) -> None:
        self._forgotten[stream] = None
        if len(self._forgotten) > _MOST_FORGOTTEN:
            del self._forgotten[next(iter(self._forgotten))]

    def _give_back(self, size: int) -> None:
        self._owed += size
        if self._owed >= CONNECTION_WINDOW // 2:
            self._sending.put(wire.window_update(0, self._owed))
            self._window += self._owed
            self._owed = 0

    # From the server. Of a stream that is over none of it does anything.

    def took(self, stream: int, size: int) -> None:
        """So many bytes of what came are dealt with: the client may send as many more."""
        known = self._streams.get(stream)
        if known is None or not size:
            return
        known.untaken -= size
        self._give_back(size)
        if known.remote_ended:
            return
        known.owed += size
        if known.owed >= STREAM_WINDOW // 2:
            self._sending.put(wire.window_update(stream, known.owed))
            known.window += known.owed
            known.owed = 0

    def respond(self, stream: int, head: bytes, data: bytes, trailers: bytes) -> None:
        """A whole answer: blocks of `answer_block` around the data."""
        known = self._streams.get(stream)
        if known is None:
            return
        head = self._first(head)
        if self._sending.at_once(known.lane, head, data, trailers):
            self._over(stream, known)
            return
        self._sending.headers(stream, head, ends=False)
        self._sending.data(known.lane, data)
        self.end(stream, trailers)

    def headers(self, stream: int, block: bytes, *, ends: bool = False) -> None:
        known = self._streams.get(stream)
        if known is None:
            return
        self._sending.headers(stream, self._first(block), ends=ends)
        if ends:
            self._over(stream, known)

    def data(self, stream: int, data: bytes) -> None:
        known = self._streams.get(stream)
        if known is not None:
            self._sending.data(known.lane, data)

    def end(self, stream: int, trailers: bytes) -> None:
        """Behind the data that waits."""
        known = self._streams.get(stream)
        if known is not None and self._sending.end(known.lane, trailers):
            self._over(stream, known)

    def cancel(self, stream: int, code: Code = Code.CANCEL) -> None:
        if stream in self._streams:
            known = self._streams.pop(stream)
            self._sending.drop(known.lane)
            self._give_back(known.untaken)
            self._forget(stream)
            self._sending.put(wire.rst_stream(stream, code))

    def stalled(self, now: float, within_s: float) -> list[int]:
        """Ends the streams whose answers are whole, if nothing of them was taken for so long; their numbers.
        Called from time to time: `now` as that of `receive`."""
        found = self._sending.stalled(now, within_s)
        for stream in found:
            self.cancel(stream, Code.ENHANCE_YOUR_CALM)
        return found

    def waits(self, stream: int) -> int:
        """Bytes of it that have not been taken for writing."""
        known = self._streams.get(stream)
        return known.lane.size if known is not None else 0

    def ping(self, data: bytes) -> None:
        self._sending.put(wire.frame(wire.PING, 0, 0, data))

    def take_leave(self) -> None:
        """Asks for no more streams. What was sent before that is heard is still taken."""
        self._sending.put(wire.goaway(wire.MAX_STREAM, Code.NO_ERROR))

    def farewell(self) -> None:
        """From here no new stream is taken, and the client is told which was the last."""
        if self._farewell is None and not self.broken:
            self._farewell = self._last
            self._sending.put(wire.goaway(self._last, Code.NO_ERROR))

    @property
    def more(self) -> bool:
        """Whether `take` would bring something."""
        return self._sending.more

    def take(self) -> tuple[bytes, list[int]]:
        """What is to be written now, and the streams of which nothing waits any more."""
        data, emptied = self._sending.take()
        if not emptied:
            return data, []
        for lane in emptied:
            known = self._streams.get(lane.stream)
            if lane.end is not None and known is not None:
                self._over(lane.stream, known)
        return data + self._sending.take_frames(), [lane.stream for lane in emptied]

    def _first(self, block: bytes) -> bytes:
        if self._no_table:
            return block
        self._no_table = True
        return NO_TABLE + block

    def _over(self, stream: int, known: _Stream) -> None:
        """Its answer is whole. What the client still has to say is of no use to anybody."""
        del self._streams[stream]
        self._give_back(known.untaken)
        self._resets.give(1)
        self._idle.give(floods.FORGIVEN)
        if not known.remote_ended:
            self._forget(stream)
            self._sending.put(wire.rst_stream(stream, Code.NO_ERROR))
